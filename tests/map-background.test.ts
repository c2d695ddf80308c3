// Changes that are carried out in the background, in slices: one transaction all the same. The thread has its turns in
// between, in which accesses and leases go on, and other changes wait or are refused.

import { once } from 'node:events';
import { setImmediate as othersTurn, setTimeout as wait } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import type { Executor } from '../ts/apply/runner.ts';
import { artefact } from '../ts/core/artefact.ts';
import type { GuestMemoryManager } from '../ts/guest/manager.ts';
import { SharedMemory, WorkerGuestMemory } from '../ts/index.ts';
import { AT, clientTest, deviceOf } from './support/clients.ts';
import { DeviceProcess } from './support/device-process.ts';
import { LoggingPartition, Machine, refusal, refusalOf, wordAt } from './support/map-state.ts';
import { PAGE } from './support/shim-plan.ts';
import { MIB } from './support/vm.ts';

const PAGES = 256;
/** The first page of the device. */
const FIRST = PAGES / 2;

/** A machine with a device that shows every page of an object, in reverse: as many mappings. No slice has more than 16
 *  commands. */
class Sliced extends Machine {
  readonly device;
  readonly other = SharedMemory.create(FIRST * PAGE, { name: 'other' });
  slices = 0;

  constructor() {
    super({ pages: PAGES, debug: false });
    this.fill();
    for (let page = 0; page < FIRST; page++) this.other.write(page * PAGE, Uint8Array.of(100 + page));
    this.device = this.map.createRegion({ name: 'device', kind: 'device', size: FIRST * PAGE });
    this.map.transaction(() => {
      for (let page = 0; page < FIRST; page++) {
        this.device.map({
          object: this.other,
          offset: page * PAGE,
          objectOffset: (FIRST - 1 - page) * PAGE,
          length: PAGE,
        });
      }
    });
    this.context.runner.interpose((executor) => this.#slow(executor));
  }

  /** An executor that takes longer for each call than a slice may take. */
  #slow(executor: Executor): Executor {
    return new Proxy(executor, {
      get: (target, name) => {
        const own = Reflect.get(target, name, target);
        if (typeof own !== 'function') return own;
        return (...given: unknown[]) => {
          if (name === 'execute') this.slices++;
          for (const end = performance.now() + 1.1; name === 'execute' && performance.now() < end; );
          return own.apply(target, given);
        };
      },
    });
  }

  /** Places the device, in the background. */
  place(signal?: AbortSignal): Promise<string> {
    const body = () => {
      this.device.place(this.root, { offset: FIRST * PAGE });
      return 'placed';
    };
    return this.map.transactionAsync(body, signal && { signal });
  }

  /** Number of pages of the device that are seen. */
  seen(): number {
    return this.contents()
      .slice(FIRST)
      .filter((word) => typeof word === 'number').length;
  }

  override end(t: Parameters<Machine['end']>[0]): void {
    this.other.close();
    super.end(t);
  }
}

/** The code of what `body` throws. */
const codeOf = (body: () => unknown) => refusal(body).split(':')[0];

test.serial(
  'a change in the background is one transaction, in slices between which the thread does other things',
  async (t) => {
    const machine = new Sliced();
    const seen: number[] = [];
    const placing = machine.place();
    t.is(machine.seen(), 0, 'planned, and nothing done yet');
    let isDone = false;
    const watching = (async () => {
      for (; !isDone; await othersTurn()) seen.push(machine.seen());
    })();
    t.is(await placing, 'placed');
    isDone = true;
    await watching;
    t.is(machine.slices, FIRST / 16);
    t.true(new Set(seen).size >= FIRST / 16, `${seen}`);
    t.deepEqual(
      machine.contents().slice(FIRST),
      Array.from({ length: FIRST }, (_, page) => 100 + (FIRST - 1 - page)),
    );
    t.deepEqual(machine.replay(), machine.plans, 'its recording is that of any transaction');
    machine.end(t);
  },
);

test.serial('a trace of changes in the background is that of the same changes at once', async (t) => {
  const [sliced, whole] = [new Sliced(), new Sliced()];
  await sliced.place();
  whole.map.transaction(() => whole.device.place(whole.root, { offset: FIRST * PAGE }));
  t.deepEqual(sliced.text, whole.text);
  t.deepEqual(sliced.plans, whole.plans);
  for (const each of [sliced, whole]) each.map.close();
  for (const each of [sliced, whole]) for (const object of [each.other, each.memory]) object.close();
});

test.serial('meanwhile every other change is refused, and nothing of that is left', async (t) => {
  const machine = new Sliced();
  const { map, root, ram, va, space, memory } = machine;
  const attempts: Readonly<Record<string, () => unknown>> = {
    transaction: () => map.transaction(() => {}),
    'an operation': () => ram.unmap(0, PAGE),
    'a new region': () => map.createRegion({ name: 'x', kind: 'ram', size: PAGE }),
    'a new mapping': () => ram.map({ object: memory, length: PAGE }),
    'a new VA space': () => map.attachVaSpace(space),
    'a new partition': () => map.attachPartition(new LoggingPartition(), { space, va }),
    protect: () => va.protect({ gpa: 0, length: PAGE, access: 'r' }),
    plan: () => map.plan(() => ram.unmap(0, PAGE)),
    'closing a region': () => root.close(),
    'closing a VA space': () => va.close(),
    'closing the map': () => map.close(),
  };
  const placing = machine.place();
  const check = () => {
    for (const [what, attempt] of Object.entries(attempts)) t.is(codeOf(attempt), 'PLAN_PENDING', what);
  };
  check();
  while (machine.slices < 2) await othersTurn();
  check();
  await placing;
  t.deepEqual(machine.replay(), machine.plans);
  machine.end(t);
});

test.serial('what waits has its turn afterwards, in order; what was closed by then is refused', async (t) => {
  const machine = new Sliced();
  const { map, ram, device } = machine;
  const order: string[] = [];
  const placing = machine.place();
  const second = map.transactionAsync(() => {
    order.push('second body');
    device.remove();
  });
  const free = map.whenFree(() => {
    order.push('free');
    ram.unmap(0, PAGE);
  });
  t.deepEqual(order, []);
  await Promise.all([placing, second, free]);
  t.deepEqual(order, ['second body', 'free']);
  t.is(machine.seen(), 0);
  t.is(wordAt(machine.va, 0), 'hole');

  const last = machine.place();
  const closing = map.closeAsync();
  const late = map.transactionAsync(() => {});
  t.is(await last, 'placed');
  await closing;
  t.regex(await refusalOf(late), /^CLOSED/);
  t.deepEqual(machine.replay(), machine.plans);
  machine.end(t);
});

test.serial('given up between any two slices, nothing has happened', async (t) => {
  for (let slices = 0; ; slices++) {
    const machine = new Sliced();
    const before = machine.state();
    const giving = new AbortController();
    const work = refusalOf(machine.place(giving.signal));
    while (machine.slices < slices && machine.context.isInTurns) await othersTurn();
    const isPlaced = slices === FIRST / 16;
    giving.abort(new Error('enough'));
    t.is(await work, isPlaced ? 'nothing' : 'ABORTED: the change was given up; nothing was changed', `${slices}`);
    if (!isPlaced) t.deepEqual(machine.state(), before, `after ${slices} slices`);
    t.is(await machine.map.transactionAsync(() => 'goes on'), 'goes on');
    machine.end(t);
    if (isPlaced) return;
  }
});

test.serial('what is given up before it begins does nothing at all, and what is wrong is refused', async (t) => {
  const machine = new Sliced();
  const { map } = machine;
  const before = machine.state();
  const refused: Readonly<Record<string, () => Promise<unknown>>> = {
    'ABORTED: the change was given up': () => machine.place(AbortSignal.abort()),
    'INVALID_ARGUMENT: a transaction needs a function': () => map.transactionAsync(undefined as never),
    'INVALID_ARGUMENT: transactionAsync has no option': () => map.transactionAsync(() => {}, { patience: 1 } as never),
    'INVALID_ARGUMENT: signal must be': () => map.transactionAsync(() => {}, { signal: 1 } as never),
    'INVALID_ARGUMENT: a transaction cannot wait': () => map.transactionAsync((async () => {}) as never),
    'INVALID_ARGUMENT: a transaction in the background is not part of another': () => {
      const inner: Promise<unknown>[] = [];
      map.transaction(() => void inner.push(map.transactionAsync(() => {})));
      return inner[0]!;
    },
  };
  for (const [said, attempt] of Object.entries(refused)) {
    const answer = await refusalOf(attempt());
    t.true(answer.startsWith(said), answer);
  }
  const error = new Error('thrown by the body');
  const thrown = map.transactionAsync(() => {
    machine.device.place(machine.root, { offset: 0 });
    throw error;
  });
  await t.throwsAsync(thrown, { is: error });
  t.deepEqual(machine.state(), before);
  machine.end(t);
});

test.serial('accesses go on beside it, also to what changes; leases behind and before that', async (t) => {
  const machine = new Sliced();
  const { ram, va } = machine;
  const lock = (page: number) => va.memory.lock({ gpa: page * PAGE, length: PAGE }, 'write', { holder: 'disk' });
  const elsewhere = WorkerGuestMemory.fromToken(va.token);
  const [early, foreign] = [lock(1), elsewhere.lock({ gpa: 3 * PAGE, length: PAGE }, 'read', { holder: 'worker' })];
  const placing = machine.place();
  while (machine.slices < 2) await othersTurn();
  va.memory.writeU32(5 * PAGE, 55);
  t.is(va.memory.readU32(5 * PAGE), 55);
  t.is(wordAt(va, FIRST * PAGE), 100 + FIRST - 1, 'done already');
  t.is(wordAt(va, (PAGES - 1) * PAGE), 'hole', 'not done yet');
  const lease = lock(2);
  const other = elsewhere.lock({ gpa: 4 * PAGE, length: PAGE }, 'read', { holder: 'worker' });
  t.is(
    codeOf(() => lock(FIRST)),
    'LEASED',
  );
  t.is(
    codeOf(() => elsewhere.lock({ gpa: FIRST * PAGE, length: 8 }, 'read', { holder: 'worker' })),
    'LEASED',
  );
  await placing;
  t.is(
    codeOf(() => ram.unmap(2 * PAGE, PAGE)),
    'LEASED',
    'a lease that was taken meanwhile holds',
  );
  lock(FIRST).release();
  for (const each of [early, foreign, lease, other]) each.release();
  elsewhere.close();
  ram.unmap(2 * PAGE, PAGE);
  machine.end(t);
});

test.serial('a plan that something leased is in the way of is refused, as any is', async (t) => {
  const machine = new Sliced();
  const lease = machine.va.memory.lock({ gpa: 0, length: PAGE }, 'read', { holder: 'disk' });
  t.regex(await refusalOf(machine.map.transactionAsync(() => machine.ram.remove())), /^LEASED/);
  t.is(machine.slices, 0);
  lease.release();
  machine.end(t);
});

test.serial('vCPUs that must be held are held until it is done, or was taken back', async (t) => {
  for (const isGivenUp of [false, true]) {
    const machine = new Sliced();
    const partition = new LoggingPartition();
    const attachment = machine.attach(partition);
    const giving = new AbortController();
    partition.calls.length = 0;
    const change = () => {
      machine.device.place(machine.root, { offset: FIRST * PAGE });
      machine.ram.setFlags({ readonly: true });
    };
    const work = refusalOf(machine.map.transactionAsync(change, { signal: giving.signal }));
    t.deepEqual(partition.calls, ['pause']);
    while (machine.slices < 2) await othersTurn();
    t.false(partition.calls.includes('resume'));
    t.is(
      codeOf(() => attachment.close()),
      'PLAN_PENDING',
    );
    if (isGivenUp) giving.abort();
    t.is((await work).split(':')[0], isGivenUp ? 'ABORTED' : 'nothing');
    t.is(partition.calls.at(-1), 'resume');
    t.is(partition.calls.filter((call) => call === 'resume').length, 1);
    if (!isGivenUp) t.deepEqual(machine.replay(), machine.plans);
    machine.end(t);
  }
});

test.serial('memory that the core needed for it is not looked for while it lasts', async (t) => {
  const machine = new Sliced();
  const { map, root, memory } = machine;
  const device = map.createRegion({ name: 'wide', kind: 'device', size: 2 ** 40 });
  const placing = map.transactionAsync(() => {
    for (let page = 0; page < 20_000; page++) {
      device.map({ object: memory, offset: 2 * page * PAGE, length: PAGE, objectOffset: (page % PAGES) * PAGE });
    }
    machine.device.place(root, { offset: FIRST * PAGE });
  });
  t.true(machine.context.core.memory.buffer.byteLength > MIB);
  // The thread is away for longer than after which the core's memory is looked at.
  for (; machine.context.isInTurns; await othersTurn()) {
    for (const end = performance.now() + 60; performance.now() < end; );
  }
  await placing;
  await wait(150);
  t.pass('no timer has failed');
  machine.end(t);
});

test.serial('a worker that is ended meanwhile ends, with its map', async (t) => {
  const code = `import(${JSON.stringify(artefact('index.js').href)}).then(({ MemoryMap, SharedMemory }) => {
    const map = new MemoryMap();
    const root = map.createRegion({ name: 'root', kind: 'container', size: 2 ** 40 });
    map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }));
    const object = SharedMemory.create(8192);
    const device = map.createRegion({ name: 'device', kind: 'device', size: 2 ** 30 });
    map.transaction(() => {
      for (let page = 0; page < 20000; page++) device.map({ object, offset: page * 8192, length: 4096 });
    });
    map.transactionAsync(() => device.place(root));
    require('node:worker_threads').parentPort.postMessage('begun');
  });`;
  const worker = new Worker(code, { eval: true });
  await once(worker, 'message');
  t.is(await worker.terminate(), 1);
});

/** Begins a change of many mappings of a device. Returns what settles when it is done. */
function changeManyMappings(manager: GuestMemoryManager): Promise<void> {
  const { region, control } = manager.deviceMapper.newRegion(64 * MIB, 'window');
  const file = SharedMemory.create(2 * PAGE);
  for (let at = 0; at < 64 * MIB; at += 2 * PAGE) region.map(at, file.fd, 0, PAGE, true);
  file.close();
  return manager.map.transactionAsync(() => control.mapToGuest(0x8000_0000));
}

clientTest('clients that come and go meanwhile wait, and lazy ones have what they ask for', async (t, manager) => {
  const lazy = await deviceOf(manager, { lazy: true });
  const ticket = manager.client().share();
  const going = await deviceOf(manager);
  manager.guestMemory.writeU8(AT, 3);
  const changing = changeManyMappings(manager);
  t.throws(() => manager.client().share(), { code: 'PLAN_PENDING' });
  t.throws(() => manager.client().unshare(ticket), { code: 'PLAN_PENDING' });
  const [device, read, end] = await Promise.all([
    DeviceProcess.open(ticket),
    lazy.run(`memory.readU8(${AT})`),
    going.end(),
    changing,
  ]);
  t.deepEqual([read, end], [3, 0]);
  t.is(await device.run(`memory.readU8(${AT})`), 3);
  t.is(await device.run('memory.readU8(0x80000000)'), 0);
  t.deepEqual([await device.end(), await lazy.end()], [0, 0]);
});

clientTest('what frees, copies or watches memory waits for it, or is refused', async (t, manager) => {
  manager.guestMemory.write(AT, new Uint8Array(4 * PAGE).fill(7));
  const tracker = manager.trackDirty();
  manager.addRam({ name: 'more', ranges: [{ gpa: 0x4000_0000, length: MIB }] });
  let isDone = false;
  const changing = changeManyMappings(manager).then(() => {
    isDone = true;
  });
  const discarding = manager.discardAsync({ gpa: AT, length: PAGE }).then(() => isDone);
  const removing = manager.removeRamAsync('more').then(() => isDone);
  manager.guestMemory.writeU8(AT + PAGE, 1);
  t.is(tracker.collect().bytes, PAGE);
  t.throws(() => manager.discard({ gpa: AT, length: PAGE }), { code: 'NOT_DISCARDABLE' });
  t.throws(() => manager.trackDirty(), { code: 'INVALID_ARGUMENT' });
  t.throws(() => manager.close(), { code: 'PLAN_PENDING' });
  await t.throwsAsync(manager.freeze(), { code: 'PLAN_PENDING' });
  t.deepEqual(await Promise.all([discarding, removing]), [true, true]);
  await changing;
  t.is(manager.guestMemory.readU8(AT), 0);
  const template = await manager.freeze();
  template.close();
  tracker.close();
  const last = manager.map.transactionAsync(() => {});
  await manager.closeAsync();
  await last;
});
