// What the package offers.

// ---- Words and errors --------------------------------------------------------------------------

export { type Address, formatHex } from './address.ts';
export { type ErrorCode, MembackingError } from './errors.ts';
export type { Access, Disturbance, ObjectKind, Policy, RegionFlags, RegionKind } from './kinds.ts';

// ---- A live memory map -------------------------------------------------------------------------

export { artefact } from './artefact.ts';

// ---- Traces ------------------------------------------------------------------------------------

export {
  type TraceCommand,
  type TraceFlatRange,
  type TraceFlatView,
  type TracePlan,
  TraceReplay,
  type TraceReplayOptions,
} from './trace/core-replay.ts';
export { parseHex, type TraceHeader, type TraceOperation } from './trace/format.ts';
export { type OperationStream, openOperations } from './trace/input.ts';
export { importQemuMaps, type QemuMapFile } from './trace/qemu-map.ts';
export { MAX_LINE_BYTES, openTrace, parseTrace, type TraceStream } from './trace/read.ts';
export { readChunks, readText } from './trace/source.ts';
export { formatHeader, formatOperation, formatTrace } from './trace/write.ts';

// ---- Text --------------------------------------------------------------------------------------

export type { ExplainedMapping, ExplainedRegion, ExplainedSlot, Explanation } from './explain.ts';
export { renderExplanation } from './render.ts';
