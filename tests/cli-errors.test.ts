// The command with wrong input: messages and exit codes.

import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import test from 'ava';
import { HEADER, lines, membacking, SMALL_TRACE, traceOf, withFiles } from './support/cli.ts';

const REGION = '{"op":"region","id":0,"name":"system","kind":"container","size":"0x1000"}';
const DEEP = 20_000;

const deepRegions = Array.from(
  { length: DEEP },
  (_, id) => `{"op":"region","id":${id},"name":"r","kind":"container","size":"0x1000"}`,
);
const deepPlaces = Array.from(
  { length: DEEP - 1 },
  (_, id) => `{"op":"place","id":${id + 1},"parent":${id},"offset":"0x0"}`,
);

/** Inputs that are wrong, by what is wrong with them. */
const WRONG: Readonly<Record<string, string | Uint8Array>> = {
  'nothing at all': '',
  'another text': 'hello\n',
  'another JSON': '[1,2]\n',
  'another object': '{"hello":1}\n',
  'a broken map': '{\n  "tree": {',
  'not UTF-8': Uint8Array.of(0x7b, 0xff, 0xfe, 0x0a),
  'a newer version': '{"membacking":"trace","version":2}\n',
  'an unknown policy': '{"membacking":"trace","version":1,"policy":"any"}\n',
  'a header that is cut off': HEADER.slice(0, 20),
  'broken JSON': traceOf(REGION, '{"op":"remove",'),
  'an empty line': traceOf(REGION, '', REGION),
  'an unknown operation': traceOf('{"op":"explode"}'),
  'an unknown field': traceOf('{"op":"remove","id":0,"force":true}'),
  'an address that is a number': traceOf(REGION, '{"op":"move","id":0,"offset":4096}'),
  'an address past the end': traceOf(REGION, '{"op":"move","id":0,"offset":"0x10000000000000000"}'),
  'an id that nobody made': traceOf(REGION, '{"op":"place","id":7,"parent":0,"offset":"0x0"}'),
  'an id out of range': traceOf('{"op":"remove","id":4294967296}'),
  'an id made twice': traceOf(REGION, REGION),
  'a region in itself': traceOf(REGION, '{"op":"place","id":0,"parent":0,"offset":"0x0"}'),
  'a region that is not placed': traceOf(REGION, '{"op":"move","id":0,"offset":"0x0"}'),
  'a commit too many': traceOf('{"op":"commit"}'),
  'a huge line': `${HEADER}\n{"op":"region","id":0,"name":"${'x'.repeat(2 ** 20)}"}\n`,
  'a huge line without an end': `${HEADER}\n${'x'.repeat(2 ** 22)}`,
  'regions too deep to be seen': traceOf(
    '{"op":"begin"}',
    ...deepRegions,
    ...deepPlaces.reverse(),
    '{"op":"space","id":0,"name":"m","root":0}',
    '{"op":"commit"}',
  ),
  'truncated gzip': gzipSync(SMALL_TRACE).subarray(0, 100),
  'damaged gzip': gzipSync(SMALL_TRACE).map((byte, i) => (i === 60 ? byte ^ 0xff : byte)),
};

test('wrong input ends with 1 and says what is wrong, and where', (t) => {
  withFiles(WRONG, (cwd) => {
    const { code, out, err } = membacking(['flatview', ...Object.keys(WRONG)], { cwd });
    t.is(code, 1);
    t.is(out, '');
    t.snapshot(lines(err));
    for (const what of Object.keys(WRONG))
      t.true(err.includes(`\nmembacking: ${what}: `) || err.startsWith(`membacking: ${what}: `));
  });
});

/** A region that is seen 5 * 2^14 times: a container with five aliases of it, and 14, each with two of the one
 *  before. */
function doubled(): string {
  const operations = ['{"op":"region","id":0,"name":"ram","kind":"ram","size":"0x1000"}'];
  const hex = (value: number) => `"0x${value.toString(16)}"`;
  let [last, size] = [0, 0x1000];
  for (const times of [5, ...Array<number>(14).fill(2)]) {
    const all = last + times + 1;
    operations.push(`{"op":"region","id":${all},"name":"all","kind":"container","size":${hex(times * size)}}`);
    for (let i = 0; i < times; i++) {
      const alias = `"id":${last + 1 + i},"name":"a","target":${last},"offset":"0x0","size":${hex(size)}`;
      operations.push(
        `{"op":"alias",${alias}}`,
        `{"op":"place","id":${last + 1 + i},"parent":${all},"offset":${hex(i * size)}}`,
      );
    }
    [last, size] = [all, times * size];
  }
  return traceOf(...operations, `{"op":"space","id":0,"name":"m","root":${last}}`);
}

test('a small trace that shows very much is refused, unless it is asked for: then row by row', (t) => {
  withFiles({ 'bomb.jsonl': doubled() }, (cwd) => {
    const err = 'membacking: bomb.jsonl: shows more than 65536 ranges: --all prints them\n';
    for (const args of [['replay'], ['replay', '--json'], ['flatview'], ['flatview', '--json']]) {
      t.deepEqual(membacking([...args, 'bomb.jsonl'], { cwd }), { code: 1, out: '', err });
    }
    const diff = ['flatview', '--diff', 'bomb.jsonl', 'bomb.jsonl'];
    t.deepEqual(membacking(diff, { cwd }), { code: 1, out: '', err });
    const { code, out } = membacking(['replay', '--json', '--all', 'bomb.jsonl'], { cwd });
    t.is(code, 0);
    const { addressSpaces } = JSON.parse(out);
    t.is(addressSpaces[0].ranges.length, 5 * 2 ** 14);
    t.like(addressSpaces[0].ranges.at(-1), { start: '0x13fff000', end: '0x13ffffff', name: 'ram' });
  });
});

test('replay and explain say the same of it', (t) => {
  for (const what of [
    'nothing at all',
    'another text',
    'broken JSON',
    'a region in itself',
    'truncated gzip',
    'a huge line',
  ]) {
    const input = WRONG[what]!;
    const { err } = membacking(['flatview', '-'], { input });
    t.deepEqual(membacking(['replay', '-'], { input }), { code: 1, out: '', err }, what);
    t.deepEqual(membacking(['explain', '-', '0'], { input }), { code: 1, out: '', err }, what);
  }
});

test('slots are a matter of plans, not of the view', (t) => {
  const input = SMALL_TRACE.replace('"slots":8', '"slots":1');
  t.snapshot(lines(membacking(['replay', '-'], { input }).err));
  t.is(membacking(['flatview', '-'], { input }).code, 0);
});

test('import says which file it does not understand', (t) => {
  const map = { address_spaces: ['memory'], tree: { root: 1, regions: [] }, flat: [] };
  withFiles(
    { 'trace.jsonl': SMALL_TRACE, 'cut.json.gz': gzipSync('{}').subarray(0, 12), 'root.json': JSON.stringify(map) },
    (cwd) => {
      const failures = ['trace.jsonl', 'cut.json.gz', 'root.json', 'none.json', '.'].map((file) => {
        const { code, out, err } = membacking(['import', file], { cwd });
        t.is(code, 1);
        t.is(out, '');
        return lines(err.trimEnd());
      });
      t.snapshot(failures);
    },
  );
});

test('an output that cannot be written is an error', (t) => {
  const full = openSync('/dev/full', 'w');
  const args = ['build/cli.js', 'replay', 'ts/trace/samples/pc-boot.trace.jsonl'];
  const { status, stderr } = spawnSync(process.execPath, args, { stdio: ['ignore', full, 'pipe'], encoding: 'utf8' });
  closeSync(full);
  t.is(status, 1);
  t.regex(stderr, /^membacking: the output cannot be written: ENOSPC/);
});

test('an output that a shell has closed is an error, one that nobody wants is none', (t) => {
  const replay = `"${process.execPath}" build/cli.js replay ts/trace/samples/pc-boot.trace.jsonl`;
  const run = (redirection: string) =>
    spawnSync('bash', ['-c', `${replay} ${redirection}; echo $?`], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  t.deepEqual([run('>&-').stdout, run('>&-').stderr], ['1\n', 'membacking: standard output is closed\n']);
  t.is(run('> /dev/null').stdout, '0\n');
  const discarded = spawnSync('bash', ['-c', `${replay}; exit $?`], { stdio: ['ignore', 'ignore', 'pipe'] });
  t.is(discarded.status, 0, 'the shell was given /dev/null itself');
});
