// The bar of what takes long.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { Progress } from '../ts/cli/progress.ts';
import { membacking, SMALL_TRACE } from './support/cli.ts';

function recorded(isTTY: boolean, steps: readonly (readonly [at: number, done: number, total?: number])[]): string[] {
  const written: string[] = [];
  let time = 0;
  const stream = { isTTY, write: (text: string) => written.push(text) > 0 } as unknown as NodeJS.WriteStream;
  const progress = new Progress('boot\x1b.jsonl', stream, () => time);
  for (const [at, done, total] of steps) {
    time = at;
    progress.advance(done, total);
  }
  progress.end();
  return written.map((text) => text.replaceAll('\x1b', 'ESC'));
}

const MIB = 2 ** 20;
const STEPS = [
  [100, MIB, 8 * MIB],
  [600, 2 * MIB, 8 * MIB],
  [650, 3 * MIB, 8 * MIB],
  [900, 9 * MIB, 8 * MIB],
  [1200, 9 * MIB],
] as const;

test('on a terminal, after half a second, now and then, and gone at the end', (t) => {
  t.deepEqual(recorded(true, STEPS), [
    '\rESC[Kboot?.jsonl [========                      ]  25 %  2.0 MiB',
    '\rESC[Kboot?.jsonl [==============================] 100 %  9.0 MiB',
    '\rESC[Kboot?.jsonl 9.0 MiB',
    '\rESC[K',
  ]);
  t.deepEqual(recorded(true, STEPS.slice(0, 1)), [], 'what is done soon has none');
});

test('elsewhere there is none', (t) => {
  t.deepEqual(recorded(false, STEPS), []);
  t.is(membacking(['replay', '-'], { input: SMALL_TRACE }).err, '');
  const { stderr } = spawnSync(process.execPath, ['build/cli.js', 'replay', 'ts/trace/samples/pc-boot.trace.jsonl']);
  t.is(stderr.toString(), '');
});

const MTREE = `address-space: memory
  0000000000000000-ffffffffffffffff (prio 0, i/o): system
    0000000000000000-0000000000ffffff (prio 0, ram): ram
`;

test('import shows how far it is on a terminal, while a map comes slowly', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const at = (name: string) => join(folder, name);
  spawnSync('mkfifo', [at('map')]);
  const command = `"${process.execPath}" build/cli.js import ${at('map')} > ${at('trace')}`;
  const terminal = spawn('script', ['-qec', command, '/dev/null']);
  let seen = '';
  terminal.stdout.on('data', (bytes) => {
    seen += bytes;
  });
  const ended = once(terminal, 'close');
  // With 'r+', the pipe opens at once, whether the command has come so far or has failed.
  const map = createWriteStream(at('map'), { flags: 'r+' });
  map.write(MTREE);
  while (!seen.includes('MiB') && terminal.exitCode === null) {
    await sleep(20);
    map.write('\n');
  }
  map.end();
  t.deepEqual(await ended, [0, null]);
  t.regex(seen.replaceAll('\x1b', 'ESC'), /^(\rESC\[K\S+\/map 0\.0 MiB)+\rESC\[K/);
  t.regex(readFileSync(at('trace'), 'latin1'), /"op":"commit"/);
});
