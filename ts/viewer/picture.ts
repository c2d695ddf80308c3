// The picture of a moment: regions as layers, strongest on top, what is hidden striped; below them the flat view, the
// memory that is mapped, the memory slots. Page and stills draw it with this.

import { formatHex, type TraceFlatRange } from '../core-index.ts';
import { firstEndingAfter, type Moment } from './moment.ts';
import { type Ink, kindInk, OBJECT_INKS } from './palette.ts';
import type { Scale, Span } from './scale.ts';
import { type Box, fitting, type Surface, textWidth } from './surface.ts';

/** Places of the scale that are to be seen, of 0 to 1. */
export interface Viewport {
  readonly from: number;
  readonly to: number;
}

export const EVERYTHING: Viewport = { from: 0, to: 1 };

export interface PictureOptions {
  readonly width: number;
  readonly scale: Scale;
  readonly viewport: Viewport;
  /** Spans that the step changes. */
  readonly touched?: readonly Span[];
  readonly selected?: number | undefined;
}

const MARGIN = 8;
const SMALL = 11;
const LETTERS = 12;
const CAPTION = 16;
const LAYER = 20;
const FLAT = 34;
const STRIP = 22;
const GAP = 8;
/** The bar above what a step touches. */
const MARK = 4;
/** Rows of layers that are drawn; deeper ones are hidden by all of these anyhow. */
const MOST_ROWS = 12;

export function heightOf(moment: Moment): number {
  const strips = STRIP * (moment.mappings.length > 0 ? 1 : 0) + STRIP * sinksOf(moment).length;
  const captions = CAPTION * (2 + (moment.mappings.length > 0 ? 1 : 0) + sinksOf(moment).length);
  const gaps = GAP * (3 + (moment.mappings.length > 0 ? 1 : 0) + sinksOf(moment).length);
  return CAPTION + captions + rowsOf(moment) * LAYER + FLAT + strips + gaps;
}

/** The place of the scale under a pixel. */
export function placeAt(x: number, { width, viewport: { from, to } }: PictureOptions): number {
  return from + ((x - MARGIN) / (width - 2 * MARGIN)) * (to - from);
}

/** Draws it with its upper edge at `top`. */
export function drawMoment(surface: Surface, moment: Moment, top: number, options: PictureOptions): void {
  const picture = new Picture(surface, options, top);
  picture.axis(moment);
  picture.layers(moment);
  picture.flat(moment);
  if (moment.mappings.length > 0) picture.mappings(moment);
  for (const sink of sinksOf(moment)) picture.slots(moment, sink);
  picture.marks();
}

function rowsOf({ layers }: Moment): number {
  return layers.reduce((rows, { row }) => Math.max(rows, Math.min(row + 1, MOST_ROWS)), 1);
}

function sinksOf({ slots }: Moment): string[] {
  return [...new Set(slots.map(({ sink }) => sink))];
}

class Picture {
  readonly #surface: Surface;
  readonly #options: PictureOptions;
  readonly #top: number;
  /** Top of the next strip, in pixels. */
  #y: number;

  constructor(surface: Surface, options: PictureOptions, top: number) {
    this.#surface = surface;
    this.#options = options;
    this.#top = top;
    this.#y = top;
  }

  /** Addresses, as many as there is room for. */
  axis({ flat }: Moment): void {
    const { scale, width } = this.#options;
    const edges = flat.flatMap(({ start, end }) => [start, end]);
    const ends = [scale.span.start, scale.span.end];
    let free = 0;
    for (const address of [ends[0]!, ...edges, ends[1]!].sort((a, b) => a - b)) {
      const x = this.#x(address);
      const text = address.toString(16);
      const left = Math.min(x, width - MARGIN - textWidth(text, SMALL));
      if (x < 0 || x > width || left < free) continue;
      this.#surface.text(left, this.#y + SMALL, text, 'faint', SMALL);
      this.#surface.fill({ x, y: this.#y + SMALL + 2, width: 1, height: 3 }, 'line');
      free = left + textWidth(text, SMALL) + 10;
    }
    this.#y += CAPTION + GAP;
  }

  layers(moment: Moment): void {
    this.#caption('regions, strongest on top; striped: hidden');
    const y = this.#y;
    const order = moment.layers.filter(({ row }) => row < MOST_ROWS).sort((a, b) => a.start - b.start);
    const row = (index: number) => y + index * LAYER;
    this.#boxes(
      order,
      LAYER - 3,
      ({ row: index }) => row(index),
      (box, layer) => {
        this.#surface.fill(box, 'paper');
        this.#surface.hatch(box, 'hidden');
        for (const span of layer.visible) {
          const seen = this.#box(span, box.y, box.height);
          if (seen !== undefined) this.#surface.fill(seen, kindInk(layer.kind));
        }
        if (box.width > 3) this.#surface.outline(box, 'line');
        this.#label(box, layer.visible.length > 0 ? this.#widest(layer.visible, box) : box, layer.name);
      },
    );
    this.#y += rowsOf(moment) * LAYER + GAP;
  }

  flat({ flat }: Moment): void {
    this.#caption('flat view: what is seen; striped: read-only');
    this.#strip(flat, FLAT, (box, range) => {
      this.#surface.fill(box, kindInk(range.kind));
      if (range.readonly && range.kind !== 'rom') this.#surface.hatch(box, 'line');
      this.#framed(box, range.name, accessText(range));
    });
  }

  mappings({ mappings }: Moment): void {
    this.#caption('memory, by object');
    this.#strip(mappings, STRIP, (box, { object, objectOffset }) => {
      this.#surface.fill(box, objectInk(object));
      this.#framed(box, objectOffset === 0 ? object : `${object} + ${objectOffset.toString(16)}`);
    });
  }

  slots({ slots }: Moment, sink: string): void {
    this.#caption(`memory slots of ${sink}; striped: read-only`);
    this.#strip(
      slots.filter((slot) => slot.sink === sink),
      STRIP,
      (box, { slot, access }) => {
        this.#surface.fill(box, 'slot');
        if (!access.includes('w')) this.#surface.hatch(box, 'line');
        this.#framed(box, `${slot}`);
      },
    );
  }

  /** Draws marks over what the step touches, and what is selected. */
  marks(): void {
    const { touched = [], selected } = this.#options;
    const [y, height] = [this.#top + CAPTION, this.#y - this.#top - CAPTION - GAP];
    let free = Number.NEGATIVE_INFINITY;
    for (const span of touched) {
      const box = this.#box(span, y, height);
      if (box === undefined || box.x + box.width < free) continue;
      const wide = { ...box, width: Math.max(2, box.width) };
      this.#surface.shade(wide, 'touched');
      this.#surface.outline(wide, 'touched');
      this.#surface.fill({ ...wide, height: MARK }, 'touched');
      free = wide.x + wide.width;
    }
    if (selected === undefined) return;
    const x = this.#x(selected);
    if (x >= 0 && x <= this.#options.width) this.#surface.fill({ x: x - 1, y, width: 2, height }, 'selected');
  }

  // ---- The parts of a strip ----------------------------------------------------------------------

  #caption(text: string): void {
    this.#surface.text(MARGIN, this.#y + SMALL, fitting(text, this.#options.width - 2 * MARGIN, SMALL), 'faint', SMALL);
    this.#y += CAPTION;
  }

  #strip<Item extends Span>(items: readonly Item[], height: number, draw: (box: Box, item: Item) => void): void {
    const y = this.#y;
    const { scale, viewport } = this.#options;
    const first = firstEndingAfter(items, scale.address(viewport.from));
    this.#boxes(items.slice(first), height, () => y, draw);
    this.#y += height + GAP;
  }

  /** Draws the items that can be seen; of those that share a pixel, the first. */
  #boxes<Item extends Span>(
    items: readonly Item[],
    height: number,
    top: (item: Item) => number,
    draw: (box: Box, item: Item) => void,
  ): void {
    const free = new Map<number, number>();
    for (const item of items) {
      const y = top(item);
      const box = this.#box(item, y, height);
      if (box === undefined || (box.width <= 1 && box.x < (free.get(y) ?? 0))) continue;
      draw({ ...box, width: Math.max(1, box.width) }, item);
      free.set(y, Math.floor(box.x) + 1);
    }
  }

  /** Box of a span; undefined where nothing of it is in the picture. */
  #box({ start, end }: Span, y: number, height: number): Box | undefined {
    const { width } = this.#options;
    const left = Math.max(0, this.#x(start));
    const right = Math.min(width, this.#x(end));
    return right < 0 || left > width || right <= left ? undefined : { x: left, y, width: right - left, height };
  }

  #x(address: number): number {
    const { width, scale, viewport } = this.#options;
    const place = scale.place(address);
    return MARGIN + ((place - viewport.from) / (viewport.to - viewport.from)) * (width - 2 * MARGIN);
  }

  #framed(box: Box, ...lines: string[]): void {
    if (box.width > 3) this.#surface.outline(box, 'paper');
    for (const [index, line] of lines.entries()) {
      const shown = fitting(line, box.width - 8, index === 0 ? LETTERS : SMALL);
      const y = box.y + (lines.length === 1 ? box.height / 2 + 4 : 14 + index * 14);
      if (shown !== '') this.#surface.text(box.x + 5, y, shown, 'text', index === 0 ? LETTERS : SMALL);
    }
  }

  /** A name in the part of a box where it can be read. */
  #label(box: Box, room: Box, name: string): void {
    const shown = fitting(name, room.width - 8, SMALL);
    if (shown === '') return;
    const back = { x: room.x + 2, y: box.y + 2, width: textWidth(shown, SMALL) + 5, height: box.height - 4 };
    if (room === box) this.#surface.fill(back, 'paper');
    this.#surface.text(room.x + 5, box.y + box.height - 5, shown, 'text', SMALL);
  }

  #widest(spans: readonly Span[], whole: Box): Box {
    const boxes = spans.flatMap((span) => this.#box(span, whole.y, whole.height) ?? []);
    return boxes.reduce((widest, box) => (box.width > widest.width ? box : widest), { ...whole, width: 0 });
  }
}

/** Text of what the guest can do there. */
export function accessText({ kind, readonly }: Pick<TraceFlatRange, 'kind' | 'readonly'>): string {
  if (kind === 'mmio') return 'traps';
  return readonly || kind === 'rom' ? 'r-' : 'rw';
}

/** The colour of an object: of its name, so that it is the same at every moment. */
function objectInk(name: string): Ink {
  let hash = 0;
  for (let i = 0; i < name.length; i++) hash = (hash * 31 + name.charCodeAt(i)) >>> 0;
  return OBJECT_INKS[hash % OBJECT_INKS.length]!;
}

/** "c0000-cffff" */
export function spanText({ start, end }: Span): string {
  return `${formatHex(start).slice(2)}-${formatHex(BigInt(end) - 1n).slice(2)}`;
}
