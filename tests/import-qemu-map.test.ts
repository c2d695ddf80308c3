// Memory maps of QEMU in JSON, imported.

import test, { type ExecutionContext } from 'ava';
import { MembackingError } from '../ts/core/errors.ts';
import { importMaps } from '../ts/trace/import/maps.ts';
import { parseTrace } from '../ts/trace/read.ts';
import { formatOperation, formatTrace } from '../ts/trace/write.ts';
import { cases, machines, readSlotHistory, slotHistories } from './support/qemu-cases.ts';

interface RegionJson {
  name: string;
  kind: string;
  offset?: string;
  size?: string;
  priority?: number;
  enabled?: boolean;
  readonly?: boolean;
  children?: unknown;
  target?: unknown;
  target_start?: string;
}

interface MapJson {
  name: string;
  spaces?: string[];
  root?: unknown;
  flat?: unknown;
  regions: RegionJson[];
}

/** A map as a file; regions are numbered as they come. */
function file({ name, spaces = ['memory'], root = 0, flat = [], regions }: MapJson): { name: string; text: string } {
  const list = regions.map((region, id) => ({ id, priority: 0, offset: '0x0', size: '0x1000', ...region }));
  const map = { name, address_spaces: spaces, tree: { root, regions: list }, flat };
  return { name: `${name}.json`, text: JSON.stringify(map) };
}

const SYSTEM = { name: 'system', kind: 'container', size: '0x10000000000000000' };
const RAM = { name: 'ram', kind: 'ram', size: '0x10000' };

/** A machine: system, and what stands in it, strongest first. */
function machine(moment: number, ...children: RegionJson[]): { name: string; text: string } {
  const regions = [{ ...SYSTEM, children: children.map((_, i) => i + 1) }, ...children];
  return file({ name: `pc.t0${moment}--memory`, regions });
}

/** Operations that the second of two moments adds to the trace. */
function difference(first: RegionJson[], second: RegionJson[]): string[] {
  const { operations, moments } = importMaps([machine(0, ...first), machine(1, ...second)]);
  return operations.slice((moments[0]?.end as number) + 1, -1).map(formatOperation);
}

function failure(t: ExecutionContext, ...files: { name: string; text: string }[]): string {
  const error = t.throws(() => importMaps(files), { instanceOf: MembackingError });
  return `${error.code}: ${error.message}`;
}

test('one map becomes one transaction', (t) => {
  const map = file({
    name: 'tiny--memory',
    spaces: ['cpu-memory-0', 'memory'],
    flat: [{ start: '0x1fffffff0000', end: '0x1fffffffffff', region: 3, offset_in_region: '0x0' }],
    regions: [
      { ...SYSTEM, children: [1, 2, 4, 5] },
      { name: 'lock', kind: 'alias', priority: 1, enabled: false, readonly: true, target: 2, target_start: '0x800' },
      { name: 'window', kind: 'alias', offset: '0x4000', size: '0x8000', target: 3, target_start: '0x2000' },
      { name: 'ram', kind: 'ram', size: '0x10800' },
      { name: 'uart', kind: 'i/o', offset: '0x9000', size: '0x8' },
      { name: 'tiny', kind: 'rom', size: '0xfff', priority: -1, readonly: true },
    ],
  });
  t.snapshot(importMaps([map]).operations.map(formatOperation));
});

test('several moments become one trace of what changed', (t) => {
  const qxl = machines().find(({ name }) => name === 'x86_64.pc.vga-qxl.boot--cpu-smm-0');
  const { operations, moments } = importMaps((qxl?.cases ?? []).map((each) => each.file));
  t.snapshot(
    moments.map(({ snapshot, end }, i) => [
      snapshot,
      ...(i === 0 ? [`${end} operations`] : operations.slice(moments[i - 1]?.end, end).map(formatOperation)),
    ]),
  );
});

test('a moment in which nothing changed says nothing', (t) => {
  t.deepEqual(difference([RAM], [RAM]), []);
});

test('a region keeps its memory as long as name, kind, size and parent are the same', (t) => {
  const bar = { name: 'bar', kind: 'ram', offset: '0x100000', priority: 1 };
  t.snapshot({
    moved: difference([bar, RAM], [{ ...bar, offset: '0x200000' }, RAM]),
    'another priority': difference([bar, RAM], [{ ...bar, priority: 2 }, RAM]),
    hidden: difference([bar, RAM], [{ ...bar, enabled: false }, RAM]),
    'read-only': difference([bar, RAM], [{ ...bar, readonly: true }, RAM]),
    'another size': difference([bar, RAM], [{ ...bar, size: '0x2000' }, RAM]),
    gone: difference([bar, RAM], [RAM]),
  });
});

test('of regions with one name, those in the same place are the same', (t) => {
  const at = (offset: string) => ({ name: 'bar', kind: 'i/o', offset });
  t.deepEqual(difference([at('0x1000'), at('0x2000'), at('0x3000')], [at('0x3000'), at('0x1000')]), [
    '{"op":"remove","id":2}',
    '{"op":"destroy","id":2}',
  ]);
});

test('containers and aliases may change their size, aliases their window but not their target', (t) => {
  const alias = { name: 'pam', kind: 'alias', priority: 1, target: 2, target_start: '0x0' };
  const rom = { name: 'rom', kind: 'rom', size: '0x10000', priority: -1 };
  t.snapshot({
    window: difference([alias, RAM, rom], [{ ...alias, size: '0x2000', target_start: '0x3000' }, RAM, rom]),
    target: difference([alias, RAM, rom], [{ ...alias, target: 3 }, RAM, rom]),
    container: difference([{ name: 'bus', kind: 'container' }], [{ name: 'bus', kind: 'container', size: '0x0' }]),
  });
});

test('only regions that overlap another one are placed anew when the order changes', (t) => {
  const a = { name: 'a', kind: 'i/o', size: '0x2000' };
  const b = { name: 'b', kind: 'i/o', offset: '0x1000', size: '0x2000' };
  const c = { name: 'c', kind: 'i/o', offset: '0x3000' };
  const d = { name: 'd', kind: 'i/o', offset: '0x1000', size: '0x4000' };
  t.snapshot({
    'a b c to c b a': difference([a, b, c], [c, b, a]),
    'd comes first': difference([a, b, c], [d, a, b, c]),
    'd comes last': difference([a, b, c], [a, b, c, d]),
    'c goes over b': difference([a, b, c], [{ ...c, offset: '0x2000' }, a, b]),
    'b joins the priority of a': difference([{ ...b, priority: 1 }, a, c], [b, a, c]),
  });
});

test('address spaces with other roots have trees of their own; names that come and go open and close', (t) => {
  const regions = [{ ...SYSTEM, children: [1] }, RAM];
  const io = file({ name: 'pc.t00--IO', spaces: ['I/O'], regions: [{ name: 'io', kind: 'container' }] });
  const { operations, moments } = importMaps([
    file({ name: 'pc.t00--memory', regions }),
    io,
    file({ name: 'pc.t01--memory', spaces: ['memory', 'nic', 'nic'], regions }),
    file({ name: 'pc.t02--memory', spaces: ['memory', 'nic'], regions }),
  ]);
  t.is(moments.length, 3);
  t.snapshot(operations.filter(({ op }) => /space|begin|commit/.test(op)).map(formatOperation));
});

test('an alias may show what it stands in', (t) => {
  const regions = [
    { ...SYSTEM, children: [1, 2] },
    { name: 'mirror', kind: 'alias', offset: '0x8000', target: 0, target_start: '0x0' },
    RAM,
  ];
  t.notThrows(() => importMaps([file({ name: 'loop', regions })]));
});

test('depth is no danger', (t) => {
  const deep = 20_000;
  const nested = Array.from({ length: deep }, (_, i) => ({
    ...SYSTEM,
    ...(i + 1 < deep ? { children: [i + 1] } : {}),
  }));
  const chained = Array.from({ length: deep }, (_, i) =>
    i + 1 < deep ? { name: 'a', kind: 'alias', target: i + 1, target_start: '0x0' } : RAM,
  );
  t.notThrows(() => importMaps([file({ name: 'a', regions: nested }), file({ name: 'b', regions: nested })]));
  t.notThrows(() => importMaps([file({ name: 'a', regions: chained }), file({ name: 'b', regions: chained })]));
});

test('a map that is wrong is refused, with the place in it', (t) => {
  const wrong = (regions: RegionJson[], more: Partial<MapJson> = {}) =>
    failure(t, file({ name: 'map', regions, ...more }));
  t.snapshot([
    failure(t, { name: 'map.json', text: '{' }),
    failure(t, { name: 'map.json', text: '[]' }),
    failure(t, { name: 'map.json', text: '{}' }),
    wrong([SYSTEM], { spaces: [] }),
    wrong([SYSTEM], { root: 1 }),
    wrong([SYSTEM], { flat: {} }),
    wrong([SYSTEM], { flat: [{ start: '0x1', end: '0x0', region: 0, offset_in_region: '0x0' }] }),
    wrong([SYSTEM], { flat: [{ start: '0x0', end: '0x0', region: 1, offset_in_region: '0x0' }] }),
    wrong([{ ...SYSTEM, kind: 'bus' }]),
    wrong([{ ...SYSTEM, size: '0x10000000000000001' }]),
    wrong([{ ...SYSTEM, offset: '4096' }]),
    wrong([{ ...SYSTEM, priority: 0.5 }]),
    wrong([{ ...SYSTEM, children: [-1] }]),
    wrong([{ ...SYSTEM, children: [2] }, RAM]),
    wrong([{ ...SYSTEM, children: [1, 1] }, RAM]),
    wrong([{ ...SYSTEM, children: [1, 2] }, { ...RAM, children: [2] }, RAM]),
    wrong([{ ...SYSTEM, children: [0] }]),
    wrong([SYSTEM, { ...RAM, children: [2] }, { ...RAM, children: [1] }]),
    wrong([{ ...SYSTEM, children: [1, 2] }, RAM, { ...RAM, priority: 1 }]),
    wrong([{ ...RAM, kind: 'alias' }]),
    wrong([{ ...RAM, kind: 'alias', target: 1, target_start: '0x0' }]),
    wrong([{ ...RAM, kind: 'alias', target: 0, target_start: '0x0' }]),
    wrong([SYSTEM, { ...RAM, kind: 'alias', target: 0, target_start: '0x0', children: [2] }, RAM]),
  ]);
});

test('maps of different machines are refused', (t) => {
  const at = (name: string, region: RegionJson, spaces?: string[]) =>
    file({ name, regions: [region], ...(spaces ? { spaces } : {}) });
  t.snapshot([
    failure(t, at('a--memory', SYSTEM), at('b--memory', RAM)),
    failure(t, at('a--memory', RAM), at('b--memory', { ...RAM, offset: '0x1000' })),
    failure(t, at('a--memory', RAM, ['cpu', 'memory']), at('b--memory', RAM)),
    failure(t, at('a--x', RAM, ['x']), at('a--y', RAM, ['y']), at('b--x', RAM, ['x', 'y'])),
  ]);
});

test('every recorded map becomes a trace that reads back, its visible regions in it', (t) => {
  let count = 0;
  for (const { file, name } of cases()) {
    const { operations, moments } = importMaps([file]);
    const text = formatTrace({ version: 1, policy: 'layered' }, operations);
    t.is(formatTrace({ version: 1, policy: 'layered' }, parseTrace(text).operations), text);
    const names = new Map(
      operations.map((each) => [each.op === 'region' ? each.id : -1, each.op === 'region' ? each.name : '']),
    );
    const [moment] = moments;
    for (const row of moment?.maps[0]?.views[0]?.flat ?? []) {
      const seen = moment?.maps[0]?.regions[row.region];
      t.is(names.get(moment?.ids[0]?.regions[row.region] as number), seen?.name, name);
    }
    count++;
  }
  t.is(count, 517);
});

test('the difference between moments of a machine is small', (t) => {
  const counts = machines().map(({ cases: moments }) => {
    const ends = importMaps(moments.map((each) => each.file)).moments.map(({ end }) => end);
    return { whole: ends[0] as number, changes: ends.slice(1).map((end, i) => end - (ends[i] as number)) };
  });
  t.is(counts.length, 71);
  const changes = counts.flatMap((each) => each.changes).sort((a, b) => a - b);
  t.true((changes[changes.length >> 1] as number) <= 24);
  t.true((changes.at(-1) as number) <= 104);
});

test('recorded slot operations are runs of deletes and adds', (t) => {
  t.snapshot(
    slotHistories().map(
      ({ name, changes, toggles }) =>
        `${name}: ${changes.length} changes, ${changes.reduce((sum, each) => sum + each.removed.length, 0)} deletes, ` +
        `${changes.reduce((sum, each) => sum + each.added.length, 0)} adds, ${toggles.length} toggles`,
    ),
  );
  for (const { before, after, removed, added } of readSlotHistory('pc-devices').changes) {
    t.is(after.length, before.length - removed.length + added.length);
    for (const slot of removed) t.true(before.includes(slot));
    for (const slot of added) t.true(after.includes(slot));
  }
});
