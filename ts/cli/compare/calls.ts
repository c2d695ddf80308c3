// Calls of a monitor's log that concern guest memory: what KVM is told of slots, and what is done to the memory
// behind them. Addresses and lengths are in pages here: as such they are safe integers.

import type { StraceReader, TracedCall } from './strace.ts';

export const PAGE = 4096n;
/** Pages of the guest-physical addresses that x86 has, and of a process's addresses. */
const GPA_PAGES = 2 ** 40;
const HVA_PAGES = 2 ** 45;
const SLOT_BITS = 16;
const LOG_DIRTY = 1;
const READONLY = 2;

/** A memory slot. */
export interface Slot {
  readonly slot: number;
  readonly gpa: number;
  readonly pages: number;
  readonly hva: number;
  readonly readonly: boolean;
  readonly logsDirty: boolean;
}

/** A call that says what a slot is from now on. */
export interface SlotCall {
  readonly kind: 'slot';
  readonly vm: number;
  /** Number of the address space: the upper half of what KVM calls the slot. */
  readonly space: number;
  readonly slot: Slot;
  /** Error that KVM answered; undefined where it did as it was told. */
  readonly error: string | undefined;
}

/** A call that changes what is behind addresses of the monitor. */
export interface MemoryCall {
  readonly kind: 'memory';
  /** Name of the call, with what it advises. */
  readonly what: string;
  readonly hva: number;
  readonly pages: number;
  /** Name of the memory that is there afterwards; undefined where that stays. */
  readonly name: string | undefined;
}

type MonitorCall =
  | SlotCall
  | MemoryCall
  | { readonly kind: 'vm'; readonly vm: number }
  | { readonly kind: 'run' }
  | { readonly kind: 'file'; readonly fd: number; readonly name: string };

const FIELDS = ['slot', 'flags', 'guest_phys_addr', 'memory_size', 'userspace_addr'] as const;
const LOSING = /\bMADV_(?:DONTNEED|DONTNEED_LOCKED|REMOVE|FREE)\b/;

/** Meaning of a call; undefined where it is none of guest memory. Throws IMPORT_TEXT. `nameOf`: of a file. */
export function monitorCall(
  call: TracedCall,
  reader: StraceReader,
  nameOf: (fd: number) => string,
): MonitorCall | undefined {
  if (call.name === 'ioctl') return ioctlCall(call, reader);
  if (/^(?:-|\?)/.test(call.result)) return undefined;
  const args = call.args.split(', ');
  switch (call.name) {
    case 'memfd_create':
      return { kind: 'file', fd: numberIn(call.result), name: /^"(.*?)"/.exec(call.args)?.[1] ?? 'memfd' };
    case 'mmap': {
      const name = /\bMAP_ANONYMOUS\b/.test(args[3] ?? '') ? 'anonymous' : nameOf(numberIn(args[4] ?? ''));
      return memoryCall('mmap', [call.result, args[1]], name);
    }
    case 'munmap':
    case 'mprotect':
      return memoryCall(call.name, args);
    case 'madvise':
      return LOSING.test(args[2] ?? '') ? memoryCall(`madvise ${args[2]}`, args) : undefined;
    default:
      return undefined;
  }
}

function ioctlCall(call: TracedCall, reader: StraceReader): MonitorCall | undefined {
  const [, fd, request] = /^(\d+)(?:<[^>]*>)?, ([^,]+)/.exec(call.args) ?? [];
  switch (request) {
    case 'KVM_RUN':
      return { kind: 'run' };
    case 'KVM_CREATE_VM':
      return /^\d/.test(call.result) ? { kind: 'vm', vm: numberIn(call.result) } : undefined;
    case 'KVM_SET_USER_MEMORY_REGION':
    case 'KVM_SET_USER_MEMORY_REGION2':
      return slotCall(call, Number(fd), reader);
    default:
      return undefined;
  }
}

function slotCall(call: TracedCall, vm: number, reader: StraceReader): SlotCall | undefined {
  const failed = /^(?:-\d+ (\w+)|\?)/.exec(call.result);
  const fields = FIELDS.map((name) => fieldOf(call, name));
  if (fields.includes(undefined)) {
    if (failed !== null) return undefined;
    const missing = FIELDS[fields.indexOf(undefined)];
    throw reader.wrong(call, `the slot has no ${missing}: this strace does not know KVM's calls, a newer one does`);
  }
  const wrong = (name: string, problem: string) => {
    const column = call.column + (fieldOf(call, name)?.at ?? 0);
    return reader.wrong({ line: call.line, column }, `${name} ${problem}`);
  };
  const [slot, flags, gpa, size, hva] = FIELDS.map((name) => {
    const value = name === 'flags' ? flagsIn(call) : valueIn(fieldOf(call, name)?.text);
    if (value === undefined) throw wrong(name, 'is not a number');
    return value;
  }) as [bigint, bigint, bigint, bigint, bigint];
  if (slot >= 2n ** 32n) throw wrong('slot', 'has more than 32 bits');
  for (const [name, value] of [
    ['guest_phys_addr', gpa],
    ['memory_size', size],
    ['userspace_addr', hva],
  ] as const) {
    if (failed === null && value % PAGE !== 0n && size !== 0n) throw wrong(name, 'is not whole pages of 0x1000 bytes');
  }
  const isInside = (gpa + size) / PAGE <= GPA_PAGES && (hva + size) / PAGE <= HVA_PAGES;
  if (failed === null && size !== 0n && !isInside) throw wrong('memory_size', 'goes past what x86 can address');
  return {
    kind: 'slot',
    vm,
    space: Number(slot) >>> SLOT_BITS,
    slot: {
      slot: Number(slot) % 2 ** SLOT_BITS,
      ...{ gpa: Number(gpa / PAGE), pages: Number(size / PAGE), hva: Number(hva / PAGE) },
      ...{ readonly: (Number(flags) & READONLY) !== 0, logsDirty: (Number(flags) & LOG_DIRTY) !== 0 },
    },
    error: failed === null ? undefined : (failed[1] ?? 'no answer'),
  };
}

/** Text of a field, and where in the arguments it stands. */
function fieldOf({ args }: TracedCall, name: string): { text: string; at: number } | undefined {
  const found = new RegExp(`[{ ]${name}=([^,}]*)`).exec(args);
  return found === null ? undefined : { text: found[1] as string, at: found.index + name.length + 2 };
}

function flagsIn(call: TracedCall): bigint | undefined {
  const names = fieldOf(call, 'flags')!
    .text.replace(/ *\/\*.*?\*\/ */g, '')
    .split('|');
  let flags = 0n;
  for (const name of names) {
    if (name === 'KVM_MEM_LOG_DIRTY_PAGES') flags |= BigInt(LOG_DIRTY);
    else if (name === 'KVM_MEM_READONLY') flags |= BigInt(READONLY);
    else if (!/^KVM_MEM_\w+$/.test(name)) {
      const value = valueIn(name);
      if (value === undefined) return undefined;
      flags |= value & 0xffff_ffffn;
    }
  }
  return flags;
}

/** Value of a number as strace writes it, below 2^64. */
function valueIn(text = ''): bigint | undefined {
  if (!/^(?:0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text)) return undefined;
  const value = BigInt(text);
  return value < 2n ** 64n ? value : undefined;
}

function numberIn(text: string): number {
  return Number.parseInt(text, 10);
}

function memoryCall(
  what: string,
  [start, length]: readonly (string | undefined)[],
  name?: string,
): MemoryCall | undefined {
  const [hva, bytes] = [valueIn(start), valueIn(length)];
  if (hva === undefined || bytes === undefined || hva + bytes > BigInt(HVA_PAGES) * PAGE) return undefined;
  return { kind: 'memory', what, hva: Number(hva / PAGE), pages: Number((bytes + PAGE - 1n) / PAGE), name };
}
