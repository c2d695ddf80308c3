// Snapshots as files: what the command and its functions say of a chain of diffs, and of one that is damaged.

import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  compareSnapshots,
  GuestMemoryBuilder,
  type GuestMemoryManager,
  inspectSnapshot,
  mergeSnapshot,
  verifySnapshot,
} from '../ts/index.ts';
import { lines, membacking } from './support/cli.ts';
import { footprint } from './support/footprint.ts';
import { Random, tries } from './support/random.ts';
import { tempFolder } from './support/temp-folder.ts';

const PAGE = 0x1000;
const MIB = 2 ** 20;

/** Three snapshots in a folder, "a", "b" and "c", each a diff of the one before. */
async function makeChain(folder: string): Promise<void> {
  const manager = new GuestMemoryBuilder({ x86LegacySupport: true, maxAddress: 2 ** 32 - 1 })
    .addRam({ name: 'low', ranges: [{ gpa: 0, length: 2 * MIB }] })
    .addRam({ name: 'high', ranges: [{ gpa: 16 * MIB, length: 4 * PAGE }], backing: 'private' })
    .build();
  manager.deviceMapper.newRegion(2 * PAGE, 'bar').control.mapToGuest(0xe000_0000);
  manager.guestMemory.write(0x1000, Buffer.from('first'));
  manager.guestMemory.write(0x2000, Buffer.from('gone'));
  await manager.snapshot(join(folder, 'a'));
  manager.guestMemory.write(0x2000, Buffer.alloc(4));
  manager.guestMemory.write(16 * MIB, Buffer.from('high'));
  await manager.snapshot(join(folder, 'b'), { base: join(folder, 'a'), state: 'b' });
  manager.removeRam('high');
  manager.addRam({ name: 'dimm', ranges: [{ gpa: 32 * MIB, length: MIB }] });
  manager.guestMemory.write(32 * MIB + PAGE, Buffer.from('new'));
  await manager.snapshot(join(folder, 'c'), { base: join(folder, 'b') });
  manager.close();
}

/** Output of the command in a folder, without ids. */
function said(cwd: string, ...args: string[]): string[] {
  const { code, out, err } = membacking(['snapshot', ...args], { cwd });
  return lines(`${code}\n${out}${err}`.trimEnd().replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'ID'));
}

/** Writes one byte into the memory file of a snapshot. */
function spoil(folder: string, offset: number): void {
  const name = readdirSync(folder).find((each) => each.startsWith('memory-'))!;
  const fd = openSync(join(folder, name), 'r+');
  writeSync(fd, Uint8Array.of(0xff), 0, 1, offset);
  closeSync(fd);
}

test.serial('the command says what is in snapshots, how they differ, and merges them', async (t) => {
  const folder = tempFolder(t);
  await makeChain(folder);
  t.snapshot([
    said(folder, 'info', 'a', 'c'),
    said(folder, 'info', '--json', 'b'),
    said(folder, 'diff', 'a', 'b'),
    said(folder, 'diff', 'b', 'c'),
    said(folder, 'diff', 'b', 'c', '--json'),
    said(folder, 'diff', 'b', 'b'),
    said(folder, 'verify', 'a', 'b', 'c'),
    said(folder, 'merge', 'c', 'whole'),
    said(folder, 'diff', 'c', 'whole'),
    said(folder, 'info', 'nothing'),
  ]);
});

test.serial('a byte that is not as it was written is found, in a base too', async (t) => {
  const folder = tempFolder(t);
  await makeChain(folder);
  spoil(join(folder, 'a'), 0x1000 + 100);
  t.deepEqual(await verifySnapshot(join(folder, 'c')), [{ folder: join(folder, 'a'), ram: 'low' }]);
  t.snapshot([said(folder, 'verify', 'c', 'a'), said(folder, 'verify', '--json', 'c')]);
});

test.serial('what is merged is the same memory, and needs no base', async (t) => {
  const before = footprint();
  const folder = tempFolder(t);
  await makeChain(folder);
  const steps: number[] = [];
  const merged = await mergeSnapshot(join(folder, 'c'), join(folder, 'whole'), { progress: (at) => steps.push(at) });
  t.is(steps.at(-1), 3 * PAGE, 'one of them is zeroes, in a diff');
  for (const each of ['a', 'b', 'c']) rmSync(join(folder, each), { recursive: true });
  t.deepEqual(
    (await inspectSnapshot(join(folder, 'whole'))).map(({ layout }) => layout.id),
    [merged.id],
  );
  const { manager } = await GuestMemoryBuilder.fromSnapshot(join(folder, 'whole'));
  const seen = [0x1000, 0x2000, 32 * MIB + PAGE].map((gpa) => manager.guestMemory.readU32(gpa));
  t.deepEqual(seen, [Buffer.from('firs').readUInt32LE(), 0, Buffer.from('new\0').readUInt32LE()]);
  manager.close();
  t.deepEqual(footprint(), before);
});

test.serial('what is given up, or asked for as it must not be, writes nothing', async (t) => {
  const before = footprint();
  const folder = tempFolder(t);
  await makeChain(folder);
  const [a, c, target] = ['a', 'c', 'target'].map((name) => join(folder, name)) as [string, string, string];
  const signal = AbortSignal.abort();
  await t.throwsAsync(verifySnapshot(c, { signal }), { code: 'ABORTED' });
  await t.throwsAsync(compareSnapshots(a, c, { signal }), { code: 'ABORTED' });
  await t.throwsAsync(mergeSnapshot(c, target, { signal }), { code: 'ABORTED' });
  const controller = new AbortController();
  const giveUp = { signal: controller.signal, progress: () => controller.abort() };
  await t.throwsAsync(mergeSnapshot(c, target, giveUp), { code: 'ABORTED' });
  await t.throwsAsync(mergeSnapshot(c, ''), { code: 'INVALID_ARGUMENT' });
  await t.throwsAsync(verifySnapshot(c, { progress: 1 as never }), { code: 'INVALID_ARGUMENT' });
  await t.throwsAsync(compareSnapshots(1 as never, c), { code: 'INVALID_ARGUMENT' });
  rmSync(a, { recursive: true });
  await t.throwsAsync(inspectSnapshot(c), { code: 'SYSTEM' });
  t.deepEqual(readdirSync(folder).sort(), ['b', 'c']);
  t.deepEqual(footprint(), before);
});

test.serial('differences are those of a model, whatever was written between two snapshots', async (t) => {
  const random = new Random();
  const folder = tempFolder(t);
  const pages = 600; // more than a step
  const manager: GuestMemoryManager = new GuestMemoryBuilder()
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: pages * PAGE }], backing: random.pick(['shared', 'private']) })
    .build();
  await manager.snapshot(join(folder, '0'));
  for (let i = 1; i <= tries(10); i++) {
    const changed = new Set<number>();
    for (let j = random.below(40); j >= 0; j--) {
      const page = random.below(pages);
      manager.guestMemory.writeU32(page * PAGE + 4 * random.below(1024), i * 1000 + j);
      changed.add(page);
    }
    const [base, next] = [join(folder, String(i - 1)), join(folder, String(i))];
    await manager.snapshot(next, random.below(2) === 0 ? { base } : {});
    const [difference] = await compareSnapshots(base, next);
    const found = difference!.pages.flatMap(({ offset, length }) =>
      Array.from({ length: length / PAGE }, (_, page) => offset / PAGE + page),
    );
    t.deepEqual(
      found,
      [...changed].sort((x, y) => x - y),
    );
    t.deepEqual(await verifySnapshot(next), []);
  }
  const bytes = readFileSync(join(folder, '0', readdirSync(join(folder, '0')).find((name) => /^memory-/.test(name))!));
  t.true(bytes.every((byte) => byte === 0));
  manager.close();
});
