// `membacking boot --snapshot` and `membacking restore`: when snapshots are taken, and machines that go on from them.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { membacking, withFiles } from './support/cli.ts';
import { kvmTest } from './support/guest.ts';
import { echo } from './support/pc-guests.ts';
import { tempFolder } from './support/temp-folder.ts';

const NOTE = /^membacking: note: snapshot kept: \d+\.\d of 8\.0 MiB written, in \d+\.\d\d s$/m;
const BOOT = ['boot', '--firmware', 'echo', '--memory', '8M', '--snapshot', 'kept', '--quiet'];

kvmTest('a machine is kept when it has sent a text, and goes on from there, alone and as clones', (t) => {
  withFiles({ echo, disk: 'a disk' }, (cwd) => {
    const args = [...BOOT, '--disk', 'disk', '--snapshot-at', '>ab'];
    const { code, out, err } = membacking(args, { cwd, input: 'abcd\x04' });
    t.deepEqual([code, out], [0, '>abcd']);
    t.regex(err, NOTE);
    for (const how of [[], ['--map'], ['--copy'], ['--lazy']]) {
      const again = membacking(['restore', 'kept', '--quiet', ...how], { cwd });
      t.deepEqual(again, { code: 0, out: 'cd', err: '' }, 'what was typed and not read is still to be read');
    }
    const facts = membacking(['restore', 'kept', '--clones', '3', '--json'], { cwd });
    t.is(facts.code, 0, facts.err);
    const clones = facts.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    t.deepEqual(
      clones.map(({ clone, end }) => [clone, end]),
      [1, 2, 3].map((clone) => [clone, 'exit']),
    );
    t.true(clones.every(({ ownBytes, restoreSeconds }) => ownBytes < 2 ** 20 && restoreSeconds > 0));
    t.regex(facts.err, /2 com1 \| cd/);
    const text = membacking(['restore', 'kept', '--copy'], { cwd });
    t.regex(text.out, /^clone 1: restored by copy in [\d.]+ ms, ran [\d.]+ s; RAM: \d+ KiB of its own, 0 KiB shared/m);
    const kept = membacking(['restore', 'kept', '--quiet', '--snapshot', 'later', '--snapshot-at', 'c'], { cwd });
    t.is(kept.out, 'cd');
    t.is(membacking(['restore', 'later', '--quiet'], { cwd }).out, 'd');
    utimesSync(join(cwd, 'disk'), 2 ** 31, 2 ** 31);
    t.regex(membacking(['restore', 'kept', '--quiet'], { cwd }).err, /disk has been written since the snapshot was/);
    writeFileSync(join(cwd, 'other'), new Uint8Array(2 ** 21));
    const other = membacking(['restore', 'kept', '--disk', 'other'], { cwd });
    t.is(other.code, 1);
    t.regex(other.err, /had a disk of 1048576 bytes/);
  });
});

kvmTest('a machine of which no snapshot was taken is kept when it has ended, and goes on behind its end', (t) => {
  withFiles({ echo }, (cwd) => {
    const { code, err } = membacking(BOOT, { cwd, input: '\x04' });
    t.is(code, 0);
    t.regex(err, NOTE);
    const halted = membacking(['restore', 'kept', '--timeout', '0.3'], { cwd });
    t.is(halted.code, 124, halted.err);
    t.regex(halted.err, /^membacking: note: the time was up$/m);
    const both = membacking(['restore', 'kept', '--lazy', '--timeout', '0.3', '--clones', '2'], { cwd });
    for (const clone of [1, 2])
      t.regex(both.err, new RegExp(`^membacking: note: clone ${clone}: the time was up$`, 'm'));
    t.regex(both.out, /^clone 2: restored lazily in /m);
    const failing = membacking([...BOOT.slice(0, -2), 'echo/below', '--quiet'], { cwd, input: '\x04' });
    t.is(failing.code, 1);
    t.regex(failing.err, /the snapshot in "echo\/below" cannot be written/);
  });
});

kvmTest('a machine is kept at SIGUSR1 and at Ctrl-A S, and goes on', async (t) => {
  const cwd = tempFolder(t);
  writeFileSync(join(cwd, 'echo'), echo);
  const boot = `"${process.execPath}" "${join(process.cwd(), 'build/cli.js')}" ${BOOT.join(' ')}`;
  const terminal = spawn('script', ['-qec', `echo "pid $$"; exec ${boot}`, '/dev/null'], { cwd });
  let seen = '';
  const steps: [after: RegExp, act: () => void][] = [
    [/>$/, () => process.kill(Number(/pid (\d+)/.exec(seen)![1]), 'SIGUSR1')],
    [/snapshot kept[^\n]*\n$/, () => terminal.stdin.write('a')],
    [/a$/, () => terminal.stdin.write('\x01s')],
    [/snapshot.*snapshot kept[^\n]*\n$/s, () => terminal.stdin.write('\x01x')],
  ];
  terminal.stdout.on('data', (bytes) => {
    seen += bytes;
    if (steps[0]?.[0].test(seen)) steps.shift()![1]();
  });
  const [code] = await once(terminal, 'close');
  t.is(code, 0, seen);
  t.true(existsSync(join(cwd, 'kept/layout.json')));
  const { out } = membacking(['restore', 'kept', '--quiet'], { cwd, input: 'b\x04' });
  t.is(out, 'b');
});

test('restore says what is wrong with what was typed, or handed in', (t) => {
  const cases: [string[], number, RegExp][] = [
    [['restore'], 2, /name the folder of one snapshot/],
    [['restore', 'a', 'b'], 2, /name the folder of one snapshot/],
    [['restore', 'a', '--map', '--copy'], 2, /give one of --map, --copy, --lazy/],
    [['restore', 'a', '--quiet', '--json'], 2, /--quiet or --json, not both/],
    [['restore', 'a', '--clones', '0'], 2, /a number from 1 to 1000, not "0"/],
    [['restore', 'a', '--clones', 'many'], 2, /a number from 1 to 1000, not "many"/],
    [['restore', 'a', '--clones', '2', '--quiet'], 2, /--quiet is for one guest/],
    [['restore', 'a', '--clones', '2', '--snapshot', 'b'], 2, /--snapshot is for one guest/],
    [['restore', 'a', '--snapshot-at', 'b'], 2, /is for a --snapshot/],
    [['boot', '--snapshot-at', 'b'], 2, /is for a --snapshot/],
    [['restore', 'nowhere'], 1, /nowhere\/layout.json" cannot be opened/],
  ];
  for (const [args, expected, message] of cases) {
    const { code, err } = membacking(args);
    t.is(code, expected, `${args.join(' ')}: ${err}`);
    t.regex(err, message);
  }
});
