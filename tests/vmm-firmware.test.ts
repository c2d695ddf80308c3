// SeaBIOS, which nobody here wrote, boots on the monitor: with the memory manager behind its PAM registers, its BARs
// and its reset line.

import { readFileSync, readSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { parseTrace, TraceReplay } from '../ts/index.ts';
import { Monitor, memoryDisk } from '../ts/vmm/index.ts';
import { kvmMissing } from './support/guest.ts';
import { PATIENCE } from './support/patience.ts';
import { lookingAround, SEABIOS, seabiosMissing } from './support/pc-guests.ts';

const MEMORY = 0x400_0000;

const missing = kvmMissing ?? seabiosMissing;

function firmwareTest(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  if (missing !== undefined) test.skip(`${title}: ${missing}`, body);
  else test(title, body);
}

firmwareTest(
  'SeaBIOS boots a disk, finds the memory that the manager shows, and boots again after a reset',
  async (t) => {
    t.timeout(PATIENCE + 10_000);
    let log = '';
    let serial = '';
    const history: string[] = [];
    const monitor = new Monitor({
      memory: MEMORY,
      start: { firmware: readFileSync(SEABIOS) },
      disk: memoryDisk(lookingAround),
      onLog: (byte) => (log += String.fromCharCode(byte)),
      onSerial: (byte) => (serial += String.fromCharCode(byte)),
      record: { write: (text) => history.push(text) },
    });
    const timer = setTimeout(() => monitor.stop(), PATIENCE);
    try {
      t.deepEqual(await monitor.run(), { kind: 'exit', status: 0 }, log);
      t.is(monitor.counts.resets, 1);
      t.is(
        log.match(/^Booting from 0000:7c00$/gm)?.length,
        2,
        'the firmware boots the disk before and after the reset',
      );

      const boots = serial.split('Booting from Hard Disk').slice(1);
      t.is(boots.length, 2, serial);
      const visible = monitor.memory.space.flatView().filter(({ region }) => region.kind === 'ram');
      const isRam = (gpa: bigint) =>
        visible.some((range) => !range.readonly && range.gpa <= gpa && BigInt(range.gpa) + BigInt(range.length) > gpa);
      for (const boot of boots) {
        const entries = [...boot.matchAll(/e820 ([\da-f]{16}) ([\da-f]{16}) (\d\d)/g)];
        const ranges = entries.map(([, start, length, type]) => ({
          start: BigInt(`0x${start}`),
          end: BigInt(`0x${start}`) + BigInt(`0x${length}`),
          type,
        }));
        const usable = ranges.filter(({ type }) => type === '01');
        t.true(usable.length >= 2, boot);
        for (const { start, end } of usable) {
          for (let gpa = start; gpa < end; gpa += 0x1000n)
            if (!isRam(gpa)) t.fail(`the firmware calls ${gpa.toString(16)} RAM`);
        }
        const low = ranges.filter(({ start, end }) => start >= 0x10_0000n && end <= BigInt(MEMORY));
        t.is(low[0]?.start, 0x10_0000n);
        t.is(low.at(-1)?.end, BigInt(MEMORY), 'all of RAM is usable or reserved');

        // Writes to the C segment: dropped after POST; land; land unseen; are dropped, and the unseen one is there.
        const [, ...words] =
          /pam ([\da-f]{4}) ([\da-f]{4}) ([\da-f]{4}) ([\da-f]{4}) ([\da-f]{4}) end/.exec(boot) ?? [];
        t.deepEqual(words.slice(0, 4), ['0000', '2222', 'ffff', '3333'], boot);
        t.not(words[4], '5555', 'the firmware cannot be written');
      }

      t.deepEqual(
        [0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f].map((register) => monitor.hostBridge.register(register)),
        [0x10, 0x11, 0x11, 0x11, 0x11, 0x11, 0x33],
      );
      const readWrite = monitor.memory.ramVisibility.ranges().filter(({ visibility }) => visibility === 'read-write');
      t.deepEqual(
        readWrite.map(({ gpa }) => gpa),
        [0, 0xa0000, 0xe8000, 0xec000, 0x100000],
      );
      t.true(monitor.memory.ramVisibility.ranges().every(({ visibility }) => visibility !== 'unmapped'));

      const [bar] = monitor.sharedMemoryDevice.bars;
      t.true(bar !== undefined && bar >= MEMORY && bar < 0xfec0_0000, 'the firmware placed the BAR');
      monitor.memory.guestMemory.writeU32(bar!, 0xcafe_f00d);
      const word = Buffer.alloc(4);
      readSync(monitor.sharedMemory.fd, word, 0, 4, 0);
      t.is(word.readUInt32LE(), 0xcafe_f00d);

      // The history, through the core alone, leads to what there is now.
      const { header, operations } = parseTrace(history.join(''));
      const replay = new TraceReplay({ policy: header.policy });
      for (const operation of operations) replay.apply(operation);
      const [replayed] = replay.flatViews();
      const now = monitor.memory.space.flatView();
      t.deepEqual(
        replayed!.ranges.map(({ gpa, length, name, offsetInRegion, readonly }) => ({
          gpa,
          length,
          name,
          offsetInRegion,
          readonly,
        })),
        now.map(({ gpa, length, name, offsetInRegion, readonly }) => ({ gpa, length, name, offsetInRegion, readonly })),
      );
    } finally {
      clearTimeout(timer);
      monitor.close();
    }
  },
);
