// Memory that a monitor has mapped itself, as RAM: the file behind it is found, and mapped as any file is. The
// monitor's own mapping stays.

import { closeSync, fstatSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { type Address, formatHex } from '../core/address.ts';
import { MemoryBuildError } from './errors.ts';

/** A stretch of /proc/self/maps. */
interface Stretch {
  /** Text of its addresses, as the kernel writes it. */
  readonly range: string;
  readonly start: bigint;
  readonly end: bigint;
  readonly isShared: boolean;
  readonly fileOffset: bigint;
  /** Device and inode of the file. */
  readonly file: string;
}

/** Calls `use` with a descriptor of the file that `length` bytes at `hva` show from its start on. Throws
 *  MemoryBuildError: MISSING_BACKING where nothing is mapped, OPTION_MISFIT for what cannot be shown elsewhere. */
export function withFileAt<Result>(name: string, hva: Address, length: Address, use: (fd: number) => Result): Result {
  const refusal = (code: 'MISSING_BACKING' | 'OPTION_MISFIT', why: string) =>
    new MemoryBuildError(code, `RAM "${name}" cannot be the memory at ${formatHex(hva)}: ${why}`, {
      name,
      hva,
      length,
    });
  const [start, end] = [BigInt(hva), BigInt(hva) + BigInt(length)];
  const stretches = mappedStretches().filter((each) => each.end > start && each.start < end);
  const [first] = stretches;
  if (first === undefined || !covers(stretches, start, end)) {
    throw refusal('MISSING_BACKING', 'not all of it is mapped');
  }
  if (stretches.some(({ isShared }) => !isShared)) {
    throw refusal(
      'OPTION_MISFIT',
      'it is private memory, which is nowhere but in its mapping: map a memfd shared there',
    );
  }
  const isInOrder = stretches.every(
    ({ file, fileOffset, start: at }) => file === first.file && fileOffset - at === first.fileOffset - first.start,
  );
  if (!isInOrder || first.fileOffset - first.start + start !== 0n) {
    throw refusal('OPTION_MISFIT', 'it is not one file from its beginning on');
  }
  const known = openDescriptor(first.file);
  if (known !== undefined) return use(known);
  const fd = openMapped(first);
  if (fd === undefined) {
    const why = `nobody has its file open for writing any more, and only root may open that by its mapping: hand it over as { kind: 'fd' }`;
    throw refusal('OPTION_MISFIT', why);
  }
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

function mappedStretches(): Stretch[] {
  return readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .flatMap((line) => {
      const [, start, end, access, offset, device, inode] =
        /^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) (\S+) (\d+)/.exec(line) ?? [];
      if (start === undefined) return [];
      return {
        range: `${start}-${end}`,
        ...{ start: BigInt(`0x${start}`), end: BigInt(`0x${end}`), fileOffset: BigInt(`0x${offset}`) },
        isShared: access!.endsWith('s'),
        file: `${device} ${inode}`,
      };
    });
}

/** Whether stretches, which are in order, leave nothing out of [start, end). */
function covers(stretches: readonly Stretch[], start: bigint, end: bigint): boolean {
  let reached = start;
  for (const stretch of stretches) {
    if (stretch.start > reached) return false;
    reached = stretch.end;
  }
  return reached >= end;
}

/** A descriptor of this process that has a file open for reading and writing. */
function openDescriptor(file: string): number | undefined {
  const fds = readdirSync('/proc/self/fd').map(Number);
  return fds.find((fd) => {
    try {
      return fileOf(fd) === file && isForWriting(fd);
    } catch {
      return false; // closed meanwhile: the descriptor that listed the others
    }
  });
}

/** Device and inode of a descriptor's file, as /proc/self/maps says them. */
function fileOf(fd: number): string {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  const text = (number: bigint) => number.toString(16).padStart(2, '0');
  return `${text(major)}:${text(minor)} ${ino}`;
}

function isForWriting(fd: number): boolean {
  const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
  return (Number.parseInt(flags ?? '0', 8) & 3) === 2;
}

/** A new descriptor of the file behind a mapping; undefined where this process may not open it so. */
function openMapped({ range }: Stretch): number | undefined {
  try {
    return openSync(`/proc/self/map_files/${range}`, 'r+');
  } catch {
    return undefined;
  }
}
