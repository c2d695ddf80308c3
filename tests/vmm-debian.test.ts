// Debian's kernels for clouds, as they come, run on the monitor to a program of theirs. Only in the lab: it has a stock
// KVM, and the kernels.

import test from 'ava';
import { Monitor } from '../ts/vmm/index.ts';
import { Conversation, DEBIAN_GUESTS, DEBIAN_MEMORY, DISK, startOf, TYPED } from './support/debian-guests.ts';
import { kvmMissing } from './support/guest.ts';
import { PATIENCE } from './support/patience.ts';
import { tempFolder } from './support/temp-folder.ts';

const CPUS = 2;
const FIRMWARE_MOST = 0x10_0000;
/** Exits that are fair: scans of a legacy area that is no RAM take 80 000 and more. */
const MMIO_MOST = 20_000;

const missing = kvmMissing ?? (DEBIAN_GUESTS.length === 0 ? 'the kernels are in the lab' : undefined);

/** [start, end) of the ranges that Linux calls RAM. */
function systemRam(iomem: string): [number, number][] {
  return [...iomem.matchAll(/^([\da-f]+)-([\da-f]+) : System RAM/gm)].map(([, start, last]) => [
    Number.parseInt(start!, 16),
    Number.parseInt(last!, 16) + 1,
  ]);
}

/** [start, end) of the ranges that the map shows as RAM, without the first page, which Linux leaves alone. */
function visibleRam({ memory }: Monitor): [number, number][] {
  const ranges: [number, number][] = [];
  for (const { gpa, length, region, readonly } of memory.space.flatView()) {
    if (region.kind !== 'ram' || readonly) continue;
    const [start, end] = [Number(gpa), Number(gpa) + Number(length)];
    const before = ranges.at(-1);
    if (before?.[1] === start) before[1] = end;
    else ranges.push([Math.max(start, 0x1000), end]);
  }
  return ranges;
}

/** Bytes of the first list of ranges that the second one does not have. */
function missingIn(of: [number, number][], ranges: [number, number][]): number {
  const shared = of.flatMap(([start, end]) => ranges.map(([from, to]) => Math.min(end, to) - Math.max(start, from)));
  return sizeOf(of) - shared.filter((bytes) => bytes > 0).reduce((sum, bytes) => sum + bytes, 0);
}

function sizeOf(ranges: [number, number][]): number {
  return ranges.reduce((sum, [start, end]) => sum + end - start, 0);
}

for (const guest of DEBIAN_GUESTS) {
  test.serial(
    `${guest.name} comes to a program, with the memory, disk, processors and console that the monitor gives it`,
    async (t) => {
      t.timeout(PATIENCE);
      const conversation = new Conversation();
      const monitor = new Monitor({
        ...startOf(guest),
        memory: DEBIAN_MEMORY,
        cpus: CPUS,
        endsAtReset: true,
        onSerial: (byte) => conversation.hear(monitor, byte),
      });
      const timer = setTimeout(() => monitor.stop(), PATIENCE - 10_000);
      try {
        t.deepEqual(await monitor.run(), { kind: 'exit', status: 0 }, conversation.said);
        const { said } = conversation;
        const text = said.slice(said.indexOf('iomem:')).replaceAll('\r', '');
        const [found, shown] = [systemRam(text), visibleRam(monitor)];
        t.is(missingIn(found, shown), 0, text);
        // Firmware keeps some for its tables.
        t.true(missingIn(shown, found) <= (guest.disk === undefined ? 0 : FIRMWARE_MOST), text);
        const bar = (monitor.sharedMemoryDevice.register(0x10, 4) & -16) >>> 0;
        t.true(text.includes(`${bar.toString(16)}-${(bar + 0xf_ffff).toString(16)} : 0000:00:02.0`), text);
        t.regex(text, new RegExp(`^processors: ${CPUS}$`, 'm'));
        t.regex(text, guest.disk === undefined ? new RegExp(`^disk: ${DISK}$`, 'm') : /^disk: .*SYSLINUX/m);
        t.regex(text, new RegExp(`^heard: ${TYPED}$`, 'm'));
        t.true(monitor.counts.mmioExits < MMIO_MOST, `${monitor.counts.mmioExits} accesses to no memory`);
      } finally {
        clearTimeout(timer);
        monitor.close();
      }
    },
  );
}

for (const guest of DEBIAN_GUESTS.slice(0, 1)) {
  test.serial(`${guest.name} is kept while it waits for its console, and goes on as two clones`, async (t) => {
    t.timeout(PATIENCE);
    const folder = tempFolder(t);
    const { start, disk } = startOf(guest);
    const taken: Promise<unknown>[] = [];
    let said = '';
    const monitor: Monitor = new Monitor({
      ...{ start, memory: DEBIAN_MEMORY, cpus: CPUS },
      ...(disk && { disk }),
      onSerial: (byte) => {
        said += String.fromCharCode(byte);
        if (said.endsWith('say something:\r\n')) taken.push(monitor.snapshot(folder).then(() => monitor.stop()));
      },
    });
    t.deepEqual(await monitor.run(), { kind: 'stopped' }, said);
    await Promise.all(taken);
    monitor.close();
    for (const [clone, mode] of (['map', 'copy'] as const).entries()) {
      let heard = '';
      const onSerial = (byte: number) => (heard += String.fromCharCode(byte));
      const again = await Monitor.restore(folder, { mode, ...(disk && { disk }), onSerial });
      void again.type(Buffer.from(`clone ${clone}\n`));
      t.deepEqual(await again.run(), { kind: 'exit', status: 0 }, heard);
      t.regex(heard, new RegExp(`^heard: clone ${clone}\\r$`, 'm'));
      again.close();
    }
  });
}

if (missing !== undefined) test.skip(`Debian's kernels for clouds come to a program: ${missing}`, (t) => t.pass());
