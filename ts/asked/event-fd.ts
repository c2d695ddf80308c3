// Eventfds: counters in the kernel, with which a guest's writes and other threads wake who waits.

import { whenCollected } from '../core/collected.ts';
import { Handle } from '../core/handle.ts';
import { type EventFd as AddonEventFd, native } from '../core/native.ts';
import { obtainedFromSystem, systemError, wrapped } from '../core/system.ts';
import * as validate from '../core/validate.ts';

/** The addon's handle of an eventfd. Throws CLOSED. @internal */
export let addonEventFdOf: (eventFd: EventFd) => AddonEventFd;

/** An eventfd: a counter in the kernel. Writes add to it; who takes it, sets it back to 0. */
export class EventFd extends Handle {
  readonly #addon: AddonEventFd;
  readonly #stopWatching: () => void;

  static {
    addonEventFdOf = (eventFd) => {
      eventFd.checkOpen();
      return eventFd.#addon;
    };
  }

  private constructor(addon: AddonEventFd) {
    super();
    validate.madeBy('EventFd.create', addon);
    this.#addon = addon;
    this.#stopWatching = whenCollected(this, () => addon.close());
  }

  /** Makes one whose count is 0. Throws SYSTEM. */
  static create(): EventFd {
    return obtainedFromSystem('an eventfd cannot be made', () => new EventFd(native().EventFd.create()));
  }

  /** One that somebody else has made, by its descriptor, which is duplicated. Throws SYSTEM: EINVAL for a descriptor of
   *  something else, EBADF. */
  static adopt(fd: number): EventFd {
    const checked = validate.fd(fd, 'fd');
    return obtainedFromSystem(`descriptor ${checked} cannot be adopted as an eventfd`, () => {
      return new EventFd(native().EventFd.adopt(checked));
    });
  }

  protected override get what(): string {
    return 'eventfd';
  }

  /** The descriptor, for others; it is this object's to close. */
  get fd(): number {
    this.checkOpen();
    return this.#addon.fd;
  }

  /** Adds to the count: 1 or more, less than 2^64 - 1. Throws SYSTEM: EAGAIN where the count would be too large. */
  signal(count: number | bigint = 1): void {
    this.checkOpen();
    const checked = validate.length(count, 'count');
    systemError(this.what, () => this.#addon.signal(checked));
  }

  /** The count since it was last taken, at once: 0 where nobody has signalled. Of an eventfd that was made as a
   *  semaphore, 1. */
  take(): bigint {
    this.checkOpen();
    return systemError(this.what, () => this.#addon.take());
  }

  /** Waits until somebody has signalled, and takes the count. One wait at a time; `close` ends it with CLOSED. A wait
   *  keeps the process running. Throws IN_USE. */
  async wait(): Promise<bigint> {
    this.checkOpen();
    try {
      return await this.#addon.wait();
    } catch (error) {
      throw wrapped(this.what, error);
    }
  }

  protected override release(): void {
    this.#stopWatching();
    this.#addon.close();
  }
}
