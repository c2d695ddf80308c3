// `membacking/core`: traces through the core alone, in pages, workers, Deno, Bun and Node.js. Nothing here needs the
// addon, files or a system.

export { type Address, formatHex } from './core/address.ts';
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
export { type CoreSource, loadCore } from './core/module.ts';
export { flatDifference, type ShownRange, type ShownView, type ViewDifference } from './text/difference.ts';
export type { ExplainedEvent, ExplainedMapping, ExplainedRegion, ExplainedSlot, Explanation } from './text/explain.ts';
export { renderExplanation, renderFlatDifference } from './text/render.ts';
export type { TrappingPages } from './text/trapping-pages.ts';
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
export type { TraceLayer } from './trace/layers.ts';
export type { TraceOperation } from './trace/operations.ts';
export { MAX_LINE_BYTES, openTrace, parseTrace, type TraceStream } from './trace/read.ts';
export { type StateJson, stateFromJson } from './trace/state-json.ts';
export { formatHeader, formatOperation, formatTrace } from './trace/write.ts';
