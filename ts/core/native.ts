// The addon: memory, KVM and vCPUs of this machine, as thin as it can be. The only file that touches it.
//
// It is loaded when it is first used, so that the core, traces and the command work where it is missing.
// Every handle has close(), which may be called twice and in any order: what a handle stands for goes when the last
// user has let go (an executor's table, a memory slot, a vCPU, another thread's handle). Use after close() throws
// ERR_CLOSED. Failed system calls throw a SystemError.

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ABI_VERSION } from '../../assembly/abi.ts';
import { artefact } from './artefact.ts';
import type { ObjectKind } from './kinds.ts';
import type { Handle, LockSpace, Mapper, NativeClients } from './native-clients.ts';

/** Bytes or an address. The addon takes both; a number has to be a safe integer. */
type U64 = number | bigint;

/** Error of a system call, as Node.js's own: `errno` is negative. `syscall` is "plan" for a record that was refused
 *  before any call. */
export interface SystemError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
}

/** Faults of an access to guest memory, by the negative of what the call returned. */
export const ACCESS_FAULTS = ['', 'outside', 'hole', 'read-only', 'gone', 'misaligned', 'changing'] as const;
export type AccessFault = Exclude<(typeof ACCESS_FAULTS)[number], ''>;

/** Bytes of an access that is made in one step. */
export type Width = 1 | 2 | 4 | 8;

/** A VA space: HVA = base of its stretch + GPA. GPAs are plain numbers here; what is no address is 'outside'. The
 *  access functions throw for arguments of a wrong type only: a bad access is a negative number, of ACCESS_FAULTS,
 *  with its GPA in `facts[FACT_GPA]`. They may be called while any thread changes the map. */
export interface Reservation extends Handle, LockSpace {
  /** HVA of GPA 0, where the first stretch begins, and its bytes. */
  readonly base: bigint;
  readonly size: bigint;
  /** HVA of a GPA; undefined where no stretch has it. */
  addressOf(gpa: U64): bigint | undefined;
  /** Token for `Reservation.fromToken` in another thread of this process, while this handle is open: 64 random bits. */
  readonly token: bigint;
  /** Facts of the last access beside its result: FACT_LOW, FACT_HIGH, FACT_GPA. The same array each time. */
  readonly facts: Float64Array;

  /** Pages of a range that are neither in memory nor in that of their files: GPA and length of each stretch, one after
   *  the other. Where the first is not, all of them count as it does. None where the range is not all in one stretch of
   *  the VA space. */
  absentIn(gpa: number, length: number): Float64Array;
  /** Fills `into`: 0, or the fault; the bytes before its GPA are copied. */
  read(gpa: number, into: Uint8Array): number;
  /** Writes `from`: 0, or the fault; the bytes before its GPA are written. */
  write(gpa: number, from: Uint8Array): number;
  /** Reads a number: its low 32 bits, or the fault. All 64 are in `facts`. */
  load(gpa: number, width: Width): number;
  /** Writes a number: 0, or the fault. */
  store(gpa: number, width: Width, low: number, high: number): number;
  /** Stores a number where another one is, aligned: 1 done, 0 something else was there, or the fault. What was there is
   *  in `facts`. */
  compareExchange(
    gpa: number,
    width: Width,
    expectedLow: number,
    expectedHigh: number,
    low: number,
    high: number,
  ): number;

  /** Locks a range of one stretch; `holder` is by default the one before. The number of the lock, or the fault:
   *  'changing' while a change is made or waited for. FACT_LOW: whether it may have a view. Ends with this handle. */
  lock(gpa: number, length: number, isWrite: boolean, holder?: string): number;
  /** Ends a lock; nothing where it has ended. */
  unlock(lock: number): void;

  /** Makes the page tables of what the range shows, in the background, so that its first touches cost nothing. Rejects
   *  where there is nothing to show: what comes before is done. */
  fill(gpa: U64, length: U64): Promise<void>;
  /** Gives the private memory shown in ranges, GPA and length of each one after the other, back to the machine: it
   *  reads as zeroes, or as its file, from now on. Whole pages. Returns the bytes freed. */
  discardPrivate(...ranges: readonly U64[]): bigint;
  /** Does as `discardPrivate`, of one object, and frees what is large in the background. */
  discardPrivateLater(object: MemoryObject, ...ranges: readonly U64[]): Promise<bigint>;
  /** Two words for each window that this handle opens: see shim/host/windows.h. A new array each time. */
  readonly windowGates: ArrayBuffer;
  /** Opens a window around a byte, in a part of its stretch of `longest` bytes. Undefined where that cannot be, or not
   *  now. */
  openWindow(gpa: U64, isWrite: boolean, longest: U64): OpenedWindow | undefined;
  /** Two words, to be written and read with Atomics: GATE_SHUT, GATE_USERS. A new array each time; it outlives the
   *  handle. */
  readonly gate: ArrayBuffer;
  /** Keeps a lock of this handle for its thread, as a view is to be made of it. Whether it is held. When it is asked
   *  for, `asked` is called in this thread; the first one that is given, for all locks. */
  showLock(id: number, asked: () => void): boolean;
  /** Whether a lock that has a view is asked for. */
  isAskedFor(id: number): boolean;
  /** The memory itself, up to 4 GiB of one stretch, as long as nobody detaches it. The caller sees to it that all of
   *  the range is mapped, readable and writable until detachView: touching what is not there ends the process.
   *  `isLasting`: its addresses go to nobody else before it is collected; else (default) it must not be transferred. */
  view(gpa: U64, length: U64, isLasting?: boolean): ArrayBuffer;
  /** Detaches a view: nobody reaches the memory through it any more. ERR_DETACHED when it is detached already: unless
   *  detachView did that, it was transferred, and its memory can be reached through another buffer. `current`: the
   *  buffer that moveView has moved it to. */
  detachView(view: ArrayBuffer, current?: ArrayBuffer): void;
  /** Moves a view of the first stretch to a new buffer, and detaches the one before; ERR_DETACHED as for detachView.
   *  `isLasting` and the ban on transferring are not the new one's. Not where V8 counts views. */
  moveView(view: ArrayBuffer): ArrayBuffer;
}

/** Window of a handle, whole pages from `start` to before `end`. */
interface OpenedWindow {
  /** Number of its pair of words: whether it is in use, and whether it is open. */
  readonly number: number;
  readonly start: number;
  readonly end: number;
  readonly isWritable: boolean;
  /** Part of the stretch that it is in, [partStart, partEnd). */
  readonly partStart: number;
  readonly partEnd: number;
}

export const FACT_LOW = 0;
export const FACT_HIGH = 1;
export const FACT_GPA = 2;

/** Not 0 while ranges change that nobody has barred: native code takes no lock. Write it before you read GATE_USERS. */
export const GATE_SHUT = 0;
/** Number of those who have opened the VA space in native code, and of their locks. */
export const GATE_USERS = 1;

/** A mappable object. */
export interface MemoryObject extends Handle {
  readonly kind: ObjectKind;
  readonly size: bigint;
  readonly writable: boolean;
  /** Bytes: mappings begin, end and point to multiples of it. */
  readonly granularity: number;
  /** Descriptor, open as long as this handle or a table holds the object. Private: undefined. */
  readonly fd: number | undefined;
  /** Memory or disk space in use. Private: undefined. */
  readonly allocatedBytes: bigint | undefined;
  /** Whether the file behind it can become shorter, so that memory that was there is gone; or one that a pager has yet
   *  to read. */
  readonly isShrinkable: boolean;

  // Ranges are inside the object, and whole pages of it, or else EINVAL; several are the offset and the length of each,
  // one after the other. Of private memory, these reach what is at home: shown nowhere.

  /** Says that ranges become zeroes: they are dirty, and a pager drops what it has for them. */
  leave(...ranges: readonly U64[]): void;
  /** Gives memory back to the machine: it reads as zeroes from now on (the copy of a file: as the file). Returns the
   *  bytes freed. Does what `leave` does. */
  discard(...ranges: readonly U64[]): bigint;
  /** Discards in the background; of shared memory only. */
  discardLater(...ranges: readonly U64[]): Promise<bigint>;
  /** Makes all of the range resident now, in the background; several calls go on at once. Contents stay. EBUSY: a part
   *  of private memory is not at home; ENOMEM, ENOSPC, ENXIO, EIO: there is not enough, of memory or in its file. */
  populate(offset: U64, length: U64): Promise<void>;
  /** Number of the block of a pager that brings its pages; else undefined. */
  readonly block: number | undefined;
  /** Brings what a pager has for the range, in the background, and all zeroes between. Errors of reading its files. */
  fetch(offset: U64, length: U64): Promise<void>;
  /** Does as `fetch`, at once. */
  fetchNow(offset: U64, length: U64): void;
  /** Makes what a pager has for the range zeroes, as far as it has not brought it. */
  drop(offset: U64, length: U64): void;
  /** Reason why touching the page at `offset` has failed, in words. */
  whyMissing(offset: U64): string;
  /** Takes pages that become resident from now on from this NUMA node alone. EINVAL: there is no such node. */
  setNumaNode(node: number): void;
  /** Asks for transparent huge pages, wherever it will be shown. True: what is touched from now on gets them. False:
   *  this machine gives them to no such memory when it is touched; populate still tries to. EINVAL: never (hugetlb, the
   *  copy of a file). */
  adviseHugePages(): boolean;
  /** Makes all of it resident, and never swapped, until it is closed. As slow as the memory is large, unless it was
   *  populated before. EBUSY as for populate; ENOMEM, EPERM, EAGAIN: not allowed (RLIMIT_MEMLOCK), or not enough. */
  pin(): void;

  // Bytes, inside the object, wherever they are shown and whatever is allowed there. How many were copied: fewer than
  // asked for where the next is not there.

  read(offset: U64, into: Uint8Array): number;
  /** EACCES: the object is read-only. */
  write(offset: U64, from: Uint8Array): number;

  // Whole pages that hold something: offset and length of each stretch, in order. Asking makes nothing resident.

  /** Data of the object's file, as far as it says where they are: else all of it; or what a pager has not brought from
   *  files. Nothing where there are none. */
  fileData(): BigUint64Array;
  /** Private: the pages that are its own, in memory or swapped out. Of shared memory, none. */
  ownPages(): BigUint64Array;
}

/** Pages that plans have taken out of VA spaces, and objects: until they are freed in the background, or by `close`. */
interface Leavings extends Handle {
  /** Keeps an object, whoever closes it. */
  keep(object: MemoryObject): void;
  /** Closes it, and frees the pages, and objects that nobody else has, in the background: settles when that is done. */
  free(): Promise<void>;
}

/** Bringer of the pages of private memory, when somebody touches them first, by a thread of its own. It goes on as long
 *  as there is such memory. */
export interface Pager extends Handle {
  /** Sets who is told that there is news: pages that are asked of the source, or losses. */
  listen(listener: () => void): void;
  /** Makes this thread's code the source of pages that no file has: milliseconds that it has for one. It must not wait
   *  for them itself: accesses to guest memory are refused as `gone`. */
  beginSource(patience: number): void;
  /** Pages that are asked of the source since this was called last: block and offset of each, one after the other. */
  takeAsked(): Float64Array;
  /** Gives whole pages of a block from `offset` on: those that are not there yet become these. */
  supply(block: number, offset: number, bytes: Uint8Array): void;
  /** Makes whole pages of a block absent, and the source's, whatever is there. Nobody may be using them. */
  expect(block: number, offset: number, length: number): void;
  /** Says that a page will not be given. */
  refuse(block: number, offset: number): void;
  /** Brings ranges of a block that files have, in this order, when nobody waits for anything: offset and length of
   *  each, one after the other. */
  bringAhead(block: number, ranges: Float64Array): void;
  /** Pages that somebody waited for, and that were brought, in order: block and offset of each, one after the other. */
  wanted(): Float64Array;
  /** Pages that could not be brought since this was called last. */
  takeLosses(): readonly { readonly block: number; readonly offset: number; readonly error: SystemError }[];
}

/** An eventfd, with a descriptor of its own. */
export interface EventFd extends Handle {
  readonly fd: number;
  /** Adds to the count. EAGAIN: that would be too large. */
  signal(count: U64): void;
  /** The count since it was last taken, or 0, at once. */
  take(): bigint;
  /** The count, once it is not 0. One wait at a time: ERR_WAITING. close() rejects it with ERR_CLOSED. */
  wait(): Promise<bigint>;
}

/** Handle of what is behind a sink: of a VA space or a view, its reservation; of an attachment and its events, the
 *  virtual machine. */
export type SinkTarget = Reservation | Vm;

/** A stretch of a VA space that shows one object. `access` is ACCESS_*. */
export interface ShownPiece {
  readonly sink: number;
  readonly gpa: U64;
  readonly length: U64;
  readonly object: number;
  readonly offset: U64;
  readonly access: number;
}

/** Carries out plans. */
export interface Executor extends Handle {
  /** Makes `sink` one of a kind, SINK_* of abi.ts: `target` is what is behind it. */
  setSink(sink: number, kind: number, target: SinkTarget): void;
  /** Makes `sink` a VA space (SINK_VA) of another process. */
  setMapper(sink: number, mapper: Mapper): void;
  clearSink(sink: number): void;
  setObject(id: number, object: MemoryObject): void;
  clearObject(id: number): void;
  setEvent(id: number, eventFd: EventFd): void;
  clearEvent(id: number): void;
  /** Carries out `count` records at byte `pointer` of `memory`, in order, until one fails. How many were done. */
  run(memory: ArrayBuffer, pointer: number, count: number): number;
  /** Runs a plan that takes back what was done: as `run`, but also where the process has as many mappings as it may
   *  have. */
  unwind(memory: ArrayBuffer, pointer: number, count: number): number;
  /** Keeps there what plans take out of VA spaces from now on, as far as it is large. */
  setLeavings(leavings: Leavings): void;
  /** Ends that; also once it is closed. */
  clearLeavings(): void;
  /** Waits until other processes have done what was passed on to them. The name of the first that has not, with
   *  `failure`. `isTakingBack`: who does not take back what was done is cut off. */
  confirm(isTakingBack: boolean): string | undefined;
  /** Error of the last `run` or `unwind` that stopped early, or `confirm`. */
  readonly failure: SystemError | undefined;
  /** ANSWER_* of abi.ts: what there is of the command that failed. */
  readonly answer: number;
  /** Bytes of pages that it has moved. */
  readonly moved: bigint;
  /** Gives whole pages of ranges of `memory` (offset, length of each) back to the machine: they become zeroes. */
  giveBack(memory: ArrayBuffer, ...ranges: readonly U64[]): void;
  /** Makes sure that nobody reaches what the record at byte `pointer` has left, which failed. SECURED_* of abi.ts. */
  secure(memory: ArrayBuffer, pointer: number, mayReplace: boolean): number;

  // Dirty pages. While there is a tracker, all VA spaces of the executor are watched for writes.

  /** Begins to track the objects' dirty pages: none is. `shown`: what VA spaces show now. `byFaults`: who writes to a
   *  page first waits until that is noted; else the kernel notes it. The tracker's number. EINVAL, ENOTTY: this kernel
   *  cannot; EPERM, ENOSYS: it does not let this process; EBUSY: there are trackers of the other method. */
  track(shown: readonly ShownPiece[], byFaults: boolean): number;
  /** Pages that are dirty since a tracker was asked for last: triples of object, offset and length, in order.
   *  `isLooking`: as of now; else as far as was found already. */
  collectDirty(tracker: number, isLooking: boolean): Float64Array;
  /** Objects of which not all that is shown can be watched: that counts as written each time. */
  unwatched(): number[];
  /** Ends a tracker. */
  untrack(tracker: number): void;

  /** Takes all memory from the guest that an attachment belongs to, and makes its vCPUs stop for good. */
  shutDown(sink: number): void;
}

export interface Kvm extends Handle {
  readonly fd: number;
  /** KVM_CHECK_EXTENSION: 0 is no, more is yes or how many. See KVM_CAP. */
  checkExtension(capability: number): number;
  /** Entries of CPUID that this machine and KVM can give a guest, as bytes: see ts/sinks/cpuid-entries.ts. */
  readSupportedCpuid(): Uint8Array;
  createVm(): Vm;
  /** A virtual machine that somebody else has made, by its descriptor, which is duplicated. `slotLimit` slots from
   *  `slotBase` on are its own; 0: all. ENOTTY: no virtual machine's descriptor; ERANGE: no such slots. */
  adoptVm(fd: number, slotBase: number, slotLimit: number): Vm;
}

/** Something that has states of KVM, by the names in shim/kvm/state.cc: structs, or lists behind a head, of which the
 *  shim sets the length. Both return what KVM returns. */
export interface StateHolder {
  /** Reads into `bytes`, which is of the state's size; what KVM asks for first stands in it. */
  readState(name: string, bytes: Uint8Array): number;
  writeState(name: string, bytes: Uint8Array): number;
}

/** A virtual machine. close() takes all memory from the guest and makes its vCPUs stop for good. */
export interface Vm extends Handle, StateHolder {
  readonly fd: number;
  /** Memory slots that there can be. */
  readonly slotLimit: number;
  checkExtension(capability: number): number;
  createVcpu(id: number): Vcpu;
  /** Switches quirks of KVM off (KVM_X86_QUIRK_*), of those that `checkExtension(KVM_CAP.DISABLE_QUIRKS2)` says. */
  disableQuirks(quirks: number): void;
  setTssAddress(address: number): void;
  createIrqchip(): void;
  createPit(): void;
  irqLine(gsi: number, level: boolean): void;
  /** Brings all vCPUs out of the guest and returns when they are. Their runs, and those that begin now, go on at
   *  resume() as if nothing had been; a kick ends them. This thread's own runs are refused with EBUSY. Pauses nest. */
  pause(): void;
  /** Takes one pause back. ERR_NOT_PAUSED when there is none. */
  resume(): void;
}

/** A vCPU. One thread at a time runs it or reads its registers: another gets ERR_VCPU_RUNNING. */
export interface Vcpu extends Handle, StateHolder {
  /** Token for `Vcpu.fromToken` in another thread of this process, while any handle is open: 64 random bits. */
  readonly token: bigint;
  readonly fd: number;
  /** Facts of the last exit, at the offsets of `exitLayout`. */
  readonly exchange: ArrayBuffer;
  /** Runs on this thread until an exit, and returns its reason: KVM_EXIT. Only another thread can kick it. When the
   *  thread is to end, by worker.terminate() or with the process, the run does too. */
  run(): number;
  /** Finishes the instruction that the last exit interrupted and does not go on: KVM_EXIT.INTR, or another exit if the
   *  instruction has more to ask or to say. Before that, registers are those of an instruction half done. */
  finish(): number;
  /** Runs as `run` does, on a thread of its own. */
  runAsync(): Promise<number>;
  /** Ends the run that is going on, or else the next, with KVM_EXIT.INTR. May be called from any thread. */
  kick(): void;
  /** Bytes of a state: of a list, those of its head. */
  stateSize(name: string): number;
  /** Writes of all vCPUs of its virtual machine that were kept (SINK_EVENTS), the first one first; any thread may ask.
   *  Each as 24 bytes: u64 GPA, u32 bytes, u32 0, then the bytes. */
  takeWrites(): Uint8Array;
  /** Entries of CPUID as bytes: see ts/sinks/cpuid-entries.ts. */
  readCpuid(): Uint8Array;
  /** Sets what CPUID answers. To be called before the first run. */
  writeCpuid(entries: Uint8Array): void;
}

/** Facts of an exit, which stand in `Vcpu.exchange`. */
export type ExitFact =
  | 'reason'
  | 'isWrite'
  | 'port'
  | 'size'
  | 'count'
  | 'detail'
  | 'isKicked'
  | 'isGpaKnown'
  | 'gpa'
  | 'hardwareReason'
  | 'data';

/** Answers of the machine to features that nothing but a call shows. Errors are errnos as they stand in the kernel's
 *  headers, positive; 0 where the feature is there. */
export interface MachineAnswers {
  readonly userfaultfdError: number;
  /** A userfaultfd gets the faults of this process's own code alone, not those of KVM for a guest. */
  readonly isUserModeOnly: boolean;
  /** UFFD_FEATURE_* bits. */
  readonly userfaultfdFeatures: bigint;
  readonly pagemapScanError: number;
  readonly protectionKeysError: number;
}

/** Pages that were copied: offset and length of each stretch, one after the other; and their CRC-32. */
export interface PagesCopied {
  readonly pages: Float64Array;
  readonly crc32: number;
}

interface Native extends NativeClients {
  readonly abiVersion: number;
  /** Address of the table of functions that membacking.h describes. */
  readonly nativeInterface: bigint;
  /** Whether V8 counts the memory of views that do not last as its own: to make one takes a garbage collection then. */
  readonly countsViews: boolean;
  /** Tries each feature, and gives back what that took. */
  askMachine(): MachineAnswers;
  /** Copies whole pages into a file, in the background: stretches (offset and length of each, upwards) behind an
   *  offset in either. Without a target, they are summed alone. A shared object stands for its file, and is mapped
   *  from then on where nobody can take its pages away: this is faster. Private memory is read where it is, whatever
   *  plans do to it meanwhile, from its beginning on; of a copy of a file, `own` may be stretches outside of which
   *  the file is read. `leavesOut`: without pages that are as in `files`, of which `parts` says what is where, as for
   *  `lazyMemory`, but from the source's beginning on; others are zeroes. ENXIO of pread: a file ends before; EIO: a
   *  part of the memory is not there. */
  copyPages(
    from: number | MemoryObject,
    fromOffset: U64,
    to: number | undefined,
    toOffset: U64 | undefined,
    stretches: Float64Array,
    leavesOut: boolean,
    files?: readonly number[],
    parts?: BigUint64Array,
    own?: Float64Array,
  ): Promise<PagesCopied>;
  /** Byte offsets in `Vcpu.exchange`. */
  readonly exitLayout: Readonly<Record<ExitFact, number>>;
  readonly Reservation: {
    /** Address space without memory. Whole pages. /proc/self/maps shows it as "membacking:va NAME". Stretches behind
     *  `size` come by commands, up to before `reach`. Default: none. */
    create(size: U64, name?: string, reach?: U64): Reservation;
    /** View of a VA space: its memory under limits of their own and another token, of which nothing may be used at
     *  first. Throws for a view of a view. */
    createView(viewed: Reservation): Reservation;
    fromToken(token: bigint): Reservation;
  };
  readonly MemoryObject: {
    /** Anonymous shared memory, sealed against changes of its size. `hugePageSize`: bytes, or 0 for ordinary pages.
     *  `isReserved`: huge pages are taken from the pool now, not when they are touched; default true. */
    memfd(name: string, size: U64, hugePageSize: U64, isReserved?: boolean): MemoryObject;
    /** A file of the caller's: its descriptor is duplicated. EACCES, ENODEV, ENXIO: access mode, kind or size will
     *  not do. `mayGrow`: `size` may be more than the file has now; then isShrinkable is true. `isReserved`: huge pages
     *  are, when they are mapped; default true. */
    fromFd(fd: number, size: U64, writable: boolean, mayGrow?: boolean, isReserved?: boolean): MemoryObject;
    /** Whether fromFd would take the access mode of a descriptor: EACCES. */
    checkAccess(fd: number, writable: boolean): void;
    /** Whether two descriptors are open on the same, by one call of open; false, too, where Linux does not say so. */
    isSameOpenFile(one: number, other: number): boolean;
    /** /proc/self/maps shows it as "membacking:ram NAME". */
    privateMemory(size: U64, name?: string): MemoryObject;
    /** A copy-on-write image of a part of the file, in whole pages, from `fileOffset` on; default 0. EOPNOTSUPP: of
     *  huge pages. */
    privateFile(fd: number, size: U64, fileOffset?: U64): MemoryObject;
    /** Private memory whose pages a pager brings: those that `parts` says (offset, length, index of the file, offset in
     *  it, one after the other, upwards) are in the files, which are duplicated; others are zeroes. */
    lazyMemory(pager: Pager, size: U64, name: string, files: readonly number[], parts: BigUint64Array): MemoryObject;
  };
  readonly Leavings: { create(): Leavings };
  readonly Pager: {
    /** EINVAL: this kernel cannot; EPERM, ENOSYS: it does not let this process. */
    create(): Pager;
  };
  readonly EventFd: {
    /** One whose count is 0. */
    create(): EventFd;
    /** One of the caller's: its descriptor is duplicated. EINVAL: of something else. */
    adopt(fd: number): EventFd;
  };
  readonly Executor: { create(): Executor };
  readonly Kvm: {
    /** ENOENT: no KVM here; EACCES: not for this user; EOPNOTSUPP: another processor than x86-64. */
    open(): Kvm;
    /** One that the caller has open: its descriptor is duplicated. ENOTTY: it is none of KVM's. */
    adopt(fd: number): Kvm;
  };
  readonly Vcpu: { fromToken(token: bigint): Vcpu };
}

let loaded: Native | undefined;

/** The addon: the one that was compiled here, or else the one that the package brings for this machine. Throws an Error
 *  with code NATIVE_MISSING that says what to do. */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

const REMEDY =
  'In a project that has the package, "npx membacking compile" compiles it from the sources in there; in a clone, ' +
  '"npm run build". A bundle needs the folder build/prebuilds of the package beside it.';

function load(): Native {
  const machine = `${process.platform}-${process.arch}-${libc()}`;
  const files = ['membacking.node', `prebuilds/${machine}.node`].map((name) => fileURLToPath(artefact(name)));
  const reasons: string[] = [];
  let cause: unknown;
  for (const file of files.filter((path) => existsSync(path))) {
    try {
      const addon: Native = createRequire(file)(file);
      if (addon.abiVersion === ABI_VERSION) return addon;
      reasons.push(`${file} speaks version ${addon.abiVersion}, this package ${ABI_VERSION}`);
    } catch (error) {
      cause = error;
      reasons.push(`${file} cannot be loaded: ${(error as Error).message}`);
    }
  }
  const reason = reasons.length > 0 ? reasons.join('; ') : `there is none for ${machine} in ${dirname(files[0]!)}`;
  const message = `Memory cannot be mapped and no guest be run without the addon: ${reason}. ${REMEDY}`;
  throw Object.assign(new Error(message, { cause }), { code: 'NATIVE_MISSING' });
}

/** The C library of this process, by the files that it has mapped. musl's loader is the library: its file has the one
 *  name or the other. */
function libc(): 'glibc' | 'musl' {
  try {
    return /\/(ld-musl-[^/]*|libc\.so)$/m.test(readFileSync('/proc/self/maps', 'latin1')) ? 'musl' : 'glibc';
  } catch {
    return 'glibc';
  }
}
