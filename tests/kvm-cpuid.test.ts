// CPUID: what KVM says of the host is made a guest's, and the guest reads what the monitor asked for.

import test from 'ava';
import { type CpuidEntry, GuestMemoryBuilder, KvmPartition, type Vcpu } from '../ts/index.ts';
import { guestCpuid, withApicId } from '../ts/sinks/cpuid.ts';
import { footprint } from './support/footprint.ts';
import { kvmTest } from './support/guest.ts';

// ---- The list ----------------------------------------------------------------------------------

function entry(leaf: number, index: number, ...[eax, ebx, ecx, edx]: [number, number, number, number]): CpuidEntry {
  return { function: leaf, index, flags: index === 0 ? 0 : 1, eax, ebx, ecx, edx };
}

const KVM_SIGNATURE = entry(0x4000_0000, 0, 0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d);

/** Leaves as KVM reports them of hosts: the processor that asked was number 37 of a package of 64. */
const INTEL = [
  entry(0x0, 0, 0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69),
  entry(0x1, 0, 0x0005_0654, 0x2540_0800, 0x0120_0000, 0x178b_fbff),
  entry(0x4, 0, 0xfc00_4121, 0, 0, 0),
  entry(0x4, 3, 0xfc0f_c163, 0, 0, 0),
  entry(0x4, 4, 0, 0, 0, 0),
  entry(0xb, 0, 1, 2, 0x100, 37),
  entry(0xb, 1, 6, 64, 0x201, 37),
  entry(0x1f, 0, 0, 0, 0, 37),
  KVM_SIGNATURE,
  entry(0x8000_0001, 0, 0, 0, 1, 0),
  entry(0x8000_0008, 0, 0x3030, 0, 0, 0),
];

const AMD = [
  entry(0x0, 0, 0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65),
  entry(0x1, 0, 0x0080_0f12, 0x2540_0800, 0, 0x178b_fbff),
  entry(0xb, 0, 0, 0, 0, 37),
  KVM_SIGNATURE,
  entry(0x8000_0001, 0, 0, 0, 2, 0),
  entry(0x8000_0008, 0, 0x3030, 0, 0x603f, 0),
  entry(0x8000_001d, 0, 0x0000_4121, 0, 0, 0),
  entry(0x8000_001d, 3, 0x0001_c163, 0, 0, 0),
  entry(0x8000_001e, 0, 37, 0x112, 0x101, 0),
  entry(0x8000_0026, 0, 1, 2, 0x100, 37),
];

function rows(entries: readonly CpuidEntry[]): string[] {
  const hex = (word: number) => word.toString(16).padStart(8, '0');
  return entries.map(
    ({ function: leaf, index, eax, ebx, ecx, edx }) =>
      `${hex(leaf)}.${index}  ${[eax, ebx, ecx, edx].map(hex).join(' ')}`,
  );
}

for (const [host, supported] of Object.entries({ INTEL, AMD })) {
  for (const cores of [1, 4]) {
    test(`vCPU 6 of a guest with packages of ${cores}, on a host of ${host}`, (t) => {
      const before = structuredClone(supported);
      const entries = guestCpuid(supported, { cores, hasDeadlineTimer: cores > 1 });
      t.snapshot(rows(withApicId(entries, 6)));
      t.deepEqual(supported, before);
    });
  }
}

test('a list without topology gets none, and APIC IDs of 32 bits are cut where there is room for 8', (t) => {
  const entries = guestCpuid([entry(0x1, 0, 0, 0, 0, 0)], { cores: 2, hasDeadlineTimer: false });
  t.deepEqual(rows(withApicId(entries, 0x1_0203)), ['00000001.0  00000000 03020000 80000000 10000000']);
});

// ---- The guest ---------------------------------------------------------------------------------

const CODE = 0x1000;

interface Machine {
  partition: KvmPartition;
  /** EAX, EBX, ECX and EDX of the guest's question. */
  ask(vcpu: Vcpu, leaf: number, index?: number): number[];
}

function machineTest(title: string, body: (machine: Machine, t: Parameters<Parameters<typeof kvmTest>[1]>[0]) => void) {
  kvmTest(title, (t) => {
    const before = footprint();
    const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 2 ** 20 }] }).build();
    const partition = KvmPartition.open();
    try {
      manager.attachPartition(partition);
      manager.guestMemory.write(CODE, Uint8Array.of(0x0f, 0xa2, 0xf4)); // cpuid; hlt
      const ask = (vcpu: Vcpu, leaf: number, index = 0) => {
        vcpu.specialRegisters = { cs: { ...vcpu.specialRegisters.cs, base: 0n, selector: 0 } };
        vcpu.registers = { rip: BigInt(CODE), rax: BigInt(leaf), rcx: BigInt(index), rflags: 2n };
        t.deepEqual(vcpu.runToExit(), { kind: 'hlt' });
        const { rax, rbx, rcx, rdx } = vcpu.registers;
        return [rax, rbx, rcx, rdx].map(Number);
      };
      body({ partition, ask }, t);
    } finally {
      partition.close();
      manager.close();
    }
    t.deepEqual(footprint(), before);
  });
}

machineTest('a vCPU knows its hypervisor and its own number, and no host', ({ partition, ask }, t) => {
  for (const id of [0, 3]) {
    const vcpu = partition.createVcpu(id);
    const [, ebx, ecx] = ask(vcpu, 1);
    t.is(ebx! >>> 24, id);
    t.is((ebx! >>> 16) & 0xff, 1);
    t.is(ecx! >>> 31, 1, 'there is a hypervisor');
    t.deepEqual(ask(vcpu, 0x4000_0000).slice(1), [0x4b4d_564b, 0x564b_4d56, 0x4d], 'it is KVM');
    for (const leaf of [0xb, 0x1f].filter((each) => vcpu.cpuid.some((entry) => entry.function === each))) {
      t.deepEqual(ask(vcpu, leaf, 1), [0, 1, 0x201, id]);
    }
    vcpu.close();
  }
});

machineTest('a guest reads the list that the monitor has edited', ({ partition, ask }, t) => {
  const list = partition.supportedCpuid({ cores: 2 });
  list.find((each) => each.function === 0x4000_0000)!.ebx = 0x1234_5678;
  list.push({ function: 0x4000_0100, index: 0, flags: 0, eax: 1, ebx: 2, ecx: 3, edx: 0xffff_ffff });
  const before = structuredClone(list);
  const vcpu = partition.createVcpu(1, { cpuid: list });
  t.deepEqual(list, before);
  t.deepEqual(ask(vcpu, 0x4000_0100), [1, 2, 3, 0xffff_ffff]);
  t.is(ask(vcpu, 0x4000_0000)[1], 0x1234_5678);
  t.is((ask(vcpu, 1)[3]! >>> 28) & 1, 1, 'a package has several');
  const had = vcpu.cpuid;
  t.deepEqual(
    had.map((each) => each.function),
    list.map((each) => each.function),
  );
  t.deepEqual(had.at(-1), list.at(-1));
  const bare = partition.createVcpu(0, { cpuid: [] });
  t.deepEqual(bare.cpuid, []);
  for (const each of [vcpu, bare]) each.close();
  t.throws(() => vcpu.cpuid, { code: 'CLOSED' });
});

machineTest('lists that are none are refused, and no vCPU is made', ({ partition }, t) => {
  const whole = { function: 1, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 };
  const { edx: _, ...part } = whole;
  const wrong: [unknown, string][] = [
    ['all', 'cpuid must be an array of entries, as of supportedCpuid'],
    [null, 'cpuid must be an array of entries, as of supportedCpuid'],
    [[null], 'cpuid[0] takes an object with function, index, flags, eax, ebx, ecx, edx, not null'],
    [[whole, undefined], 'cpuid[1] takes an object with function, index, flags, eax, ebx, ecx, edx, not null'],
    [[part], 'cpuid[0].edx must be a whole number from 0 to 4294967295, not undefined'],
    [[{ ...whole, eax: -1 }], 'cpuid[0].eax must be a whole number from 0 to 4294967295, not -1'],
    [[{ ...whole, eax: 2 ** 32 }], 'cpuid[0].eax must be a whole number from 0 to 4294967295, not 0x100000000'],
    [[{ ...whole, rax: 0 }], 'cpuid[0] has no option "rax"; there are function, index, flags, eax, ebx, ecx, edx'],
  ];
  for (const [cpuid, message] of wrong) {
    t.throws(() => partition.createVcpu(0, { cpuid } as object), { code: 'INVALID_ARGUMENT', message });
  }
  const tooMany = Array.from({ length: 1000 }, (_, index) => ({ ...whole, index }));
  t.throws(() => partition.createVcpu(0, { cpuid: tooMany }), { code: 'SYSTEM', message: /E2BIG/ });
  t.throws(() => partition.createVcpu(0, { features: [] } as object), { message: /no option "features"/ });
  t.throws(() => partition.supportedCpuid({ cores: 0 }), {
    message: 'cores must be a whole number from 1 to 256, not 0x0',
  });
  partition.createVcpu(1).close();
});
