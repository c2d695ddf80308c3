// `membacking/core` where there are no files and no addon: its graph of modules, and a program without Node.js's own.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import test from 'ava';
import { lines } from './support/cli.ts';

/** The files of build/ that a module loads, itself included. */
function loads(name: string, seen = new Set<string>()): Set<string> {
  if (seen.has(name)) return seen;
  seen.add(name);
  const text = readFileSync(`build/${name}`, 'utf8');
  for (const [, file] of text.matchAll(/(?:from|import)\s*\(?"\.\/([^"]+\.js)"/g)) loads(file!, seen);
  return seen;
}

const FOREIGN = /^(?:import|export)[^;]*?"(?!\.\/)[^"]*";$/m;

test('membacking/core loads nothing of Node.js, and not the addon', (t) => {
  for (const file of loads('core.js')) {
    const text = readFileSync(`build/${file}`, 'utf8');
    t.notRegex(text, FOREIGN, file);
    t.notRegex(text, /\bBuffer\b|\.node["'`]/, file);
  }
  const others = [...loads('index.js')].map((file) => readFileSync(`build/${file}`, 'utf8'));
  t.true(others.some((text) => FOREIGN.test(text)));
});

/** Output of a program that has nothing but the module, as in a page. */
function inPage(body: string): string[] {
  const program = `
    const { readFileSync } = process.getBuiltinModule('node:fs');
    const [bytes, text] = ['core.wasm', 'samples/pc-boot.trace.jsonl'].map((name) => readFileSync('build/' + name));
    const { log } = console;
    delete globalThis.process;
    const core = await import('membacking/core');
    const trace = core.parseTrace(new TextDecoder().decode(text));
    const replayed = () => {
      const replay = new core.TraceReplay({ policy: trace.header.policy });
      for (const operation of trace.operations) replay.apply(operation);
      return replay;
    };
    const refused = (error) => log(error.name, error.code, error.message);
    ${body}`;
  return lines(execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' }).trimEnd());
}

test('with the bytes of the core, a trace is replayed, resolved, explained and rendered', (t) => {
  t.snapshot(
    inPage(`
      await core.loadCore(bytes);
      const replay = replayed();
      for (const line of replay.renderFlatViews().slice(0, 6)) log(line);
      for (const line of core.renderExplanation(replay.explain(0xf0000)[0])) log(line);`),
  );
});

test('a replay before the core is there, and a core that is none, are refused in words', (t) => {
  const printed = inPage(`
    try { replayed(); } catch (error) { refused(error); }
    await core.loadCore(new Uint8Array(8)).catch(refused);
    await core.loadCore(new URL('http://127.0.0.1:1/core.wasm')).catch(refused);`);
  t.snapshot(printed.map((line) => line.replace(/(loaded: WebAssembly)\.compile\(\): .*/, '$1 …')));
});

test('where files can be read, nothing has to be loaded', (t) => {
  const program = `
    import { TraceReplay } from 'membacking/core';
    console.log(new TraceReplay().flatViews().length);`;
  t.is(execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' }), '0\n');
});
