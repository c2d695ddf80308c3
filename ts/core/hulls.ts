// Hulls of a plan: around all that its commands do to each sink.

import * as abi from '../../assembly/abi.ts';
import type { CommandRange } from './core.ts';

/** Hulls by sink, of commands as the core has them in its memory. */
export function hullsOf(plan: Uint8Array): Map<number, CommandRange> {
  const hulls = new Map<number, { start: number; end: number }>();
  const view = new DataView(plan.buffer, plan.byteOffset, plan.byteLength);
  const u64 = (at: number) => view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
  for (let at = 0; at < view.byteLength; at += abi.COMMAND_SIZE) {
    const sink = view.getUint32(at + abi.COMMAND_SINK, true);
    const start = u64(at + abi.COMMAND_GPA);
    const end = start + u64(at + abi.COMMAND_LENGTH);
    const hull = hulls.get(sink) ?? { start, end };
    hull.start = Math.min(hull.start, start);
    hull.end = Math.max(hull.end, end);
    hulls.set(sink, hull);
  }
  return hulls;
}
