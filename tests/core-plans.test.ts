// Plans: the same operations give the same ones, byte for byte, on every machine, in every instance, in both builds.
// And plans to be read: what the steps of an old PC's memory map cost.

import { createHash } from 'node:crypto';
import test from 'ava';
import { PlanRunner } from '../ts/apply/runner.ts';
import { Core } from '../ts/core/core.ts';
import { Names } from '../ts/core/names.ts';
import { renderPlan } from '../ts/text/render.ts';
import { importMaps } from '../ts/trace/import/maps.ts';
import type { TraceOperation } from '../ts/trace/operations.ts';
import { Replayer } from '../ts/trace/replay.ts';
import { machines } from './support/qemu-cases.ts';
import { regionLines, Script } from './support/script.ts';
import { BUILDS, type Build, World } from './support/world.ts';

const PC = {
  regions: `
    name      kind       size      in      at         priority  shows             flags
    system    container  all
    ram       ram        8000000
    ram-low   alias      8000000   system  0          0         ram
    pci       container  all       system  0          -1
    bios      rom        40000     pci     fffc0000
    isa-bios  alias      20000     pci     e0000      1         bios+20000
    vga       mmio       20000     pci     a0000      1
    vga-hole  alias      20000     system  a0000      1         pci+a0000
    pam-rom   alias      10000     system  f0000      1         pci+f0000
    pam-ram   alias      10000     system  f0000      1         ram+f0000         disabled
    pam-ro    alias      10000     system  f0000      1         ram+f0000         readonly disabled
    option    rom        8000      pci     c8000      1                           disabled
    pam-c     alias      8000      system  c8000      1         pci+c8000
    bar       device     1000000   pci     e0000000   1                           disabled
  `,
  memory: `
    object pc.ram 8000000
    object bios.mem 40000
    object option.mem 8000
    object vram 1000000
    map ram 0 8000000 pc.ram 0
    map bios 0 40000 bios.mem 0 readonly
    map option 0 8000 option.mem 0 readonly
    map bar 0 1000000 vram 0
    space memory root system
    va va 10000000000 of memory
    partition vm 509
    attach vtl0 of vm to memory through va
  `,
};

/** Steps of firmware and the guest, one after the other. */
const STEPS: readonly (readonly [title: string, change: string])[] = [
  ['the machine is switched on', PC.memory],
  ['an option ROM appears', 'set option enabled'],
  ['the BIOS copies itself into RAM: the F segment becomes RAM', 'set pam-rom disabled\nset pam-ram enabled'],
  ['the F segment is locked', 'set pam-ram disabled\nset pam-ro enabled'],
  ['a BAR is switched on', 'set bar enabled'],
  ['the BAR is moved', 'move bar to f0000000'],
  ['a part of the BAR shows something else', 'map bar 100000 100000 pc.ram 0'],
  ['the VGA hole is closed', 'set vga-hole disabled'],
  ['the VGA hole is opened', 'set vga-hole enabled'],
  ['the F segment is unlocked', 'set pam-ro disabled\nset pam-ram enabled'],
  ['the machine is reset', 'set pam-ram disabled\nset pam-rom enabled\nset option disabled\nset bar disabled'],
];

test('the plans of an old PC: RAM with the VGA hole, PAM and ROM', (t) => {
  const world = new World().place(PC.regions);
  let lines: string[] = [];
  world.runner.observe((core, plan) => {
    lines = renderPlan(core, plan, world.names);
  });
  for (const [title, change] of STEPS) {
    world.change(change);
    world.checkSinks();
    t.snapshot(lines, title);
  }
  t.snapshot({ flat: world.flat(), slots: world.slots('vtl0') }, 'after the reset');
});

/** sha256 over the bytes of all plans. */
function hashOf(operations: readonly TraceOperation[], build: Build): string {
  const hash = createHash('sha256');
  const names = new Names();
  const core = new Core({ debug: build === 'debug', explain: names.explain });
  const runner = new PlanRunner(core);
  let bytes = 0;
  runner.observe((_, { commands }) => {
    const plan = core.planBytes(commands);
    bytes += plan.length;
    hash.update(plan);
  });
  const replayer = new Replayer(core, runner, names);
  for (const operation of operations) replayer.apply(operation);
  return `${hash.digest('hex')} of ${bytes} bytes`;
}

function pcTrace(): TraceOperation[] {
  const script = new Script();
  const changes = [regionLines(PC.regions), ...STEPS.map(([, change]) => change)];
  const lines = changes.flatMap((change) => ['begin', ...change.split('\n'), 'commit']);
  return lines.filter((line) => line.trim() !== '').map((line) => script.parse(line));
}

test('the same trace gives the same bytes: in a second instance, in the debug build, and as ever', (t) => {
  const traces: [string, readonly TraceOperation[]][] = [['an old PC', pcTrace()]];
  for (const { name, cases } of machines()) traces.push([name, importMaps(cases.map(({ file }) => file)).operations]);
  const golden: string[] = [];
  for (const [name, operations] of traces) {
    const hash = hashOf(operations, 'release');
    for (const build of BUILDS) t.is(hashOf(operations, build), hash, name);
    if (golden.length < 12) golden.push(`${hash}: ${name}`);
  }
  t.snapshot(golden);
  t.log(`${traces.length} traces`);
});
