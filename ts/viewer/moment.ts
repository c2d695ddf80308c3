// Moments: one address space at one time, ready to be drawn.

import type { TraceFlatRange, TraceLayer, TraceMapping, TraceReplay, TraceSlot } from '../core-index.ts';
import { Scale, type Span, spanOf } from './scale.ts';

export interface Moment {
  readonly flat: readonly (TraceFlatRange & Span)[];
  readonly layers: readonly StackedLayer[];
  readonly mappings: readonly (TraceMapping & Span)[];
  readonly slots: readonly (TraceSlot & Span)[];
}

/** A layer, in a row below all that hide a part of it. */
interface StackedLayer extends TraceLayer, Span {
  readonly row: number;
  /** Spans that are visible, ascending. */
  readonly visible: readonly Span[];
}

export function momentOf(replay: TraceReplay, space: number): Moment {
  return {
    flat: replay.flatView(space).map((range) => ({ ...range, ...spanOf(range.gpa, range.length) })),
    layers: stacked(replay.layers(space)),
    mappings: replay.mappings(space).map((mapping) => ({ ...mapping, ...spanOf(mapping.gpa, mapping.length) })),
    slots: replay.slots(space).map((slot) => ({ ...slot, ...spanOf(slot.gpa, slot.length) })),
  };
}

export const NOTHING: Moment = { flat: [], layers: [], mappings: [], slots: [] };

/** Every address at which a region begins or ends in any of the moments; ascending. */
function edgesOf(moments: readonly Moment[]): number[] {
  const edges = new Set<number>();
  for (const { flat, layers } of moments) {
    for (const { start, end } of [...flat, ...layers]) edges.add(start).add(end);
  }
  return [...edges].sort((a, b) => a - b);
}

/** The scale on which moments can be compared. */
export function scaleOf(kind: 'compressed' | 'true', ...moments: readonly Moment[]): Scale {
  const edges = edgesOf(moments);
  if (edges.length < 2) return Scale.linear({ start: 0, end: 2 ** 32 });
  if (kind === 'true') return Scale.linear({ start: edges[0]!, end: edges.at(-1)! });
  const flats = moments.map(({ flat }) => flat);
  return Scale.compressed(edges, (edge) => flats.every((flat) => rangeAt(flat, edge) === undefined));
}

/** The range that contains an address. */
function rangeAt<Range extends Span>(ranges: readonly Range[], address: number): Range | undefined {
  const range = ranges[firstEndingAfter(ranges, address)];
  return range !== undefined && range.start <= address ? range : undefined;
}

/** Spans where two flat views differ. */
export function differences(a: Moment, b: Moment): Span[] {
  const edges = [...new Set([...a.flat, ...b.flat].flatMap(({ start, end }) => [start, end]))].sort((x, y) => x - y);
  const spans: { start: number; end: number }[] = [];
  for (let i = 0; i + 1 < edges.length; i++) {
    const [start, end] = [edges[i]!, edges[i + 1]!];
    if (isSame(rangeAt(a.flat, start), rangeAt(b.flat, start))) continue;
    const last = spans.at(-1);
    if (last !== undefined && last.end === start) last.end = end;
    else spans.push({ start, end });
  }
  return spans;
}

type FlatRange = Moment['flat'][number];

function isSame(a: FlatRange | undefined, b: FlatRange | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  const isAligned = BigInt(a.gpa) - BigInt(a.offsetInRegion) === BigInt(b.gpa) - BigInt(b.offsetInRegion);
  return a.name === b.name && a.readonly === b.readonly && isAligned;
}

/** Index of the first of disjoint ascending spans that ends after an address. */
export function firstEndingAfter(spans: readonly Span[], address: number): number {
  let low = 0;
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle]!.end <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** `layers`: strongest first. */
function stacked(layers: readonly TraceLayer[]): StackedLayer[] {
  const spans = layers.map(({ gpa, length }) => spanOf(gpa, length));
  const edges = [...new Set(spans.flatMap(({ start, end }) => [start, end]))].sort((a, b) => a - b);
  const position = new Map(edges.map((edge, index) => [edge, index]));
  /** Rows that are taken above each stretch between two edges. */
  const taken = new Uint16Array(edges.length);
  return layers.map((layer, index) => {
    const { start, end } = spans[index]!;
    const [from, to] = [position.get(start)!, position.get(end)!];
    let row = 0;
    const visible: { start: number; end: number }[] = [];
    for (let at = from; at < to; at++) {
      if (taken[at]! > row) row = taken[at]!;
      if (taken[at] !== 0) continue;
      const last = visible.at(-1);
      if (last !== undefined && last.end === edges[at]) last.end = edges[at + 1]!;
      else visible.push({ start: edges[at]!, end: edges[at + 1]! });
    }
    taken.fill(row + 1, from, to);
    return { ...layer, start, end, row, visible };
  });
}
