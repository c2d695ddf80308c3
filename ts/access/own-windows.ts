// Windows of the thread that changes the map: it shuts them itself, by what the core says of each plan.

import * as abi from '../../assembly/abi.ts';
import type { MapContext } from '../asked/context.ts';
import type { ObjectTable } from '../asked/object-table.ts';
import { LAST_ADDRESS, pageEnd, pageStart, sum } from '../core/address.ts';
import type { CommandRange, Core, PlanFacts, Row } from '../core/core.ts';
import type { Reservation } from '../core/native.ts';
import { CHUNK, Chunks, GuestWindow, type WindowRange } from './guest-window.ts';
import { OpenWindow, WaysByBuffer } from './open-window.ts';
import type { Views } from './views.ts';
import { WindowTable } from './window-table.ts';

const MOST_WINDOWS = 256;
/** Accesses without a window that come before one is opened, which takes as long as some hundred of them. */
const PATIENCE = 1000;

/** The map of a VA space with windows. */
export interface WindowContext extends Pick<MapContext, 'core' | 'isBusy' | 'isBroken' | 'hold' | 'letGo'> {
  readonly objects: ObjectTable;
  readonly windows: Set<OwnWindows>;
}

/** The windows of one VA space, or of a view of one. */
export class OwnWindows {
  readonly #context: WindowContext;
  /** Sinks whose commands change what is shown; the first says what may be used, the last is the VA space. */
  readonly #sinks: readonly [number, ...number[]];
  /** VA space that they are of. */
  readonly #va: number;
  readonly #chunks: Chunks;
  /** The oldest first. */
  #open: OpenWindow[] = [];
  readonly #table = new WindowTable<OpenWindow>();
  readonly #ways = new WaysByBuffer((origin, buffer) => new GuestWindow(origin, buffer));
  /** Around all that is open. */
  #hull: CommandRange = { start: 0, end: 0 };
  #misses = 0;
  /** Misses that lead to an attempt to open a window. Doubled by each attempt in vain. */
  #patience = PATIENCE;

  constructor(context: WindowContext, sinks: readonly [number, ...number[]], reservation: Reservation) {
    this.#context = context;
    this.#sinks = sinks;
    this.#va = sinks.at(-1)!;
    this.#chunks = new Chunks(reservation);
    context.windows.add(this);
    context.hold(this.#chunks);
  }

  /** A window that shows the byte at `gpa`: one that is open, or after many calls in vain a new one. */
  find(gpa: number, isWrite: boolean): GuestWindow | undefined {
    return this.#windowAt(gpa, isWrite)?.enter(gpa, isWrite);
  }

  #windowAt(gpa: number, isWrite: boolean): OpenWindow | undefined {
    const known = this.#table.at(gpa, isWrite);
    if (known !== undefined) return known;
    if (++this.#misses < this.#patience) return undefined;
    this.#misses = 0;
    const opened = this.#show(gpa, isWrite);
    this.#patience = opened === undefined ? this.#patience * 2 : PATIENCE;
    return opened;
  }

  /** The window that shows all of a range, found as by `find`. */
  findAround(gpa: number, length: number): WindowRange | undefined {
    const window = this.#windowAt(gpa, false);
    return window !== undefined && gpa + length <= window.end ? window : undefined;
  }

  /** Views of the same memory. */
  get views(): Views {
    return this.#chunks.views;
  }

  /** End of the first stretch. */
  get firstEnd(): number {
    return this.#chunks.firstEnd;
  }

  /** Shuts what the plan that the core holds is going to change. */
  shutFor(core: Core, { commands, releases }: PlanFacts): void {
    for (const sink of this.#sinks) {
      for (let i = this.#touching(core, sink, 0); i >= 0; i = this.#touching(core, sink, i + 1)) {
        const { gpa, length } = core.command(i);
        this.#shut((window) => gpa < window.end && sum(gpa, length) > window.start);
      }
    }
    for (let i = commands - releases; i < commands; i++) {
      if (core.commandSink(i) !== this.#va) continue;
      const { gpa, length } = core.command(i);
      this.#chunks.drop({ start: Number(gpa), end: Number(sum(gpa, length)) });
    }
  }

  /** The first command to a sink from `from` on that touches the hull of what is open; -1 if there is none. */
  #touching(core: Core, sink: number, from: number): number {
    return this.#open.length === 0 ? -1 : core.commandTouching(from, sink, this.#hull);
  }

  /** Shuts all windows and detaches their buffers. Precondition: the reservation is still open. */
  close(): void {
    this.#shut(() => true);
    this.#chunks.close();
    this.#context.windows.delete(this);
    this.#context.letGo(this.#chunks);
  }

  #shut(isGone: (window: OpenWindow) => boolean): void {
    const left = this.#open.filter((window) => !isGone(window));
    if (left.length < this.#open.length) this.#keep(left, this.#open.filter(isGone));
  }

  /** Goes on with these windows; `changed`: those that have gone, or come. */
  #keep(open: OpenWindow[], changed: readonly OpenWindow[]): void {
    for (const shownBy of new Set(changed.map((window) => window.shownBy))) {
      shownBy.show(open.filter((window) => window.shownBy === shownBy));
    }
    this.#open = open;
    this.#table.set(open);
    const start = Math.min(...open.map((window) => window.start));
    this.#hull = { start, end: Math.max(...open.map((window) => window.end)) };
  }

  #show(gpa: number, isWrite: boolean): OpenWindow | undefined {
    const { core, isBroken, isBusy } = this.#context;
    // While a plan is carried out, the pieces are not what the core says.
    if (isBusy || isBroken) return undefined;
    const [first, ...rest] = core.someParts(this.#sinks[0], gpa, LAST_ADDRESS);
    if (first === undefined || first.start > gpa || !this.#isLasting(first)) return undefined;
    const isWritable = (first.flags & abi.ACCESS_WRITE) !== 0;
    if (isWrite && !isWritable) return undefined;
    let last = first;
    for (const next of rest) {
      if (next.start !== sum(last.last, 1) || next.flags !== first.flags || !this.#isLasting(next)) break;
      last = next;
    }
    const chunk = this.#chunkAt(gpa);
    const buffer = chunk && this.#chunks.bufferOf(chunk, () => true);
    if (buffer === undefined) return undefined;
    // Nothing but whole pages: the rest of a page that traps is not to be seen.
    const start = Math.max(chunk!.start, pageEnd(Number(first.start)));
    const end = Math.min(chunk!.end, pageStart(Number(last.last) + 1));
    if (gpa < start || gpa >= end) return undefined;
    // Windows that the new one contains are not needed any more.
    this.#shut((other) => other.start >= start && other.end <= end && (isWritable || !other.isWritable));
    if (this.#open.length === MOST_WINDOWS) this.#shut((other) => other === this.#open[0]);
    const window = new OpenWindow({ start, end, isWritable }, this.#ways.to(buffer, chunk!.start));
    this.#keep([...this.#open, window], [window]);
    return window;
  }

  /** The part of a stretch that one buffer shows, around a GPA. */
  #chunkAt(gpa: number): CommandRange | undefined {
    const { firstEnd } = this.#chunks;
    let stretch: CommandRange = { start: 0, end: firstEnd };
    if (gpa >= firstEnd) {
      const [other] = this.#context.core.stretches(this.#va, gpa, gpa);
      if (other === undefined) return undefined;
      stretch = { start: Number(other.start), end: Number(other.last) + 1 };
    }
    const start = gpa - ((gpa - stretch.start) % CHUNK);
    return { start, end: Math.min(start + CHUNK, stretch.end) };
  }

  /** Whether only a plan can take its pages away: not whoever has the file, nor an empty pool of huge pages. */
  #isLasting(piece: Row): boolean {
    const { isLasting, granularity } = this.#context.objects.objectOf(piece.id);
    return (piece.flags & abi.ACCESS_READ) !== 0 && isLasting && granularity === abi.PAGE_SIZE;
  }
}
