// JSON that --json prints: addresses are hexadecimal strings, ends are included.

import {
  type Address,
  type EventFacts,
  formatHex,
  type TraceCommand,
  type TraceEvent,
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

export function eventJson({ gpa, region, offsetInRegion, ...facts }: TraceEvent): object {
  const extent = extentJson(gpa, facts.length === 0 ? 1 : facts.length);
  return { ...extent, ...eventFactsJson(facts), region, offsetInRegion: formatHex(offsetInRegion) };
}

export function eventFactsJson({ kind, length, match }: EventFacts): object {
  return { kind, length: formatHex(length), ...(match !== undefined && { match: formatHex(match) }) };
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
  return commands.map(({ op, sink, gpa, length, access, slot, object, objectOffset, event }) => ({
    ...{ op, sink, ...extentJson(gpa, length), access, slot, object },
    objectOffset: objectOffset === undefined ? undefined : formatHex(objectOffset),
    event: event && eventFactsJson(event),
  }));
}

function extentJson(start: Address, length: Address): object {
  return { start: formatHex(start), end: formatHex(BigInt(start) + BigInt(length) - 1n) };
}

/** One line of output. */
export function jsonLine(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
