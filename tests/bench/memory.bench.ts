// Guest memory by GPA: single values against a DataView on memory of the same size, copies against memcpy.

import { readSync } from 'node:fs';
import { type GuestMemory, MemoryMap, SharedMemory, type VaSpace, WorkerGuestMemory } from '../../ts/index.ts';
import { Random } from '../support/random.ts';
import { backings } from './support/backings.ts';
import { baseline } from './support/baseline.ts';
import { type Group, runGroup } from './support/group.ts';
import { atMost, compare, compareFast, speedAtLeast } from './support/measure.ts';
import { nativeCopy } from './support/native-copy.ts';
import { VM_MEMORY_U32 } from './support/peers.ts';
import type { Point } from './support/rows.ts';

const MIB = 2 ** 20;
/** Accesses in one call. */
const ACCESSES = 1024;

/** `count` backings of equal size, side by side, `bytes` in all, that have been written. */
function guest(count: number, bytes: number): VaSpace {
  const va = backings(count, bytes);
  va.memory.write(0, new Uint8Array(bytes).fill(1));
  return va;
}

/** Addresses in 256 bytes of each 64th of a MiB; multiples of `width`. */
function addresses(width: number): number[] {
  const random = new Random(5);
  return Array.from({ length: ACCESSES }, () => random.below(64) * 16384 + random.below(256 / width) * width);
}

/** Accesses of ours and of a DataView, which is the baseline. */
type Access = (memory: GuestMemory, gpa: number) => unknown;
type BareAccess = (view: DataView, at: number) => unknown;

/** Uses that a loop makes of what it reads, so that no compiler leaves the reading out. */
const USES = {
  number: { start: '0', next: (value: string) => `(sum + ${value}) | 0` },
  bigint: { start: '0n', next: (value: string) => `BigInt.asUintN(64, sum + ${value})` },
  nothing: { start: '0', next: (value: string) => `(${value}, i)` },
};

const SCALARS: readonly [name: string, width: number, use: keyof typeof USES, ours: Access, bare: BareAccess][] = [
  ['read u8', 1, 'number', (m, g) => m.readU8(g), (v, g) => v.getUint8(g)],
  ['read u16', 2, 'number', (m, g) => m.readU16(g), (v, g) => v.getUint16(g, true)],
  ['read u32', 4, 'number', (m, g) => m.readU32(g), (v, g) => v.getUint32(g, true)],
  ['read u64', 8, 'bigint', (m, g) => m.readU64(g), (v, g) => v.getBigUint64(g, true)],
  ['read u32 anywhere', 1, 'number', (m, g) => m.readU32(g), (v, g) => v.getUint32(g, true)],
  ['write u8', 1, 'nothing', (m, g) => m.writeU8(g, 7), (v, g) => v.setUint8(g, 7)],
  ['write u16', 2, 'nothing', (m, g) => m.writeU16(g, 7), (v, g) => v.setUint16(g, 7, true)],
  ['write u32', 4, 'nothing', (m, g) => m.writeU32(g, 7), (v, g) => v.setUint32(g, 7, true)],
  ['write u64', 8, 'nothing', (m, g) => m.writeU64(g, 7), (v, g) => v.setBigUint64(g, 7n, true)],
];

/** A loop of its own for each access, so that every one is compiled by itself. It makes nothing on the way. */
function loop(
  access: Access | BareAccess,
  use: keyof typeof USES,
  target: GuestMemory | DataView,
  gpas: readonly number[],
): () => void {
  const { start, next } = USES[use];
  const turn = `sum = ${next('access(target, gpas[i])')};`;
  const body = `return () => { let sum = ${start}; for (let i = 0; i < gpas.length; i++) ${turn} return sum; }`;
  return new Function('target', 'gpas', `const access = ${access}; ${body}`)(target, gpas);
}

async function scalars(group: Group): Promise<void> {
  const points: Point[] = [];
  const view = new DataView(new ArrayBuffer(MIB));
  for (const count of [1, 4, 64]) {
    const { memory } = guest(count, MIB);
    for (const [name, width, use, ours, bare] of SCALARS) {
      const gpas = addresses(width);
      group.doing(`${name}, ${count} backings`);
      const goals = name.includes('u32') ? [atMost(5), speedAtLeast(1 / 3)] : [speedAtLeast(1 / 3)];
      const row = await group.add(
        compareFast({
          ...{ what: `${name}, ${count} ${count === 1 ? 'backing' : 'backings'}`, operations: ACCESSES, goals },
          ours: { run: loop(ours, use, memory, gpas) },
          baseline: { what: 'a bare DataView', run: loop(bare, use, view, gpas) },
        }),
      );
      if (name === 'read u32') points.push({ size: count, ns: row.ours });
    }
  }
  group.plots.push({
    ...{ name: 'read-u32', title: 'Reading a u32 of guest memory', sizeTitle: 'backings' },
    curves: [{ name: 'membacking', points }, VM_MEMORY_U32],
  });
}

/** Guest memory as workers have it, by a token: beside that of the map's own thread, and memcpy. */
async function workers(group: Group): Promise<void> {
  const va = guest(4, MIB);
  const memory = WorkerGuestMemory.fromToken(va.token);
  for (const [name, width, use, ours] of SCALARS.filter(([each]) => each.endsWith('u32'))) {
    const gpas = addresses(width);
    const what = `${name}, in a worker`;
    group.doing(what);
    await group.add(
      compareFast({
        ...{ what, operations: ACCESSES, goals: [atMost(15)] },
        ours: { run: loop(ours, use, memory, gpas) },
        baseline: { what: "the map's own thread", run: loop(ours, use, va.memory, gpas) },
      }),
    );
  }
}

/** Copies between a buffer and guest memory, one for each GPA. */
interface Copies {
  readonly memory: GuestMemory;
  readonly buffer: Uint8Array;
  readonly gpas: Float64Array;
  readonly isWrite: boolean;
}

function copying({ memory, buffer, gpas, isWrite }: Copies): () => void {
  if (isWrite)
    return () => {
      for (const gpa of gpas) memory.write(gpa, buffer);
    };
  return () => {
    for (const gpa of gpas) memory.read(gpa, buffer);
  };
}

async function copies(group: Group): Promise<void> {
  const bytes = 128 * MIB;
  const { memory, base, nativeInterface, token } = guest(4, bytes);
  const other = WorkerGuestMemory.fromToken(token);
  for (const [name, length, count] of [
    ['4 KiB', 4096, 2000] as const,
    ['64 KiB', 65_536, 500] as const,
    ['1 MiB', MIB, 32] as const,
    ['64 MiB', 64 * MIB, 1] as const,
  ]) {
    const random = new Random(9);
    const buffer = new Uint8Array(length).fill(2);
    const gpas = Float64Array.from({ length: count }, () => random.below((bytes - length) / 64) * 64);
    const goals = [speedAtLeast(length === 4096 ? 0.7 : 0.97)];
    for (const isWrite of [false, true]) {
      const what = isWrite ? `write ${name}` : `read ${name}`;
      group.doing(what);
      const run = copying({ memory, buffer, gpas, isWrite });
      const inWorker = copying({ memory: other, buffer, gpas, isWrite });
      const bare = () => baseline.copy(base, buffer, length, gpas, isWrite);
      const native = () => nativeCopy.copy(nativeInterface, token, buffer, gpas, isWrite);
      const memcpy = { what: 'memcpy', run: bare };
      await group.add(compare({ what, operations: count, goals, ours: { run }, baseline: memcpy }));
      await group.add(
        compare({ what: `${what} in C`, operations: count, goals, ours: { run: native }, baseline: memcpy }),
      );
      await group.add(
        compare({ what: `${what} in a worker`, operations: count, goals, ours: { run: inWorker }, baseline: memcpy }),
      );
    }
  }
}

/** Memory that nobody has touched, read through guest memory: beside its file. */
async function untouched(group: Group): Promise<void> {
  const bytes = 256 * MIB;
  const step = 4 * MIB;
  const buffer = new Uint8Array(step);
  const [shown, file] = [SharedMemory.create(bytes), SharedMemory.create(bytes)];
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'ram', kind: 'ram', size: bytes });
  root.map({ object: shown });
  const { memory } = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }), { size: bytes });
  const eachStep = (read: (at: number) => void) => () => {
    for (let at = 0; at < bytes; at += step) read(at);
  };
  const what = 'read 256 MiB that nobody has touched, 4 MiB at once';
  group.doing(what);
  await group.add(
    compare({
      ...{ what, operations: 1, leastPairs: 5, goals: [speedAtLeast(0.8)] },
      ours: { run: eachStep((at) => memory.read(at, buffer)) },
      baseline: { what: 'pread of its file', run: eachStep((at) => readSync(file.fd, buffer, 0, step, at)) },
    }),
  );
  const made = Number(shown.allocatedBytes);
  await group.add({ what: `${what}: memory that this makes`, unit: 'bytes', ours: made, goals: [atMost(0)] });
  map.close();
  for (const each of [shown, file]) each.close();
}

await runGroup(async (group) => {
  await scalars(group);
  await workers(group);
  await copies(group);
  await untouched(group);
});
