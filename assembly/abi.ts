// The one source of every number that crosses a boundary: core <-> ts, core -> shim.
// `ts/` imports this file as it is; the C++ header is generated from it by the build.
// Plain constants only: no types, no functions, no strings.

/** Changes whenever anything below changes meaning; core, shim and ts refuse to meet otherwise. */
export const ABI_VERSION = 11;

// ---- Sizes and capacities ------------------------------------------------------------------

/** Bytes. Memory that is no whole page has no slot: the guest traps there. */
export const PAGE_SIZE = 4096;
export const PAGE_SHIFT = 12;
/** Binary logarithm of the largest page that an object may have, in bytes; that of the smallest is PAGE_SHIFT. */
export const MAX_PAGE_SHIFT = 40;
/** Records of each kind that can be alive at once. */
export const MAX_REGIONS = 1048576;
export const MAX_OBJECTS = 1048576;
export const MAX_SPACES = 4096;
export const MAX_SINKS = 1024;
export const MAX_PARTITIONS = 256;
export const MAX_EVENTS = 65536;
/** Bits of the highest GPA that a VA space shows: more than any guest has. */
export const GPA_BITS = 52;
/** Binary logarithm of the bytes that stretches of a VA space are made of, unless its attachment says another one. */
export const STRETCH_SHIFT = 21;
/** Memory slots one partition may be given at most. */
export const MAX_SLOTS = 65536;
/** Containers and aliases on one path from a root to a byte. */
export const MAX_DEPTH = 64;
/** Regions looked at while one commit is resolved: at most MAX_VISITS, and VISITS_PER_REGION for each region that there
 *  is. A map that needs more is refused, not waited for. */
export const MAX_VISITS = 262144;
export const VISITS_PER_REGION = 32;
/** Transactions that may be open inside each other. */
export const MAX_NESTING = 64;

// ---- Region kinds and flags ----------------------------------------------------------------

// A kind's number says what there is to know of its regions without a table:
//
//    7                 6                  5                   4            3      0
//   +-----------------+------------------+-------------------+------------+--------+
//   | KIND_HAS_TARGET | KIND_IS_READONLY | KIND_HOLDS_MEMORY | KIND_SHOWS | number |
//   +-----------------+------------------+-------------------+------------+--------+

/** Bit of kinds that show something of their own, if only that it traps; without it a region is seen through. */
export const KIND_SHOWS = 0x10;
/** Bit of kinds that are memory, and may have mappings. */
export const KIND_HOLDS_MEMORY = 0x20;
/** Bit of kinds that the guest never writes: a write traps. */
export const KIND_IS_READONLY = 0x40;
/** Bit of kinds that show a part of another region, and hold nothing themselves. */
export const KIND_HAS_TARGET = 0x80;

/** Memory, writable unless flagged. */
export const KIND_RAM = 0x31;
/** Memory that the guest never writes. */
export const KIND_ROM = 0x72;
/** Memory that holds mappings which come and go: a BAR, a DAX window. */
export const KIND_DEVICE = 0x33;
/** No memory: the guest traps there, and a device answers. */
export const KIND_MMIO = 0x14;
/** A container shows nothing of its own: its holes show what is below. */
export const KIND_CONTAINER = 0x05;
/** A view of a part of another region. */
export const KIND_ALIAS = 0x86;

/** Memory is not written through this region. */
export const REGION_READONLY = 1;
/** Contents survive power loss; inherited like READONLY, never changes what is visible. */
export const REGION_NONVOLATILE = 2;
/** The region is invisible, with everything under or behind it. */
export const REGION_DISABLED = 4;
/** Size 0: the region never shows, and its `last` means nothing. */
export const REGION_EMPTY = 8;

// ---- Flat ranges ---------------------------------------------------------------------------

export const FLAT_READONLY = 1;
export const FLAT_NONVOLATILE = 2;

// ---- Mappable objects ----------------------------------------------------------------------

// A kind's number has its traits above the lowest four bits.

/** Bit of kinds whose pages exist only as their mapping: moved between home and one GPA, never copied. */
export const OBJECT_IS_MOVED = 0x10;
/** Bit of kinds whose pages may be larger than PAGE_SIZE. */
export const OBJECT_MAY_BE_LARGE = 0x20;

/** Mapped MAP_SHARED from a file descriptor: may be seen at any number of places. */
export const OBJECT_SHARED = 0x21;
/** Anonymous or copy-on-write. */
export const OBJECT_PRIVATE = 0x12;
/** Pages of a driver, which may take them away at any time; else as OBJECT_SHARED. */
export const OBJECT_DRIVER = 0x03;

/** Object flag: may be mapped writable. */
export const OBJECT_WRITABLE = 1;

export const MAPPING_WRITABLE = 1;

// ---- Events --------------------------------------------------------------------------------

/** Event flag: only a write of one value counts. */
export const EVENT_MATCH = 1;
/** Event flag: a write of any length counts; its own length is 1 then. */
export const EVENT_ANY_LENGTH = 2;
/** Event flag: writes are kept for later, and nothing is signalled; without it, an eventfd is. */
export const EVENT_COALESCED = 4;

// ---- Access --------------------------------------------------------------------------------

export const ACCESS_READ = 1;
export const ACCESS_WRITE = 2;
export const ACCESS_EXECUTE = 4;
export const ACCESS_ALL = 7;
/** Bit that a protection adds to its access: where exactly that cannot be had, the nearest to it will do. */
export const ACCESS_NEAREST = 8;

// ---- Sinks ---------------------------------------------------------------------------------

// Kinds of sinks, in the order of additions; removals run the other way: a kind is given nothing that refers to what a
// kind behind it brings.

/** Host reservations that mirror an address space, stretch by stretch. */
export const SINK_VA = 1;
/** A partition's attachment: memory slots, whose HVAs are a VA space's. */
export const SINK_PARTITION = 2;
/** A view of a VA space, for accesses that have protections of their own. */
export const SINK_VIEW = 3;
/** Events of a partition's attachment: writes of the guest that do not exit. */
export const SINK_EVENTS = 4;
/** Number of kinds. */
export const SINK_KINDS = 4;

// ---- Overlap policies ----------------------------------------------------------------------

export const POLICY_LAYERED = 0;
export const POLICY_NESTED = 1;

// ---- Commands ------------------------------------------------------------------------------
//
//    0         4         8                16               24               32
//   +---------+---------+----------------+----------------+----------------+
//   | op      | sink    | gpa            | length         | offset         |
//   +---------+---------+----------------+----------------+----------------+
//   | of what | access  | slot  | region | offsetInRegion | match          |
//   +---------+---------+-------+--------+----------------+----------------+
//   32        36        40      44       48               56               64
//
// op        what to do
// sink      the attachment it is done to
// gpa       guest-physical address in the sink's own numbering: offset of the attachment included
// length    bytes, never 0; whole pages, but for OP_VA_LIMIT and event commands
// of what   VA commands: `object`, whose bytes they are about; slot commands: `va`, the VA sink whose HVAs are used;
//           event commands: `event`
// offset    byte offset in that object, or of the HVA in that VA space; event commands: the GPA in the address space
// access    ACCESS_* that the result has; OP_VA_LIMIT, OP_VIEW_LIMIT: that may be used there
// slot      slot commands: the number; event commands: EVENT_*
// region    whose memory, or event, this is, with the offset of `gpa` in it (for people and recorders)
// match     event commands with EVENT_MATCH: the value that counts; else 0

export const COMMAND_SIZE = 64;
export const COMMAND_OP = 0;
export const COMMAND_SINK = 4;
export const COMMAND_GPA = 8;
export const COMMAND_LENGTH = 16;
export const COMMAND_OFFSET = 24;
export const COMMAND_OBJECT = 32;
export const COMMAND_VA = 32;
export const COMMAND_EVENT = 32;
export const COMMAND_ACCESS = 36;
export const COMMAND_SLOT = 40;
export const COMMAND_REGION = 44;
export const COMMAND_OFFSET_IN_REGION = 48;
export const COMMAND_MATCH = 56;

/** Fields of the core's record of what is to be executed now, u32 each: the address of the first command, how many at
 *  the end wait until the plan has been adopted, and CLASS_*; the address of the ids of objects that have lost their
 *  last mapping in the transaction, some perhaps to have another one now, and how many ids these are. */
export const PLAN_COMMANDS = 0;
export const PLAN_RELEASES = 4;
export const PLAN_CLASS = 8;
export const PLAN_UNMAPPED = 12;
export const PLAN_UNMAPPED_COUNT = 16;

// An operation's number says what there is to know of it without a table: the kind of sink that it is done to, and how
// it is taken back.
//
//    31        4                  3        1               0
//   +-----------+------------------+--------+---------------+
//   | sink kind | OP_IS_REVERSIBLE | number | OP_IS_REMOVAL |
//   +-----------+------------------+--------+---------------+

export const OP_KIND_SHIFT = 4;
/** Bit of operations that take something away: they stand among a plan's removals. */
export const OP_IS_REMOVAL = 1;
/** Bit of operations whose fields say all that it takes to take them back: the number with the other OP_IS_REMOVAL
 *  does it. */
export const OP_IS_REVERSIBLE = 8;

/** Put pages of an object at a GPA, over whatever is there, in one step. */
export const OP_VA_MAP = 0x10;
/** Give the range back to the reservation: no access. */
export const OP_VA_UNMAP = 0x11;
/** Change the protection of what is there. */
export const OP_VA_PROTECT = 0x12;
/** Let the monitor use only this access of what is there, whatever is mapped; ACCESS_ALL takes the limit away.
 *  Stands among removals where it takes something away, else among additions. */
export const OP_VA_LIMIT = 0x14;
/** Reserve host addresses for a stretch of the VA space. */
export const OP_VA_RESERVE = 0x1a;
/** Give the addresses of a stretch back, of which nobody shows anything any more. Stands at the end of a plan, to be
 *  carried out when that has been adopted: it never fails. */
export const OP_VA_RELEASE = 0x1b;
/** Move private pages from home to the GPA, contents kept. */
export const OP_VA_UNPARK = 0x18;
/** Move private pages home, contents kept; the range becomes reservation. */
export const OP_VA_PARK = 0x19;
/** Give the partition a memory slot. */
export const OP_SLOT_ADD = 0x28;
/** Take the memory slot away; the fields say what it was. */
export const OP_SLOT_DELETE = 0x29;
/** Let accesses through the view have only this access: ACCESS_READ, that and ACCESS_WRITE, or 0, as a new view has
 *  everywhere. Stands among removals where it takes something away, else among additions. */
export const OP_VIEW_LIMIT = 0x30;
/** Let a guest's writes at a GPA signal an eventfd, or be kept for later, and not exit. */
export const OP_EVENT_ADD = 0x48;
/** Let them exit again; the fields say what the event was. */
export const OP_EVENT_REMOVE = 0x49;

// ---- Answers to a command ------------------------------------------------------------------

/** The whole command was done. */
export const ANSWER_DONE = 0;
/** No part of the command was done: what was there is there. */
export const ANSWER_NOT_DONE = 1;
/** A part of the command was done, and what the range shows is no longer sure: all of it must be put back. Parking and
 *  unparking say besides how many bytes, from the range's start on, have moved; the pages behind them are where they
 *  were. */
export const ANSWER_HALF_DONE = 2;

// ---- What the shim makes sure of where a command could not be taken back -------------------------

/** Nobody reaches the range: it has no access in the VA space, and no slot. */
export const SECURED_CLOSED = 0;
/** The VA space could not be closed there: whoever sees it must be shut down. */
export const SECURED_OPEN = 1;
/** The slot could not be taken away, and its partition was shut down. */
export const SECURED_DOWN = 2;

// ---- Disturbance classes -------------------------------------------------------------------

/** Nothing valid before and after was ever absent. */
export const CLASS_NONE = 0;
/** Only bytes that changed were absent. */
export const CLASS_CHANGED = 1;
/** Bytes valid and the same before and after were absent for a moment. */
export const CLASS_UNCHANGED_BYTES = 2;

// ---- Rows that describe the state ----------------------------------------------------------
//
// Every row is the same 64 bytes; exports that describe fill as many as fit in the exchange buffer.
//
//    0         4         8                16               24               32
//   +---------+---------+----------------+----------------+----------------+
//   | id      | flags   | start          | last           | offset         |
//   +---------+---------+----------------+----------------+----------------+
//   | kind    | other   | priority | aux | extent         | 0              |
//   +---------+---------+----------+-----+----------------+----------------+
//
//             id      flags    start..last              offset          kind    other    priority aux
// flat        region  FLAT_*   GPA                      in region       KIND_*           priority
// mapping     object  MAPPING_ offset in region         in object
// piece, part object  ACCESS_  GPA                      in object
// slot        region  ACCESS_  GPA in the address space in region       slot    VA sink
// region      region  REGION_  offset..last in parent   in target       KIND_*  target   priority parent+1
// explain     region  FLAT_*   the region's GPA extent* in region       KIND_*  via      priority depth
// lost        object+1         GPA                      in object
// event       event   EVENT_*  GPA                      in region               region
// stretch             GPA
//
// piece: whole pages. part, event: bytes.
//
// extent: of a region, its last byte counted from its first, also where that lies past the end of every address space;
// of an event, the value that counts.
//
// * as seen at this byte: clipped by every container and alias on the way.

export const ROW_SIZE = 64;
export const ROW_ID = 0;
export const ROW_FLAGS = 4;
export const ROW_START = 8;
export const ROW_LAST = 16;
export const ROW_OFFSET = 24;
export const ROW_KIND = 32;
export const ROW_OTHER = 36;
export const ROW_PRIORITY = 40;
export const ROW_AUX = 44;
export const ROW_EXTENT = 48;
/** Rows that fit in the exchange buffer. */
export const ROW_CAPACITY = 512;

// ---- Messages between a manager and its clients ----------------------------------------------
//
// Each message is this header. A run has, behind it, the objects that the client is to know or to forget, then commands
// (see above) with 0 for a sink; the descriptors of the objects that are to be known come along, in their order.
//
//    0         4         8                16               24               32
//   +---------+---------+----------------+----------------+----------------+
//   | kind    | version | sequence       | start          | length         |
//   +---------+---------+----------------+----------------+----------------+
//   | error   | done    | objects | count| memory         | mapper         |
//   +---------+---------+---------+------+----------------+----------------+
//   32        36        40        44     48               56               64
//
//                from     sequence      start, length            error         else
// hello          client   of the asker                                         version
// welcome        manager  its hello's   VA space: size, reach    errno or 0    memory, mapper; descriptors: runs, locks
// ready          client   of the asker                                         mapper: of another one, to be used
// opened         manager  its ready's                            errno or 0
// ask            client   of the asker  range that is wanted
// answer         manager  its ask's     range that is followed   errno or 0
// end            client   of the asker
// run            manager  1, 2, 3 …                                            objects, count; done: 1 takes back
// done           client   its run's                              errno or 0    done: commands that were carried out
// revoke         manager                start: of a lock

export const MESSAGE_SIZE = 64;
export const MESSAGE_KIND = 0;
export const MESSAGE_VERSION = 4;
export const MESSAGE_SEQUENCE = 8;
export const MESSAGE_START = 16;
export const MESSAGE_LENGTH = 24;
export const MESSAGE_ERROR = 32;
export const MESSAGE_DONE = 36;
export const MESSAGE_OBJECTS = 40;
export const MESSAGE_COUNT = 44;
/** Number of the memory, the same for all clients that see the same; nobody guesses it. */
export const MESSAGE_MEMORY = 48;
/** Number of the client's mapper. */
export const MESSAGE_MAPPER = 56;

export const MESSAGE_HELLO = 1;
export const MESSAGE_WELCOME = 2;
export const MESSAGE_READY = 3;
export const MESSAGE_OPENED = 4;
export const MESSAGE_ASK = 5;
export const MESSAGE_ANSWER = 6;
export const MESSAGE_END = 7;
export const MESSAGE_RUN = 8;
export const MESSAGE_DONE_RUN = 9;
export const MESSAGE_REVOKE = 10;

// An object in a run:
//
//    0         4         8                16
//   +---------+---------+----------------+
//   | id      | flags   | size           |
//   +---------+---------+----------------+

export const SHARED_OBJECT_SIZE = 16;
export const SHARED_OBJECT_ID = 0;
export const SHARED_OBJECT_FLAGS = 4;
export const SHARED_OBJECT_BYTES = 8;
/** Flag of an object whose descriptor comes along; without it, one that is to be forgotten. */
export const SHARED_OBJECT_KNOWN = 1;
/** Flag of an object that may be mapped writable. */
export const SHARED_OBJECT_WRITABLE = 2;
/** Flag of an object whose file may have less than its size. */
export const SHARED_OBJECT_MAY_GROW = 4;
/** Flag of an object whose huge pages are reserved. */
export const SHARED_OBJECT_RESERVED = 8;
/** Objects, and commands, that one run has at most. */
export const MAX_RUN_OBJECTS = 32;
export const MAX_RUN_COMMANDS = 64;

// Locks of a client's process, in memory that it has in common with its manager, zero in the beginning. Each side
// writes its own part before it reads the other's: of a lock and a change that begin together, one sees the other.
//
//    0         4         8         12        16          64
//   +---------+---------+---------+---------+-----------+------------------+---------------------+
//   | shut    | users   | bars    | entries |           | bars, 24 B each  | entries, 96 B each  |
//   +---------+---------+---------+---------+-----------+------------------+---------------------+
//   manager    client    manager   client                manager            client
//
// `bars` and `entries` say how many of the places behind have ever been used. A bar is in force while `up` is not 0; an
// entry is a lock's while its number is not 0.
//
//           0                8                16               24               32
//          +----------------+----------------+----------------+----------------+----------------------+
//   bar    | start          | end            | left    | up   |
//          +----------------+----------------+----------------+----------------+----------------------+
//   entry  | number         | start          | end            | write          | holder, to byte 96   |
//          +----------------+----------------+----------------+----------------+----------------------+

export const LOCKS_HEADER_SIZE = 64;
export const LOCK_BAR_SIZE = 24;
export const LOCK_ENTRY_SIZE = 96;
/** Bytes of UTF-8 of a holder's name that an entry has. */
export const LOCK_HOLDER_SIZE = 64;
export const LOCK_BARS = 1024;
export const LOCK_ENTRIES = 16384;

// ---- Error codes: what a caller can do wrong ------------------------------------------------

export const ERR_NO_MEMORY = -1;
export const ERR_BAD_ID = -2;
export const ERR_BAD_KIND = -3;
export const ERR_BAD_FLAGS = -4;
export const ERR_BAD_RANGE = -5;
export const ERR_UNALIGNED = -6;
export const ERR_CAPACITY = -7;
export const ERR_PLACED = -8;
export const ERR_NOT_PLACED = -9;
export const ERR_IN_USE = -10;
export const ERR_CYCLE = -11;
export const ERR_TOO_COMPLEX = -12;
export const ERR_OVERLAP = -13;
export const ERR_NO_SLOTS = -14;
export const ERR_PAST_LIMIT = -15;
export const ERR_PRIVATE_TWICE = -16;
export const ERR_READONLY_OBJECT = -17;
export const ERR_NO_TRANSACTION = -18;
export const ERR_NESTING = -19;
export const ERR_PLAN_PENDING = -20;
export const ERR_POISONED = -21;
export const ERR_ATTACHMENT_OVERLAP = -22;
export const ERR_SPLIT_PAGE = -23;
export const ERR_TOO_DEEP = -24;
export const ERR_EVENT_TAKEN = -25;
export const ERR_NO_STRETCHES = -26;
