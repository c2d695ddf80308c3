// TypeScript of users: the declarations that are shipped are whole, right use compiles, wrong use does not.

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import test from 'ava';
import { withUserFolder } from './support/user-folder.ts';

/** Options of a user's project: without the names of a browser, and with everything checked that is imported. */
const PROJECT = {
  compilerOptions: {
    strict: true,
    module: 'nodenext',
    target: 'es2022',
    lib: ['es2023', 'esnext.disposable'],
    types: ['node'],
    noEmit: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
  },
};

const PREAMBLE = `
import {
  GuestMemoryBuilder, GuestMemoryManager, KvmPartition, Lease, MemoryBuildError, PrivateMemory, SharedMemory,
  SharedMemoryBacking, Vcpu, type Partition, type RamOptions,
} from 'membacking';
declare const builder: GuestMemoryBuilder;
declare const manager: GuestMemoryManager;
declare const dimm: RamOptions;
declare const partition: KvmPartition;
const range = { gpa: 0, length: 0x1000 };
`;

const USE: Readonly<Record<string, string>> = {
  'a guest is built and attached': `
    const guest = new GuestMemoryBuilder({ maxAddress: 2 ** 34 - 1 }).addRam({ ranges: [{ gpa: 0, length: 4096n }] }).build();
    class Hypervisor implements Partition { name = 'x'; slotLimit = 3; addSlot() {} deleteSlot() {} }
    guest.attachPartition(new Hypervisor(), { vtl: 2 }).close();`,
  'a lease is a resource': `using lease = manager.guestMemory.lock(range, 'read', { holder: 'disk' }); lease.view[0];`,
  'a transaction returns what its body does': `
    manager.map.transaction(() => 7).toFixed();
    manager.map.transaction(() => {});
    manager.map.transaction(() => JSON.parse('7'));
    manager.map.transaction(() => { throw new Error('taken back'); });
    (await manager.whenFree(() => 7, { deadline: 3 })).toFixed();`,
  'RAM that is described elsewhere is added': `manager.addRam(dimm); await manager.addRamAsync({ ...dimm, prefetch: true });`,
  'a vCPU has a list of features that was edited': `
    const cpuid = partition.supportedCpuid({ cores: 2 });
    cpuid[0]!.eax = 0xb;
    partition.createVcpu(0, { cpuid }).cpuid.map((entry) => entry.ebx);`,
  'errors have codes': `
    try { builder.build(); } catch (error) { if (error instanceof MemoryBuildError) error.code satisfies string; }`,
  'the core alone replays': `
    import { loadCore, TraceReplay } from 'membacking/core';
    await loadCore(new Uint8Array(8));
    new TraceReplay().layers(0)[0]?.through?.trim();`,
  'there is a monitor': `import { Monitor } from 'membacking/vmm'; new Monitor({ start: { firmware: new Uint8Array(0x1_0000) } });`,
};

const MISUSE: Readonly<Record<string, string>> = {
  'a lease out of nothing': `new Lease();`,
  'a manager out of nothing': `new GuestMemoryManager();`,
  'shared memory out of nothing': `new SharedMemory();`,
  'private memory out of nothing': `new PrivateMemory();`,
  'a backing out of nothing': `new SharedMemoryBacking(new Map());`,
  'a vCPU out of nothing': `new Vcpu();`,
  'a partition out of nothing': `new KvmPartition();`,
  'what is internal': `manager.map.context;`,
  'a transaction that waits': `manager.map.transaction(async () => 1);`,
  'a change that waits': `manager.whenFree(async () => 1);`,
  'a prefetch that nobody waits for': `manager.addRam({ ranges: [range], prefetch: true });`,
  'an option that does not exist': `new GuestMemoryBuilder({ size: 1 });`,
  'an address that is text': `builder.addRam({ ranges: [{ gpa: '0', length: 1 }] });`,
  'a file without a path': `builder.addRam({ ranges: [range], backing: { kind: 'file' } });`,
  'private memory in huge pages': `builder.addRam({ ranges: [range], backing: { kind: 'private', hugePageSize: 2 ** 21 } });`,
  'a trust level that does not exist': `manager.setVtlProtection(1, range, 'r');`,
  'an access that does not exist': `manager.setVtlProtection(0, range, 'w');`,
  'a lease without a holder': `manager.guestMemory.lock(range, 'read');`,
  'a partition that cannot add': `manager.attachPartition({ name: 'x', slotLimit: 1, deleteSlot() {} });`,
  'a partition that adds slots later': `manager.attachPartition({ name: 'x', slotLimit: 1, async addSlot() {}, deleteSlot() {} });`,
  'a partition that pauses later': `
    manager.attachPartition({ name: 'x', slotLimit: 1, addSlot() {}, deleteSlot() {}, async pause() {}, resume() {} });`,
  'a register that is set by itself': `new Map<0, Vcpu>().get(0)!.registers.rip = 0n;`,
  'a segment that is changed in place': `new Map<0, Vcpu>().get(0)!.specialRegisters.cs.base = 0n;`,
  'a feature list with half an entry': `partition.createVcpu(0, { cpuid: [{ function: 1, eax: 0 }] });`,
  'facts that are changed': `manager.inspect().ram[0]!.name = 'y';`,
};

/** The first line of each error that the compiler finds, by the program that it is in. */
function errorsOf(programs: Readonly<Record<string, string>>): Record<string, string[]> {
  const titles = Object.keys(programs);
  const output = withUserFolder((folder) => {
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(PROJECT));
    for (const [index, code] of Object.values(programs).entries()) {
      writeFileSync(join(folder, `${index}.ts`), `${PREAMBLE}${code}\n`);
    }
    const args = ['node_modules/typescript/bin/tsc', '-p', folder, '--pretty', 'false'];
    return spawnSync(process.execPath, args, { encoding: 'utf8' }).stdout;
  });
  const errors: Record<string, string[]> = {};
  for (const [, file, message] of output.matchAll(/^(\S.*?)\(\d+,\d+\): error (.*)$/gm)) {
    const title = titles[Number.parseInt(basename(file!), 10)] ?? file!;
    errors[title] = [...(errors[title] ?? []), message!];
  }
  return errors;
}

test('the declarations compile where everything is checked, and so does what uses them rightly', (t) => {
  t.deepEqual(errorsOf(USE), {});
});

test('wrong use does not compile', (t) => {
  const errors = errorsOf(MISUSE);
  t.deepEqual(Object.keys(errors).sort(), Object.keys(MISUSE).sort());
  t.snapshot(Object.keys(MISUSE).map((title) => `${title}: ${errors[title]?.join(' | ')}`));
});
