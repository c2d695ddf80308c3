// The boundary itself: what core, shim and ts/ agree on. A change here is a change of ABI_VERSION, or ought to be.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import test from 'ava';
import * as abi from '../assembly/abi.ts';

const constants = Object.entries(abi);

/** Names of one family in the order of their values, as `NAME value` lines. */
function family(prefix: string): string[] {
  const members = constants.filter(([name]) => name.startsWith(prefix));
  members.sort(([, a], [, b]) => Math.abs(a) - Math.abs(b));
  return members.map(([name, value]) => `${name} ${value}`);
}

function boundary(build: string) {
  const module = new WebAssembly.Module(readFileSync(`build/${build}`));
  const text = ({ kind, name }: { kind: string; name: string }) => `${kind} ${name}`;
  const exports = WebAssembly.Module.exports(module);
  const globals = exports.filter(({ kind }) => kind === 'global');
  return {
    imports: WebAssembly.Module.imports(module).map((each) => `${each.module} ${text(each)}`),
    exports: exports
      .filter((each) => !globals.includes(each))
      .map(text)
      .sort(),
    globals: globals.map(({ name }) => name),
  };
}

test('the core takes nothing from its host but abort, and gives flat functions, its memory and its state', (t) => {
  const { imports, exports, globals } = boundary('core.wasm');
  t.deepEqual(imports, ['env function abort']);
  t.snapshot(exports);
  t.true(globals.length > 0);
  t.deepEqual(
    globals,
    globals.map((_, index) => `state${index}`),
  );
});

test('the debug build has the same boundary', (t) => {
  const [debug, release] = [boundary('core.debug.wasm'), boundary('core.wasm')];
  t.deepEqual({ ...debug, globals: [] }, { ...release, globals: [] });
  t.true(debug.globals.length > 0);
});

test('the addon gives these functions', (t) => {
  t.snapshot(Object.keys(createRequire(import.meta.url)('../membacking.node')).sort());
});

test('the C++ header has every constant with its value', (t) => {
  const header = readFileSync('build/abi.h', 'utf8');
  const found = [...header.matchAll(/^inline constexpr std::u?int32_t (\w+) = (\S+);$/gm)];
  t.deepEqual(Object.fromEntries(found.map(([, name, value]) => [name, Number(value)])), Object.fromEntries(constants));
});

test('sizes, capacities and codes', (t) => {
  t.is(abi.ABI_VERSION, 11);
  for (const prefix of [
    'PAGE_',
    'MAX_',
    'KIND_',
    'REGION_',
    'FLAT_',
    'OBJECT_',
    'MAPPING_',
    'ACCESS_',
    'EVENT_',
    'SINK_',
    'POLICY_',
  ])
    t.snapshot(family(prefix), prefix);
  for (const prefix of ['OP_', 'CLASS_', 'ERR_']) t.snapshot(family(prefix), prefix);
});

test('record layouts', (t) => {
  t.snapshot(family('COMMAND_'));
  t.snapshot(family('ROW_'));
  t.snapshot(family('MESSAGE_'));
  t.snapshot(family('SHARED_OBJECT_'));
  t.snapshot(family('LOCK'));
});

test('error codes count down from -1 without a gap', (t) => {
  const codes = family('ERR_').map((line) => Number(line.split(' ')[1]));
  t.deepEqual(
    codes,
    codes.map((_, index) => -1 - index),
  );
});
