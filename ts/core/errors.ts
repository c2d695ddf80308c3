// The one error class. Codes are API: stable, and never reused for something else.
// Messages are for people and say what to do.

import * as abi from '../../assembly/abi.ts';

/** Mistakes of callers in the core's eyes, as its negative results say them. */
export const CORE_ERRORS = {
  [abi.ERR_NO_MEMORY]: 'NO_MEMORY',
  [abi.ERR_BAD_ID]: 'BAD_ID',
  [abi.ERR_BAD_KIND]: 'BAD_KIND',
  [abi.ERR_BAD_FLAGS]: 'BAD_FLAGS',
  [abi.ERR_BAD_RANGE]: 'BAD_RANGE',
  [abi.ERR_UNALIGNED]: 'UNALIGNED',
  [abi.ERR_CAPACITY]: 'CAPACITY',
  [abi.ERR_PLACED]: 'PLACED',
  [abi.ERR_NOT_PLACED]: 'NOT_PLACED',
  [abi.ERR_IN_USE]: 'IN_USE',
  [abi.ERR_CYCLE]: 'CYCLE',
  [abi.ERR_TOO_COMPLEX]: 'TOO_COMPLEX',
  [abi.ERR_OVERLAP]: 'OVERLAP',
  [abi.ERR_NO_SLOTS]: 'NO_SLOTS',
  [abi.ERR_PAST_LIMIT]: 'PAST_LIMIT',
  [abi.ERR_PRIVATE_TWICE]: 'PRIVATE_TWICE',
  [abi.ERR_READONLY_OBJECT]: 'READONLY_OBJECT',
  [abi.ERR_NO_TRANSACTION]: 'NO_TRANSACTION',
  [abi.ERR_NESTING]: 'NESTING',
  [abi.ERR_PLAN_PENDING]: 'PLAN_PENDING',
  [abi.ERR_POISONED]: 'POISONED',
  [abi.ERR_ATTACHMENT_OVERLAP]: 'ATTACHMENT_OVERLAP',
  [abi.ERR_SPLIT_PAGE]: 'SPLIT_PAGE',
  [abi.ERR_TOO_DEEP]: 'TOO_DEEP',
  [abi.ERR_EVENT_TAKEN]: 'EVENT_TAKEN',
  [abi.ERR_NO_STRETCHES]: 'NO_STRETCHES',
} as const satisfies Record<number, string>;

/** Codes of what the memory map's rules refuse, whatever the machine: nothing has changed then. */
export type CoreErrorCode = (typeof CORE_ERRORS)[keyof typeof CORE_ERRORS];

/** Reasons why guest memory cannot be built. */
export type BuildErrorCode =
  | 'RAM_EMPTY'
  | 'RAM_UNALIGNED'
  | 'RAM_OVERLAP'
  /** Past the highest address. */
  | 'RAM_TOO_LARGE'
  /** RAM is not enough below 1 MiB, and from there on, for legacy x86. */
  | 'RAM_TOO_LOW'
  /** The VTL0 alias map does not lie above all RAM. */
  | 'ALIAS_MAP_MISFIT'
  | 'HUGE_PAGE_SIZE'
  /** Fewer huge pages are free than are needed. */
  | 'HUGE_PAGES_MISSING'
  | 'NUMA_NODE_ABSENT'
  /** The machine has transparent huge pages switched off. */
  | 'HUGE_PAGES_OFF'
  /** An option that means nothing for such a backing. */
  | 'OPTION_MISFIT'
  /** Prefetching takes time: it needs the function that is waited for. */
  | 'NEEDS_ASYNC'
  /** The system does not let this process pin so much. */
  | 'PIN_REFUSED'
  /** Two blocks of RAM with one name. */
  | 'NAME_TAKEN'
  /** A backing that is handed over has no such memory. */
  | 'MISSING_BACKING'
  /** The memory that is handed over is not as large as its RAM. */
  | 'BACKING_SIZE'
  /** The system refused. `cause` is its error. */
  | 'ALLOCATION_FAILED';

/** Codes of errors: stable, to be compared with. Messages are for people and may change. */
export type ErrorCode =
  | CoreErrorCode
  | BuildErrorCode
  /** A partition could not be attached. `cause` says why. */
  | 'ATTACH_FAILED'
  /** RAM has no piece there that can be switched by itself. */
  | 'NOT_CONTROLLABLE'
  /** Memory that cannot be given back now: `details.reason` says why. */
  | 'NOT_DISCARDABLE'
  /** The kernel cannot say which pages were written, or does not let this process ask: `details.code`. */
  | 'NO_DIRTY_TRACKING'
  /** A hypervisor cannot keep the guest from executing what it reads. */
  | 'EXECUTE_CONTROL'
  /** Private RAM, which cannot be handed on, nor be seen by another process. */
  | 'NOT_SHARED'
  /** A snapshot's layout is not as it must be: `details.path` says where. */
  | 'SNAPSHOT_LAYOUT'
  /** A snapshot of a version that this package does not read. */
  | 'SNAPSHOT_VERSION'
  /** A snapshot's memory file is not what its layout says. */
  | 'SNAPSHOT_DAMAGED'
  /** The base of a diff is not the snapshot that it was made from. */
  | 'SNAPSHOT_BASE'
  /** RAM has come or gone while a live snapshot was taken. */
  | 'RAM_CHANGED'
  /** A guest writes too fast to be copied within the time that it may be held. */
  | 'DOWNTIME_EXCEEDED'
  /** A stream has failed at the moment at which a guest that migrates was handed over: it may run at its other end. */
  | 'MIGRATION_UNSURE'
  /** A stream that guest memory goes through has failed. `cause` is its error. */
  | 'STREAM_FAILED'
  /** Memory is in use: `details.leases` says by whom. */
  | 'LEASED'
  /** Waiting for memory in use was given up. `details.leases` says who has it. */
  | 'ABORTED'
  /** Leased memory that JavaScript must not touch directly. */
  | 'NO_VIEW'
  /** The core stopped at a bug of its own. */
  | 'CORE_TRAPPED'
  /** The build of the core that was asked for is not there. */
  | 'CORE_MISSING'
  /** Parts of the package do not belong together. */
  | 'VERSION_MISMATCH'
  /** The change was made, but a partition's `resume` threw after it: its vCPUs may still be held. `cause` says why. */
  | 'RESUME_FAILED'
  /** A partition was resumed more often than paused. */
  | 'NOT_PAUSED'
  /** A vCPU is used by one thread at a time. */
  | 'VCPU_RUNNING'
  /** A command of a plan failed; it was taken back. `cause` is the system's error. With `details.resume`, which a
   *  partition's `resume` threw after it, vCPUs may still be held; as with RANGE_LOST. */
  | 'PLAN_FAILED'
  /** A command of a plan failed, and not all could be put back: what `details.lost` names shows nothing until a repair,
   *  or a later change there, succeeds. All else is as it was. `cause` is the system's error. */
  | 'RANGE_LOST'
  /** A handle is used after it was closed. */
  | 'CLOSED'
  /** An argument or option is not what it must be. */
  | 'INVALID_ARGUMENT'
  /** The system refused. `cause` is its error. */
  | 'SYSTEM'
  /** The addon is missing: this package has none for this machine. */
  | 'NATIVE_MISSING'
  /** Guest memory that is not there, or may not be written. */
  | 'GUEST_ACCESS'
  /** The input is no trace: its first line is not a trace header. */
  | 'TRACE_HEADER'
  /** A trace of a version that this package does not read. */
  | 'TRACE_VERSION'
  /** A line is not one JSON object in UTF-8. */
  | 'TRACE_SYNTAX'
  /** An operation that does not exist, or whose fields are not as the format wants them. */
  | 'TRACE_OPERATION'
  /** A line is longer than the format allows. */
  | 'TRACE_LINE_TOO_LONG'
  /** Compressed input is damaged or ends too early. */
  | 'INPUT_DAMAGED'
  /** The input cannot be read. `cause` is the system's error. */
  | 'INPUT_UNREADABLE'
  /** The input is larger than this kind of input can be. */
  | 'INPUT_TOO_LARGE'
  /** A QEMU map is not as its format wants it. */
  | 'QEMU_MAP'
  /** Several maps are not moments of one machine. */
  | 'QEMU_MAP_MISMATCH'
  /** Flat views of more ranges than are handed out unasked: `details.limit`. */
  | 'VIEW_TOO_LARGE'
  /** A text is no memory map or log that is understood, or breaks off the form that it began with. */
  | 'IMPORT_TEXT';

/** The error that every function of this package throws. Nothing is half done after it; RANGE_LOST names what is
 *  missing. `code` is stable, `message` for people. */
export class MembackingError extends Error {
  /** Name of the class, in stack traces and for who compares names. */
  override readonly name = 'MembackingError';
  /** Code of the error: stable, to be compared with. */
  readonly code: ErrorCode;
  /** Plain values that the message mentions: line numbers, names, addresses. */
  readonly details: Readonly<Record<string, unknown>>;

  /** Makes an error, with what the message mentions in `details` and the system's own error in `cause`. */
  constructor(
    code: ErrorCode,
    message: string,
    { details = {}, cause }: { details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.details = details;
  }
}
