// The core's face in JavaScript: the only file that touches Wasm memory. Addresses go in as numbers or bigints, rows
// come out as objects, negative results become errors. A trap means a bug in the core: from then on every call says so.

import * as abi from '../../assembly/abi.ts';
import { type Address, high, LAST_ADDRESS, lastByte, lengthOf, low, sum, toAddress, WHOLE_SPACE } from './address.ts';
import { assert } from './assert.ts';
import { CORE_ERRORS, type CoreErrorCode, MembackingError } from './errors.ts';
import { sinkKindOf, tells } from './kinds.ts';
import { EXPORTS, type Export, type Exports, instantiate } from './module.ts';

/** A row of abi.ts: what a field says depends on what was read. */
export interface Row {
  readonly id: number;
  readonly flags: number;
  readonly start: Address;
  readonly last: Address;
  readonly offset: Address;
  readonly kind: number;
  readonly other: number;
  readonly priority: number;
  readonly aux: number;
}

/** A row about an event: `id` is the event, `other` the region that has it. */
export interface EventRow extends Row {
  /** Value that counts, with EVENT_MATCH; else 0. */
  readonly match: Address;
}

/** A command of a plan as the core has it: in numbers, which are those of the map it comes from. */
export interface Command {
  /** Number of the operation: OP_* of abi.ts. */
  readonly op: number;
  /** Number of the sink that it is for. */
  readonly sink: number;
  /** GPA in the numbering of the sink: a partition's own in slot commands. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
  /** Byte offset in the object; of slot commands in the VA space; of event commands, the GPA in the address space. */
  readonly offset: Address;
  /** Number of the object of a VA command; undefined in others. */
  readonly object: number | undefined;
  /** Number of the VA space whose HVAs a slot command uses; undefined in others. */
  readonly va: number | undefined;
  /** Number of the event of an event command; undefined in others. */
  readonly event: number | undefined;
  /** Access that there is afterwards, in bits: ACCESS_* of abi.ts. */
  readonly access: number;
  /** Number of the slot, in slot commands; EVENT_* of abi.ts, in event commands. */
  readonly slot: number;
  /** Number of the region whose memory it is. */
  readonly region: number;
  /** Offset in the region of the byte at `gpa`. */
  readonly offsetInRegion: Address;
  /** Value that counts, of an event with EVENT_MATCH; else 0. */
  readonly match: Address;
}

/** Place of a sink. */
interface SinkPlace {
  /** The partition that it belongs to. */
  readonly partition?: number;
  /** The VA space whose HVAs it uses; of events, the attachment. */
  readonly va?: number;
  /** Offset that is added to a GPA of the address space to give the sink's own. Default 0. */
  readonly offset?: Address;
  /** The last address of its own that it can be given. */
  readonly last: Address;
}

/** A range of a sink, in safe integers: from `start` to before `end`. */
export interface CommandRange {
  readonly start: number;
  readonly end: number;
}

/** Stretches that a VA space may have behind its first one: how many, of how many bytes together, and the bytes of the
 *  units that they are made of, a power of two. */
export interface StretchLimits {
  readonly count: number;
  readonly bytes: Address;
  readonly unit: number;
}

/** Stretches that a VA space may have unless it is said otherwise. */
export const STRETCHES: StretchLimits = { count: 256, bytes: 2 ** 44, unit: 2 ** abi.STRETCH_SHIFT };

/** Size and disturbance of a plan. */
export interface PlanFacts {
  readonly commands: number;
  /** Number of commands at its end that are carried out when it has been adopted: none of them fails. */
  readonly releases: number;
  /** CLASS_* of abi.ts. */
  readonly disturbance: number;
}

/** Facts that the core knows of its last error, for whoever has names for them. */
export interface CoreFailure {
  readonly code: CoreErrorCode;
  /** The region or object it is about, and the other one where two cannot both be. */
  readonly id: number | undefined;
  readonly other: number | undefined;
  readonly address: Address;
  /** Attempt that the region refused; undefined where no region refused anything. */
  readonly attempt: Attempt | undefined;
}

/** An attempt that a region may refuse, with what the refusal depends on. */
export interface Attempt {
  readonly what: 'map' | 'unmap' | 'place' | 'retarget' | 'event';
  /** Bytes of the range; undefined where there is none. */
  readonly length: Address | undefined;
  /** Kind of the region, KIND_* of abi.ts; `size` is in bytes. */
  readonly kind: number;
  readonly size: Address;
}

/** All that a core knew at one moment. */
export interface CoreState {
  readonly memory: Uint8Array<ArrayBuffer>;
  readonly globals: readonly (number | bigint)[];
}

export interface CoreOptions {
  /** Policy for overlaps. Default `layered`. */
  readonly policy?: 'layered' | 'nested';
  /** Bytes that the core's memory may grow to. Default: 4 GiB - 64 KiB. */
  readonly maxMemory?: number;
  /** The build that checks every invariant around every call: slow, for tests and bug reports. */
  readonly debug?: boolean;
  /** Says a failure in words, with the names that the core does not know; without it, the bare code is said. */
  readonly explain?: (failure: CoreFailure) => { message: string; details: Record<string, unknown> };
}

const CHANGEABLE_FLAGS = abi.REGION_READONLY | abi.REGION_NONVOLATILE | abi.REGION_DISABLED;
const NO_OBJECTS: readonly number[] = [];
const WASM_PAGE = 65536;
/** Below it, bits 32 to 63 of what a number holds exactly. */
const SAFE_HIGH = 0x20_0000;
const MAX_PAGES = 65535;

/** Past 2^64 it wraps, which the core refuses. */
function lastOf(start: Address, length: Address): Address {
  return BigInt.asUintN(64, BigInt(start) + BigInt(length) - 1n);
}

export class Core {
  /** Detaches its `buffer` when it grows: fetch that anew each time. */
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly #grow: (pages: number) => void;
  readonly #wasm: Exports;
  readonly #failedAddress: () => bigint;
  readonly #explain: NonNullable<CoreOptions['explain']>;
  readonly #rows: number;
  /** Address of what PLAN_* say. */
  readonly #plan: number;
  /** Globals of the core: all that it knows besides its memory. */
  readonly #globals: readonly WebAssembly.Global[];
  /** Two views of all of `memory`. */
  #bytes!: Uint8Array;
  #view!: DataView;
  #trap: unknown;
  #isPoisoned = false;
  /** Number of transactions that are open. */
  #open = 0;
  #isPending = false;

  constructor({ policy = 'layered', maxMemory, debug = false, explain }: CoreOptions = {}) {
    const core = instantiate(debug ? 'core.debug.wasm' : 'core.wasm');
    this.memory = core.memory;
    this.#grow = (pages) => core.memory.grow(pages);
    this.#failedAddress = core.failedAddress;
    this.#wasm = Object.fromEntries(EXPORTS.map((name) => [name, this.#guarded(core[name])])) as Exports;
    this.#globals = Object.values(core).filter((each) => each instanceof WebAssembly.Global);
    this.#attach();
    this.#explain = explain ?? (({ code, ...details }) => ({ message: code, details }));
    const version = this.#wasm.abiVersion();
    if (version !== abi.ABI_VERSION) {
      const message = `core.wasm is of version ${version}, this package of ${abi.ABI_VERSION}: build again`;
      throw new MembackingError('VERSION_MISMATCH', message);
    }
    this.#rows = this.#wasm.rowsPointer() >>> 0;
    this.#plan = this.#wasm.planPointer() >>> 0;
    const pages = maxMemory === undefined ? MAX_PAGES : Math.min(MAX_PAGES, Math.floor(maxMemory / WASM_PAGE));
    this.#check(this.#wasm.init(policy === 'nested' ? abi.POLICY_NESTED : abi.POLICY_LAYERED, pages));
  }

  /** The export as a function that turns a trap into an error, and refuses ever after. */
  #guarded(target: Export): Export {
    return (...given) => {
      if (this.#trap !== undefined) throw trapped(this.#trap);
      try {
        return target(...given);
      } catch (error) {
        this.#trap = error;
        throw trapped(error);
      }
    };
  }

  #check(result: number): number {
    if (result < 0) throw this.#error(result);
    return result;
  }

  #error(result: number, what?: Attempt['what'], length?: Address): MembackingError {
    const id = this.#wasm.failedId() >>> 0;
    const other = this.#wasm.otherId() >>> 0;
    const failure: CoreFailure = {
      code: CORE_ERRORS[result as keyof typeof CORE_ERRORS],
      id: id === 0 ? undefined : id - 1,
      other: other === 0 ? undefined : other - 1,
      address: toAddress(BigInt.asUintN(64, this.#failedAddress())),
      attempt: what === undefined || id === 0 ? undefined : this.#attempt(what, id - 1, length),
    };
    const { message, details } = this.#explain(failure);
    return new MembackingError(failure.code, message, { details });
  }

  #attempt(what: Attempt['what'], region: number, length: Address | undefined): Attempt | undefined {
    if (this.#wasm.readRegion(region) < 0) return undefined; // there is none
    return { what, length, kind: this.region(region).kind, size: this.regionSize(region) };
  }

  // ---- Transactions and plans --------------------------------------------------------------------

  /** Returns how many transactions are open now. Throws NESTING, PLAN_PENDING, POISONED, NO_MEMORY. */
  begin(): number {
    const open = this.#check(this.#wasm.begin());
    assert(open === this.#open + 1, 'the core and its face count the same transactions');
    this.#open = open;
    return open;
  }
  /** Number of transactions that are open. */
  get open(): number {
    return this.#open;
  }
  /** Whether a plan is neither adopted nor taken back. */
  get isPending(): boolean {
    return this.#isPending;
  }
  /** Undoes the innermost transaction. Throws NO_TRANSACTION. */
  abort(): void {
    this.#check(this.#wasm.abort());
    this.#open--;
  }
  /** Ends the innermost transaction. The outermost makes the plan: returns how many commands it has. What it throws has
   *  undone the transaction. */
  commit(): number {
    const result = this.#wasm.commit();
    if (this.#open > 0) this.#open--;
    this.#isPending = this.#open === 0 && result >= 0;
    return this.#check(result);
  }
  /** The plan was executed. */
  adopt(): void {
    this.#check(this.#wasm.adopt());
    this.#isPending = false;
  }
  /** Rolls the state back. Of the plan, the first `done` commands were carried out; of the next one, what ANSWER_*
   *  says. Returns how many commands take them back. Throws NO_MEMORY: then no change is accepted any more. */
  unwind(done: number, answer: number, moved: Address): number {
    const result = this.#wasm.unwind(done, answer, low(moved), high(moved));
    if (result < 0) this.#isPoisoned = true;
    return this.#check(result);
  }
  /** Ends the unwinding: its commands were executed, as far as that went. */
  unwound(): void {
    this.#check(this.#wasm.unwound());
    this.#isPending = false;
  }
  /** Whether every further change is refused, with POISONED or CORE_TRAPPED. */
  get isBroken(): boolean {
    return this.#isPoisoned || this.#trap !== undefined;
  }
  /** All that the core knows, for `restore`. Precondition: no transaction is open, no plan is pending. */
  save(): CoreState {
    this.#assertIdle();
    return { memory: new Uint8Array(this.memory.buffer.slice(0)), globals: this.#globals.map(({ value }) => value) };
  }
  /** Makes everything as it was when the state was saved, by this core or by another one of the same policy and limits.
   *  Precondition: no transaction is open, no plan is pending. */
  restore({ memory, globals }: CoreState): void {
    this.#assertIdle();
    const missing = memory.byteLength - this.memory.buffer.byteLength;
    if (missing > 0) this.#grow(missing / WASM_PAGE);
    const bytes = new Uint8Array(this.memory.buffer);
    bytes.set(memory);
    bytes.fill(0, memory.byteLength); // what the core has not yet given out is zero
    for (const [index, global] of this.#globals.entries()) global.value = globals[index];
  }
  #assertIdle(): void {
    assert(this.#trap === undefined && this.open === 0 && !this.#isPending, 'a core is saved between transactions');
  }
  /** Number of commands at the end of the plan that are carried out when it has been adopted: none of them fails. */
  get releases(): number {
    return this.#u32(this.#plan + abi.PLAN_RELEASES);
  }
  /** CLASS_* of the plan. */
  get planClass(): number {
    return this.#u32(this.#plan + abi.PLAN_CLASS);
  }
  /** Numbers of the objects that have lost their last mapping in the last transaction, some of them perhaps more than
   *  once, or to have another one now. */
  get unmapped(): readonly number[] {
    const count = this.#u32(this.#plan + abi.PLAN_UNMAPPED_COUNT);
    if (count === 0) return NO_OBJECTS;
    const first = this.#u32(this.#plan + abi.PLAN_UNMAPPED);
    return Array.from({ length: count }, (_, index) => this.#u32(first + 4 * index));
  }
  /** Address in `memory` of the commands that are to be executed now. */
  get planPointer(): number {
    return this.#u32(this.#plan + abi.PLAN_COMMANDS);
  }
  /** Bytes of the commands that are to be executed now; good until the next call. */
  planBytes(count: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, this.planPointer, count * abi.COMMAND_SIZE);
  }
  /** A command of those that are to be executed now. */
  command(index: number): Command {
    const at = this.planPointer + index * abi.COMMAND_SIZE;
    const op = this.#u32(at + abi.COMMAND_OP);
    const shows = tells(op, 'thing') ? sinkKindOf(op).shows : undefined;
    return {
      op,
      sink: this.#u32(at + abi.COMMAND_SINK),
      gpa: this.#u64(at + abi.COMMAND_GPA),
      length: this.#u64(at + abi.COMMAND_LENGTH),
      offset: this.#u64(at + abi.COMMAND_OFFSET),
      object: shows === 'object' ? this.#u32(at + abi.COMMAND_OBJECT) : undefined,
      va: shows === 'va' ? this.#u32(at + abi.COMMAND_VA) : undefined,
      event: shows === 'event' ? this.#u32(at + abi.COMMAND_EVENT) : undefined,
      access: this.#u32(at + abi.COMMAND_ACCESS),
      slot: this.#u32(at + abi.COMMAND_SLOT),
      region: this.#u32(at + abi.COMMAND_REGION),
      offsetInRegion: this.#u64(at + abi.COMMAND_OFFSET_IN_REGION),
      match: this.#u64(at + abi.COMMAND_MATCH),
    };
  }
  /** Index of the first command from `from` on that is done to a sink and touches a range of it; -1 for none. */
  commandTouching(from: number, sink: number, { start, end }: CommandRange): number {
    const last = end - 1;
    if (start > last) return -1;
    return this.#wasm.commandTouching(from, sink, low(start), high(start), low(last), high(last));
  }
  /** Sink of a command, for who only wants to know whose it is. */
  commandSink(index: number): number {
    return this.#u32(this.planPointer + index * abi.COMMAND_SIZE + abi.COMMAND_SINK);
  }

  // ---- What is asked for: inside a transaction; throws the codes of CORE_ERRORS ---------------------

  createRegion(kind: number, size: Address, flags: number): number {
    const last = size === 0 ? 0 : lastByte(size);
    const all = size === 0 ? flags | abi.REGION_EMPTY : flags;
    return this.#check(this.#wasm.regionCreate(kind, low(last), high(last), all));
  }
  createAlias(target: number, offset: Address, size: Address, flags: number): number {
    const last = size === 0 ? 0 : lastByte(size);
    const all = size === 0 ? flags | abi.REGION_EMPTY : flags;
    return this.#check(this.#wasm.aliasCreate(target, low(offset), high(offset), low(last), high(last), all));
  }
  destroyRegion(id: number): void {
    this.#check(this.#wasm.regionDestroy(id));
  }
  place(id: number, parent: number, offset: Address, priority: number): void {
    const result = this.#wasm.regionPlace(id, parent, low(offset), high(offset), priority);
    if (result < 0) throw this.#error(result, 'place');
  }
  remove(id: number): void {
    this.#check(this.#wasm.regionRemove(id));
  }
  move(id: number, offset: Address): void {
    this.#check(this.#wasm.regionMove(id, low(offset), high(offset)));
  }
  resize(id: number, size: Address): void {
    const last = size === 0 ? 0 : lastByte(size);
    this.#check(this.#wasm.regionResize(id, low(last), high(last), size === 0 ? 1 : 0));
  }
  setPriority(id: number, priority: number): void {
    this.#check(this.#wasm.regionSetPriority(id, priority));
  }
  /** Sets the flags in `mask` to those in `flags`. */
  setFlags(id: number, flags: number, mask = CHANGEABLE_FLAGS): void {
    this.#check(this.#wasm.regionSetFlags(id, flags, mask));
  }
  retarget(id: number, offset: Address): void {
    const result = this.#wasm.aliasRetarget(id, low(offset), high(offset));
    if (result < 0) throw this.#error(result, 'retarget');
  }
  createSpace(root: number, offset: Address): number {
    return this.#check(this.#wasm.spaceCreate(root, low(offset), high(offset)));
  }
  destroySpace(id: number): void {
    this.#check(this.#wasm.spaceDestroy(id));
  }
  /** `pageSize`: bytes, a power of two. */
  createObject(kind: number, flags: number, size: Address, pageSize: number = abi.PAGE_SIZE): number {
    return this.#check(this.#wasm.objectCreate(kind, flags, low(size), high(size), Math.log2(pageSize)));
  }
  destroyObject(id: number): void {
    this.#check(this.#wasm.objectDestroy(id));
  }
  /** OBJECT_*. */
  objectKind(id: number): number {
    return this.#check(this.#wasm.objectKind(id));
  }
  objectIsMapped(id: number): boolean {
    return this.#check(this.#wasm.objectIsMapped(id)) !== 0;
  }
  map(region: number, offset: Address, length: Address, object: number, objectOffset: Address, flags: number): void {
    const from = low(objectOffset);
    const fromHigh = high(objectOffset);
    const at = low(offset);
    const result = this.#wasm.map(region, at, high(offset), low(length), high(length), object, from, fromHigh, flags);
    if (result < 0) throw this.#error(result, 'map', length);
  }
  unmap(region: number, offset: Address, length: Address): void {
    const result = this.#wasm.unmap(region, low(offset), high(offset), low(length), high(length));
    if (result < 0) throw this.#error(result, 'unmap', length);
  }
  /** Makes an event of bytes of a region; `flags`: EVENT_*. */
  createEvent(region: number, offset: Address, length: Address, flags: number, match: Address): number {
    const [from, bytes] = [[low(offset), high(offset)] as const, [low(length), high(length)] as const];
    const result = this.#wasm.eventCreate(region, ...from, ...bytes, flags, low(match), high(match));
    if (result < 0) throw this.#error(result, 'event', length);
    return result;
  }
  destroyEvent(id: number): void {
    this.#check(this.#wasm.eventDestroy(id));
  }
  /** `largestSlot`: bytes. */
  createPartition(slots: number, largestSlot: Address = WHOLE_SPACE): number {
    return this.#check(this.#wasm.partitionCreate(slots, low(largestSlot), high(largestSlot)));
  }
  /** Keeps pages of a partition from slots, or gives them back to them. Precondition: length > 0. */
  keepPages(partition: number, start: Address, length: Address, isKept: boolean): void {
    const last = lastOf(start, length);
    this.#check(this.#wasm.partitionKeep(partition, low(start), high(start), low(last), high(last), isKept ? 1 : 0));
  }
  destroyPartition(id: number): void {
    this.#check(this.#wasm.partitionDestroy(id));
  }
  /** Attaches a sink of a kind (SINK_*) to an address space. Returns its id. */
  attach(kind: number, space: number, { partition, va, offset = 0, last }: SinkPlace): number {
    const owner = partition === undefined ? 0 : partition + 1;
    const via = va === undefined ? 0 : va + 1;
    return this.#check(
      this.#wasm.sinkAttach(kind, space, owner, via, low(offset), high(offset), low(last), high(last)),
    );
  }
  /** Lets a VA space that was attached just now have stretches behind its first one. */
  allowStretches(sink: number, { count, bytes, unit }: StretchLimits): void {
    this.#check(this.#wasm.allowStretches(sink, count, low(bytes), high(bytes), Math.log2(unit)));
  }
  detach(sink: number): void {
    this.#check(this.#wasm.sinkDetach(sink));
  }
  /** Leaves of the access to a range of a sink only `access` (ACCESS_*, perhaps with ACCESS_NEAREST). Precondition:
   *  length > 0. */
  protect(sink: number, start: Address, length: Address, access: number): void {
    const last = lastOf(start, length);
    this.#check(this.#wasm.protect(sink, low(start), high(start), low(last), high(last), access));
  }
  /** Leaves a sink at most `access` in a range until `giveBack`, whatever is protected. Precondition: length > 0. */
  withhold(sink: number, start: Address, length: Address, access: number): void {
    const last = lastOf(start, length);
    this.#check(this.#wasm.withhold(sink, low(start), high(start), low(last), high(last), access));
  }
  /** Ends what is withheld from a sink in a range. Precondition: length > 0. */
  giveBack(sink: number, start: Address, length: Address): void {
    const last = lastOf(start, length);
    this.#check(this.#wasm.giveBack(sink, low(start), high(start), low(last), high(last)));
  }

  // ---- What was lost: inside a transaction that says nothing else ----------------------------------

  /** Says that nothing is there any more in a range. Of `object`, if it is private, pages from `offset` on are held
   *  there. Precondition: length > 0. */
  lose(sink: number, start: Address, length: Address, object: number | undefined, offset: Address): void {
    const last = lastOf(start, length);
    const held = object === undefined ? 0 : object + 1;
    this.#check(this.#wasm.lose(sink, low(start), high(start), low(last), high(last), held, low(offset), high(offset)));
  }
  /** Says that the partition of an attachment was shut down: it has no slots, and gets none. */
  shutDown(sink: number): void {
    this.#check(this.#wasm.shutDown(sink));
  }
  /** Whether the hypervisor keeps the page for itself that an attachment would show at a GPA of its address space. */
  isKept(sink: number, gpa: Address): boolean {
    return this.#check(this.#wasm.isKept(sink, low(gpa), high(gpa))) !== 0;
  }
  /** Number of slots of an attachment beyond the fewest that show the same. Throws NO_MEMORY. */
  slotSplits(sink: number): number {
    return this.#check(this.#wasm.slotSplits(sink));
  }
  /** Whether the partition of an attachment is shut down. */
  isDown(sink: number): boolean {
    return this.#check(this.#wasm.isDown(sink)) !== 0;
  }
  /** Tries again what is lost in a range, with the plan of the transaction. Precondition: length > 0. */
  repair(sink: number, start: Address, length: Address): void {
    const last = lastOf(start, length);
    this.#check(this.#wasm.repair(sink, low(start), high(start), low(last), high(last)));
  }
  /** Whether there is a sink of this number. */
  hasSink(sink: number): boolean {
    return this.#wasm.readLost(sink, 0, 0, 0, 0) >= 0;
  }
  /** Ranges that a sink should have and has not; `id`: object + 1 whose private pages are held there, 0 for none. */
  lost(sink: number): Row[] {
    return this.#within(this.#wasm.readLost, sink, 0, LAST_ADDRESS);
  }

  // ---- What there is (rows: abi.ts) ----------------------------------------------------------------

  flat(space: number): Row[] {
    return this.#within(this.#wasm.readFlat, space, 0, LAST_ADDRESS);
  }
  /** The flat range at an address, or the first one above. */
  flatFrom(space: number, gpa: Address): Row | undefined {
    return this.flatAt(space, gpa) ?? this.#some(this.#wasm.readFlat, space, gpa, LAST_ADDRESS)[0];
  }
  flatAt(space: number, gpa: Address): Row | undefined {
    return this.#some(this.#wasm.readFlat, space, gpa, gpa)[0];
  }
  /** The flat range at an address, or the first one above, and some that follow; none where that was the last. */
  flatRowsFrom(space: number, gpa: Address): Row[] {
    return this.#some(this.#wasm.readFlat, space, gpa, LAST_ADDRESS);
  }
  mappings(region: number): Row[] {
    return this.#within(this.#wasm.readMappings, region, 0, LAST_ADDRESS);
  }
  mappingAt(region: number, offset: Address): Row | undefined {
    return this.#some(this.#wasm.readMappings, region, offset, offset)[0];
  }
  /** The mappings that have a byte in [first, last]. */
  mappingsIn(region: number, first: Address, last: Address): Row[] {
    return this.#within(this.#wasm.readMappings, region, first, last);
  }
  /** Rows of a sink: the pieces of a VA space, the memory slots of an attachment. */
  sinkRows(sink: number): Row[] {
    return this.#within(this.#wasm.readSink, sink, 0, LAST_ADDRESS);
  }
  /** Rows of a sink that have a byte in [first, last] of the space, as many as come at once. */
  someSinkRows(sink: number, first: Address, last = LAST_ADDRESS): Row[] {
    return this.#some(this.#wasm.readSink, sink, first, last);
  }
  /** Stretches of a VA space behind its first one that have a byte in [first, last]. */
  stretches(va: number, first: Address = 0, last: Address = LAST_ADDRESS): Row[] {
    return this.#within(this.#wasm.readStretches, va, first, last);
  }
  /** Parts of the pieces in [first, last] that may be used. */
  partsIn(va: number, first: Address, last: Address): Row[] {
    return this.#within(this.#wasm.readParts, va, first, last);
  }
  /** The first of them, as many as come at once. */
  someParts(va: number, first: Address, last: Address): Row[] {
    return this.#some(this.#wasm.readParts, va, first, last);
  }
  /** Protections of a sink that reach into [first, last]. */
  protections(sink: number, first: Address = 0, last: Address = LAST_ADDRESS): Row[] {
    return this.#within(this.#wasm.readProtections, sink, first, last);
  }
  /** Ranges withheld from a sink; `flags` are the access that is left. */
  withheld(sink: number): Row[] {
    return this.#within(this.#wasm.readWithheld, sink, 0, LAST_ADDRESS);
  }
  /** Events that a space shows at bytes of [first, last], once for each place. */
  events(space: number, first: Address = 0, last: Address = LAST_ADDRESS): EventRow[] {
    const [from, to] = [[low(first), high(first)] as const, [low(last), high(last)] as const];
    return this.#eventRows((skip) => this.#wasm.readEvents(space, ...from, ...to, skip));
  }
  /** Events that a sink of events has. */
  sinkEvents(sink: number): EventRow[] {
    return this.#eventRows((skip) => this.#wasm.readSinkEvents(sink, skip));
  }
  region(id: number): Row {
    this.#check(this.#wasm.readRegion(id));
    return this.#row(0);
  }
  /** REGION_* of a region. */
  regionFlags(id: number): number {
    this.#check(this.#wasm.readRegion(id));
    return this.#u32(this.#rows + abi.ROW_FLAGS);
  }
  /** Bytes, up to 2^64. */
  regionSize(id: number): Address {
    return this.regionFlags(id) & abi.REGION_EMPTY ? 0 : lengthOf(0, this.#u64(this.#rows + abi.ROW_EXTENT));
  }
  /** The children of a region in order of precedence, without those of size 0; once there are `most`, few more. */
  children(id: number, most = Number.POSITIVE_INFINITY): Row[] {
    const rows: Row[] = [];
    while (true) {
      const count = this.#check(this.#wasm.readChildren(id, rows.length));
      for (let i = 0; i < count; i++) rows.push(this.#row(i));
      if (count < abi.ROW_CAPACITY || rows.length >= most) return rows;
    }
  }
  /** The region that is seen at an address, then those that it hides, in order. */
  explain(space: number, gpa: Address): Row[] {
    return this.#rowsOf(this.#wasm.explain(space, low(gpa), high(gpa)));
  }
  /** Ranges of `memory` whose bytes mean nothing: `start` to `last`. Precondition: no transaction is open. */
  spare(): Row[] {
    return this.#rowsOf(this.#wasm.readSpare());
  }
  /** Bytes of memory that hold something. */
  heapInUse(): number {
    return this.#wasm.heapInUse() >>> 0;
  }
  /** Checks every invariant of the whole state. Throws CORE_TRAPPED. */
  verify(): void {
    this.#wasm.verify();
  }

  /** All rows of a read that leaves out as many as it is told to. */
  #eventRows(read: (skip: number) => number): EventRow[] {
    const rows: EventRow[] = [];
    while (true) {
      const count = this.#check(read(rows.length));
      for (let i = 0; i < count; i++) {
        rows.push({ ...this.#row(i), match: this.#u64(this.#rows + i * abi.ROW_SIZE + abi.ROW_EXTENT) });
      }
      if (count < abi.ROW_CAPACITY) return rows;
    }
  }

  /** All rows that reach into [first, last]. */
  #within(read: Export, id: number, first: Address, last: Address): Row[] {
    const rows: Row[] = [];
    for (let from = first; ; ) {
      const some = this.#some(read, id, from, last);
      for (const row of some) rows.push(row);
      if (some.length < abi.ROW_CAPACITY) return rows;
      const end = some.at(-1)!.last;
      assert(end >= from, 'rows are in order, and each is handed out once');
      if (end >= last) return rows;
      from = sum(end, 1);
    }
  }

  /** The first of them, as many as come at once. */
  #some(read: Export, id: number, first: Address, last: Address): Row[] {
    return this.#rowsOf(read(id, low(first), high(first), low(last), high(last)));
  }

  /** Rows that a call has filled in: `result` is how many, or a code. */
  #rowsOf(result: number): Row[] {
    const rows: Row[] = [];
    const count = this.#check(result);
    assert(count <= abi.ROW_CAPACITY, 'rows fit in the exchange buffer');
    for (let i = 0; i < count; i++) rows.push(this.#row(i));
    return rows;
  }

  #row(index: number): Row {
    const at = this.#rows + index * abi.ROW_SIZE;
    return {
      id: this.#u32(at + abi.ROW_ID),
      flags: this.#u32(at + abi.ROW_FLAGS),
      start: this.#u64(at + abi.ROW_START),
      last: this.#u64(at + abi.ROW_LAST),
      offset: this.#u64(at + abi.ROW_OFFSET),
      kind: this.#u32(at + abi.ROW_KIND),
      other: this.#u32(at + abi.ROW_OTHER),
      priority: this.#u32(at + abi.ROW_PRIORITY) | 0,
      aux: this.#u32(at + abi.ROW_AUX),
    };
  }

  // ---- Linear memory -------------------------------------------------------------------------------

  #u32(at: number): number {
    return this.#memoryView().getUint32(at, true);
  }
  #u64(at: number): Address {
    const view = this.#memoryView();
    const high = view.getUint32(at + 4, true);
    return high < SAFE_HIGH ? high * 0x1_0000_0000 + view.getUint32(at, true) : view.getBigUint64(at, true);
  }
  #memoryView(): DataView {
    // Detached when the memory has grown, which an array says at once and the memory itself slowly.
    if (this.#bytes.length === 0) this.#attach();
    return this.#view;
  }
  #attach(): void {
    this.#bytes = new Uint8Array(this.memory.buffer);
    this.#view = new DataView(this.memory.buffer);
  }
}

function trapped(cause: unknown): MembackingError {
  const message = 'the core stopped at a bug of its own and is not used again: close this map and report its trace';
  return new MembackingError('CORE_TRAPPED', message, { cause });
}
