// Dirty pages as a tracker has found them: by object and offset, and by the addresses at which they were visible.

import type { MemoryObject } from '../asked/object.ts';
import type { Address } from '../core/address.ts';
import type { Row } from '../core/core.ts';
import { type PageRange, within } from '../snapshot/page-list.ts';
import type { GpaRange } from './layout.ts';

/** A stretch of one memory object. */
export interface ObjectRange {
  /** Object. */
  readonly object: MemoryObject;
  /** Offset in it of the first byte. */
  readonly offset: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
}

/** Pages that were found dirty, and what the VA space showed then. */
interface Findings {
  /** Triples of object number, offset and length, in this order; ranges of one object do not touch each other.
   *  Multiples of a page: exact up to 2^64. */
  readonly triples: Float64Array;
  /** Pieces of the VA space, in order of GPA. */
  readonly rows: readonly Row[];
  readonly objectOf: (id: number) => MemoryObject;
  readonly untracked: readonly MemoryObject[];
  readonly unwatched: readonly MemoryObject[];
}

/** Dirty pages of a guest's memory. Iterating gives those that the monitor's VA space showed when they were collected,
 *  in order of GPA, neighbours joined; a page at two addresses, twice. */
export class DirtyPages implements Iterable<GpaRange> {
  /** Objects that others may write to without anybody here knowing: files that were opened elsewhere or whose
   *  descriptor was handed out, and memory that other maps show too. */
  readonly untracked: readonly MemoryObject[];
  /** Objects of which the kernel cannot watch all that is shown: that counts as written each time. Files that are not
   *  in memory, before Linux 6.7; else what it is too short of memory for. */
  readonly unwatched: readonly MemoryObject[];
  readonly #findings: Findings;
  #byObject: readonly ObjectRange[] | undefined;
  #hidden: readonly ObjectRange[] | undefined;
  #ranges: ReadonlyMap<number, readonly PageRange[]> | undefined;

  /** @internal Made by DirtyTracker. */
  constructor(findings: Findings) {
    this.#findings = findings;
    this.untracked = findings.untracked;
    this.unwatched = findings.unwatched;
  }

  /** Dirty bytes, each counted once. */
  get bytes(): Address {
    const { triples } = this.#findings;
    let total = 0;
    for (let at = 2; at < triples.length; at += 3) total += triples[at]!;
    return exact(total);
  }

  /** Dirty pages, each once, by object and offset. */
  get byObject(): readonly ObjectRange[] {
    const { objectOf } = this.#findings;
    this.#byObject ??= [...this.#rangesOf()].flatMap(([id, ranges]) =>
      ranges.map(({ offset, length }) => objectRange(objectOf(id), offset, offset + length)),
    );
    return this.#byObject;
  }

  /** Dirty pages of each object, in order. @internal */
  get byMemory(): ReadonlyMap<MemoryObject, readonly PageRange[]> {
    const { objectOf } = this.#findings;
    return new Map([...this.#rangesOf()].map(([id, ranges]) => [objectOf(id), ranges]));
  }

  /** Dirty pages that the VA space showed nowhere: of RAM that is hidden, of a BAR that is not placed. */
  get hidden(): readonly ObjectRange[] {
    this.#hidden ??= [...this.#hiddenRanges()];
    return this.#hidden;
  }

  /** Ranges of guest-physical addresses. */
  *[Symbol.iterator](): Generator<GpaRange> {
    let [gpa, end] = [0, 0];
    for (const row of this.#findings.rows) {
      const { start, offset, offsetEnd } = numbers(row);
      for (const dirty of within(this.#rangesOf().get(row.id) ?? [], offset, offsetEnd)) {
        const from = start + (dirty.offset - offset);
        const to = from + dirty.length;
        if (from === end && end !== 0) {
          end = to;
          continue;
        }
        if (end !== 0) yield { gpa, length: end - gpa };
        [gpa, end] = [from, to];
      }
    }
    if (end !== 0) yield { gpa, length: end - gpa };
  }

  *#hiddenRanges(): Generator<ObjectRange> {
    const { rows, objectOf } = this.#findings;
    for (const [id, ranges] of this.#rangesOf()) {
      const shown = rows.filter((row) => row.id === id).map(numbers);
      shown.sort((a, b) => a.offset - b.offset);
      for (const range of ranges) {
        let from = range.offset;
        const end = from + range.length;
        for (const { offset, offsetEnd } of shown) {
          if (offset >= end) break;
          if (offset > from) yield objectRange(objectOf(id), from, offset);
          from = Math.max(from, offsetEnd);
        }
        if (from < end) yield objectRange(objectOf(id), from, end);
      }
    }
  }

  #rangesOf(): ReadonlyMap<number, readonly PageRange[]> {
    this.#ranges ??= rangesOf(this.#findings.triples);
    return this.#ranges;
  }
}

/** The dirty ranges of each object, by its number. */
function rangesOf(triples: Float64Array): Map<number, PageRange[]> {
  const all = new Map<number, PageRange[]>();
  for (let at = 0; at < triples.length; at += 3) {
    const [id, offset, length] = [triples[at]!, triples[at + 1]!, triples[at + 2]!];
    const ranges = all.get(id);
    if (ranges === undefined) all.set(id, [{ offset, length }]);
    else ranges.push({ offset, length });
  }
  return all;
}

/** Addresses of a piece as numbers, which are exact: multiples of a page. */
function numbers({ start, last, offset }: Row): { start: number; offset: number; offsetEnd: number } {
  const length = Number(last) + 1 - Number(start);
  return { start: Number(start), offset: Number(offset), offsetEnd: Number(offset) + length };
}

function objectRange(object: MemoryObject, start: number, end: number): ObjectRange {
  return { object, offset: exact(start), length: exact(end - start) };
}

/** An address that is a multiple of a page, in the form in which addresses are handed out. */
function exact(pages: number): Address {
  return pages <= Number.MAX_SAFE_INTEGER ? pages : BigInt(pages);
}
