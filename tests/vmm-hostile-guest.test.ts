// A hostile guest does anything, at every register, in any order. The monitor goes on, or says what is wrong; the
// host's memory stays as it was.

import { readFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { type Exit, formatHex, MemoryMap, parseTrace, SharedMemory, TraceReplay } from '../ts/index.ts';
import { type DiskImage, Monitor } from '../ts/vmm/index.ts';
import { kvmTest } from './support/guest.ts';
import { Random, SEED, tries } from './support/random.ts';

const MEMORY = 0x40_0000;
const PORTS = [
  0x64, 0x70, 0x71, 0x92, 0xf4, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x402, 0x510, 0x511, 0xcf8, 0xcf9, 0xcfc, 0xcfe,
  0xcff,
];
/** GPAs where something is, or begins, or ends. */
const PLACES = [
  ...[0, 0x1000, 0x9f000, 0xa0000, 0xb8000, 0xc0000, 0xe0000, 0xf0000, 0xfff00, 0x10_0000, MEMORY - 0x10_0000, MEMORY],
  ...[0x8000_0000, 0xfeb0_0000, 0xfec0_0000, 0xfee0_0000, 0xfeff_d000, 0xfff0_0000, 0xfffc_0000, 0xffff_f000],
];
/** Addresses where 64 bits and the numbers of JavaScript end. */
const EDGES = [2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 8n, 2n ** 64n - 1n];
const DISK = { bar: 0xc000, function: 3 << 11, size: 0x10_0000 };

/** A guest that writes registers at random: the exits that it would cause. */
class HostileGuest {
  readonly #monitor: Monitor;
  readonly #random: Random;

  constructor(monitor: Monitor, random: Random) {
    this.#monitor = monitor;
    this.#random = random;
  }

  step(): void {
    const acts = [this.#anyPort, this.#pam, this.#bar, this.#diskQueue, this.#memory, this.#anyRegister];
    this.#random.pick(acts).call(this);
  }

  #exit(exit: Exit): void {
    this.#monitor.handle(exit);
  }

  #io(port: number, size: number, isWrite: boolean, value = 0, count = 1): void {
    const data = new Uint8Array(size * count);
    for (let i = 0; i < data.length; i++) data[i] = value >>> (8 * (i % size));
    this.#exit({ kind: 'io', port, size, count, isWrite, data });
  }

  #pci(address: number, size: number, value: number): void {
    this.#io(0xcf8, 4, true, (0x8000_0000 | (address & 0xff_fffc)) >>> 0);
    this.#io(0xcfc + (address & 3), size, true, value);
  }

  #word(): number {
    return this.#random.below(0x1_0000_0000);
  }

  #anyPort(): void {
    const port = this.#random.below(8) === 0 ? this.#random.below(0x1_0000) : this.#random.pick(PORTS);
    this.#io(port, this.#random.pick([1, 2, 4]), this.#random.below(2) === 0, this.#word(), 1 + this.#random.below(4));
  }

  #pam(): void {
    for (let i = 0; i < 4; i++)
      this.#pci(this.#random.pick([0x58, 0x5c, 0x59, 0x5a, 0x5d, 0x5f, 0x72]), this.#random.pick([1, 4]), this.#word());
  }

  #bar(): void {
    const slot = this.#random.below(4) << 11;
    this.#pci(
      slot | (0x10 + 4 * this.#random.below(3)),
      4,
      this.#random.pick([...PLACES, 0xffff_ffff, DISK.bar, this.#word()]),
    );
    this.#pci(slot | 4, 2, this.#random.below(8));
  }

  #anyRegister(): void {
    this.#pci(this.#word() & 0x3fff, this.#random.pick([1, 2, 4]), this.#word());
  }

  #memory(): void {
    const gpa = this.#random.pick(PLACES) + this.#random.below(0x1000);
    this.#exit({
      kind: 'mmio',
      gpa,
      isWrite: this.#random.below(2) === 0,
      data: new Uint8Array(this.#random.pick([1, 2, 4, 8])).fill(this.#word()),
    });
  }

  /** Puts the disk where it can be reached, and a queue of nonsense with some sense in it before it. */
  #diskQueue(): void {
    const { guestMemory } = this.#monitor.memory;
    this.#pci(DISK.function | 0x10, 4, DISK.bar);
    this.#pci(DISK.function | 0x04, 2, 7);
    const page = this.#random.pick([0x20, 0x100, 0x101, 0x3ff, 0x9f, 0xfec00, 0xf_ffff, this.#word()]);
    const queue = page * 0x1000;
    if (page === 0x100 || page === 0x101 || page === 0x20) {
      for (let i = 0; i < 8; i++) {
        const at = queue + i * 16;
        guestMemory.writeU64(at, this.#random.pick([...PLACES.map(BigInt), ...EDGES]));
        guestMemory.writeU32(at + 8, this.#random.pick([0, 1, 16, 512, 4096, 0x100000, 0xffff_ffff]));
        guestMemory.writeU16(at + 12, this.#random.below(4));
        guestMemory.writeU16(at + 14, this.#random.below(9));
      }
      guestMemory.writeU32(0x1000, this.#random.below(10));
      guestMemory.writeU64(0x1008, BigInt(this.#random.pick([0, 1, 2047, 2048, 0xffff_ffff])));
      guestMemory.writeU16(queue + 0x800 + 2, this.#random.below(0x1_0000));
    }
    this.#io(DISK.bar + 0x12, 1, true, this.#random.below(3));
    this.#io(DISK.bar + 0x0e, 2, true, this.#random.below(2));
    this.#io(DISK.bar + 0x08, 4, true, page);
    this.#io(DISK.bar + 0x10, 2, true, 0);
    this.#io(DISK.bar + this.#random.below(0x40), this.#random.pick([1, 2, 4]), false);
  }
}

/** A disk that nobody may leave. */
function fencedDisk(t: ExecutionContext): DiskImage {
  const content = Buffer.alloc(DISK.size);
  const check = (offset: number, { length }: Uint8Array) => {
    if (!(offset >= 0 && offset % 512 === 0 && length % 512 === 0 && offset + length <= DISK.size)) {
      t.fail(`the disk is asked for ${length} bytes at ${offset}`);
    }
  };
  return {
    size: DISK.size,
    read(offset, into) {
      check(offset, into);
      into.set(content.subarray(offset, offset + into.length));
    },
    write(offset, from) {
      check(offset, from);
      content.set(from, offset);
    },
  };
}

/** Files that this process has mapped, outside of the guest's memory. */
function hostMaps(monitor: Monitor): string[] {
  const { base, size } = monitor.memory.va;
  const lines = readFileSync('/proc/self/maps', 'latin1').split('\n');
  return lines.filter((line) => {
    const start = BigInt(`0x${line.split('-')[0] || 0}`);
    const isGuest = start >= base && start < base + BigInt(size);
    return line.includes('/') && !isGuest;
  });
}

/** Memory of somebody else in this process, filled with a pattern. */
function canary(): { isUntouched(): boolean; close(): void } {
  const size = 0x10_0000;
  const map = new MemoryMap();
  const object = SharedMemory.create(size, { name: 'canary' });
  const region = map.createRegion({ name: 'canary', kind: 'ram', size });
  region.map({ object });
  const { memory } = map.attachVaSpace(map.createAddressSpace({ name: 'canary', root: region }), { size });
  const pattern = Buffer.alloc(size, 'the canary sings. ');
  memory.write(0, pattern);
  return {
    isUntouched() {
      const now = Buffer.alloc(size);
      memory.read(0, now);
      return now.equals(pattern);
    },
    close() {
      map.close();
      object.close();
    },
  };
}

kvmTest(
  `a guest that writes anything anywhere harms nobody, and the memory map stays what its history says: seed ${SEED}`,
  async (t) => {
    const steps = tries(4000);
    t.log(`seed ${SEED}, ${steps} steps`);
    const history: string[] = [];
    const bird = canary();
    const monitor = new Monitor({
      memory: MEMORY,
      start: { firmware: new Uint8Array(0x10000).fill(0xf4) },
      disk: fencedDisk(t),
      record: { write: (text) => history.push(text) },
    });
    const before = hostMaps(monitor);
    const guest = new HostileGuest(monitor, new Random());
    try {
      for (let i = 1; i <= steps; i++) {
        guest.step();
        if (i % 1000 === 0) monitor.reset();
        if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      t.true(bird.isUntouched());
      t.deepEqual(hostMaps(monitor), before);
      const { header, operations } = parseTrace(history.join(''));
      const replay = new TraceReplay({ policy: header.policy });
      for (const operation of operations) replay.apply(operation);
      const shown = ({ gpa, length, name }: { gpa: number | bigint; length: number | bigint; name: string }) =>
        `${formatHex(gpa)} ${formatHex(length)} ${name}`;
      t.deepEqual(monitor.memory.space.flatView().map(shown), replay.flatViews()[0]!.ranges.map(shown));
      t.log(`${history.length} changes of the memory map`);
    } finally {
      monitor.close();
      bird.close();
    }
  },
);

kvmTest(`random firmware ends in a run that goes on or in a clear message: seed ${SEED}`, async (t) => {
  const random = new Random();
  const bird = canary();
  try {
    for (let round = 0; round < tries(6); round++) {
      const firmware = Buffer.alloc(0x10000);
      for (let i = 0; i < firmware.length; i += 4) firmware.writeUInt32LE(random.below(0x1_0000_0000), i);
      firmware.set([0xe9, 0x0d, random.below(256)], 0xfff0); // a jump to somewhere in it
      const monitor = new Monitor({ memory: MEMORY, start: { firmware }, disk: fencedDisk(t) });
      const timer = setTimeout(() => monitor.stop(), 150);
      try {
        const stop = await monitor.run();
        if (stop.kind === 'crashed') t.regex(stop.message, /^[\w ()',:.-]{10,}$/);
        t.log(`round ${round}: ${stop.kind === 'crashed' ? stop.message : stop.kind}`);
      } finally {
        clearTimeout(timer);
        monitor.close();
      }
    }
    t.true(bird.isUntouched());
  } finally {
    bird.close();
  }
});
