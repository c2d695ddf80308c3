// Guest memory in many pieces, and more of it than one window shows: reads that go to and fro, and windows that open.

import { type GuestMemory, WorkerGuestMemory } from '../../ts/index.ts';
import { Random } from '../support/random.ts';
import { backings } from './support/backings.ts';
import { type Group, runGroup } from './support/group.ts';
import { atMost, compareFast } from './support/measure.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** Accesses in one call. */
const ACCESSES = 65_536;

function readAll(memory: GuestMemory, gpas: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < gpas.length; i++) sum = (sum + memory.readU32(gpas[i]!)) | 0;
  return sum;
}

function readBare(view: DataView, offsets: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < offsets.length; i++) sum = (sum + view.getUint32(offsets[i]!, true)) | 0;
  return sum;
}

/** Values here and there in large guests, and in those with holes. */
async function hereAndThere(group: Group): Promise<void> {
  const view = new DataView(new ArrayBuffer(MIB));
  const random = new Random(11);
  for (const [where, count, bytes, gap, most] of [
    ['2 backings with a hole', 2, MIB, MIB, 12],
    ['4 backings with holes', 4, MIB, MIB, 13],
    ['16 backings with holes', 16, MIB, MIB, 18],
    ['64 backings with holes', 64, MIB, MIB, 23],
    ['8 GiB', 1, 8 * GIB, 0, 23],
    ['64 GiB', 1, 64 * GIB, 0, 23],
  ] as const) {
    const what = `read u32 here and there, ${where}`;
    group.doing(what);
    const { memory } = backings(count, bytes, gap);
    const length = bytes / count;
    const part = Math.max(1, 64 / count);
    const gpas = Array.from({ length: ACCESSES }, () => {
      const inBacking = random.below(part) * (length / part) + random.below(64) * 4;
      return random.below(count) * (length + gap) + inBacking;
    });
    for (let turn = 0; turn < 8; turn++) readAll(memory, gpas);
    const bareGpas = gpas.map((_, i) => (i * 16_384 + (i % 64) * 4) % MIB);
    await group.add(
      compareFast({
        ...{ what, operations: gpas.length, goals: [atMost(most)] },
        ours: { run: () => void readAll(memory, gpas) },
        baseline: { what: 'a bare DataView', run: () => void readBare(view, bareGpas) },
      }),
    );
  }
}

/** Values here and there in a guest with holes, as workers read them. */
async function inWorker(group: Group): Promise<void> {
  const count = 64;
  const what = `read u32 here and there, ${count} backings with holes, in a worker`;
  group.doing(what);
  const { memory, token } = backings(count, MIB, MIB);
  const other = WorkerGuestMemory.fromToken(token);
  const step = MIB / count + MIB;
  const gpas = Array.from({ length: ACCESSES }, (_, i) => ((i * 7919) % count) * step + (i % 64) * 4);
  for (let turn = 0; turn < 8; turn++) for (const each of [memory, other]) readAll(each, gpas);
  await group.add(
    compareFast({
      ...{ what, operations: gpas.length },
      ours: { run: () => void readAll(other, gpas) },
      baseline: { what: "the map's own thread", run: () => void readAll(memory, gpas) },
    }),
  );
}

const TURNS = 2000;
const WINDOWS = 16;

/** Milliseconds of each read among those that windows of 2 GiB open in: in every guest at the same ones. */
function readTimes(): number[] {
  const { memory } = backings(1, WINDOWS * 2 * GIB);
  const times: number[] = [];
  for (let turn = 0; turn < TURNS; turn++) {
    for (let window = 0; window < WINDOWS; window++) {
      const started = performance.now();
      memory.readU32(window * 2 * GIB + turn * 4);
      times.push(performance.now() - started);
    }
  }
  return times;
}

/** Windows that open while JavaScript has much in its heap. */
function opening(group: Group): void {
  const what = 'longest read among 16 windows of 2 GiB that open, 200 MiB of JavaScript objects';
  group.doing(what);
  const objects = Array.from({ length: 1_500_000 }, (_, a) => ({ a, list: [a], text: `${a}` }));
  // Of each read the shortest time: whoever else has the processor lengthens it by chance.
  const guests = Array.from({ length: objects.length / 300_000 }, readTimes);
  const shortest = guests[0]!.map((_, read) => Math.min(...guests.map((times) => times[read]!)));
  group.rows.push({ what, unit: 'ms', ours: shortest.reduce((a, b) => Math.max(a, b)), goals: [atMost(1)] });
}

await runGroup(async (group) => {
  await hereAndThere(group);
  await inWorker(group);
  opening(group);
});
