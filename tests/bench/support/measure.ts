// Timing. Ours and the baseline take turns, so that what else the machine does falls on both; the speed of each pair is
// one sample, and their median is the result.

import { setImmediate } from 'node:timers/promises';
import { measure } from 'mitata';
import type { Bound, Row, Speed } from './rows.ts';

/** One side of a comparison. */
export interface Side {
  /** Prepares a turn, and is not timed. */
  prepare?(): void | Promise<void>;
  run(): void | Promise<void>;
}

/** Labels of a row. */
interface Labels {
  readonly what: string;
  readonly baseline: { readonly what: string };
  readonly goals?: readonly Bound[];
  /** Shows the figures as operations a second. */
  readonly isRate?: boolean;
}

interface Comparison extends Labels {
  readonly ours: Side;
  readonly baseline: Side & { readonly what: string };
  /** Operations in each turn of either side: figures are for one of them. */
  readonly operations: number;
  /** Least pairs of turns, for turns that are long. Default 25. */
  readonly leastPairs?: number;
}

/** Milliseconds in which no turn of ours is faster than before, by this part: then it is warm. */
const SETTLED_MS = 150;
const FASTER = 0.95;
const BUDGET_MS = 900;
const MOST_PAIRS = 201;

/** Both in turns, as often as fits into a second. */
export async function compare(comparison: Comparison): Promise<Row> {
  const { ours, baseline, operations, leastPairs = 25 } = comparison;
  const [ourTimes, baseTimes]: [number[], number[]] = [[], []];
  await warmUp(ours, baseline);
  const started = performance.now();
  const isWithinBudget = () => performance.now() - started < BUDGET_MS && ourTimes.length < MOST_PAIRS;
  while (ourTimes.length < leastPairs || isWithinBudget()) {
    const isOursFirst = ourTimes.length % 2 === 0;
    const first = await turn(isOursFirst ? ours : baseline);
    const second = await turn(isOursFirst ? baseline : ours);
    const [our, base] = isOursFirst ? [first, second] : [second, first];
    ourTimes.push((our * 1e6) / operations);
    baseTimes.push((base * 1e6) / operations);
  }
  return rowOf(comparison, ourTimes, baseTimes);
}

/** Both in turns, timed by mitata: for what takes nanoseconds. `operations` in each call. */
export async function compareFast(comparison: Comparison): Promise<Row> {
  const { ours, baseline, operations, leastPairs = 9 } = comparison;
  const nanoseconds = async (side: Side) => {
    const { p50 } = await measure(() => side.run(), {
      min_cpu_time: 10e6,
      min_samples: 20,
      batch_samples: 16,
      gc: false,
    });
    return p50 / operations;
  };
  await warmUp(ours, baseline);
  const [ourTimes, baseTimes]: [number[], number[]] = [[], []];
  for (let pair = 0; pair < leastPairs; pair++) {
    ourTimes.push(await nanoseconds(ours));
    baseTimes.push(await nanoseconds(baseline));
  }
  return rowOf(comparison, ourTimes, baseTimes);
}

/** Runs both until ours is as fast as it gets: the engine compiles again, and better, what runs often. */
async function warmUp(ours: Side, baseline: Side): Promise<void> {
  let fastest = Number.POSITIVE_INFINITY;
  let since = 0;
  do {
    const took = await turn(ours);
    await turn(baseline);
    if (took < fastest * FASTER) since = performance.now();
    fastest = Math.min(fastest, took);
  } while (performance.now() - since < SETTLED_MS);
}

/** Milliseconds. */
async function turn(side: Side): Promise<number> {
  await side.prepare?.();
  const started = performance.now();
  const pending = side.run();
  if (pending !== undefined) await pending;
  return performance.now() - started;
}

/** Nanoseconds for which something that goes on in the background keeps the event loop from turning, at most. */
export async function longestTurn(work: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let isDone = false;
  const working = work().finally(() => {
    isDone = true;
  });
  for (let last = performance.now(); !isDone; ) {
    await setImmediate();
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  }
  await working;
  return longest * 1e6;
}

/** The row of pairs of times, in nanoseconds. */
export function rowOf(labels: Labels, ourTimes: readonly number[], baseTimes: readonly number[]): Row {
  const { what, baseline, isRate = false, goals = [] } = labels;
  const shown = (times: readonly number[]) => (isRate ? 1e9 / median(times) : median(times));
  return {
    ...{ what, unit: isRate ? 'op/s' : 'ns', ours: shown(ourTimes) },
    baseline: { what: baseline.what, value: shown(baseTimes) },
    ...{ speed: speedOf(ourTimes.map((our, pair) => baseTimes[pair]! / our)), goals },
  };
}

function speedOf(speeds: readonly number[]): Speed {
  return { median: median(speeds), p10: quantile(speeds, 0.1), p90: quantile(speeds, 0.9), pairs: speeds.length };
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.round((sorted.length - 1) * part)]!;
}

/** Bound: at most this. */
export function atMost(value: number): Bound {
  return { of: 'ours', atMost: value };
}

export function atLeast(value: number): Bound {
  return { of: 'ours', atLeast: value };
}

/** Bound: at least this part of the baseline's speed. */
export function speedAtLeast(value: number): Bound {
  return { of: 'speed', atLeast: value };
}
