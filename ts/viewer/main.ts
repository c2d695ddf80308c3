// The page: unpacks the trace that it carries, and connects what is typed, clicked and dragged with the view.

import {
  type Address,
  type Disturbance,
  loadCore,
  openTrace,
  type StateJson,
  stateFromJson,
  type TraceOperation,
} from '../core-index.ts';
import { addressFrom } from './address-text.ts';
import { byId } from './elements.ts';
import { hashOf, placeFrom } from './link.ts';
import type { Palette } from './palette.ts';
import { DISTURBANCE_TEXTS } from './texts.ts';
import { Timeline } from './timeline.ts';
import { TEXTS, View } from './view.ts';

/** Milliseconds between two changes of the page's address: browsers refuse too many. */
const LINK_PAUSE = 250;
const DRAG_THRESHOLD = 4;
const NEWLINE = 0x0a;

const LEGEND = [
  ...([
    ['ram', 'RAM'],
    ['rom', 'ROM'],
    ['device', 'device'],
    ['mmio', 'MMIO'],
  ] as const),
  ...([
    ['touched', 'touched'],
    ['selected', 'this byte'],
    ['none', 'plan: nothing was absent'],
  ] as const),
  ...([
    ['changed', 'what changed was'],
    ['unchanged-bytes', 'vCPUs held'],
  ] as const),
] as const;

/** The bytes that an element has as base64. */
function packed(id: string): Uint8Array<ArrayBuffer> {
  return bytesFrom(byId(id).textContent.trim());
}

function bytesFrom(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function* unpacked(bytes: Uint8Array<ArrayBuffer>): AsyncGenerator<Uint8Array> {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip')).getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

async function start(): Promise<void> {
  await loadCore(packed('core'));
  if (byId('trace').textContent === 'live') return follow();
  const { header, batches } = await openTrace(unpacked(packed('trace')));
  const timeline = new Timeline(header);
  for await (const batch of batches) timeline.append(batch);
  new Page(timeline).begin();
  performance.mark('membacking-ready');
}

/** Shows a running map, whose server sends its state and then a trace that goes on. */
async function follow(): Promise<void> {
  const { body } = await fetch('live');
  const { line, rest } = await firstLine(body!.getReader());
  const { memory, ...json } = JSON.parse(line) as StateJson & { memory: string };
  const state = stateFromJson(json, await whole(unpacked(bytesFrom(memory))));
  const { header, batches } = await openTrace(rest);
  const page = new Page(new Timeline(header, state));
  page.begin();
  performance.mark('membacking-ready');
  for await (const batch of batches) page.grow(batch);
  page.say('the monitor has ended: this is the last that was heard of it');
}

/** The first line of a stream, and what comes after it. */
async function firstLine(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): Promise<{ line: string; rest: AsyncGenerator<Uint8Array> }> {
  const decoder = new TextDecoder();
  let line = '';
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    const end = next.value.indexOf(NEWLINE);
    line += decoder.decode(end < 0 ? next.value : next.value.subarray(0, end), { stream: true });
    if (end >= 0) return { line, rest: chunks(reader, next.value.subarray(end + 1)) };
  }
  throw new Error('the monitor said nothing');
}

/** Chunks of a stream, which may break off: what it has sent is all that there is. */
async function* chunks(reader: ReadableStreamDefaultReader<Uint8Array>, first: Uint8Array): AsyncGenerator<Uint8Array> {
  yield first;
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } catch {
    return;
  }
}

async function whole(parts: AsyncIterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const all: Uint8Array<ArrayBuffer>[] = [];
  for await (const part of parts) all.push(part as Uint8Array<ArrayBuffer>);
  return new Uint8Array(await new Blob(all).arrayBuffer());
}

class Page {
  readonly #view: View;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The frame of playing that comes next. */
  #frame: number | undefined;

  constructor(timeline: Timeline) {
    this.#view = new View(timeline, () => this.#changed());
  }

  begin(): void {
    this.#measure();
    this.#setTheme(matchMedia('(prefers-color-scheme: dark)').matches);
    this.#view.visit(placeFrom(location.hash));
    this.#buttons();
    this.#pointers();
    this.#keys();
    addEventListener('hashchange', () => this.#view.visit(placeFrom(location.hash)));
    const observer = new ResizeObserver(() => this.#view.resize());
    for (const id of ['pictures', 'line']) observer.observe(byId(id));
  }

  /** Adds what has happened since. Whoever looks at the last step goes on doing so. */
  grow(operations: readonly TraceOperation[]): void {
    const { timeline } = this.#view;
    const { step, length } = timeline;
    timeline.append(operations);
    this.#measure();
    this.#view.goTo(step === length ? timeline.length : step);
  }

  /** Says how long the history is, and why it ends early if it does. */
  #measure(): void {
    const { length, failure } = this.#view.timeline;
    byId('at', HTMLInputElement).max = String(length);
    byId('failure').hidden = failure === undefined;
    byId('failure').textContent = failure ?? '';
  }

  #changed(): void {
    const { place, timeline } = this.#view;
    byId('at', HTMLInputElement).value = String(place.step);
    byId('count').textContent = `step ${place.step} of ${timeline.length}`;
    byId('at').setAttribute('aria-valuetext', `step ${place.step} of ${timeline.length}`);
    byId('scale').textContent = place.scale === 'true' ? 'Compressed' : 'To scale';
    byId('beside').setAttribute('aria-pressed', String(place.beside !== undefined));
    byId('beside').textContent =
      place.beside === undefined ? 'Compare with this step' : `Compared with step ${place.beside}`;
    this.#tabs();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => history.replaceState(undefined, '', hashOf(this.#view.place)), LINK_PAUSE);
  }

  /** A tab for each address space; made anew only when there are others. */
  #tabs(): void {
    const list = byId('spaces');
    const spaces = this.#view.spaces();
    if (
      list.childElementCount !== spaces.length ||
      spaces.some(({ name }, i) => list.children[i]!.textContent !== name)
    ) {
      list.replaceChildren(
        ...spaces.map(({ name }, index) => {
          const tab = document.createElement('button');
          tab.type = 'button';
          tab.role = 'tab';
          tab.textContent = name;
          tab.addEventListener('click', () => this.#view.show(index));
          return tab;
        }),
      );
    }
    for (const [index, { id }] of spaces.entries())
      list.children[index]!.setAttribute('aria-selected', String(id === this.#view.space));
  }

  // ---- Buttons -----------------------------------------------------------------------------------

  #buttons(): void {
    const view = this.#view;
    const actions: Readonly<Record<string, () => void>> = {
      theme: () => this.#setTheme(!document.documentElement.classList.contains('dark')),
      help: () => byId('keys', HTMLDialogElement).showModal(),
      scale: () => view.setScale(view.place.scale === 'true' ? 'compressed' : 'true'),
      in: () => view.zoom(2),
      out: () => view.zoom(0.5),
      fit: () => view.fit(),
      beside: () => view.keepBeside(view.place.beside === undefined ? view.timeline.step : undefined),
      first: () => this.#goTo(0),
      back: () => this.#goTo(view.timeline.step - 1),
      forward: () => this.#goTo(view.timeline.step + 1),
      last: () => this.#goTo(view.timeline.length),
      play: () => this.#play(this.#frame === undefined),
      previous: () => this.#find(-1),
      explain: () => this.#explain(),
    };
    for (const [id, action] of Object.entries(actions)) byId(id).addEventListener('click', action);
    byId('at').addEventListener('input', () => this.#goTo(Number(byId('at', HTMLInputElement).value)));
    byId('search').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#find(1);
    });
    for (const [id] of TEXTS) byId(`${id}-details`).addEventListener('toggle', () => view.draw());
  }

  #setTheme(isDark: boolean): void {
    document.documentElement.classList.toggle('dark', isDark);
    document.documentElement.classList.toggle('light', !isDark);
    byId('theme').textContent = isDark ? 'Light' : 'Dark';
    this.#view.setTheme(isDark);
    this.#legend(this.#view.palette);
  }

  #legend(palette: Palette): void {
    byId('legend').replaceChildren(
      ...LEGEND.map(([ink, text]) => {
        const item = document.createElement('li');
        const colour = document.createElement('i');
        colour.style.background = palette[ink];
        item.append(colour, text);
        return item;
      }),
    );
  }

  /** Goes to a step that was asked for by hand. */
  #goTo(step: number): void {
    this.#play(false);
    this.#view.goTo(step);
    const { plan } = this.#view.timeline;
    this.say(plan === undefined ? '' : DISTURBANCE_TEXTS[plan.disturbance]);
  }

  #play(isPlaying: boolean): void {
    byId('play').textContent = isPlaying ? 'Stop' : 'Play';
    if (this.#frame !== undefined) cancelAnimationFrame(this.#frame);
    this.#frame = undefined;
    if (!isPlaying) return;
    const { timeline } = this.#view;
    if (timeline.step === timeline.length) this.#view.goTo(0);
    const from = timeline.step;
    const perSecond = Number(byId('speed', HTMLSelectElement).value);
    let started: number | undefined;
    const frame = (now: number) => {
      started ??= now;
      const step = Math.min(timeline.length, from + Math.round(((now - started) * perSecond) / 1000));
      if (step !== timeline.step) this.#view.goTo(step);
      if (step === timeline.length) this.#play(false);
      else this.#frame = requestAnimationFrame(frame);
    };
    this.#frame = requestAnimationFrame(frame);
  }

  // ---- Searching ---------------------------------------------------------------------------------

  #find(direction: 1 | -1): void {
    const gpa = this.#typed();
    if (gpa === 'unreadable') return;
    const wanted = byId('wanted', HTMLSelectElement).value;
    const disturbance = wanted === '' ? undefined : (wanted as Disturbance);
    const { timeline } = this.#view;
    const found =
      gpa === undefined
        ? timeline.findClass(disturbance, direction)
        : timeline.findTouching(gpa, disturbance, direction);
    if (found === undefined) {
      this.say(`no such plan ${direction === 1 ? 'after' : 'before'} this step`);
      return;
    }
    this.#goTo(found);
    if (gpa !== undefined) this.#view.select(gpa, true);
  }

  #explain(): void {
    const gpa = this.#typed();
    if (gpa === 'unreadable') return;
    this.say(gpa === undefined ? 'say which GPA is to be explained' : '');
    this.#view.select(gpa, true);
  }

  /** The GPA that was typed, if one was. Says when it cannot be read. */
  #typed(): Address | undefined | 'unreadable' {
    const text = byId('gpa', HTMLInputElement).value;
    if (text.trim() === '') return undefined;
    const gpa = addressFrom(text);
    if (gpa !== undefined) return gpa;
    this.say(`"${text}" is no address: write it as c8000`);
    return 'unreadable';
  }

  say(text: string): void {
    byId('said').textContent = text;
  }

  // ---- Pointers ----------------------------------------------------------------------------------

  #pointers(): void {
    for (const id of ['map', 'other'] as const) this.#pointersOf(byId(id));
    byId('history').addEventListener('pointerdown', (event) => {
      const { timeline } = this.#view;
      this.#goTo(Math.ceil((event.offsetX / byId('history').clientWidth) * timeline.length));
    });
  }

  #pointersOf(canvas: HTMLElement): void {
    const view = this.#view;
    let from: number | undefined;
    let at = 0;
    let isDragged = false;
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      from = at = event.offsetX;
      isDragged = false;
    });
    canvas.addEventListener('pointermove', (event) => {
      if (from === undefined) return view.select(view.addressAt(event.offsetX), false);
      if (Math.abs(event.offsetX - from) > DRAG_THRESHOLD) isDragged = true;
      if (isDragged) view.pan((at - event.offsetX) / canvas.clientWidth);
      at = event.offsetX;
    });
    canvas.addEventListener('pointerup', (event) => {
      if (!isDragged) view.select(view.addressAt(event.offsetX), true);
      from = undefined;
    });
    canvas.addEventListener('pointercancel', () => {
      from = undefined;
    });
    canvas.addEventListener(
      'wheel',
      (event) => {
        if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
          view.pan((event.deltaX || event.deltaY) / canvas.clientWidth);
        } else {
          view.zoom(2 ** (-event.deltaY / 240), view.placeAt(event.offsetX));
        }
        event.preventDefault();
      },
      { passive: false },
    );
  }

  // ---- Keys --------------------------------------------------------------------------------------

  #keys(): void {
    const view = this.#view;
    const press = (id: string) => () => byId(id).click();
    const stride = (event: KeyboardEvent) => (event.shiftKey ? 10 : 1);
    const keys: Readonly<Record<string, (event: KeyboardEvent) => void>> = {
      ArrowLeft: (event) => this.#goTo(view.timeline.step - stride(event)),
      ArrowRight: (event) => this.#goTo(view.timeline.step + stride(event)),
      Home: press('first'),
      End: press('last'),
      ' ': press('play'),
      '+': press('in'),
      '=': press('in'),
      '-': press('out'),
      '0': press('fit'),
      s: press('scale'),
      c: press('beside'),
      t: press('theme'),
      '?': press('help'),
      n: () => this.#find(1),
      p: () => this.#find(-1),
      '/': () => byId('gpa').focus(),
      Escape: () => view.select(undefined, true),
    };
    addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || isDialogOpen()) return;
      const tab = /^[1-9]$/.test(event.key) ? byId('spaces').children[Number(event.key) - 1] : undefined;
      const action = tab instanceof HTMLElement ? () => tab.click() : keys[event.key];
      if (action === undefined) return;
      event.preventDefault();
      action(event);
    });
  }
}

function isDialogOpen(): boolean {
  return byId('keys', HTMLDialogElement).open;
}

/** Whether a key belongs to what has the focus. */
function isTyping({ target, key }: KeyboardEvent): boolean {
  if (target instanceof HTMLInputElement) return target.type === 'text';
  if (target instanceof HTMLButtonElement || (target instanceof HTMLElement && target.tagName === 'SUMMARY'))
    return key === ' ' || key === 'Enter';
  return target instanceof HTMLSelectElement;
}

start().catch((error: unknown) => {
  byId('failure').hidden = false;
  byId('failure').textContent = error instanceof Error ? error.message : String(error);
});
