// A double for what is behind a plan. The recorder is every sink at once, counted in pages (limits: in bytes): it keeps
// what each command makes, refuses what the real ones would refuse, and watches which bytes were absent meanwhile.

import * as abi from '../../assembly/abi.ts';
import type { Executor } from '../../ts/apply/runner.ts';
import { type Address, toAddress } from '../../ts/core/address.ts';
import type { Command, Core } from '../../ts/core/core.ts';
import { accessName, isAboutAddresses, sinkKindOf } from '../../ts/core/kinds.ts';
import { type RecordedEvent, RecordedEvents } from './recorded-events.ts';

interface RecordedObject {
  readonly isPrivate: boolean;
  readonly isWritable: boolean;
  readonly pages: number;
  /** Pages that are mapped at once. */
  readonly pageSize: number;
  /** Private: what is at home now. The number of a page is also what is written on it. */
  readonly home: Map<number, number>;
}

/** A page of a VA space. */
interface Mapped {
  readonly object: number;
  readonly page: number;
  readonly access: number;
  /** Private: what is written on it. */
  readonly content: number | undefined;
}

/** Stretch of a page, `from` counted from its start, with the access that is left of it. */
interface Usable {
  readonly from: number;
  length: number;
  readonly access: number;
}

/** A stretch of a VA space in bytes, and the part of an object that it shows. */
interface RecordedRun {
  readonly start: number;
  last: number;
  readonly object: number;
  readonly offset: number;
  readonly access: string;
}

interface Slot {
  readonly number: number;
  readonly sink: number;
  readonly va: number;
  /** Pages of the partition's own addresses, and of the VA space. */
  readonly start: number;
  readonly pages: number;
  readonly vaStart: number;
  readonly access: number;
}

interface Partition {
  readonly limit: number;
  readonly slots: Map<number, Slot>;
}

interface Attachment {
  readonly partition: Partition;
  readonly va: number;
  readonly offset: number;
}

/** A stretch of a VA space, in pages. */
interface RecordedStretch {
  readonly start: number;
  readonly pages: number;
}

interface VaSpace {
  /** Stretches by start: the first one is there from the beginning. */
  readonly stretches: Map<number, RecordedStretch>;
  readonly mapped: Map<number, Mapped>;
  /** Limits by page: the access that is left of it, or of each of its bytes. */
  readonly limits: Map<number, number | Uint8Array>;
}

interface View {
  readonly va: number;
  /** Stretches of pages and what was let be used of each, the last one first. */
  readonly limits: { readonly start: number; readonly pages: number; readonly access: number }[];
}

/** Place of a command in a plan: removals before additions, both in the order of their sinks' kinds; stretches are
 *  given back last. */
function orderOf(op: number): number {
  if (op === abi.OP_VA_RELEASE) return Number.POSITIVE_INFINITY;
  const { number } = sinkKindOf(op);
  return op & abi.OP_IS_REMOVAL ? -number : number;
}

export class Recorder implements Executor {
  readonly failure = new Error('the recorder never fails');
  readonly #objects = new Map<number, RecordedObject>();
  readonly #vas = new Map<number, VaSpace>();
  readonly #partitions = new Map<number, Partition>();
  readonly #attachments = new Map<number, Attachment>();
  readonly #views = new Map<number, View>();
  readonly #events = new RecordedEvents();

  /** Commands that take back others may come in any order, and give slots their old numbers. */
  #takingBack = false;
  #order = Number.NEGATIVE_INFINITY;
  /** Pages by VA sink: what was there before the plan, and whether it was absent meanwhile. */
  readonly #touched = new Map<number, Map<number, Mapped | undefined>>();
  readonly #vaAbsent = new Map<number, Set<number>>();
  /** Slots that the plan has deleted. */
  readonly #deleted: Slot[] = [];

  // ---- What there is ---------------------------------------------------------------------------

  addObject(
    id: number,
    isPrivate: boolean,
    isWritable: boolean,
    size: Address,
    pageSize: number = abi.PAGE_SIZE,
  ): void {
    const pages = pageOf(toAddress(BigInt(size) + 4095n));
    const home = new Map<number, number>();
    if (isPrivate) for (let page = 0; page < pages; page++) home.set(page, page);
    this.#objects.set(id, { isPrivate, isWritable, pages, pageSize: pageOf(pageSize), home });
  }

  addVa(sink: number, size: Address): void {
    const stretches = new Map([[0, { start: 0, pages: pageOf(size) }]]);
    this.#vas.set(sink, { stretches, mapped: new Map(), limits: new Map() });
  }

  addPartition(id: number, limit: number): void {
    this.#partitions.set(id, { limit, slots: new Map() });
  }

  attach(sink: number, partition: number, va: number, gpaOffset: Address): void {
    this.#views.delete(sink);
    this.#events.delete(sink);
    this.#attachments.set(sink, { partition: this.#partitions.get(partition)!, va, offset: pageOf(gpaOffset) });
  }

  addView(sink: number, va: number): void {
    this.#attachments.delete(sink);
    this.#events.delete(sink);
    this.#views.set(sink, { va, limits: [] });
  }

  addEvents(sink: number, attachment: number): void {
    this.#attachments.delete(sink);
    this.#views.delete(sink);
    this.#events.add(sink, 4096 * this.#attachment(attachment).offset);
  }

  eventSinks(): number[] {
    return this.#events.sinks;
  }

  /** Events that a partition has through a sink, in order of GPA and number. */
  events(sink: number): RecordedEvent[] {
    return this.#events.of(sink);
  }

  views(): number[] {
    return [...this.#views.keys()];
  }

  vas(): number[] {
    return [...this.#vas.keys()];
  }

  attachments(): number[] {
    return [...this.#attachments.keys()];
  }

  /** Stretches of a VA space, in order. */
  stretches(sink: number): RecordedStretch[] {
    return [...this.#va(sink).stretches.values()].sort((one, other) => one.start - other.start);
  }

  /** Whether pages lie in stretches of a VA space: all of them in one where `inOne`. */
  #isReserved(va: VaSpace, start: number, pages: number, inOne = false): boolean {
    for (let at = start; at < start + pages; ) {
      const stretch = [...va.stretches.values()].find((each) => at >= each.start && at < each.start + each.pages);
      if (stretch === undefined || (inOne && stretch.start + stretch.pages < start + pages)) return false;
      at = stretch.start + stretch.pages;
    }
    return true;
  }

  /** Page that a VA space shows. */
  vaPage(sink: number, page: number): { object: number; page: number; access: string } | undefined {
    const mapped = this.#va(sink).mapped.get(page);
    return mapped && mapped.access !== 0
      ? { object: mapped.object, page: mapped.page, access: accessName(mapped.access) }
      : undefined;
  }

  /** A page that may be used of a VA space, or through a view, as far as that holds for all of it. */
  part(sink: number, page: number): { object: number; page: number; access: string } | undefined {
    const mapped = this.#vaBehind(sink).mapped.get(page);
    const [stretch] = mapped === undefined ? [] : this.#stretches(sink, page, mapped);
    return mapped && stretch?.length === 4096
      ? { object: mapped.object, page: mapped.page, access: accessName(stretch.access) }
      : undefined;
  }

  /** Pieces of a VA space: pages that go on where the one before ends are joined. */
  pieces(sink: number): RecordedRun[] {
    return this.#runs(sink, (_, { access }) => [{ from: 0, length: 4096, access }]);
  }

  /** Parts of the pieces that may be used, likewise joined. */
  parts(sink: number): RecordedRun[] {
    return this.#runs(sink, (page, mapped) => this.#stretches(sink, page, mapped));
  }

  /** VA space that a sink is, or is a view of. */
  #vaBehind(sink: number): VaSpace {
    return this.#va(this.#views.get(sink)?.va ?? sink);
  }

  /** Access that a sink lets be used of a page: all of it, unless it is a view. */
  #opened(sink: number, page: number): number {
    const view = this.#views.get(sink);
    if (view === undefined) return abi.ACCESS_ALL;
    return view.limits.find(({ start, pages }) => page >= start && page < start + pages)?.access ?? 0;
  }

  /** Stretches of a page that may be used. */
  #stretches(sink: number, page: number, mapped: Mapped): Usable[] {
    const limit = this.#vaBehind(sink).limits.get(page) ?? abi.ACCESS_ALL;
    const usable = mapped.access & this.#opened(sink, page);
    if (typeof limit === 'number') return withAccess([{ from: 0, length: 4096, access: usable & limit }]);
    const stretches: Usable[] = [];
    for (const [from, left] of limit.entries()) {
      const access = usable & left;
      const before = stretches.at(-1);
      if (before?.access === access) before.length++;
      else stretches.push({ from, length: 1, access });
    }
    return withAccess(stretches);
  }

  #runs(sink: number, stretchesOf: (page: number, mapped: Mapped) => Usable[]): RecordedRun[] {
    const runs: RecordedRun[] = [];
    for (const [page, mapped] of [...this.#vaBehind(sink).mapped].sort(([a], [b]) => a - b)) {
      for (const { from, length, access } of withAccess(stretchesOf(page, mapped))) {
        const [start, offset] = [page * 4096 + from, mapped.page * 4096 + from];
        const next = { start, last: start + length - 1, object: mapped.object, offset, access: accessName(access) };
        const run = runs.at(-1);
        const joins = run?.last === start - 1 && run.object === next.object && run.access === next.access;
        if (run !== undefined && joins && offset - run.offset === start - run.start) run.last = next.last;
        else runs.push(next);
      }
    }
    return runs;
  }

  /** Page of a VA space that a slot of an attachment shows at a page of its address space. */
  shownBySlot(sink: number, page: number): { object: number; page: number; access: string } | undefined {
    const { partition, offset } = this.#attachment(sink);
    const slots = [...partition.slots.values()].filter((each) => each.sink === sink);
    const slot = slots.find(({ start, pages }) => page + offset >= start && page + offset < start + pages);
    return slot && this.vaPage(slot.va, slot.vaStart + page + offset - slot.start);
  }

  /** The slots of an attachment that show what its VA space has elsewhere, in pages, by start. */
  slotsElsewhere(sink: number): { start: number; pages: number; home: number }[] {
    const { partition, offset } = this.#attachment(sink);
    return [...partition.slots.values()]
      .map((slot) => ({ ...slot, start: slot.start - offset, home: slot.vaStart }))
      .filter((slot) => slot.sink === sink && slot.start !== slot.home)
      .map(({ start, pages, home }) => ({ start, pages, home }))
      .sort((a, b) => a.start - b.start);
  }

  /** The slots of an attachment, in pages of its address space, by start. */
  slots(sink: number): { number: number; start: number; last: number; access: string }[] {
    const { partition, offset } = this.#attachment(sink);
    return [...partition.slots.values()]
      .filter((slot) => slot.sink === sink)
      .map(({ number, start, pages, access }) => {
        return { number, start: start - offset, last: start - offset + pages - 1, access: accessName(access) };
      })
      .sort((a, b) => a.start - b.start);
  }

  /** Everything, as text. */
  lines(): string[] {
    const lines: string[] = [];
    for (const [sink, { mapped, limits }] of this.#vas) {
      for (const { start, pages } of this.stretches(sink).slice(1)) lines.push(`va ${sink} stretch ${start}+${pages}`);
      for (const [page, access] of [...limits].sort(([a], [b]) => a - b)) {
        lines.push(`va ${sink} page ${page}: at most ${typeof access === 'number' ? accessName(access) : access}`);
      }
      for (const [page, { object, page: inObject, access, content }] of [...mapped].sort(([a], [b]) => a - b)) {
        const written = content === undefined ? '' : ` "${content}"`;
        lines.push(`va ${sink} page ${page}: object ${object} page ${inObject}${written} ${accessName(access)}`);
      }
    }
    for (const [sink, { va }] of this.#views) {
      for (const { start, last, access } of this.parts(sink)) {
        lines.push(`view ${sink} of va ${va} ${start.toString(16)}-${last.toString(16)}: ${access}`);
      }
    }
    for (const [id, { slots }] of this.#partitions) {
      for (const slot of [...slots.values()].sort((a, b) => a.number - b.number)) {
        lines.push(`partition ${id} ${JSON.stringify(slot)}`);
      }
    }
    lines.push(...this.#events.lines());
    for (const [id, { isPrivate, home }] of this.#objects) {
      const pages = [...home].sort(([a], [b]) => a - b).map(([page, content]) => `${page}:"${content}"`);
      if (isPrivate) lines.push(`object ${id} at home ${pages.join(' ')}`);
    }
    return lines;
  }

  /** Checks private contents. Throws if a private page is gone, is there twice, or is not what it was. */
  checkContents(): void {
    for (const [id, { isPrivate, pages, home }] of this.#objects) {
      if (!isPrivate) continue;
      const found = new Map(home);
      let count = home.size;
      for (const { mapped } of this.#vas.values()) {
        for (const each of mapped.values()) {
          if (each.object !== id) continue;
          found.set(each.page, each.content as number);
          count++;
        }
      }
      if (count !== pages || found.size !== pages) fail(`object ${id} has ${count} of its ${pages} pages`);
      for (const [page, content] of found) if (page !== content) fail(`object ${id} page ${page} shows "${content}"`);
    }
  }

  // ---- Plans -----------------------------------------------------------------------------------

  beginPlan(): void {
    this.#takingBack = false;
    this.#order = Number.NEGATIVE_INFINITY;
    this.#touched.clear();
    this.#vaAbsent.clear();
    this.#deleted.length = 0;
  }

  takeBack(): void {
    this.#takingBack = true;
  }

  execute(core: Core, first: number, count: number): number {
    for (let i = first; i < first + count; i++) this.#carryOut(core.command(i));
    return count;
  }

  /** Class of what the plan did to bytes that were valid before and after it: CLASS_UNCHANGED_BYTES if one that stayed
   *  the same was absent meanwhile, CLASS_CHANGED if only such as changed were, else CLASS_NONE. A byte is there for
   *  the VMM where the VA space has it, for the guest where a slot shows it besides. */
  disturbance(): number {
    let result: number = abi.CLASS_NONE;
    const look = (before: Mapped | undefined, after: Mapped | undefined) => {
      // Pages that are held, without access, are nobody's.
      if (before === undefined || before.access === 0 || after === undefined) return;
      const same = before.object === after.object && before.page === after.page;
      result = Math.max(result, same ? abi.CLASS_UNCHANGED_BYTES : abi.CLASS_CHANGED);
    };
    for (const [sink, pages] of this.#vaAbsent) {
      for (const page of pages) look(this.#touched.get(sink)?.get(page), this.#vas.get(sink)?.mapped.get(page));
    }
    for (const slot of this.#deleted) {
      const { partition } = this.#attachment(slot.sink);
      for (const now of partition.slots.values()) {
        if (now.sink !== slot.sink) continue;
        const from = Math.max(slot.start, now.start);
        const to = Math.min(slot.start + slot.pages, now.start + now.pages);
        for (let page = from; page < to; page++) look(this.#before(slot, page), this.#pageOf(now, page));
      }
    }
    return result;
  }

  /** Memory that a slot shows at a page of the partition's own. */
  #pageOf({ va, vaStart, start }: Slot, page: number): Mapped | undefined {
    return this.#va(va).mapped.get(vaStart + page - start);
  }

  /** Memory that it showed there before the plan. */
  #before(slot: Slot, page: number): Mapped | undefined {
    const touched = this.#touched.get(slot.va);
    const inVa = slot.vaStart + page - slot.start;
    return touched?.has(inVa) ? touched.get(inVa) : this.#pageOf(slot, page);
  }

  /** A command failed half way. Returns how many pages have moved. */
  spoil(command: Command, moving: number): number {
    if (command.event !== undefined) return 0;
    if (command.op === abi.OP_VIEW_LIMIT) this.#limitView({ ...command, access: 0 });
    const va = this.#vas.get(command.sink);
    if (va === undefined || command.op === abi.OP_VA_LIMIT || isAboutAddresses(command.op)) return 0;
    const [start, pages] = [pageOf(command.gpa), pageOf(command.length)];
    if (command.op === abi.OP_VA_PARK || command.op === abi.OP_VA_UNPARK) {
      const moved = Math.min(moving, pages);
      if (moved > 0) this.#changeVa({ ...command, length: moved * abi.PAGE_SIZE });
      for (let page = start + moved; page < start + pages; page++) {
        const left = va.mapped.get(page);
        if (left?.content !== undefined) va.mapped.set(page, { ...left, access: 0 });
        else va.mapped.delete(page);
      }
      return moved;
    }
    for (let page = start; page < start + pages; page++) {
      const mapped = va.mapped.get(page);
      if (mapped === undefined) continue;
      if (command.op === abi.OP_VA_PROTECT) {
        va.mapped.set(page, { ...mapped, access: command.access });
        return 0;
      }
      if (mapped.content === undefined) va.mapped.delete(page);
    }
    return 0;
  }

  /** Makes sure that nobody reaches what a command that failed has left. */
  secure(core: Core, index: number): number {
    const command = core.command(index);
    if (command.op === abi.OP_VIEW_LIMIT) {
      this.#limitView({ ...command, access: 0 });
      return abi.SECURED_CLOSED;
    }
    if (command.event !== undefined) {
      this.#events.secure(command);
      return abi.SECURED_CLOSED;
    }
    const va = this.#vas.get(command.sink);
    if (va === undefined) return this.#secureSlot(command);
    let start = pageOf(command.gpa);
    let end = pageOf(toAddress(BigInt(command.gpa) + BigInt(command.length) + 4095n));
    while (this.#isInside(va.mapped.get(start))) start--;
    while (this.#isInside(va.mapped.get(end))) end++;
    for (let page = start; page < end; page++) {
      const mapped = va.mapped.get(page);
      if (mapped?.content !== undefined) va.mapped.set(page, { ...mapped, access: 0 });
      else va.mapped.delete(page);
    }
    return abi.SECURED_CLOSED;
  }

  #secureSlot(command: Command): number {
    if (command.op === abi.OP_SLOT_ADD) return abi.SECURED_CLOSED;
    this.shutDown(command.sink);
    return abi.SECURED_DOWN;
  }

  /** The partition has no slots any more, and is given none. */
  shutDown(sink: number): void {
    this.#attachment(sink).partition.slots.clear();
  }

  #carryOut(command: Command): void {
    if (!this.#takingBack) {
      // Limits come among both.
      const isLimit = command.op === abi.OP_VA_LIMIT || command.op === abi.OP_VIEW_LIMIT;
      const order = isLimit ? this.#order : orderOf(command.op);
      if (order < this.#order) fail('a removal comes after an addition');
      this.#order = order;
    }
    if (command.length === 0) fail('nothing is changed');
    const isWhole = ((BigInt(command.gpa) | BigInt(command.length)) & 4095n) === 0n;
    if (!isWhole && command.op !== abi.OP_VA_LIMIT && command.event === undefined) fail('not whole pages');
    if (command.op === abi.OP_SLOT_ADD) this.#addSlot(command);
    else if (command.op === abi.OP_SLOT_DELETE) this.#deleteSlot(command);
    else if (command.op === abi.OP_VIEW_LIMIT) this.#limitView(command);
    else if (sinkKindOf(command.op).number === abi.SINK_VA) this.#changeVa(command);
    else if (command.event !== undefined) this.#events.carryOut(command);
    else fail('there is no such operation');
  }

  #limitView({ sink, gpa, length, access }: Command): void {
    const view = this.#views.get(sink) ?? fail(`sink ${sink} is no view`);
    const [start, pages] = [pageOf(gpa), pageOf(length)];
    if (![0, abi.ACCESS_READ, abi.ACCESS_READ | abi.ACCESS_WRITE].includes(access)) fail('no such access');
    view.limits.unshift({ start, pages, access });
  }

  #changeVa(command: Command): void {
    const va = this.#va(command.sink);
    const [start, pages, offset] = [pageOf(command.gpa), pageOf(command.length), pageOf(command.offset)];
    if (isAboutAddresses(command.op)) {
      this.#changeStretch(va, command);
      return;
    }
    if (command.op === abi.OP_VA_LIMIT) {
      limit(va.limits, Number(command.gpa), Number(command.length), command.access);
      return;
    }
    if (!this.#isReserved(va, start, pages)) fail('outside of the reservation');
    for (const edge of [start, start + pages]) if (this.#isInside(va.mapped.get(edge))) fail('a large page is cut');
    const { pageSize } = (command.op === abi.OP_VA_MAP && this.#objects.get(command.object!)) || { pageSize: 1 };
    if ([start, pages, offset].some((each) => each % pageSize !== 0)) fail('a part of a large page is mapped');
    for (let page = start; page < start + pages; page += pageSize) {
      if (!this.#isReserved(va, page, pageSize, true)) fail('a large page lies in two stretches');
    }
    for (let i = 0; i < pages; i++) this.#changePage(command, va.mapped, start + i, offset + i);
  }

  #changeStretch(va: VaSpace, { op, gpa, length, sink }: Command): void {
    const [start, pages] = [pageOf(gpa), pageOf(length)];
    const isThere = (page: number) => page >= start && page < start + pages;
    if (op === abi.OP_VA_RESERVE) {
      for (let page = start; page < start + pages; page++) {
        if (this.#isReserved(va, page, 1)) fail('a stretch is reserved twice');
      }
      va.stretches.set(start, { start, pages });
      return;
    }
    if (start === 0 || va.stretches.get(start)?.pages !== pages) fail('there is no such stretch');
    const slots = [...this.#partitions.values()].flatMap((each) => [...each.slots.values()]);
    if (slots.some((slot) => slot.va === sink && isThere(slot.vaStart))) fail('a slot shows a stretch that goes');
    for (const [page, { content }] of va.mapped) {
      if (!isThere(page)) continue;
      // What could not be unmapped when it was taken back goes with its stretch.
      if (content !== undefined) fail('private contents go with their stretch');
      va.mapped.delete(page);
    }
    va.stretches.delete(start);
  }

  /** Whether a page goes on a large one. */
  #isInside(mapped: Mapped | undefined): boolean {
    return mapped !== undefined && mapped.page % this.#objects.get(mapped.object)!.pageSize !== 0;
  }

  #changePage(
    { op, sink, object: id, access }: Command,
    mapped: Map<number, Mapped>,
    page: number,
    inObject: number,
  ): void {
    const before = mapped.get(page);
    const object = this.#objects.get(id!);
    const touched = memberOf(this.#touched, sink, () => new Map<number, Mapped | undefined>());
    if (!touched.has(page)) touched.set(page, before);
    const expect = (truth: unknown, problem: string) => {
      if (!truth) fail(`${problem} at page ${page} of va ${sink}`);
    };
    const usable = (isPrivate: boolean) => {
      expect(object && object.isPrivate === isPrivate && inObject < object.pages, 'no such page of an object');
      // Pages that are held somewhere come back to where they were, without access.
      expect((access & abi.ACCESS_READ || isPrivate) && !(access & abi.ACCESS_EXECUTE), 'no such protection');
      expect(object?.isWritable || !(access & abi.ACCESS_WRITE), 'a read-only object is mapped writable');
    };
    const isThere = () => expect(before && before.object === id && before.page === inObject, 'something else is there');
    switch (op) {
      case abi.OP_VA_MAP:
        usable(false);
        expect(before?.content === undefined, 'private contents are mapped over');
        mapped.set(page, { object: id!, page: inObject, access, content: undefined });
        return;
      case abi.OP_VA_UNPARK: {
        usable(true);
        expect(before?.content === undefined, 'private contents are moved over');
        const content = object?.home.get(inObject);
        expect(content !== undefined, 'the private page is not at home');
        object?.home.delete(inObject);
        mapped.set(page, { object: id!, page: inObject, access, content });
        return;
      }
      case abi.OP_VA_PARK:
        usable(true);
        isThere();
        object?.home.set(inObject, before?.content as number);
        break;
      case abi.OP_VA_UNMAP:
        expect(before?.content === undefined, 'private contents are unmapped');
        expect(before !== undefined || this.#takingBack, 'nothing is there');
        break;
      case abi.OP_VA_PROTECT: {
        // One command may reach over several objects.
        expect(before !== undefined, 'nothing is there');
        const isWritable = this.#objects.get((before as Mapped).object)?.isWritable;
        expect(isWritable || !(access & abi.ACCESS_WRITE), 'a read-only object becomes writable');
        mapped.set(page, { ...(before as Mapped), access });
        return;
      }
      default:
        fail(`no such operation as ${op}`);
    }
    mapped.delete(page);
    memberOf(this.#vaAbsent, sink, () => new Set<number>()).add(page);
  }

  #addSlot(command: Command): void {
    const slot = this.#slotOf(command);
    const { limit, slots } = this.#attachment(command.sink).partition;
    if (slot.number >= limit) fail(`slot ${slot.number} is past the limit of ${limit}`);
    if (slots.has(slot.number)) fail(`slot ${slot.number} is in use`);
    for (let lower = 0; !this.#takingBack && lower < slot.number; lower++) {
      if (!slots.has(lower)) fail(`slot ${slot.number} is given out, and ${lower} is free`);
    }
    for (const other of slots.values()) {
      if (slot.start < other.start + other.pages && other.start < slot.start + slot.pages) fail('slots overlap');
    }
    if (!this.#takingBack) this.#checkPlace(slot);
    slots.set(slot.number, slot);
  }

  /** A slot shows what the VA space has at its own GPAs; where that is nothing, it may be private pages elsewhere. */
  #checkPlace({ sink, va, start, pages, vaStart }: Slot): void {
    const { mapped } = this.#va(va);
    const own = start - this.#attachment(sink).offset;
    if (own === vaStart) return;
    for (let page = 0; page < pages; page++) {
      if (mapped.has(own + page)) fail('the slot is not where its bytes are');
      if (mapped.get(vaStart + page)?.content === undefined) fail('the slot shows what is at no home');
    }
  }

  #deleteSlot(command: Command): void {
    const slot = this.#slotOf(command);
    const { slots } = this.#attachment(command.sink).partition;
    const before = slots.get(slot.number);
    const isSame =
      before?.sink === slot.sink &&
      before.va === slot.va &&
      before.start === slot.start &&
      before.pages === slot.pages &&
      before.vaStart === slot.vaStart &&
      before.access === slot.access;
    if (!isSame) fail(`slot ${slot.number} is another one`);
    slots.delete(slot.number);
    this.#deleted.push(slot);
  }

  #slotOf({ op, sink, va, gpa, length, offset, access, slot }: Command): Slot {
    const attachment = this.#attachment(sink);
    const [start, pages, vaStart] = [pageOf(gpa), pageOf(length), pageOf(offset)];
    if (attachment.va !== va) fail('the slot lies in another VA space');
    const isAdded = op === abi.OP_SLOT_ADD;
    if (isAdded && !this.#isReserved(this.#va(va!), vaStart, pages, true)) fail('the slot is in no one stretch');
    if (!(access & abi.ACCESS_READ)) fail('nothing may be done in the slot');
    return { number: slot, sink, va: va!, start, pages, vaStart, access };
  }

  #va(sink: number): VaSpace {
    return this.#vas.get(sink) ?? fail(`sink ${sink} is no VA space`);
  }

  #attachment(sink: number): Attachment {
    return this.#attachments.get(sink) ?? fail(`sink ${sink} is no attachment`);
  }
}

function memberOf<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

/** The stretches of which something is left. */
function withAccess(stretches: Usable[]): Usable[] {
  return stretches.filter(({ access }) => access !== 0);
}

/** Limits bytes from `start` on to an access, page by page. */
function limit(limits: Map<number, number | Uint8Array>, start: number, length: number, access: number): void {
  for (let at = start; at < start + length; ) {
    const page = pageOf(at);
    const end = Math.min(start + length, (page + 1) * 4096);
    const before = limits.get(page) ?? abi.ACCESS_ALL;
    const bytes = typeof before === 'number' ? new Uint8Array(4096).fill(before) : before.slice();
    const isWhole =
      end - at === 4096 || bytes.fill(access, at % 4096, (at % 4096) + (end - at)).every((each) => each === access);
    if (!isWhole) limits.set(page, bytes);
    else if (access === abi.ACCESS_ALL) limits.delete(page);
    else limits.set(page, access);
    at = end;
  }
}

/** Number of the page that starts at an address; exact up to 2^64. */
function pageOf(address: Address): number {
  return typeof address === 'number' ? Math.floor(address / 4096) : Number(address >> 12n);
}

function fail(problem: string): never {
  throw new Error(`the plan is wrong: ${problem}`);
}
