// Memory maps and slot operations recorded from QEMU, unpacked from tests/fixtures (made by ts/dev/pack-fixtures.mjs).

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { MapFile } from '../../ts/trace/import/maps.ts';

/** One memory map at one moment. */
export interface QemuCase {
  /** Snapshot, `--`, address space. */
  readonly name: string;
  readonly moment: string;
  /** The file, as the importer takes it. */
  readonly file: MapFile;
}

/** One machine at several moments, through one address space. */
interface QemuMachine {
  readonly name: string;
  /** Cases in the order in which they were taken, at least two. */
  readonly cases: readonly QemuCase[];
}

/** A memory slot, and what it shows: `block` and `blockOffset` say which byte of which memory. */
export interface Slot {
  readonly gpa: number;
  readonly size: number;
  readonly block: string;
  readonly blockOffset: number;
  readonly readonly: boolean;
}

/** A run of deletes, followed by a run of adds. */
interface SlotChange {
  readonly removed: readonly Slot[];
  readonly added: readonly Slot[];
  /** All slots before and after, by GPA. */
  readonly before: readonly Slot[];
  readonly after: readonly Slot[];
}

export interface SlotHistory {
  readonly name: string;
  readonly changes: readonly SlotChange[];
  /** Calls that only switched the dirty log of a slot on or off. They belong to no change. */
  readonly toggles: readonly Slot[];
}

type PackedFlags = string;
type PackedRegion = [string, string, string, string, number, PackedFlags, (number[] | 0)?, number?, string?];
type PackedRow = [string, string, number, string, PackedFlags];
type PackedCase = [string, string, string[], number, PackedRegion[], PackedRow[]];
type PackedCall = [slot: number, flags: number, gpa: string, size: string, block: number, offset: string];
type PackedHistory = [string, string[], PackedCall[]];

const KVM_MEM_READONLY = 2;

let caseLines: readonly string[] | undefined;

/** All maps, by name. */
export function* cases(): Generator<QemuCase> {
  caseLines ??= linesOf('qemu-cases');
  for (const line of caseLines) yield unpackCase(JSON.parse(line));
}

export function caseNamed(name: string): QemuCase {
  for (const each of cases()) if (each.name === name) return each;
  throw new Error(`there is no case ${name}`);
}

/** Every machine of which there are several moments: snapshots whose names differ in `.tNN`, `.sNN` or `.hN` alone. */
export function machines(): QemuMachine[] {
  const byName = new Map<string, QemuCase[]>();
  for (const each of cases()) {
    const parts = /^(.*)\.[tsh]\d+(--.*)$/.exec(each.name);
    if (parts === null) continue;
    const name = `${parts[1]}${parts[2]}`;
    byName.set(name, [...(byName.get(name) ?? []), each]);
  }
  return [...byName].filter(([, moments]) => moments.length > 1).map(([name, moments]) => ({ name, cases: moments }));
}

/** Every recorded boot. */
export function slotHistories(): SlotHistory[] {
  return linesOf('qemu-slots').map((line) => unpackHistory(JSON.parse(line)));
}

export function readSlotHistory(name: string): SlotHistory {
  const history = slotHistories().find((each) => each.name === name);
  if (history === undefined) throw new Error(`there is no slot history ${name}`);
  return history;
}

function linesOf(fixture: string): string[] {
  const packed = readFileSync(`tests/fixtures/${fixture}.jsonl.gz`); // ava runs in the project root
  return gunzipSync(packed).toString('utf8').trimEnd().split('\n');
}

function unpackCase([name, moment, address_spaces, root, packedRegions, packedRows]: PackedCase): QemuCase {
  const regions = packedRegions.map(([name, kind, offset, size, priority, flags, children, target, start], id) => ({
    id,
    name,
    kind,
    priority,
    offset: `0x${offset}`,
    size: `0x${size}`,
    ...unpackFlags(flags),
    ...(children ? { children } : {}),
    ...(target === undefined ? {} : { target, target_start: `0x${start}` }),
  }));
  const flat = packedRows.map(([start, end, id, offset, flags]) => {
    const region = regions[id] as (typeof regions)[number];
    return {
      start: `0x${start}`,
      end: `0x${end}`,
      region: id,
      name: region.name,
      kind: flags.includes('r') ? 'rom' : region.kind,
      offset_in_region: `0x${offset}`,
      priority: region.priority,
      ...unpackFlags(flags),
    };
  });
  const text = JSON.stringify({ name, moment, address_spaces, tree: { root, regions }, flat });
  return { name, moment, file: { name: `${name}.json`, text } };
}

function unpackFlags(flags: PackedFlags): object {
  return {
    ...(flags.includes('d') ? { enabled: false } : {}),
    ...(flags.includes('r') ? { readonly: true } : {}),
    ...(flags.includes('n') ? { nonvolatile: true } : {}),
  };
}

function unpackHistory([name, blocks, calls]: PackedHistory): SlotHistory {
  const live = new Map<number, Slot>();
  const changes: SlotChange[] = [];
  const toggles: Slot[] = [];
  let removed: Slot[] = [];
  let added: Slot[] = [];
  let before: Slot[] = [];
  const finish = () => {
    if (removed.length + added.length > 0) changes.push({ removed, added, before, after: byGpa(live) });
    [removed, added, before] = [[], [], byGpa(live)];
  };
  for (const [number, flags, gpa, size, block, offset] of calls) {
    const before = live.get(number);
    const slot: Slot = {
      gpa: Number.parseInt(gpa, 16),
      size: Number.parseInt(size, 16),
      block: blocks[block] as string,
      blockOffset: Number.parseInt(offset, 16),
      readonly: (flags & KVM_MEM_READONLY) !== 0,
    };
    if (slot.size === 0) {
      if (before === undefined) throw new Error(`${name}: slot ${number} is deleted, but there is none`);
      if (added.length > 0) finish();
      live.delete(number);
      removed.push(before);
    } else if (before === undefined) {
      live.set(number, slot);
      added.push(slot);
    } else {
      if (before.gpa !== slot.gpa || before.size !== slot.size)
        throw new Error(`${name}: slot ${number} is replaced in place`);
      toggles.push(slot);
    }
  }
  finish();
  return { name, changes, toggles };
}

function byGpa(live: ReadonlyMap<number, Slot>): Slot[] {
  return [...live.values()].sort((a, b) => a.gpa - b.gpa);
}
