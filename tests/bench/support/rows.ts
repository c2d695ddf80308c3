// Results of a benchmark: rows of the table, points of the curves. Plain data, for JSON.

export interface Bound {
  /** Subject of the bound: our own figure, or the speed compared with the baseline. */
  readonly of: 'ours' | 'speed';
  readonly atMost?: number;
  readonly atLeast?: number;
}

/** Our speed, with the baseline's as 1: over all pairs of measurements. */
export interface Speed {
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
  readonly pairs: number;
}

export type Unit = 'ns' | 'ms' | 'bytes' | 'op/s' | 'count';

export interface Row {
  readonly what: string;
  readonly unit: Unit;
  /** Median. */
  readonly ours: number;
  readonly baseline?: { readonly what: string; readonly value: number };
  readonly speed?: Speed;
  readonly goals: readonly Bound[];
}

/** One point of a curve: a size, and what an operation costs at it. */
export interface Point {
  readonly size: number;
  readonly ns: number;
}

export interface Curve {
  readonly name: string;
  readonly points: readonly Point[];
}

/** A curve of cost over size. */
export interface Plot {
  /** Name of the file. */
  readonly name: string;
  readonly title: string;
  readonly sizeTitle: string;
  readonly curves: readonly Curve[];
}

export interface GroupResult {
  readonly rows: readonly Row[];
  readonly plots: readonly Plot[];
}

/** Whether a row keeps what was aimed at; undefined where nothing was. */
export function isMet({ ours, speed, goals }: Row): boolean | undefined {
  if (goals.length === 0) return undefined;
  return goals.every(({ of, atMost = Number.POSITIVE_INFINITY, atLeast = Number.NEGATIVE_INFINITY }) => {
    const value = of === 'ours' ? ours : (speed?.median ?? Number.NaN);
    return value <= atMost && value >= atLeast;
  });
}
