// Everything that a caller can do wrong, with what it is told. Nothing has happened afterwards.

import test from 'ava';
import * as abi from '../assembly/abi.ts';
import { Core } from '../ts/core/core.ts';
import { CORE_ERRORS, type CoreErrorCode, MembackingError } from '../ts/core/errors.ts';
import { MACHINE } from './support/scenarios.ts';
import { BUILDS, type Build, World } from './support/world.ts';

function machine(build: Build): World {
  return new World(build, { policy: 'nested' })
    .place(`
      name    kind       size    in      at     priority  shows
      system  container  200000
      ram     ram        10000   system  0
      dax     device     10000   system  40000
      uart    mmio       1000    system  60000
      window  alias      4000    system  80000            ram
      loose   ram        4000
    `)
    .change(`
      space memory root system
      object file 20000
      object locked 10000 readonly
      object secret 4000 private
      map ram 0 10000 file 0
      map dax 0 4000 secret 0
      va va 100000 of memory
      partition vm 4
      attach vtl0 of vm to memory through va end fffff
    `);
}

/** A place that is free for another attachment. */
const AT = { partition: 0, offset: 0x100000, last: 0x1fffff };

type Case = readonly [code: CoreErrorCode, change: string | ((world: World) => void)];

/** A change in words is a transaction of its own; a function is called inside of one. */
const CASES: readonly Case[] = [
  ['BAD_ID', ({ core }) => core.move(999, 0)],
  ['BAD_ID', ({ core }) => core.createSpace(4294967295, 0)],
  ['BAD_ID', ({ core }) => core.createAlias(999, 0, 4096, 0)],
  ['BAD_ID', ({ core }) => core.place(5, 999, 0, 0)],
  ['BAD_ID', ({ core }) => core.map(1, 0, 4096, 999, 0, 0)],
  ['BAD_ID', ({ core }) => core.destroyObject(999)],
  ['BAD_ID', ({ core }) => core.destroySpace(999)],
  ['BAD_ID', ({ core }) => core.destroyPartition(999)],
  ['BAD_ID', ({ core }) => core.detach(999)],
  ['BAD_ID', ({ core }) => core.protect(999, 0, 4095, 7)],
  ['BAD_ID', ({ core }) => core.attach(abi.SINK_VA, 999, { last: 4095 })],
  ['BAD_ID', ({ core }) => core.attach(abi.SINK_PARTITION, 0, { partition: 999, va: 0, last: 4095 })],
  ['BAD_ID', ({ core }) => [core.detach(1), core.detach(1)]],
  ['BAD_ID', ({ core }) => core.createEvent(999, 0, 4, 0, 0)],
  ['BAD_ID', ({ core }) => core.destroyEvent(0)],
  ['BAD_ID', ({ core }) => core.attach(abi.SINK_EVENTS, 0, { last: 4095 })],
  ['BAD_KIND', 'event bell of window at 0 length 4'],
  ['BAD_KIND', 'event bell of system at 0 length 4'],
  ['BAD_KIND', 'events told of va to memory'],
  ['BAD_FLAGS', 'event bell of uart at 0 length 3'],
  ['BAD_FLAGS', 'event bell of uart at 0 length 10'],
  ['BAD_FLAGS', 'event bell of uart at 0 length 1 match 100'],
  ['BAD_FLAGS', 'event bell of uart at 0 length 0 match 1'],
  ['BAD_FLAGS', 'event bell of uart at 0 length 4 match 1 coalesced'],
  ['BAD_FLAGS', ({ core }) => core.createEvent(3, 0, 4, 8, 0)],
  ['BAD_RANGE', 'event bell of uart at ffd length 4'],
  ['BAD_RANGE', 'event bell of uart at 1000 length 0'],
  ['BAD_RANGE', 'event bell of uart at 0 length 0 coalesced'],
  ['BAD_RANGE', 'events told of vtl0 to memory end ffff'],
  ['IN_USE', 'events told of vtl0 to memory end fffff\nevents twice of vtl0 to memory end fffff'],
  ['IN_USE', 'events told of vtl0 to memory end fffff\ndetach vtl0'],
  ['IN_USE', 'mmio new 1000\nevent bell of new at 0 length 4\ndestroy new'],
  ['EVENT_TAKEN', 'event bell of uart at 0 length 4\nevent twice of uart at 0 length 4 match 1'],
  ['EVENT_TAKEN', 'event bell of uart at 0 length 0\nevent twice of uart at 0 length 8'],
  ['EVENT_TAKEN', 'event bell of uart at 4 length 4 match 2\nevent twice of uart at 4 length 4 match 2'],
  ['EVENT_TAKEN', 'event bell of uart at 4 length 4\nevent kept of uart at 0 length 8 coalesced'],
  ['EVENT_TAKEN', 'event kept of uart at 0 length 8 coalesced\nevent kept2 of uart at 7 length 8 coalesced'],
  ['BAD_KIND', ({ core }) => core.createRegion(0, 4096, 0)],
  ['BAD_KIND', ({ core }) => core.createRegion(abi.KIND_ALIAS, 4096, 0)],
  ['BAD_KIND', ({ core }) => core.createObject(4, 0, 4096)],
  ['BAD_KIND', ({ core }) => core.createObject(abi.OBJECT_PRIVATE, 0, 8192, 8192)],
  ['BAD_KIND', 'place loose in window'],
  ['BAD_KIND', 'retarget ram to 1000'],
  ['BAD_KIND', 'map system 0 1000 file 0'],
  ['BAD_KIND', 'map window 0 1000 file 0'],
  ['BAD_KIND', 'unmap uart 0 1000'],
  ['BAD_KIND', ({ core }) => core.attach(abi.SINK_PARTITION, 0, { ...AT, va: 1 })],
  ['BAD_KIND', ({ core }) => core.attach(abi.SINK_VA, 0, { va: 0, last: 4095 })],
  ['BAD_KIND', ({ core }) => core.attach(0, 0, { last: 4095 })],
  ['BAD_KIND', ({ core }) => core.attach(abi.SINK_KINDS + 1, 0, { last: 4095 })],
  ['BAD_FLAGS', ({ core }) => core.createRegion(abi.KIND_RAM, 4096, 128)],
  ['BAD_FLAGS', ({ core }) => core.createAlias(1, 0, 4096, 16)],
  ['BAD_FLAGS', ({ core }) => core.setFlags(1, abi.REGION_EMPTY)],
  ['BAD_FLAGS', ({ core }) => core.setFlags(1, abi.REGION_READONLY, abi.REGION_DISABLED)],
  ['BAD_FLAGS', ({ core }) => core.createObject(abi.OBJECT_SHARED, 2, 4096)],
  ['BAD_FLAGS', ({ core }) => core.map(1, 0, 4096, 0, 0, 2)],
  ['BAD_FLAGS', ({ core }) => core.protect(0, 0, 4095, 16)],
  ['BAD_RANGE', ({ core }) => core.createObject(abi.OBJECT_SHARED, 0, 0)],
  ['BAD_RANGE', ({ core }) => core.createObject(abi.OBJECT_SHARED, 0, 4096, 2048)],
  ['BAD_RANGE', 'map ram f000 2000 file 0'],
  ['BAD_RANGE', 'map ram 0 0 file 0'],
  ['BAD_RANGE', 'map ram 0 2000 file 1f000'],
  ['BAD_RANGE', 'map ram 0 1000 file fffffffffffff000'],
  ['BAD_RANGE', 'unmap ram fffffffffffff000 2000'],
  ['BAD_RANGE', 'protect va 0 0 r'],
  ['BAD_RANGE', 'protect va 0 101000 r'],
  ['BAD_RANGE', ({ core }) => core.createPartition(0)],
  ['BAD_RANGE', ({ core }) => core.createPartition(abi.MAX_SLOTS + 1)],
  ['BAD_RANGE', 'attach vtl1 of vm to memory through va at 200000 end 1fffff'],
  ['UNALIGNED', 'map ram 800 1000 file 0'],
  ['UNALIGNED', 'map ram 0 800 file 0'],
  ['UNALIGNED', 'map ram 0 1000 file 1'],
  ['UNALIGNED', 'unmap ram 0 1001'],
  ['UNALIGNED', 'va late 100800 of memory'],
  ['UNALIGNED', 'attach vtl1 of vm to memory through va at 100800'],
  ['UNALIGNED', 'protect va 800 1000 r'],
  ['UNALIGNED', 'protect va 1000 800 r'],
  ['UNALIGNED', ({ core }) => core.createObject(abi.OBJECT_SHARED, 0, 4096, 8192)],
  ['UNALIGNED', 'object huge 4000 pages 4000\nmap ram 1000 1000 huge 0'],
  ['SPLIT_PAGE', 'object huge 4000 pages 4000\nmap ram 0 3000 huge 0\nmap ram 3000 1000 file 0'],
  ['PLACED', 'place ram in system'],
  ['PLACED', 'destroy dax'],
  ['NOT_PLACED', 'remove loose'],
  ['NOT_PLACED', 'move loose to 1000'],
  ['NOT_PLACED', 'priority loose 1'],
  ['IN_USE', 'remove ram\ndestroy ram'],
  ['IN_USE', 'destroy system'],
  ['IN_USE', 'close-object file'],
  ['IN_USE', 'close-space memory'],
  ['IN_USE', ({ core }) => core.destroyPartition(0)],
  ['IN_USE', 'detach va'],
  ['CYCLE', 'place system in ram'],
  ['OVERLAP', 'place loose in system at e000'],
  ['NO_SLOTS', 'protect vtl0 1000 1000 r\nprotect vtl0 3000 1000 r\nprotect vtl0 5000 1000 r'],
  ['PAST_LIMIT', 'move dax to f8000'],
  [
    'PAST_LIMIT',
    'resize dax to 1000\nunmap dax 0 1000\nmap loose 0 4000 file 0\nplace loose in system at ff000 priority 1\nprotect vtl0 0 100000 none',
  ],
  ['NO_STRETCHES', 'unmap dax 0 10000\nva narrow 10000 of memory stretches 1 unit 1000'],
  ['PRIVATE_TWICE', 'va late 100000 of memory'],
  ['READONLY_OBJECT', 'map ram 0 1000 locked 0'],
  ['NESTING', (world) => Array.from({ length: abi.MAX_NESTING }, () => world.do('begin'))],
  ['ATTACHMENT_OVERLAP', 'attach vtl1 of vm to memory through va at ff000'],
];

/** Shown to be reachable elsewhere: by size (core-memory), by depth and number (core-picture), by state (below). */
const ELSEWHERE: readonly CoreErrorCode[] = [
  'NO_MEMORY',
  'CAPACITY',
  'TOO_COMPLEX',
  'TOO_DEEP',
  'NO_TRANSACTION',
  'PLAN_PENDING',
  'POISONED',
];

test('every code of the core is here or named', (t) => {
  const shown = new Set([...CASES.map(([code]) => code), ...ELSEWHERE]);
  t.deepEqual([...shown].sort(), Object.values(CORE_ERRORS).sort());
});

function failure(attempt: () => void): string {
  try {
    attempt();
    return 'nothing was thrown';
  } catch (error) {
    return error instanceof MembackingError ? `${error.code}: ${error.message}` : String(error);
  }
}

for (const build of BUILDS) {
  test(`a mistake is answered with its code and a sentence, and nothing has happened (${build})`, (t) => {
    const world = machine(build);
    const before = world.describe();
    const said: string[][] = [];
    for (const [code, change] of CASES) {
      const attempt = () => {
        if (typeof change === 'string') return void world.change(change);
        world.do('begin');
        try {
          change(world);
          world.do('commit');
        } finally {
          world.finish();
        }
      };
      const answer = failure(attempt);
      t.true(answer.startsWith(`${code}: `), `${change}\n${answer}`);
      said.push([`${change}`.replace('({ core }) => ', '').replace(/\s+/g, ' '), `    ${answer}`]);
      t.deepEqual(world.describe(), before, String(change));
    }
    t.notThrows(() => world.change('move dax to 50000'), 'and it goes on');
    if (build === 'release') t.snapshot(said.flat());
  });

  test(`a mistake in the middle of a transaction undoes itself alone (${build})`, (t) => {
    const world = machine(build);
    world.do('begin');
    world.do('move dax to 50000');
    t.throws(() => world.do('map ram f000 2000 file 0'), { code: 'BAD_RANGE' });
    t.throws(() => world.do('place system in ram'), { code: 'CYCLE' });
    world.do('move uart to 70000');
    world.do('commit');
    t.deepEqual(
      world.planLines.map((line) => line.split(/ +/).slice(0, 3).join(' ')),
      ['slot-delete vtl0 40000+10000', 'va-park va 40000+4000', 'va-unpark va 50000+4000', 'slot-add vtl0 50000+10000'],
    );
  });

  test(`reads of what is not there are refused, in every way (${build})`, (t) => {
    const { core } = machine(build);
    for (const read of ['flat', 'mappings', 'sinkRows', 'protections', 'region', 'children'] as const) {
      for (const id of [999, 4294967295]) t.throws(() => core[read](id), { code: 'BAD_ID' }, read);
    }
    t.throws(() => core.explain(999, 0), { code: 'BAD_ID' });
  });

  test(`every change needs a transaction, and none is accepted while a plan is out (${build})`, (t) => {
    const { core } = machine(build);
    const changes: Record<string, () => unknown> = {
      createRegion: () => core.createRegion(abi.KIND_RAM, 4096, 0),
      createAlias: () => core.createAlias(1, 0, 4096, 0),
      destroyRegion: () => core.destroyRegion(5),
      place: () => core.place(5, 0, 0x70000, 0),
      remove: () => core.remove(1),
      move: () => core.move(1, 4096),
      resize: () => core.resize(1, 4096),
      setPriority: () => core.setPriority(1, 1),
      setFlags: () => core.setFlags(1, 1),
      retarget: () => core.retarget(4, 4096),
      createSpace: () => core.createSpace(0, 0),
      destroySpace: () => core.destroySpace(0),
      createObject: () => core.createObject(abi.OBJECT_SHARED, 0, 4096),
      destroyObject: () => core.destroyObject(1),
      map: () => core.map(1, 0, 4096, 0, 0, 0),
      unmap: () => core.unmap(1, 0, 4096),
      'attach a VA space': () => core.attach(abi.SINK_VA, 0, { last: 4095 }),
      createPartition: () => core.createPartition(1),
      destroyPartition: () => core.destroyPartition(0),
      'attach a partition': () => core.attach(abi.SINK_PARTITION, 0, { ...AT, va: 0 }),
      detach: () => core.detach(1),
      createEvent: () => core.createEvent(3, 0, 4, 0, 0),
      destroyEvent: () => core.destroyEvent(0),
      protect: () => core.protect(0, 0, 4095, 1),
      commit: () => core.commit(),
      abort: () => core.abort(),
    };
    for (const [name, change] of Object.entries(changes)) t.throws(change, { code: 'NO_TRANSACTION' }, name);
    for (const end of [() => core.adopt(), () => core.unwind(0, abi.ANSWER_NOT_DONE, 0), () => core.unwound()]) {
      t.throws(end, { code: 'NO_TRANSACTION' });
    }
    core.begin();
    core.move(2, 0x50000);
    t.true(core.commit() > 0);
    for (const [name, change] of Object.entries(changes)) t.throws(change, { code: 'PLAN_PENDING' }, name);
    t.throws(() => core.begin(), { code: 'PLAN_PENDING' });
    t.throws(() => core.unwound(), { code: 'PLAN_PENDING' });
    for (const [title, done, answer, moved] of [
      ['so many commands the plan has not', 100, abi.ANSWER_NOT_DONE, 0],
      ['what is done has not failed', 2, abi.ANSWER_DONE, 0],
      ['more has moved than there is', 2, abi.ANSWER_HALF_DONE, 2 ** 32],
    ] as const) {
      t.throws(() => core.unwind(done, answer, moved), { code: 'BAD_RANGE' }, title);
    }
    t.true(core.unwind(2, abi.ANSWER_HALF_DONE, 0) > 0);
    for (const [name, change] of Object.entries(changes)) t.throws(change, { code: 'PLAN_PENDING' }, name);
    core.unwound();
    t.is(core.begin(), 1);
  });
}

for (const build of BUILDS) {
  test(`what is lost is said by transactions that say nothing else, of what there is (${build})`, (t) => {
    const world = new World(build).place(MACHINE.regions).change(MACHINE.memory);
    const { core } = world;
    const [va, vtl0] = [world.id('sink', 'va'), world.id('sink', 'vtl0')];
    const refused = (code: string, ...operations: (() => void)[]) => {
      core.begin();
      for (const operation of operations.slice(0, -1)) operation();
      t.throws(operations.at(-1)!, { code });
      core.abort();
    };
    const lose = (sink: number, start: number, length: number, object?: number) => () =>
      core.lose(sink, start, length, object, 0);
    const page = lose(va, 0, 0x1000);
    refused('PLAN_PENDING', () => core.setPriority(world.id('region', 'rom'), 7), page);
    refused('PLAN_PENDING', page, () => core.setPriority(world.id('region', 'rom'), 7));
    refused('PLAN_PENDING', page, () => core.repair(va, 0, 0x1000));
    refused('UNALIGNED', lose(va, 1, 0x1000));
    refused('BAD_RANGE', lose(va, 2 ** 50, 0x1000));
    refused('BAD_ID', lose(99, 0, 0x1000));
    refused('BAD_ID', lose(va, 0, 0x1000, 99));
    refused('BAD_KIND', lose(vtl0, 0, 0x1000, 0));
    refused('BAD_RANGE', lose(vtl0, 0, 0x1000));
    refused('BAD_KIND', () => core.shutDown(va));
    core.begin();
    core.lose(va, 0, 0x1000, undefined, 0);
    core.lose(va, 0, 0x2000, undefined, 0);
    world.runner.commit();
    t.deepEqual(
      core.lost(va).map(({ start, last }) => [start, last]),
      [[0, 0x1fff]],
    );
    core.verify();
  });
}

test('there can be as many things as abi.ts says, and no more', (t) => {
  const world = new World().change('container system 1000');
  const { core } = world;
  core.begin();
  for (let i = 0; i < abi.MAX_SPACES; i++) core.createSpace(0, 0);
  t.throws(() => core.createSpace(0, 0), { code: 'CAPACITY' });
  for (let i = 0; i < abi.MAX_PARTITIONS; i++) core.createPartition(1);
  t.throws(() => core.createPartition(1), { code: 'CAPACITY' });
  for (let i = 0; i < abi.MAX_SINKS; i++) core.attach(abi.SINK_VA, 0, { last: 4095 });
  t.throws(() => core.attach(abi.SINK_VA, 0, { last: 4095 }), { code: 'CAPACITY' });
  core.abort();
  core.begin();
  t.is(core.createSpace(0, 0), 0);
});

test('after a trap the core is not used again, and every call says so', (t) => {
  const core = new Core();
  core.begin();
  core.createRegion(abi.KIND_RAM, 0x1000, 0);
  new Uint8Array(core.memory.buffer).fill(0xff);
  const refusals = Array.from({ length: 3 }, () => t.throws<MembackingError>(() => core.createRegion(1, 0x1000, 0)));
  for (const refusal of refusals) t.is(refusal?.code, 'CORE_TRAPPED');
  t.true(core.isBroken);
  t.throws(() => core.flat(0), { code: 'CORE_TRAPPED' });
});
