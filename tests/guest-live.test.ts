// Live snapshots: taken while the guest runs and writes everywhere, and of one moment all the same.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import { GuestMemoryBuilder, RecordingPartition, verifySnapshot } from '../ts/index.ts';
import { footprint } from './support/footprint.ts';
import { kvmMissing } from './support/guest.ts';
import { PATIENCE } from './support/patience.ts';
import { makeSwept, RunningGuest, SWEPT_SIZE } from './support/running-guest.ts';
import { tempFolder } from './support/temp-folder.ts';
import { METHODS, trackingTest } from './support/tracking.ts';

const PAGE = 0x1000;
const MIB = 2 ** 20;
const SIZE = SWEPT_SIZE;
const LIBRARY = artefact('index.js').href;

for (const kind of ['shared', 'private'] as const) {
  if (kvmMissing !== undefined) test.skip(`a running guest with ${kind} RAM is snapshotted: ${kvmMissing}`, () => {});
  else {
    trackingTest(
      `a running guest with ${kind} RAM is snapshotted, whole and as a diff, and loses nothing`,
      async (t) => {
        const before = footprint();
        const folder = tempFolder(t);
        const guest = new RunningGuest(makeSwept(kind));
        guest.start();
        const names = ['whole', 'diff', 'diff of it'];
        for (const [i, name] of names.entries()) {
          const base = i === 0 ? {} : { base: join(folder, names[i - 1]!) };
          const options = { ...base, live: true, maxDowntime: 1000, state: guest.state };
          await guest.manager.snapshot(join(folder, name), options);
          t.deepEqual(await verifySnapshot(join(folder, name)), []);
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
        await guest.stop();
        guest.sweep(t, 2);
        guest.close();
        for (const name of names) {
          const { manager, state } = await GuestMemoryBuilder.fromSnapshot(join(folder, name), { mode: 'map' });
          const again = new RunningGuest(manager, state);
          again.sweep(t, 3);
          again.close();
        }
        t.deepEqual(footprint(), before);
      },
    );
  }
}

/** A guest with memory alone, on a partition that writes down what is asked of it from now on. */
function recordedGuest(t: ExecutionContext) {
  const before = footprint();
  const folder = tempFolder(t);
  const manager = makeSwept();
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  partition.events.length = 0;
  return { before, folder, manager, partition };
}

trackingTest('what is written while the copying goes on is in the snapshot, and not in the next diff', async (t) => {
  const { before, folder, manager, partition } = recordedGuest(t);
  for (let page = 0; page < SIZE / PAGE; page += 2) manager.guestMemory.writeU32(page * PAGE, 1);
  let steps = 0;
  const progress = () => {
    steps++;
    if (steps > 12) return;
    // A new page, one that was copied, and one that becomes zeroes again.
    manager.guestMemory.writeU32((2 * steps + 1) * PAGE, steps);
    manager.guestMemory.writeU32(2 * steps * PAGE, 1000 + steps);
    manager.guestMemory.writeU32(4 * MIB + 2 * steps * PAGE, 0);
    manager.discard({ gpa: 8 * MIB + 2 * steps * PAGE, length: PAGE });
  };
  await manager.snapshot(join(folder, 'live'), { live: true, maxDowntime: 1, progress, state: () => 'held' });
  t.deepEqual(
    partition.events.map(({ event }) => event),
    ['pause', 'resume'],
  );
  const seen = Buffer.alloc(SIZE);
  manager.guestMemory.read(0, seen);
  manager.guestMemory.writeU8(0x5000, 0xff);
  const { ram } = await manager.snapshot(join(folder, 'diff'), { base: join(folder, 'live') });
  t.deepEqual(ram[0]!.pages, [{ offset: 0x5000, length: PAGE }]);
  const { manager: restored, state } = await GuestMemoryBuilder.fromSnapshot(join(folder, 'live'));
  t.is(state, 'held');
  const found = Buffer.alloc(SIZE);
  restored.guestMemory.read(0, found);
  t.true(found.equals(seen));
  for (const each of [manager, restored]) each.close();
  t.deepEqual(footprint(), before);
});

trackingTest('a live snapshot that comes to nothing lets the guest go on, and leaves nothing', async (t) => {
  const { before, folder, manager, partition } = recordedGuest(t);
  const live = (more: object) => manager.snapshot(join(folder, 'x'), { live: true, ...more });
  const failing = { state: () => Promise.reject(new Error('no state')) };
  await t.throwsAsync(live(failing), { message: 'no state' });
  await t.throwsAsync(live({ state: () => new Map() }), { code: 'INVALID_ARGUMENT' });
  const added = () => {
    manager.addRam({ name: 'more', ranges: [{ gpa: 2 ** 30, length: PAGE }] });
    return null;
  };
  await t.throwsAsync(live({ state: added }), { code: 'RAM_CHANGED' });
  const busy = () => manager.guestMemory.write(0, Buffer.alloc(4 * MIB, 1));
  busy();
  await t.throwsAsync(live({ maxDowntime: 1, progress: busy }), { code: 'DOWNTIME_EXCEEDED' });
  const controller = new AbortController();
  await t.throwsAsync(live({ signal: controller.signal, progress: () => controller.abort() }), { code: 'ABORTED' });
  const events = partition.events.map(({ event }) => event).filter((event) => event !== ('add' as never));
  t.deepEqual(events.filter((event) => event === 'pause').length, events.filter((event) => event === 'resume').length);
  const gone = live({ progress: () => manager.close() });
  await t.throwsAsync(gone, { code: 'CLOSED' });
  t.false(existsSync(join(folder, 'x')));
  t.deepEqual(footprint(), before);
});

/** A test of which method is chosen: it needs both, and what else `isPossible` is about. */
function choiceTest(title: string, isPossible: boolean, body: (t: ExecutionContext) => void | Promise<void>): void {
  if (isPossible && METHODS.every(({ missing }) => missing === undefined)) trackingTest(title, body);
  else test.skip(`${title}: no choice of methods here`, body);
}

choiceTest('a guest too large to be looked at while it is held is tracked by faults', true, async (t) => {
  const folder = tempFolder(t);
  for (const [maxDowntime, method] of [
    [1, 'faults'],
    [300, 'scan'],
  ] as const) {
    const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 512 * MIB }] }).build();
    manager.guestMemory.write(0, Buffer.alloc(4 * MIB, 7));
    let writes = 0;
    const progress = () => manager.guestMemory.writeU32(17 * PAGE * writes++, 1);
    await manager.snapshot(folder, { live: true, maxDowntime, progress });
    const tracker = manager.trackDirty();
    t.is(tracker.method, method);
    const restored = await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'map' });
    const [now, then] = [manager, restored.manager].map(({ guestMemory }) => {
      const bytes = Buffer.alloc(8 * MIB);
      guestMemory.read(0, bytes);
      return bytes;
    });
    t.true(writes > 0 && now!.equals(then!));
    for (const each of [manager, restored.manager]) each.close();
  }
});

/** Runs a module as nobody, whom the kernel lets watch what this process's own code writes, and no more. */
function runAsNobody(source: string) {
  const args = ['--input-type=module', '-e', `import { GuestMemoryBuilder } from '${LIBRARY}';\n${source}`];
  return spawnSync(process.execPath, args, { encoding: 'utf8', uid: 65_534, timeout: PATIENCE });
}

/** Whether there is a nobody to become, who can read the package. */
const hasNobody = process.geteuid!() === 0 && runAsNobody('').status === 0;

choiceTest('who may not have writes wait has the kernel note them', hasNobody, (t) => {
  const { stdout, stderr } = runAsNobody(`
    import { PassThrough } from 'node:stream';
    const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: ${512 * MIB} }] }).build();
    await manager.snapshot(new PassThrough().resume(), { live: true, maxDowntime: 1 });
    console.log(manager.trackDirty().method);
    manager.close();
  `);
  t.is(stdout, 'scan\n', stderr);
});

test.serial('what is asked of a live snapshot as it must not be is refused', async (t) => {
  const folder = join(tempFolder(t), 'x');
  const manager = makeSwept();
  const asked = (options: object) => t.throwsAsync(manager.snapshot(folder, options), { code: 'INVALID_ARGUMENT' });
  await asked({ live: 1 });
  await asked({ maxDowntime: 10 });
  await asked({ live: true, maxDowntime: 0 });
  await asked({ live: true, maxDowntime: 0.5 });
  manager.close();
});
