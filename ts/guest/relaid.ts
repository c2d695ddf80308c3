// Guests made of a snapshot that lie otherwise than they did: other ranges of RAM, more of it, other places of devices.

import { type Address, formatHex, sum } from '../core/address.ts';
import * as validate from '../core/validate.ts';
import type { GuestLayout, SnapshotRam } from '../snapshot/layout.ts';
import { checkedRange, type GpaRange } from './layout.ts';

/** Layout of a guest that is made of a snapshot, as far as it is to be another one. What was switched, protected or
 *  kept writable by its address must be there still. */
export interface OtherLayout {
  /** Ranges of blocks of RAM, by name, which its bytes fill in order: as many bytes as there were, or more. What is
   *  more is zeroes. With `map`, as many. */
  readonly ram?: Readonly<Record<string, readonly GpaRange[]>>;
  /** GPAs of device regions, by name; null for nowhere. */
  readonly devices?: Readonly<Record<string, Address | null>>;
  /** The highest GPA that RAM and devices may have. */
  readonly maxAddress?: Address;
  /** Slots that each partition may be given at most. */
  readonly slotBudget?: number;
}

/** Checks the form of another layout. Throws INVALID_ARGUMENT. */
export function checkedOther(value: OtherLayout | undefined): OtherLayout {
  const given = validate.options(value, ['ram', 'devices', 'maxAddress', 'slotBudget'], 'layout');
  const { ram = {}, devices = {}, maxAddress, slotBudget } = given;
  return {
    ram: Object.fromEntries(Object.entries(ram).map(([name, ranges]) => [name, checkedRanges(ranges, name)])),
    devices: Object.fromEntries(
      Object.entries(devices).map(([name, gpa]) => [name, gpa === null ? null : validate.address(gpa, name)]),
    ),
    ...(maxAddress !== undefined && { maxAddress: validate.address(maxAddress, 'maxAddress') }),
    ...(slotBudget !== undefined && { slotBudget: validate.integer(slotBudget, 'slotBudget', 1, 65536) }),
  };
}

function checkedRanges(ranges: readonly GpaRange[], name: string): readonly GpaRange[] {
  if (Array.isArray(ranges)) return ranges.map((range: GpaRange) => checkedRange(range, `a range of RAM "${name}"`));
  throw validate.invalid(`the ranges of RAM "${name}" must be a list`);
}

/** The layout of a snapshot, with what is to be otherwise. `mayGrow`: blocks of RAM may have more bytes than they had.
 *  Throws INVALID_ARGUMENT for names that it has not, and for RAM that is too small or too large. */
export function relaid<Layout extends GuestLayout>(layout: Layout, other: OtherLayout, mayGrow: boolean): Layout {
  const { ram = {}, devices = {}, ...options } = other;
  checkNames('RAM', Object.keys(ram), layout.ram);
  checkNames('device region', Object.keys(devices), layout.devices);
  return {
    ...layout,
    options: { ...layout.options, ...options },
    ram: layout.ram.map((block) => {
      const ranges = Object.hasOwn(ram, block.name) ? ram[block.name]! : block.ranges;
      checkSize(block, ranges, mayGrow);
      return { ...block, ranges };
    }),
    devices: layout.devices.map((device) => {
      if (!Object.hasOwn(devices, device.name)) return device;
      return { ...device, gpa: devices[device.name] ?? undefined };
    }),
  };
}

function checkNames(what: string, names: readonly string[], known: readonly { readonly name: string }[]): void {
  const odd = names.find((name) => known.every((each) => each.name !== name));
  if (odd === undefined) return;
  const list = known.map(({ name }) => `"${name}"`).join(', ') || 'none';
  throw validate.invalid(`the snapshot has no ${what} "${odd}"; it has ${list}`);
}

function checkSize({ name, size }: SnapshotRam, ranges: readonly GpaRange[], mayGrow: boolean): void {
  const bytes = ranges.reduce((total, { length }) => sum(total, length), 0 as Address);
  if (bytes === size || (mayGrow && bytes > size)) return;
  const wanted = mayGrow
    ? 'as many, or more'
    : 'as many: more RAM is a block of its own (addRam), or takes mode "copy"';
  throw validate.invalid(
    `RAM "${name}" has ${formatHex(size)} bytes, and its ranges ${formatHex(bytes)}: give ${wanted}`,
  );
}
