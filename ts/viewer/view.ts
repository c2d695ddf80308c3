// The view: which step, which address space, how it is looked at; and drawing that, once a frame at most.

import { type Address, renderExplanation } from '../core-index.ts';
import { CanvasSurface } from './canvas.ts';
import { byId } from './elements.ts';
import { differences, type Moment, momentOf, NOTHING, scaleOf } from './moment.ts';
import { DARK, kindInk, LIGHT, type Palette } from './palette.ts';
import { drawMoment, EVERYTHING, heightOf, type PictureOptions, placeAt, type Viewport } from './picture.ts';
import { Scale, type Span, spanOf } from './scale.ts';
import { classText, flatText, objectsText, pictureText, planText, shownLines, slotsText } from './texts.ts';
import type { Timeline } from './timeline.ts';

/** Everything that a link says. */
export interface Place {
  readonly step: number;
  readonly space: string | undefined;
  readonly gpa: Address | undefined;
  readonly scale: 'compressed' | 'true';
  readonly beside: number | undefined;
}

const OVERVIEW = 18;
const HISTORY = 16;
const MOST_ZOOM = 2 ** 40;
/** Operations of a step that are shown. */
const MOST_OPERATIONS = 60;
/** Pixels: a stretch that is narrower than this, where it could be wider, is not seen well enough to keep the scale. */
const READABLE = 3;

export class View {
  readonly timeline: Timeline;
  readonly onChange: () => void;
  #space: { readonly id: number; readonly name: string } | undefined;
  #moment: Moment = NOTHING;
  #touched: readonly Span[] = [];
  #beside: { readonly step: number; readonly moment: Moment } | undefined;
  #scaleKind: Place['scale'] = 'compressed';
  #scale = Scale.linear({ start: 0, end: 2 ** 32 });
  #viewport: Viewport = EVERYTHING;
  #selected: Address | undefined;
  #isPinned = false;
  #isDrawing = false;
  /** Pixels that pictures, and the history, are wide. Reading them from the page each time would have it laid out
   *  anew. */
  #width = byId('map').clientWidth;
  #historyWidth = byId('history').clientWidth;
  palette: Palette = LIGHT;

  /** `onChange`: the place is another one. */
  constructor(timeline: Timeline, onChange: () => void) {
    this.timeline = timeline;
    this.onChange = onChange;
  }

  get place(): Place {
    return {
      step: this.timeline.step,
      space: this.#space?.name,
      gpa: this.#isPinned ? this.#selected : undefined,
      scale: this.#scaleKind,
      beside: this.#beside?.step,
    };
  }

  /** The address spaces of the current step. */
  spaces(): { readonly id: number; readonly name: string }[] {
    return this.timeline.replay.spaces();
  }

  /** The address space that is shown, by its number: several may have one name. */
  get space(): number | undefined {
    return this.#space?.id;
  }

  // ---- Moving ------------------------------------------------------------------------------------

  /** The step, or the nearest that there is. */
  goTo(step: number): void {
    this.timeline.goTo(Math.min(Math.max(step, 0), this.timeline.length));
    this.#look();
  }

  /** All of a place at once. What is not there is left out. */
  visit({ step, space, gpa, scale, beside }: Place): void {
    this.timeline.goTo(Math.min(step, this.timeline.length));
    this.#space = this.spaces().find(({ name }) => name === space);
    this.#scaleKind = scale;
    this.#viewport = EVERYTHING;
    this.#selected = gpa;
    this.#isPinned = gpa !== undefined;
    this.#look(true);
    if (beside !== undefined && beside <= this.timeline.length) this.keepBeside(beside);
  }

  /** Shows one of the current step's address spaces. */
  show(index: number): void {
    this.#space = this.spaces()[index];
    this.#viewport = EVERYTHING;
    this.#beside = undefined;
    this.#look(true);
  }

  setScale(kind: Place['scale']): void {
    this.#scaleKind = kind;
    this.#viewport = EVERYTHING;
    this.#look(true);
  }

  /** Keeps another step beside the current one; none with undefined. */
  keepBeside(step: number | undefined): void {
    const space = this.#space;
    const replay = step === undefined ? undefined : this.timeline.look(step);
    const isThere = replay?.spaces().some(({ id }) => id === space?.id);
    this.#beside =
      replay === undefined ? undefined : { step: step!, moment: isThere ? momentOf(replay, space!.id) : NOTHING };
    this.#look(true);
  }

  /** `at`: the place of the scale that stays where it is. */
  zoom(factor: number, at = this.#middle()): void {
    const { from, to } = this.#viewport;
    const width = Math.min(1, Math.max((to - from) / factor, 1 / MOST_ZOOM));
    this.#moveTo(at - ((at - from) * width) / (to - from), width);
  }

  /** The selected byte, where it can be seen; else the middle. */
  #middle(): number {
    const { from, to } = this.#viewport;
    const place = this.#selected === undefined ? -1 : this.#scale.place(Number(this.#selected));
    return from <= place && place <= to ? place : (from + to) / 2;
  }

  /** Pans by a part of what is to be seen. */
  pan(part: number): void {
    const { from, to } = this.#viewport;
    this.#moveTo(from + part * (to - from), to - from);
  }

  fit(): void {
    this.#viewport = EVERYTHING;
    this.#look(true);
  }

  #moveTo(from: number, width: number): void {
    const start = Math.min(Math.max(from, 0), 1 - width);
    this.#viewport = { from: start, to: start + width };
    this.draw();
  }

  /** Explains a byte; `isPinned`: until another one is pinned. */
  select(gpa: Address | undefined, isPinned: boolean): void {
    if (this.#isPinned && !isPinned) return;
    this.#selected = gpa;
    this.#isPinned = isPinned && gpa !== undefined;
    this.draw();
    if (isPinned) this.onChange();
  }

  /** The byte under a pixel of the map: the beginning of a range, where one begins in the pixel. */
  addressAt(x: number): Address {
    const options = this.#options();
    const [first, next] = [x, x + 1].map((at) => Math.max(0, this.#scale.address(placeAt(at, options))));
    const start = this.#moment.flat.find((range) => range.start >= first! && range.start < next!)?.gpa;
    return start ?? exact(Math.min(first!, this.#scale.span.end - 1));
  }

  placeAt(x: number): number {
    return placeAt(x, this.#options());
  }

  // ---- What there is to see ----------------------------------------------------------------------

  /** Takes in what the current step shows. */
  #look(isNewScale = false): void {
    const { replay } = this.timeline;
    const spaces = this.spaces();
    this.#space = spaces.find(({ id }) => id === this.#space?.id) ?? firstSeen(this.timeline);
    this.#moment = this.#space === undefined ? NOTHING : momentOf(replay, this.#space.id);
    this.#touched = this.#changes();
    if (isNewScale || !this.#fits()) this.#scale = this.#newScale();
    this.draw();
    this.onChange();
  }

  #newScale(): Scale {
    const others = this.#beside === undefined ? [] : [this.#beside.moment];
    return scaleOf(this.#scaleKind, this.#moment, ...others);
  }

  /** Whether everything can be seen on the scale that there is: then it stays, and nothing jumps. */
  #fits(): boolean {
    const { flat, layers } = this.#moment;
    const { start, end } = this.#scale.span;
    if (layers.some((layer) => layer.start < start || layer.end > end)) return false;
    if (this.#scaleKind === 'true') return true;
    const readable = Math.min(READABLE / this.#width, 1 / (4 * flat.length));
    return flat.every((range) => this.#scale.place(range.end) - this.#scale.place(range.start) >= readable);
  }

  /** Spans that the step touches; beside another step, where the two differ. */
  #changes(): Span[] {
    if (this.#beside !== undefined) return differences(this.#beside.moment, this.#moment);
    return this.timeline.plan?.commands.map(({ gpa, length }) => spanOf(gpa, length)) ?? [];
  }

  #options(): PictureOptions {
    return {
      width: this.#width,
      scale: this.#scale,
      viewport: this.#viewport,
      touched: this.#touched,
      selected: this.#selected === undefined ? undefined : Number(this.#selected),
    };
  }

  /** The page is of another size. */
  resize(): void {
    this.#width = byId('map').clientWidth;
    this.#historyWidth = byId('history').clientWidth;
    this.draw();
  }

  // ---- Drawing -----------------------------------------------------------------------------------

  /** Draws, before the next frame. */
  draw(): void {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.#drawNow();
    });
  }

  #drawNow(): void {
    const { step } = this.timeline;
    const space = this.#space?.name ?? 'none';
    byId('map-title').textContent = `Address space ${space} after step ${step}`;
    this.#drawMap('map', this.#moment, step);
    byId('other').hidden = byId('other-title').hidden = this.#beside === undefined;
    if (this.#beside !== undefined) {
      byId('other-title').textContent =
        `Address space ${space} after step ${this.#beside.step}; marked: where it differs`;
      this.#drawMap('other', this.#beside.moment, this.#beside.step);
    }
    this.#drawOverview();
    this.#drawHistory();
    this.#write();
  }

  #drawMap(id: 'map' | 'other', moment: Moment, step: number): void {
    const canvas = byId(id, HTMLCanvasElement);
    const options = this.#options();
    const surface = new CanvasSurface(canvas, options.width, heightOf(moment) + 8, this.palette);
    drawMoment(surface, moment, 4, options);
    canvas.setAttribute('aria-label', pictureText(moment, this.#space?.name ?? 'none', step));
  }

  /** The whole space to scale, and which part of it the map shows. */
  #drawOverview(): void {
    const canvas = byId('overview', HTMLCanvasElement);
    const across = this.#width;
    const surface = new CanvasSurface(canvas, across, OVERVIEW, this.palette);
    const scale = Scale.linear(this.#scale.span);
    const x = (address: number) => scale.place(address) * across;
    let free = -1;
    for (const { start, end, kind } of this.#moment.flat) {
      const [left, right] = [x(start), Math.max(x(end), x(start) + 1)];
      if (right <= free) continue;
      surface.fill({ x: left, y: 3, width: right - left, height: OVERVIEW - 6 }, kindInk(kind));
      free = right;
    }
    surface.outline({ x: 0, y: 3, width: across, height: OVERVIEW - 6 }, 'line');
    const [from, to] = [this.#viewport.from, this.#viewport.to].map((place) => x(this.#scale.address(place)));
    surface.outline({ x: from!, y: 0, width: Math.max(3, to! - from!), height: OVERVIEW }, 'selected');
  }

  /** Every step as a stroke in the colour of its class; of those that share a pixel, the one that disturbs most. */
  #drawHistory(): void {
    const across = this.#historyWidth;
    const surface = new CanvasSurface(byId('history', HTMLCanvasElement), across, HISTORY, this.palette);
    const { length } = this.timeline;
    if (length === 0) return;
    const pixels = Math.min(across, length);
    for (let pixel = 0; pixel < pixels; pixel++) {
      const first = Math.floor((pixel * length) / pixels) + 1;
      const end = Math.floor(((pixel + 1) * length) / pixels) + 1;
      const ink = this.timeline.strongest(first, end) ?? 'quiet';
      const box = { x: (pixel * across) / pixels, y: 0, width: Math.max(1, across / pixels - 0.5), height: HISTORY };
      surface.fill(ink === 'quiet' ? { ...box, y: HISTORY - 4, height: 4 } : box, ink);
    }
    const x = Math.min((this.timeline.step / length) * across, across - 3);
    surface.fill({ x, y: 0, width: 3, height: HISTORY }, 'selected');
  }

  #write(): void {
    const { timeline } = this;
    const moment = this.#moment;
    const operations = shownLines(timeline.operationLines(MOST_OPERATIONS));
    write('operations', timeline.step === 0 ? 'before the first step' : operations);
    write('plan', planText(timeline.plan));
    write('class', classText(timeline.plan));
    write('step-title', `Step ${timeline.step}`);
    for (const [id, text] of TEXTS) if (byId(`${id}-details`, HTMLDetailsElement).open) write(id, text(moment));
    if (this.#selected === undefined || this.#space === undefined) return;
    const index = this.spaces().findIndex(({ id }) => id === this.#space?.id);
    write('byte', renderExplanation(timeline.replay.explain(this.#selected)[index]!).join('\n'));
  }

  setTheme(isDark: boolean): void {
    this.palette = isDark ? DARK : LIGHT;
    this.draw();
  }
}

export const TEXTS = [
  ['flat', flatText],
  ['objects', objectsText],
  ['slots', slotsText],
] as const;

/** The first address space that shows anything, or else the first. */
function firstSeen({ replay }: Timeline): { id: number; name: string } | undefined {
  const spaces = replay.spaces();
  return (
    spaces.find(({ id }) => replay.slots(id).length > 0) ??
    spaces.find(({ id }) => replay.flatView(id).length > 0) ??
    spaces[0]
  );
}

function write(id: string, text: string): void {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

/** A double as an address. */
function exact(value: number): Address {
  return value <= Number.MAX_SAFE_INTEGER ? value : BigInt(value);
}
