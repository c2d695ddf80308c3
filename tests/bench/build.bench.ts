// Guest memory built, shown to a KVM partition and closed, against the same system calls.

import { type Address, GuestMemoryBuilder, KvmPartition } from '../../ts/index.ts';
import { vmOf } from '../../ts/sinks/kvm.ts';
import { baseline, type Pieces } from './support/baseline.ts';
import { runGroup } from './support/group.ts';
import { atMost, compare, speedAtLeast } from './support/measure.ts';

const GIB = 2 ** 30;
const MIB = 2 ** 20;

function builder(bytes: number): GuestMemoryBuilder {
  const options = { x86LegacySupport: true, maxAddress: bytes * 2 - 1 };
  const low = 3 * GIB;
  const ranges = [
    { gpa: 0, length: low },
    { gpa: 4 * GIB, length: bytes - low },
  ];
  return new GuestMemoryBuilder(options).addRam({ ranges });
}

function triples(rows: readonly [Address, Address, Address][]): Pieces {
  return BigUint64Array.from(rows.flat().map(BigInt));
}

const partition = KvmPartition.open();

/** Pieces that a build maps and slots that it attaches: the work of the other side. */
function layoutOf(bytes: number): { pieces: Pieces; slots: Pieces } {
  const manager = builder(bytes).build();
  const attached = manager.attachPartition(partition);
  const pieces = manager.va.pieces().map(({ gpa, length, objectOffset }) => [gpa, length, objectOffset] as const);
  const slots = attached.attachments.flatMap((attachment) => attachment.slots());
  const layout = {
    pieces: triples(pieces.map(([gpa, length, offset]) => [gpa, length, offset])),
    slots: triples(slots.map(({ gpa, length }) => [gpa, length, gpa])),
  };
  manager.close();
  return layout;
}

const SIZES: readonly [name: string, bytes: number][] = [
  ['64 GiB', 64 * GIB],
  ['1 TiB', 1024 * GIB],
];

/** Bytes that this process holds more while such a guest is there. */
function growth(bytes: number): number {
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  const manager = builder(bytes).build();
  manager.attachPartition(partition);
  const grown = process.memoryUsage().rss - before;
  manager.close();
  return Math.max(0, grown);
}

await runGroup(async (group) => {
  // Before anything else: what a process has once had, it does not ask for again.
  for (const [name, bytes] of SIZES) {
    group.doing(`RSS of ${name}`);
    await group.add({ what: `RSS growth of ${name}`, unit: 'bytes', ours: growth(bytes), goals: [atMost(8 * MIB)] });
  }
  for (const [name, bytes] of SIZES) {
    group.doing(`build ${name}`);
    const { pieces, slots } = layoutOf(bytes);
    await group.add(
      compare({
        ...{ what: `build, attach and close ${name}`, operations: 1, leastPairs: 11, goals: [speedAtLeast(1 / 3)] },
        ours: {
          run: () => {
            const manager = builder(bytes).build();
            manager.attachPartition(partition);
            manager.close();
          },
        },
        baseline: {
          what: 'bare system calls',
          run: () => baseline.build(vmOf(partition).fd, bytes * 2, bytes, pieces, slots),
        },
      }),
    );
  }
});
