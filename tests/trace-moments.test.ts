// A replay at a moment: what one address space shows, layer by layer, and coming back to a moment that was saved.

import test from 'ava';
import {
  type Address,
  MembackingError,
  parseTrace,
  type TraceFlatRange,
  type TraceLayer,
  type TraceOperation,
  TraceReplay,
} from '../ts/index.ts';
import { SMALL_TRACE } from './support/cli.ts';
import { operationsOf } from './support/operations.ts';

const TRACES = [
  'build/samples/pc-boot.trace.jsonl',
  'tests/fixtures/seabios-boot.trace.jsonl.gz',
  'tests/fixtures/kernel-boot.trace.jsonl.gz',
];

/** A replay that keeps the bytes of its plans as text. */
function recording(plans: string[]): TraceReplay {
  return new TraceReplay({ onPlan: (plan) => plans.push(Buffer.from(plan.bytes).toString('hex')) });
}

/** Runs the operations; calls `between` where no transaction is open. */
function run(replay: TraceReplay, operations: readonly TraceOperation[], between: (done: number) => void): void {
  let open = 0;
  for (const [index, operation] of operations.entries()) {
    replay.apply(operation);
    if (operation.op === 'begin') open++;
    else if (operation.op === 'commit') open--;
    if (open === 0) between(index + 1);
  }
}

/** Everything that a replay says of itself. */
function facts(replay: TraceReplay): unknown {
  return replay.spaces().map(({ id, name }) => ({
    name,
    flat: replay.flatView(id),
    layers: replay.layers(id),
    mappings: replay.mappings(id),
    slots: replay.slots(id),
  }));
}

for (const file of TRACES) {
  test(`${file}: the first layer at each byte is what the flat view shows`, async (t) => {
    const replay = new TraceReplay();
    let moments = 0;
    run(replay, await operationsOf(file), (done) => {
      if (moments++ % 7 !== 0) return;
      for (const { id } of replay.spaces()) t.deepEqual(flattened(replay, id), flatOf(replay, id), `operation ${done}`);
    });
    t.true(moments > 0);
  });

  test(`${file}: from any saved moment on, everything comes as it came`, async (t) => {
    const operations = await operationsOf(file);
    const plans: string[] = [];
    const replay = recording(plans);
    const moments: { done: number; plans: number; state: ReturnType<TraceReplay['save']>; facts: unknown }[] = [];
    const every = Math.max(1, Math.floor(operations.length / 8));
    run(replay, operations, (done) => {
      if (done >= moments.length * every)
        moments.push({ done, plans: plans.length, state: replay.save(), facts: facts(replay) });
    });
    const end = facts(replay);
    t.true(moments.length > 1);
    for (const isFresh of [true, false]) {
      for (const moment of moments.toReversed()) {
        const again: string[] = [];
        const other = isFresh ? recording(again) : replay;
        plans.length = isFresh ? plans.length : 0;
        other.restore(moment.state);
        t.deepEqual(facts(other), moment.facts);
        for (const operation of operations.slice(moment.done)) other.apply(operation);
        t.deepEqual(facts(other), end);
        if (isFresh) t.deepEqual(again, plans.slice(moment.plans));
      }
    }
  });
}

type Place = [name: string, offset: Address, readonly: boolean];

/** Places that are seen at the first byte of every stretch, from the layers alone. */
function flattened(replay: TraceReplay, space: number): [start: Address, place: Place | undefined][] {
  const layers = replay.layers(space);
  return edges(replay, space).map((gpa) => {
    return [gpa, placeIn(layers, gpa)];
  });
}

function flatOf(replay: TraceReplay, space: number): [start: Address, place: Place | undefined][] {
  const ranges = replay.flatView(space);
  return edges(replay, space).map((gpa) => {
    return [gpa, placeIn(ranges, gpa)];
  });
}

/** Place that the first of these gives a byte. */
function placeIn(ranges: readonly (TraceLayer | TraceFlatRange)[], gpa: Address): Place | undefined {
  const seen = ranges.find((range) => range.gpa <= gpa && BigInt(gpa) < BigInt(range.gpa) + BigInt(range.length));
  return seen && [seen.name, BigInt(seen.offsetInRegion) + BigInt(gpa) - BigInt(seen.gpa), seen.readonly];
}

/** Edges: addresses where anything begins, or has just ended. */
function edges(replay: TraceReplay, space: number): Address[] {
  const all = [...replay.layers(space), ...replay.flatView(space)].flatMap(({ gpa, length }) => [
    BigInt(gpa),
    BigInt(gpa) + BigInt(length),
  ]);
  return [...new Set(all)].filter((gpa) => gpa < 1n << 64n).sort((a, b) => (a < b ? -1 : 1));
}

test('layers, mappings and slots of an address space', (t) => {
  const replay = new TraceReplay();
  for (const operation of parseTrace(SMALL_TRACE).operations) replay.apply(operation);
  t.deepEqual(replay.spaces(), [
    { id: 0, name: 'memory' },
    { id: 1, name: 'dma' },
  ]);
  t.snapshot({ layers: replay.layers(0), mappings: replay.mappings(0), slots: replay.slots(0) });
  t.deepEqual(replay.slots(1), []);
});

test('a moment cannot be kept, nor come back to, inside a transaction', (t) => {
  const replay = new TraceReplay();
  const state = replay.save();
  t.true(state.bytes > 0);
  replay.apply({ op: 'begin' });
  for (const attempt of [() => replay.save(), () => replay.restore(state)]) {
    t.is(t.throws(attempt, { instanceOf: MembackingError })?.code, 'NESTING');
  }
  replay.apply({ op: 'commit' });
  t.throws(() => replay.layers(7), { code: 'BAD_ID' });
});
