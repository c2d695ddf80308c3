// Plans on this machine: the core's linear memory goes to the addon as it is.

import * as abi from '../../assembly/abi.ts';
import { type Address, lengthOf, toAddress } from '../core/address.ts';
import { assert } from '../core/assert.ts';
import type { Core } from '../core/core.ts';
import { type Executor as AddonExecutor, native } from '../core/native.ts';
import type { Mapper as AddonMapper } from '../core/native-clients.ts';
import type { Executor, Unconfirmed } from './runner.ts';

/** Commands of a plan that is large. */
const MANY_COMMANDS = 4096;
/** Milliseconds without a large plan after which none is expected. */
const QUIET = 100;

/** A map that plans are carried out for. */
interface Owner {
  /** Closes something, which must not reach this, should nobody close the map. */
  hold(held: { close(): void }): void;
}

/** Executors by the map that they are of, of which they are no property: whoever has a handle of the map reaches no
 *  more of the addon than its methods do. */
const executors = new WeakMap<Owner, NativeExecutor>();

/** The executor of a map's sinks on this machine. Loads the addon when first asked for: a map without such sinks does
 *  not need it. */
export function nativeOf(map: Owner): NativeExecutor {
  const known = executors.get(map);
  if (known !== undefined) return known;
  const made = new NativeExecutor();
  executors.set(map, made);
  map.hold(made);
  return made;
}

export class NativeExecutor implements Executor {
  /** Table of the sinks, objects and events that plans name, and trackers of what these show. */
  readonly addon: AddonExecutor = native().Executor.create();
  /** Bytes of the core's memory when it was last looked at. */
  #memory = 0;
  #timer: NodeJS.Timeout | undefined;
  /** Sinks that are VA spaces of other processes. */
  readonly #mappers = new Set<number>();

  execute(core: Core, first: number, count: number): number {
    const { buffer } = core.memory;
    if (first + count >= MANY_COMMANDS || buffer.byteLength !== this.#memory) this.#giveBackSoon(core);
    return this.addon.run(buffer, pointerOf(core, buffer, first, count), count);
  }

  /** Gives what the core needed for a large change back to the machine, when nothing else has happened for a while. */
  #giveBackSoon(core: Core): void {
    this.#memory = core.memory.buffer.byteLength;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.giveBack(core), QUIET).unref();
  }

  /** Gives the pages of the core's memory that mean nothing back to the machine. */
  giveBack(core: Core): void {
    if (core.isBroken || core.open > 0) return;
    if (core.isPending) {
      this.#giveBackSoon(core);
      return;
    }
    const ranges = core.spare().flatMap(({ start, last }) => [start, lengthOf(start, last)]);
    if (ranges.length > 0) this.addon.giveBack(core.memory.buffer, ...ranges);
  }

  unwind(core: Core, first: number, count: number): number {
    const { buffer } = core.memory;
    return this.addon.unwind(buffer, pointerOf(core, buffer, first, count), count);
  }

  confirm(isTakingBack: boolean): Unconfirmed | undefined {
    if (this.#mappers.size === 0) return undefined;
    const who = this.addon.confirm(isTakingBack);
    return who === undefined ? undefined : { who, cause: this.addon.failure };
  }

  get failure(): unknown {
    return this.addon.failure;
  }
  get answer(): number {
    return this.addon.answer;
  }
  get moved(): Address {
    return toAddress(this.addon.moved);
  }

  secure(core: Core, index: number, mayReplace: boolean): number {
    const { buffer } = core.memory;
    return this.addon.secure(buffer, pointerOf(core, buffer, index, 1), mayReplace);
  }
  shutDown(sink: number): void {
    this.addon.shutDown(sink);
  }

  /** Makes `sink` a VA space of another process. */
  setMapper(sink: number, mapper: AddonMapper): void {
    this.addon.setMapper(sink, mapper);
    this.#mappers.add(sink);
  }
  clearSink(sink: number): void {
    this.#mappers.delete(sink);
    this.addon.clearSink(sink);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.addon.close();
  }
}

/** Address of `count` commands in a core's memory, `buffer`, from command `first` on. */
function pointerOf(core: Core, buffer: ArrayBuffer, first: number, count: number): number {
  const pointer = core.planPointer + first * abi.COMMAND_SIZE;
  assert(pointer + count * abi.COMMAND_SIZE <= buffer.byteLength, 'a plan lies in the memory of its core');
  return pointer;
}
