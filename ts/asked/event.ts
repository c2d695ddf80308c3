// Events of a region: bytes at which a guest's writes do not exit. They go wherever the region goes.

import { nativeOf } from '../apply/native-executor.ts';
import type { Address } from '../core/address.ts';
import { type EventFacts, type EventKind, eventNumbers } from '../core/kinds.ts';
import * as validate from '../core/validate.ts';
import type { MapContext } from './context.ts';
import { addonEventFdOf, EventFd } from './event-fd.ts';
import { MapHandle } from './map-handle.ts';

/** Options of `Region.addEvent`. */
export interface EventOptions {
  /** Offset in the region. Default 0. */
  readonly offset?: Address;
  /** Bytes of the writes that count: 1, 2, 4 or 8; 0 for any number (KVM_CAP.IOEVENTFD_ANY_LENGTH). */
  readonly length: 0 | 1 | 2 | 4 | 8;
  /** Value that counts, alone. Default: every one does. */
  readonly match?: Address;
  /** Eventfd that is signalled, or its descriptor; it is duplicated. */
  readonly fd: EventFd | number;
}

/** Options of `Region.coalesceWrites`. */
export interface CoalesceOptions {
  /** Offset in the region. Default 0. */
  readonly offset?: Address;
  /** Bytes. Default: to the end of the region. */
  readonly length?: Address;
}

/** The map of an event. */
export interface EventContext extends MapContext {
  readonly regionEvents: Map<number, RegionEvent>;
  /** Lets every attachment that can have events have some. Inside a transaction. */
  prepareEvents(): void;
}

/** Place of an event in its region. */
interface EventPlace extends EventFacts {
  readonly offset: Address;
}

const EVENT_OPTIONS = ['offset', 'length', 'match', 'fd'] as const;
const LENGTHS: readonly unknown[] = [0, 1, 2, 4, 8];

/** An event of a region: the guest's writes to its bytes do not exit, wherever all of them are seen. Closing it lets
 *  them exit again. */
export class RegionEvent extends MapHandle {
  /** @internal */
  declare readonly context: EventContext;
  /** Kind of the event. */
  readonly kind: EventKind;
  /** Offset in the region. */
  readonly offset: Address;
  /** Bytes: of an eventfd, those of the write, 0 for a write of any length. */
  readonly length: Address;
  /** Value that counts; undefined where any does. */
  readonly match: Address | undefined;
  readonly #eventFd: EventFd | undefined;

  /** @internal Made by Region. */
  constructor(context: EventContext, id: number, place: EventPlace, eventFd: EventFd | undefined) {
    super(context, id);
    this.kind = place.kind;
    this.offset = place.offset;
    this.length = place.length;
    this.match = place.match;
    this.#eventFd = eventFd;
    context.enter(context.regionEvents, id, this);
    context.enter(context.names.events, id, `event ${id}`);
    if (eventFd === undefined) return;
    context.onUndo(() => this.#discard());
    context.hold(eventFd);
    nativeOf(context).addon.setEvent(id, addonEventFdOf(eventFd));
  }

  protected override get what(): string {
    return `event at 0x${this.offset.toString(16)} of a region`;
  }

  /** The map's own descriptor of the eventfd that is signalled; undefined where none is. */
  get fd(): number | undefined {
    this.checkOpen();
    return this.#eventFd?.fd;
  }

  protected override release(): void {
    const { context, id } = this;
    context.perform(() => {
      context.core.destroyEvent(id);
      context.recorder?.record({ op: 'event-close', id });
      context.leave(context.regionEvents, id);
      context.leave(context.names.events, id);
      this.end();
      context.onDone(() => this.#discard());
    });
  }

  /** Nobody signals the eventfd any more. */
  #discard(): void {
    if (this.#eventFd === undefined) return;
    nativeOf(this.context).addon.clearEvent(this.id);
    this.context.letGo(this.#eventFd);
    this.#eventFd.close();
  }
}

/** Makes an event of a region, by its number, of options that the caller has given. */
export function addEvent(context: EventContext, region: number, options: EventOptions): RegionEvent {
  const { offset = 0, length, match, fd } = validate.options(options, EVENT_OPTIONS, 'addEvent');
  const at = validate.address(offset, 'offset');
  if (!LENGTHS.includes(length)) throw validate.invalid('length must be 1, 2, 4 or 8, or 0 for a write of any length');
  const value = match === undefined ? undefined : validate.address(match, 'match');
  if (value !== undefined && BigInt(value) >> BigInt(8 * length) !== 0n) {
    throw validate.invalid(
      length === 0 ? 'match needs a length' : `match must have ${length} bytes at most, not 0x${value.toString(16)}`,
    );
  }
  const given = fd instanceof EventFd ? fd.fd : fd;
  return context.transaction(() => {
    let own: EventFd | undefined;
    context.onUndo(() => own?.close());
    own = EventFd.adopt(given);
    return create(context, region, { kind: 'eventfd', offset: at, length, match: value }, own);
  });
}

/** Makes an event of bytes of a region whose writes are kept for later. */
export function addCoalesced(context: EventContext, region: number, offset: Address, length: Address): RegionEvent {
  return context.transaction(() =>
    create(context, region, { kind: 'coalesced', offset, length, match: undefined }, undefined),
  );
}

function create(context: EventContext, region: number, place: EventPlace, eventFd: EventFd | undefined): RegionEvent {
  const { core, recorder } = context;
  const { kind, offset, length, match } = place;
  context.prepareEvents();
  const numbers = eventNumbers(place);
  const id = core.createEvent(region, offset, numbers.length, numbers.flags, numbers.match);
  recorder?.record({ op: 'event', id, region, offset, length, kind, ...(match !== undefined && { match }) });
  return new RegionEvent(context, id, place, eventFd);
}
