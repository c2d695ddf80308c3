// JSON that --json prints: addresses are hexadecimal strings, ends are included.

import {
  type Address,
  formatHex,
  type TraceCommand,
  type TraceFlatRange,
  type TracePlan,
  type TraceReplay,
  type ViewDifference,
} from '../index.ts';

export function differencesJson(differences: readonly ViewDifference<TraceFlatRange>[]): object[] {
  return differences.map(({ name, change, removed, added }) => ({
    ...{ name, change, removed: removed.map(rangeJson), added: added.map(rangeJson) },
  }));
}

export function rangeJson({ gpa, length, name, kind, offsetInRegion, readonly }: TraceFlatRange): object {
  return {
    ...extentJson(gpa, length),
    name,
    kind,
    offsetInRegion: formatHex(offsetInRegion),
    readonly,
  };
}

/** The address spaces of a replay and what each shows, in memory: for maps that are known to be small. */
export function spacesJson(replay: TraceReplay): object[] {
  return replay.spaces().map(({ id, name }) => ({ name, ranges: Array.from(replay.flatRanges(id), rangeJson) }));
}

export function planJson(plan: TracePlan, number: number): object {
  return {
    plan: number,
    disturbance: plan.disturbance,
    commands: planCommandsJson(plan.commands()),
  };
}

export function planCommandsJson(commands: readonly TraceCommand[]): object[] {
  return commands.map(({ op, sink, gpa, length, access, slot, object, objectOffset }) => ({
    ...{ op, sink, ...extentJson(gpa, length), access, slot, object },
    objectOffset: objectOffset === undefined ? undefined : formatHex(objectOffset),
  }));
}

function extentJson(start: Address, length: Address): object {
  return { start: formatHex(start), end: formatHex(BigInt(start) + BigInt(length) - 1n) };
}

/** One line of output. */
export function jsonLine(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
