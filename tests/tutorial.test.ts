// The tutorial's programs are run, and its page shows what they are.

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { lines } from './support/cli.ts';
import { kvmTest } from './support/guest.ts';
import { PATIENCE } from './support/patience.ts';

const FOLDER = 'ts/guide/tutorial';
const PAGE = readFileSync('ts/guide/tutorial.md', 'utf8');
const STEPS = readdirSync(FOLDER).filter((name) => /^\d-/.test(name));

/** Lines that each step prints. */
const PRINTED: Readonly<Record<string, readonly string[]>> = {
  '1-memory.js': [
    'at 2000: 600d',
    'GUEST_ACCESS at a0000',
    'the guest memory manager',
    'address space "guest"',
    '  00000000-0009ffff  ram  rw  ram',
  ],
  '2-guest.js': ['hlt', 'at 2000: 42', "[ { slot: 0, gpa: 0, length: 655360, access: 'rwx' } ]"],
  '3-exits.js': ['write at b8000', 'read at b8001', 'hi!'],
  '4-rom.js': [
    'a write to ROM at f0100 comes to the monitor',
    'and the guest reads R',
    '000f0100 in address space "guest"',
    '  visible  000f0000-000fffff  rom     rom + 100       priority 256 (read-only)',
    '  hidden   00000000-000fffff  ram     ram + f0100     priority 255',
    '  mapping                     object  firmware + 100  writable',
    '  slot     000f0000-000fffff  rx      slot 1          of "kvm"',
    'without the ROM: r',
  ],
  '5-bar.js': [
    'the BAR is at c0000',
    'the BAR is at d0000',
    'the guest reads B',
    'the device sees B',
    'the guest memory manager',
    'address space "guest"',
    '  00000000-0009ffff  ram     rw  ram',
    '  000d0000-000d0fff  device  rw  bar 0',
  ],
  '6-worker.js': ['HELLO'],
  '7-snapshot.js': ['the first machine counted to 3', 'another one went on to 5', 'another one went on to 7'],
};

function runs(t: ExecutionContext, name: string): void {
  const options = { encoding: 'utf8', timeout: PATIENCE, env: { ...process.env, NO_COLOR: '1' } } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, [`${FOLDER}/${name}`], options);
  t.deepEqual({ status, stderr }, { status: 0, stderr: '' });
  t.deepEqual(lines(stdout.trimEnd()), [...PRINTED[name]!]);
}

for (const name of STEPS) {
  const needsKvm = readFileSync(`${FOLDER}/${name}`, 'utf8').includes('KvmPartition');
  const body = (t: ExecutionContext) => runs(t, name);
  if (needsKvm) kvmTest(`step ${name} does what it says`, body);
  else test(`step ${name} does what it says`, body);
}

test('the page leads through all steps, and shows lines that are theirs', (t) => {
  t.deepEqual(STEPS, Object.keys(PRINTED));
  const sections = PAGE.split(/^## /m).slice(1);
  t.is(sections.length, STEPS.length);
  for (const [index, section] of sections.entries()) {
    const name = STEPS[index]!;
    const program = readFileSync(`${FOLDER}/${name}`, 'utf8');
    t.true(section.includes(`(tutorial/${name})`), name);
    for (const [, code] of section.matchAll(/^```(?:js|javascript)\n(.*?)^```$/gms))
      t.true(program.includes(code!), code);
  }
});
