// The package's face: guest memory for virtual machine monitors. Its nouns, for who uses it:
//
// - An address is guest-physical (GPA) or, in this process, host-virtual (HVA). Addresses and lengths are bytes:
//   numbers up to 2^53 - 1, or bigints up to 2^64.
// - A region is a length with a name and a priority, placed at an offset in a container. Where several lie over one
//   another, the strongest is seen. RAM, ROM and device regions hold memory; MMIO traps; an alias shows a part of
//   another region.
// - A memory object is memory to be mapped: shared (a file descriptor), or private (in one place only). A mapping is a
//   part of an object at an offset in a region.
// - An address space is what one observer sees of a tree of regions. Its flat view lists the ranges that are visible.
// - A VA space mirrors an address space in this process, stretch by stretch: HVA = base of the stretch + GPA.
//   `GuestMemory` reads and writes through it.
// - A partition is a virtual machine as a hypervisor knows it. An attachment gives it memory slots for what an address
//   space shows. VA spaces and attachments are sinks: they follow the map.
// - A transaction is a change of the map. Its plan lists the commands that take the sinks from what was seen before to
//   what is seen now: carried out wholly, or taken back. Its disturbance says what a guest may miss meanwhile.
// - A lease is a hold on a range of guest memory. While it lasts, no plan takes the memory away.
// - A trust level (VTL) is a view of the guest's memory with protections of its own.
// - A trace is a recording of operations, which gives the same plans wherever it is replayed.
//
// `MemoryMap` is all of this by hand. `GuestMemoryBuilder` makes the memory of a whole guest on top of it. A change
// throws `MembackingError`, with a stable `code`, or has happened; each method says which codes. Who opens a handle
// closes it.

// ---- Words and errors --------------------------------------------------------------------------

export { type Address, formatHex, type PlainAddress } from './core/address.ts';
export { type BuildErrorCode, type CoreErrorCode, type ErrorCode, MembackingError } from './core/errors.ts';
export type {
  Access,
  Disturbance,
  EventFacts,
  EventKind,
  ObjectKind,
  Policy,
  RegionFlags,
  RegionKind,
} from './core/kinds.ts';

// ---- A live memory map -------------------------------------------------------------------------
// Of what only the package makes there is the type, and no constructor.

export type { GuestMemory, LeaseOptions, LeaseRange, TrappedAccess } from './access/guest-memory.ts';
export type { LeaseFacts, LeaseMode } from './access/held-lease.ts';
export type { Lease } from './access/lease.ts';
export type { LocalGuestMemory } from './access/local-guest-memory.ts';
export type { GuestMemoryTicket, OpenedClient, OpenOptions } from './access/opened-client.ts';
export type { WindowedMemory } from './access/windowed-memory.ts';
export { WorkerGuestMemory } from './access/worker-guest-memory.ts';
export type { AtOnce } from './apply/holding.ts';
export type { LoseOperation, LossOperation, ShutDownOperation } from './apply/losses.ts';
export type { LostMessage, PlanCounters, PlanMessage } from './apply/plan-events.ts';
export type { DataRange } from './asked/data-range.ts';
export type { CoalesceOptions, EventOptions, RegionEvent } from './asked/event.ts';
export { EventFd } from './asked/event-fd.ts';
export {
  type FileCopyOptions,
  type FileMemoryOptions,
  type MemoryObject,
  PrivateMemory,
  SharedMemory,
  type SharedMemoryOptions,
} from './asked/object.ts';
export type { PageLostMessage, PageSource } from './asked/pager.ts';
export type { MapOptions, Mapping, PlaceOptions, Region } from './asked/region.ts';
export type { AddressSpace, FlatRange, SeenEvent, SeenRegion } from './asked/space.ts';
export type { Command as PlanCommand } from './core/core.ts';
export type { Handle } from './core/handle.ts';
export { KVM_CAP, KVM_EXIT, KVM_QUIRK } from './core/kvm-numbers.ts';
export type {
  ClockState,
  DebugRegisters,
  FpuState,
  GsiRoute,
  IoApicState,
  Irqfd,
  MpState,
  Msi,
  Msr,
  PicState,
  PitState,
  Registers,
  Segment,
  SpecialRegisters,
  VcpuEvents,
  Xcr,
} from './core/kvm-state.ts';
export type { Width } from './core/native.ts';
export type { AttachedPartition } from './guest/attached-partition.ts';
export type { RamBacking } from './guest/backing.ts';
export { GuestMemoryBuilder, type GuestMemoryOptions } from './guest/builder.ts';
export type {
  DeviceFileOptions,
  DeviceMapping,
  DeviceMemoryMapper,
  DeviceRegionControl,
  DeviceRegionOptions,
  GuestMappingOptions,
  HolePolicy,
  MappedRegion,
} from './guest/device.ts';
export type { DirtyPages, ObjectRange } from './guest/dirty-pages.ts';
export type { DirtyMethod, DirtyOptions, DirtyTracker } from './guest/dirty-tracker.ts';
export type { DiscardOptions } from './guest/discard.ts';
export { MemoryBuildError, PartitionAttachError } from './guest/errors.ts';
export type { DeviceFile } from './guest/files.ts';
export type { GuestMemoryFacts } from './guest/inspect.ts';
export { type InspectServer, type InspectServerOptions, inspectSocket } from './guest/inspect-server.ts';
export type { GpaRange } from './guest/layout.ts';
export type { LazyPages, LoadOptions } from './guest/lazy-pages.ts';
export type { AddedRam, GuestMemoryManager, RestoredDevice, RestoredGuest } from './guest/manager.ts';
export type { Migration, MigrationOptions } from './guest/migrate.ts';
export type { PrefetchOptions } from './guest/pages.ts';
export type { RamVisibility, RamVisibilityControl, VisibilityChange } from './guest/ram.ts';
export type { RamOptions } from './guest/ram-options.ts';
export { type RecordedEvent, RecordingPartition, type RecordingPartitionOptions } from './guest/recording-partition.ts';
export type { OtherLayout } from './guest/relaid.ts';
export type { RestoreMode, RestoreOptions } from './guest/restore.ts';
export type { LazyOptions } from './guest/restore-lazily.ts';
export { SharedMemoryBacking, type SharedMemoryPart } from './guest/shared-backing.ts';
export type { ShareOptions } from './guest/sharing.ts';
export type { FreezeOptions, SnapshotOptions } from './guest/snapshot.ts';
export type { ForkBuilder, ForkOptions, GuestOptions, Template } from './guest/template.ts';
export { GuestMemoryClient, type Vtl, type VtlAccess, type VtlProtectionOptions } from './guest/vtl.ts';
export type { WritableRam } from './guest/writable-ram.ts';
export {
  type AddressSpaceOptions,
  type AliasOptions,
  type AttachOptions,
  type LostRange,
  MemoryMap,
  type MemoryMapOptions,
  type PlannedChange,
  type RegionOptions,
  type SyncBody,
  type TransactionOptions,
  type VaSpaceOptions,
} from './map/map.ts';
export type { WaitOptions } from './map/when-free.ts';
export type { AttachedEvent, AttachedSlot, Attachment } from './sinks/attachment.ts';
export type { CoalescedWrite } from './sinks/coalesced.ts';
export type { CpuidOptions } from './sinks/cpuid.ts';
export type { CpuidEntry } from './sinks/cpuid-entries.ts';
export { type AdoptOptions, type KvmOptions, KvmPartition, type VcpuOptions } from './sinks/kvm.ts';
export type { MemorySlot, Partition, PartitionEvent, PartitionFacts } from './sinks/partition.ts';
export type { IrqchipState, PartitionState, VcpuState } from './sinks/saved-state.ts';
export type { GpaStretch, ProtectOptions } from './sinks/sink.ts';
export type { VaPiece, VaSpace, VaStretch } from './sinks/va-space.ts';
export { Vcpu } from './sinks/vcpu.ts';
export type { Exit, VcpuExit } from './sinks/vcpu-exit.ts';
export type { PlainState } from './snapshot/caller-state.ts';
export type { SnapshotDevice, SnapshotLayout, SnapshotRam, SnapshotRange } from './snapshot/layout.ts';
export type { PageRange } from './snapshot/page-list.ts';
export {
  compareSnapshots,
  inspectSnapshot,
  mergeSnapshot,
  type SnapshotDamage,
  type SnapshotDifference,
  type SnapshotFacts,
  verifySnapshot,
} from './snapshot/tools.ts';
export type { SnapshotWork } from './snapshot/write.ts';

// ---- This machine ------------------------------------------------------------------------------

export {
  type HugePagePool,
  inspectMachine,
  type KvmFacts,
  type MachineFacts,
  type Used,
  type UserfaultfdFacts,
} from './machine/facts.ts';

// ---- Traces ------------------------------------------------------------------------------------

export {
  MAX_VIEW_RANGES,
  type ReplayState,
  type TraceCommand,
  type TraceEvent,
  type TraceFlatRange,
  type TraceFlatView,
  type TraceMapping,
  type TracePlan,
  TraceReplay,
  type TraceReplayOptions,
  type TraceSlot,
} from './trace/core-replay.ts';
export { parseHex } from './trace/fields.ts';
export type { TraceHeader } from './trace/format.ts';
export { importMaps, importQemuMaps, type MapFile, type MapImport } from './trace/import/maps.ts';
export { type OperationStream, openOperations } from './trace/input.ts';
export type { TraceLayer } from './trace/layers.ts';
export type { TraceOperation } from './trace/operations.ts';
export { MAX_LINE_BYTES, openTrace, parseTrace, type TraceStream } from './trace/read.ts';
export type { TraceOutput } from './trace/recorder.ts';
export { sampleTrace } from './trace/sample.ts';
export { type ReadOptions, readChunks, readText } from './trace/source.ts';
export { formatHeader, formatOperation, formatTrace } from './trace/write.ts';

// ---- Text --------------------------------------------------------------------------------------

export { flatDifference, type ShownRange, type ShownView, type ViewDifference } from './text/difference.ts';
export type { ExplainedEvent, ExplainedMapping, ExplainedRegion, ExplainedSlot, Explanation } from './text/explain.ts';
export { renderExplanation, renderFlatDifference } from './text/render.ts';
export type { TrappingPages } from './text/trapping-pages.ts';
