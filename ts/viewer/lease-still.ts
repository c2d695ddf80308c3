// Still of who holds which lease: guest memory on one line, and a lane below it for each holder.

import type { Address } from '../core-index.ts';
import type { Ink } from './palette.ts';
import { spanText } from './picture.ts';
import { Scale, type Span, spanOf } from './scale.ts';
import { fitting } from './surface.ts';
import { SvgSurface } from './svg.ts';

interface Stretch {
  readonly name: string;
  readonly span: Span;
}

/** A lease, as `inspect()` of a manager says it. */
interface Held {
  readonly holder: string;
  readonly mode: 'read' | 'write';
  readonly gpa: Address;
  readonly length: Address;
}

const WIDTH = 960;
const MARGIN = 8;
/** Width of the holders' names. */
const NAMES = 190;
const MEMORY_AT = 28;
const LANES_AT = 70;
const LANE = 20;
/** Holders that are drawn; a picture with more cannot be read. */
const MOST_LANES = 40;
const INKS = { read: 'none', write: 'changed' } as const satisfies Record<Held['mode'], Ink>;

/** `memory`: the guest's, by name, in order of GPA. */
export function stillOfLeases(title: string, memory: readonly Stretch[], leases: readonly Held[]): string {
  const surface = new SvgSurface(WIDTH);
  surface.text(MARGIN, 18, fitting(title, WIDTH - 2 * MARGIN, 14), 'text', 14);
  const holders = [...new Set(leases.map(({ holder }) => holder))];
  const spans = [...memory.map(({ span }) => span), ...leases.map(({ gpa, length }) => spanOf(gpa, length))];
  const left = MARGIN + NAMES;
  const scale = scaleFor(spans, memory);
  const boxOf = ({ start, end }: Span, y: number, height: number) => {
    const [from, to] = [start, end].map((address) => left + scale.place(address) * (WIDTH - MARGIN - left)) as [
      number,
      number,
    ];
    return { x: from, y, width: Math.max(2, to - from), height };
  };
  surface.text(MARGIN, MEMORY_AT + 18, 'memory', 'faint', 11);
  for (const { name, span } of memory) {
    const box = boxOf(span, MEMORY_AT, 30);
    surface.fill(box, 'ram');
    surface.outline(box, 'line');
    surface.text(box.x + 4, MEMORY_AT + 13, fitting(name, box.width - 8, 11), 'text', 11);
    surface.text(box.x + 4, MEMORY_AT + 26, fitting(spanText(span), box.width - 8, 10), 'faint', 10);
  }
  for (const [lane, holder] of holders.slice(0, MOST_LANES).entries()) {
    const y = LANES_AT + lane * LANE;
    const own = leases.filter((lease) => lease.holder === holder);
    surface.text(MARGIN, y + 12, fitting(`${holder}: ${own.length}`, NAMES - 8, 11), 'text', 11);
    for (const { gpa, length, mode } of own) surface.fill(boxOf(spanOf(gpa, length), y + 2, LANE - 6), INKS[mode]);
  }
  const bottom = LANES_AT + Math.min(MOST_LANES, Math.max(1, holders.length)) * LANE;
  if (holders.length === 0) surface.text(MARGIN, LANES_AT + 12, 'no lease is held', 'faint', 11);
  const more = holders.length - MOST_LANES;
  if (more > 0) surface.text(MARGIN + 460, bottom + 15, `and ${more} more holders`, 'faint', 11);
  for (const [index, mode] of (['read', 'write'] as const).entries()) {
    surface.fill({ x: MARGIN + index * 220, y: bottom + 6, width: 10, height: 10 }, INKS[mode]);
    surface.text(MARGIN + 16 + index * 220, bottom + 15, `leased to ${mode}`, 'faint', 11);
  }
  return surface.finish(bottom + 26, title);
}

/** Small ranges are wide enough to be seen. */
function scaleFor(spans: readonly Span[], memory: readonly Stretch[]): Scale {
  const edges = [...new Set(spans.flatMap(({ start, end }) => [start, end]))].sort((a, b) => a - b);
  if (edges.length < 2) return Scale.linear({ start: 0, end: 1 });
  return Scale.compressed(edges, (edge) => !memory.some(({ span }) => edge >= span.start && edge < span.end));
}
