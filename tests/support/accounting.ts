// The kernel's accounts of this process's memory.

import { existsSync, fstatSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { PATIENCE } from './patience.ts';

/** Sums over a range, in bytes, by the field's name in /proc/self/smaps: Rss, Locked, AnonHugePages … */
export function smapsOf(base: bigint, size: bigint): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { lines } of piecesOf('/proc/self/smaps', base, size)) {
    for (const line of lines) {
      const [, field, kib] = /^(\w+): +(\d+) kB$/.exec(line) ?? [];
      if (field) sums[field] = (sums[field] ?? 0) + Number(kib) * 1024;
    }
  }
  return sums;
}

/** Names that /proc/self/smaps has for the pieces of the range, with the page behind it. */
export function namesOf(base: bigint, size: bigint): string[] {
  const names = piecesOf('/proc/self/smaps', base, size + 1n).map(({ head }) => head.split(/ +/).slice(5).join(' '));
  return [...new Set(names)].filter((name) => name !== '');
}

/** The memory policies in the range: "default", "bind:0" … */
export function policiesOf(base: bigint, size: bigint): string[] {
  const starts = readFileSync('/proc/self/numa_maps', 'utf8').split('\n');
  const policies = starts.flatMap((line) => {
    const [start, policy] = line.split(' ');
    const address = BigInt(`0x${start || 0}`);
    return address >= base && address < base + size ? [policy!] : [];
  });
  return [...new Set(policies)];
}

/** Bytes of memory that a file uses. */
export function bytesOf(fd: number): number {
  return fstatSync(fd).blocks * 512;
}

/** A field of this process's status: "VmLck" … */
export function statusOf(field: string): number {
  return (
    Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024
  );
}

function piecesOf(path: string, base: bigint, size: bigint): { head: string; lines: string[] }[] {
  return readFileSync(path, 'utf8')
    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
    .map((piece) => piece.split('\n'))
    .filter(([head]) => {
      const [, start, end] = /^(\w+)-(\w+)/.exec(head!) ?? [];
      return BigInt(`0x${end}`) > base && BigInt(`0x${start}`) < base + size;
    })
    .map(([head, ...lines]) => ({ head: head!, lines }));
}

/** A test with `count` huge pages of `size` bytes in the machine's pool, which gets back what it had afterwards. Where
 *  they are not to be had, a skipped test that says why. */
export function hugePageTest(
  title: string,
  size: number,
  count: number,
  body: (t: ExecutionContext) => void | Promise<void>,
): void {
  const pool = `/sys/kernel/mm/hugepages/hugepages-${size / 1024}kB`;
  const missing = existsSync(pool)
    ? process.getuid?.() !== 0 && 'only root may reserve huge pages'
    : `the machine has no pages of ${size / 1024} KiB`;
  if (missing) {
    test.skip(`${title}: ${missing}`, body);
    return;
  }
  test.serial(title, async (t) => {
    t.timeout(PATIENCE);
    const release = await poolLock();
    const [before, free] = ['nr_hugepages', 'free_hugepages'].map((file) => Number(readFileSync(`${pool}/${file}`)));
    writeFileSync(`${pool}/nr_hugepages`, `${before! + Math.max(0, count - free!)}`);
    try {
      if (Number(readFileSync(`${pool}/free_hugepages`)) < count) {
        t.log(`skipped: the kernel found no ${count} pages of ${size / 1024} KiB`);
        t.pass();
      } else {
        await body(t);
      }
    } finally {
      writeFileSync(`${pool}/nr_hugepages`, `${before}`);
      release();
    }
  });
}

/** The pool is the machine's, and test files run side by side: one at a time may change it. Returns how to let go. */
async function poolLock(): Promise<() => void> {
  const lock = join(tmpdir(), 'membacking-huge-pages.lock');
  while (true) {
    try {
      writeFileSync(lock, `${process.pid}`, { flag: 'wx' });
      return () => rmSync(lock);
    } catch {
      // Whoever has it may have died.
      const owner = existsSync(lock) ? readFileSync(lock, 'utf8') : '';
      if (owner !== '' && !existsSync(`/proc/${owner}`)) rmSync(lock, { force: true });
      await sleep(50);
    }
  }
}
