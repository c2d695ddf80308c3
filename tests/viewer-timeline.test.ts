// The viewer's time line: every step again at once, from any other one, and the plans that are looked for.

import test from 'ava';
import { type TraceOperation, TraceReplay } from '../ts/index.ts';
import { DISTURBANCES, Timeline } from '../ts/viewer/timeline.ts';
import { operationsOf } from './support/operations.ts';
import { Random, SEED } from './support/random.ts';

const SEABIOS = 'tests/fixtures/seabios-boot.trace.jsonl.gz';
const BARS = 8;
const WINDOW = 0x1_0000_0000;
const PART = 0x1000;

/** A window that is filled and emptied, and BARs that come and go: long enough for moments to be dropped. */
function history(length: number): TraceOperation[] {
  const random = new Random();
  const flags = { readonly: false, nonvolatile: false, enabled: true };
  const operations: TraceOperation[] = [
    { op: 'region', id: 0, name: 'root', kind: 'container', size: 2 ** 40, ...flags },
    { op: 'region', id: 1, name: 'window', kind: 'device', size: 64 * PART, ...flags },
    { op: 'place', id: 1, parent: 0, offset: WINDOW, priority: 0 },
    ...Array.from({ length: BARS }, (_, bar): TraceOperation[] => [
      { op: 'region', id: 2 + bar, name: `bar ${bar}`, kind: 'mmio', size: PART, ...flags },
      { op: 'place', id: 2 + bar, parent: 0, offset: bar * PART, priority: 0 },
    ]).flat(),
    { op: 'object', id: 0, name: 'file', kind: 'shared', size: 2 ** 30, writable: true, pageSize: 4096 },
    { op: 'space', id: 0, name: 'memory', root: 0, offset: 0 },
    { op: 'va', id: 0, space: 0, size: 2 ** 40 },
  ];
  while (operations.length < length) {
    const offset = random.below(64) * PART;
    const mapping = { op: 'map', region: 1, offset, length: PART, object: 0, writable: true } as const;
    if (random.below(3) > 0) operations.push({ ...mapping, objectOffset: random.below(1000) * PART });
    else operations.push({ op: 'move', id: 2 + random.below(BARS), offset: random.below(1000) * PART });
  }
  return operations;
}

function timelineOf(operations: readonly TraceOperation[], batch = operations.length): Timeline {
  const timeline = new Timeline({ version: 1, policy: 'layered' });
  for (let at = 0; at < operations.length; at += batch) timeline.append(operations.slice(at, at + batch));
  return timeline;
}

/** Text of each step's plan, from a replay that only goes forward. */
function plansOf(operations: readonly TraceOperation[]): (readonly string[] | undefined)[] {
  let plan: readonly string[] | undefined;
  let depth = 0;
  const plans: (readonly string[] | undefined)[] = [undefined];
  const replay = new TraceReplay({
    onPlan: (made) => {
      plan = made.render();
    },
  });
  for (const operation of operations) {
    replay.apply(operation);
    if (operation.op === 'begin') depth++;
    if (operation.op === 'commit') depth--;
    if (depth > 0) continue;
    plans.push(plan);
    plan = undefined;
  }
  return plans;
}

test('each step of a firmware’s boot has its plan, forwards, backwards and from anywhere', async (t) => {
  const operations = await operationsOf(SEABIOS);
  const plans = plansOf(operations);
  for (const batch of [1, 7, operations.length]) {
    const timeline = timelineOf(operations, batch);
    t.is(timeline.length, plans.length - 1);
    t.is(timeline.step, timeline.length);
    const forwards = plans.map((_, step) => step);
    for (const order of [forwards, forwards.toReversed(), new Random().shuffled(forwards)]) {
      for (const step of order) {
        timeline.goTo(step);
        t.deepEqual(timeline.plan?.lines, plans[step], `step ${step}`);
        t.is(timeline.plan?.disturbance, timeline.disturbance(step));
      }
    }
  }
});

test(`long histories are gone back in as they were gone forward in (seed ${SEED})`, (t) => {
  const operations = history(80_000);
  const plans = plansOf(operations);
  const timeline = timelineOf(operations, 9000);
  t.is(timeline.length, operations.length);
  const random = new Random();
  for (let turn = 0; turn < 12; turn++) {
    const from = 1 + random.below(timeline.length - 400);
    const steps = Array.from({ length: 300 }, (_, i) => from + i);
    for (const step of turn % 2 === 0 ? steps.toReversed() : steps) {
      timeline.goTo(step);
      t.deepEqual(timeline.plan?.lines, plans[step]);
    }
  }
});

test('the next and the previous plan of a class, and that touches a GPA', async (t) => {
  const operations = await operationsOf(SEABIOS);
  const timeline = timelineOf(operations);
  const touched = [0xa0000, 0xf0000, 0xfeb00000, 0x7fff_0000];
  const commands = Array.from({ length: timeline.length + 1 }, (_, step) => {
    timeline.goTo(step);
    return timeline.plan?.commands ?? [];
  });
  const touches = (step: number, gpa: number) =>
    commands[step]!.some((each) => each.gpa <= gpa && gpa < Number(each.gpa) + Number(each.length));
  for (let step = 0; step <= timeline.length; step++) {
    timeline.goTo(step);
    const after = Array.from({ length: timeline.length - step }, (_, i) => step + 1 + i);
    const before = Array.from({ length: Math.max(0, step - 1) }, (_, i) => step - 1 - i);
    for (const disturbance of [undefined, ...DISTURBANCES]) {
      const isWanted = (at: number) =>
        timeline.disturbance(at) !== undefined &&
        (disturbance === undefined || timeline.disturbance(at) === disturbance);
      t.is(timeline.findClass(disturbance, 1), after.find(isWanted));
      t.is(timeline.findClass(disturbance, -1), before.find(isWanted));
      for (const gpa of touched) {
        const isFound = (at: number) => isWanted(at) && touches(at, gpa);
        t.is(timeline.findTouching(gpa, disturbance, 1), after.find(isFound));
        t.is(timeline.findTouching(gpa, disturbance, -1), before.find(isFound));
      }
    }
  }
});

test('a history that is refused somewhere is shown up to there', (t) => {
  const operations = history(40);
  const timeline = timelineOf([
    ...operations,
    { op: 'begin' },
    { op: 'move', id: 2, offset: 0 },
    { op: 'remove', id: 99 },
    { op: 'commit' },
    { op: 'move', id: 2, offset: 0 },
  ]);
  t.is(timeline.length, 40);
  t.is(timeline.failure, 'operation 41 is refused: the trace has no region 99, or has closed it');
  timeline.append([{ op: 'move', id: 2, offset: 0 }]);
  t.is(timeline.length, 40);
  timeline.goTo(40);
  t.deepEqual(timeline.plan?.lines, plansOf(operations)[40]);
});

test('a transaction that has not ended is a step when it has', (t) => {
  const timeline = timelineOf(history(30));
  timeline.append([{ op: 'begin' }, { op: 'move', id: 2, offset: 0x5000_0000 }]);
  t.is(timeline.length, 30);
  timeline.append([{ op: 'commit' }]);
  t.is(timeline.length, 31);
  timeline.goTo(31);
  t.is(timeline.operationLines(2).at(-1), '… and 1 more');
});
