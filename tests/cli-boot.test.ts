// `membacking boot`: options, disks, exit codes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { membacking, withFiles } from './support/cli.ts';
import { kvmTest } from './support/guest.ts';
import { bzImage, echo } from './support/pc-guests.ts';

kvmTest(
  'boot starts a kernel, shows the map before and after, and writes a trace that replays to the same map',
  (t) => {
    withFiles({ kernel: bzImage(), initrd: 'INITRD' }, (folder) => {
      const at = (name: string) => join(folder, name);
      const { code, out, err } = membacking(
        ['boot', '--kernel', at('kernel'), '--initrd', at('initrd'), '--append', 'hello', '--memory', '8M'].concat([
          '--map',
          '--trace',
          at('trace'),
          '--timeout',
          '60',
        ]),
      );
      t.is(code, 0, err);
      t.is(err, '');
      t.regex(out, /com1 \| hello/);
      const [before, after] = out.split('The memory map as the guest ends');
      t.notRegex(before!, /shared memory$/m);
      t.regex(after!, /^ {2}d0000000-d00fffff {2}device {2}rw {2}shared memory$/m);
      const replayed = membacking(['replay', at('trace')]);
      t.is(replayed.code, 0, replayed.err);
      t.true(after!.includes(replayed.out.trimEnd()), replayed.out);
      t.regex(readFileSync(at('trace'), 'latin1'), /"op":"move"/);
    });
  },
);

kvmTest('boot --json ends with one line, and what the guest says is on standard error', (t) => {
  withFiles({ kernel: bzImage() }, (cwd) => {
    const args = ['boot', '--kernel', 'kernel', '--append', 'hello', '--memory', '8M', '--timeout', '60'];
    const { code, out, err } = membacking([...args, '--json', '--map'], { cwd });
    t.is(code, 0, err);
    t.regex(err, /com1 \| hello/);
    t.is(out.indexOf('\n'), out.length - 1);
    const { end, status, seconds, portExits, resets, map, atStart, atEnd } = JSON.parse(out);
    t.deepEqual({ end, status, resets }, { end: 'exit', status: 0, resets: 0 });
    t.true(seconds > 0 && portExits > 0 && map.commands.total > 0);
    const bar = (spaces: { ranges: { name: string }[] }[]) =>
      spaces.some(({ ranges }) => ranges.some(({ name }) => name === 'shared memory'));
    t.deepEqual([bar(atStart), bar(atEnd)], [false, true]);
  });
});

kvmTest('boot ends with 1 for a guest that fails or cannot go on, and with 124 when the time is up', (t) => {
  const atReset = (...code: number[]) => {
    const firmware = Buffer.alloc(0x10000);
    firmware.set(code, 0xfff0);
    return firmware;
  };
  const files = {
    halts: atReset(0xf4, 0xeb, 0xfd), // hlt; jmp to it
    fails: atReset(0xb0, 3, 0xe6, 0xf4), // mov al, 3; out f4, al
    leaps: atReset(0xea, 0, 0, 0, 0xd0), // jmp d000:0, where nothing is
  };
  withFiles(files, (folder) => {
    const boot = (name: string, seconds: number) =>
      membacking(['boot', '--firmware', join(folder, name), '--timeout', String(seconds)]);
    const late = boot('halts', 0.3);
    t.is(late.code, 124, late.err);
    t.regex(late.err, /the time was up/);
    const failed = boot('fails', 30);
    t.is(failed.code, 1);
    t.regex(failed.err, /says that it failed: 3/);
    const crashed = boot('leaps', 30);
    t.is(crashed.code, 1, crashed.err);
    t.regex(crashed.err, /^membacking: KVM cannot emulate what the guest does \(internal error 1\), at 0xd0000\n$/);
  });
});

kvmTest(
  'boot gives the guest its standard input, and with --quiet prints what the guest sends and nothing else',
  (t) => {
    withFiles({ echo }, (cwd) => {
      const input = `\x01x ${'more than a port holds, '.repeat(100)}é`;
      const { code, out, err } = membacking(['boot', '--firmware', 'echo', '--quiet'], { cwd, input: `${input}\x04` });
      t.deepEqual({ code, out, err }, { code: 0, out: `>${input}`, err: '' });
    });
  },
);

kvmTest("on a terminal each key is the guest's, Ctrl-A X leaves, and the terminal is as before", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'echo'), echo);
  const boot = `"${process.execPath}" build/cli.js boot --firmware ${join(folder, 'echo')} --quiet`;
  const terminal = spawn('script', ['-qec', `stty -g; ${boot}; echo " code $?"; stty -g`, '/dev/null']);
  let seen = '';
  // Each line is typed when the guest has sent what is before it.
  const typed: [after: string, keys: string][] = [
    ['>', 'a\x03b\x01\x01c\x01dx'],
    ['cx', '\x01x'],
  ];
  terminal.stdout.on('data', (bytes) => {
    seen += bytes;
    if (typed[0] !== undefined && seen.endsWith(typed[0][0])) terminal.stdin.write(typed.shift()![1]);
  });
  await once(terminal, 'close');
  const [before, middle, after] = seen.trim().split(/\r?\n/);
  t.is(middle, '>a\x03b\x01cx code 0');
  t.is(after, before);
});

kvmTest('a guest that resets itself ends with --no-reboot, and with 1', (t) => {
  const firmware = Buffer.alloc(0x10000);
  firmware.set([0xb0, 0xfe, 0xe6, 0x64], 0xfff0); // mov al, fe; out 64, al
  withFiles({ firmware }, (cwd) => {
    const { code, err } = membacking(['boot', '--firmware', 'firmware', '--no-reboot', '--quiet'], { cwd });
    t.is(code, 1);
    t.regex(err, /the guest resets itself, which is its end here/);
  });
});

kvmTest('boot ends at once when something fails while the guest runs, and names it', (t) => {
  const system = `const { writeSync } = fs; fs.writeSync = (...args) => {
    if (!String(args[1]).includes('"op":"move"')) return writeSync(...args);
    throw Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO', syscall: 'write' });
  }`;
  withFiles({ kernel: bzImage() }, (cwd) => {
    const args = ['boot', '--kernel', 'kernel', '--trace', 'trace', '--timeout', '1000'];
    const { code, err } = membacking(args, { cwd, system });
    t.is(err, 'membacking: trace cannot be written: EIO: i/o error, write\n');
    t.is(code, 1);
    const full = membacking(['boot', '--kernel', 'kernel', '--trace', '/dev/full', '--timeout', '1000'], { cwd });
    t.is(full.err, 'membacking: /dev/full cannot be written: ENOSPC: no space left on device, write\n');
    t.is(full.code, 1);
  });
});

test('boot says what is wrong with what was typed, or handed in', (t) => {
  const cases: [string[], number, RegExp][] = [
    [['disk.img'], 2, /named with options/],
    [['--memory', 'much'], 2, /a size such as 64M, not "much"/],
    [['--cpus', '0'], 2, /a number from 1 to 64, not "0"/],
    [['--cpus', '65'], 2, /a number from 1 to 64, not "65"/],
    [['--cpus', 'two'], 2, /a number from 1 to 64, not "two"/],
    [['--timeout', '-1'], 2, /timeout/],
    [['--timeout', 'soon'], 2, /a number of seconds above 0, such as 60, not "soon"/],
    [['--quiet', '--json'], 2, /--quiet or --json, not both/],
    [['--append', 'x'], 2, /are for a --kernel/],
    [['--kernel', 'a', '--firmware', 'b'], 2, /not both/],
    [['--kernel', 'a', '--firmware-vars', 'b'], 2, /not both/],
    [['--firmware-vars', 'b'], 2, /is for a --firmware/],
    [['--firmware', 'package.json', '--firmware-vars', 'nowhere'], 1, /nowhere cannot be opened/],
    [['--kernel', 'nowhere'], 1, /nowhere cannot be read/],
    [['--firmware', 'nowhere'], 1, /nowhere cannot be read/],
    [['--firmware', 'package.json'], 1, /whole 4 KiB/],
    [['--firmware', 'package.json', '--memory', '1M'], 1, /whole MiB, from 4 MiB/],
    [['--firmware', 'package.json', '--disk', 'nowhere'], 1, /nowhere cannot be opened/],
    [['--firmware', 'package.json', '--trace', 'nowhere/trace'], 1, /cannot be written/],
  ];
  for (const [args, expected, message] of cases) {
    const { code, err } = membacking(['boot', ...args]);
    t.is(code, expected, `${args.join(' ')}: ${err}`);
    t.regex(err, message);
  }
});

test('a trace of before stays where the usage is wrong', (t) => {
  withFiles({ trace: 'before' }, (cwd) => {
    t.is(membacking(['boot', '--trace', 'trace', '--memory', 'much'], { cwd }).code, 2);
    t.is(readFileSync(join(cwd, 'trace'), 'utf8'), 'before');
  });
});

test('boot without firmware on this machine says what to install', (t) => {
  const { code, err } = membacking(['boot'], { system: 'fs.existsSync = () => false' });
  t.is(code, 1);
  t.regex(err, /^membacking: no SeaBIOS is installed here: .*apt-get install seabios\)\n$/);
});
