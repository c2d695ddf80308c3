// A snapshot's folder: `layout.json`, and the memory file that it names. Whoever opens it meanwhile, or after a crash
// at any point of writing, finds the snapshot that was there, or the new one, whole.

import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { MembackingError } from '../core/errors.ts';
import { wrapped } from '../core/system.ts';
import { formatLayout, parseLayout, type SnapshotLayout } from './layout.ts';
import { readAll } from './memory-writer.ts';

const LAYOUT = 'layout.json';
/** Bytes that a layout may have. */
const MOST_LAYOUT = 256 * 2 ** 20;
/** Names of files that are a snapshot's, or what is left of one that was not finished. */
const OURS = /^(memory-[0-9a-f-]{36}|(layout|working-set)-[0-9a-f-]{36,73}\.json)$/;

/** Writes a snapshot into a folder, which is made where it is missing: `write` fills the memory file of `size` bytes,
 *  and gives the layout. Rejects with what `write` rejects with, and SYSTEM: nothing of it is left then, and what was
 *  there still is. */
export async function writeFolder(
  folder: string,
  { id, size }: { readonly id: string; readonly size: number },
  write: (memory: FileHandle, file: string) => Promise<SnapshotLayout>,
): Promise<SnapshotLayout> {
  const file = `memory-${id}`;
  const draft = `layout-${id}.json`;
  const what = `the snapshot in "${folder}" cannot be written`;
  let isInPlace = false;
  const isMade = await inSystem(what, () => makeFolder(folder));
  try {
    const memory = await inSystem(what, () => open(join(folder, file), 'wx+'));
    const layout = await closing(memory, () =>
      inSystem(what, async () => {
        await memory.truncate(size);
        const finished = await write(memory, file);
        await all([memory.sync(), writeSynced(join(folder, draft), formatLayout(finished)), syncFolder(folder)]);
        return finished;
      }),
    );
    await inSystem(what, async () => {
      await rename(join(folder, draft), join(folder, LAYOUT));
      isInPlace = true;
      await syncFolder(folder);
    });
    if (!isMade) await removeOurs(folder, (name) => name !== file);
    return layout;
  } catch (error) {
    if (!isInPlace) await removeOurs(folder, (name) => name === draft || name === file);
    if (isMade && !isInPlace) await rmdir(folder).catch(() => {});
    throw error;
  }
}

/** Makes a folder in one that is there. Returns whether it was missing. */
async function makeFolder(folder: string): Promise<boolean> {
  try {
    await mkdir(folder);
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EEXIST') return false;
    throw error;
  }
}

/** Waits for all of some work, and rejects with the first failure then: nothing is under way any more. */
async function all(work: readonly Promise<unknown>[]): Promise<void> {
  await Promise.allSettled(work);
  await Promise.all(work);
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx');
  await closing(file, async () => {
    await file.writeFile(text);
    await file.sync();
  });
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  await closing(handle, () => handle.sync());
}

/** Text of a file beside a snapshot; undefined where there is none. Rejects with SYSTEM, SNAPSHOT_DAMAGED,
 *  SNAPSHOT_LAYOUT. */
export async function readBeside(folder: string, name: string): Promise<string | undefined> {
  try {
    return await readText(join(folder, name));
  } catch (error) {
    if (error instanceof MembackingError && error.details.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Writes a file beside a snapshot, in place of the one of that name. Rejects with SYSTEM, and leaves nothing then. */
export async function writeBeside(folder: string, name: string, text: string): Promise<void> {
  const draft = name.replace(/\.json$/, `-${crypto.randomUUID()}.json`);
  await inSystem(`"${join(folder, name)}" cannot be written`, async () => {
    try {
      await writeSynced(join(folder, draft), text);
      await rename(join(folder, draft), join(folder, name));
    } catch (error) {
      await rm(join(folder, draft), { force: true });
      throw error;
    }
  });
}

/** Layout of the snapshot in a folder, whose memory is not looked at. Rejects with SYSTEM, SNAPSHOT_LAYOUT,
 *  SNAPSHOT_VERSION, SNAPSHOT_DAMAGED. */
export async function readLayout(folder: string): Promise<SnapshotLayout> {
  return parseLayout(await readText(join(folder, LAYOUT)));
}

/** Removes those of a folder's files that are a snapshot's and that `isGoing` names, as far as the system lets it. */
async function removeOurs(folder: string, isGoing: (name: string) => boolean): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  const going = names.filter((name) => OURS.test(name) && isGoing(name));
  await Promise.allSettled(going.map((name) => rm(join(folder, name), { force: true })));
}

/** Snapshot in a folder: its layout, and its memory file, open for reading and as long as the layout says. Rejects with
 *  SYSTEM, SNAPSHOT_LAYOUT, SNAPSHOT_VERSION and SNAPSHOT_DAMAGED. */
export async function openFolder(folder: string): Promise<{ layout: SnapshotLayout; memory: FileHandle }> {
  const layout = await readLayout(folder);
  const { file, size } = layout.memory;
  const { file: memory, size: found } = await openRegular(join(folder, file));
  if (found === size) return { layout, memory };
  await memory.close();
  throw damaged(`"${join(folder, file)}" has ${found} bytes, and should have ${size}`);
}

export function damaged(message: string): MembackingError {
  return new MembackingError('SNAPSHOT_DAMAGED', `the snapshot's memory is damaged: ${message}`);
}

async function readText(path: string): Promise<string> {
  const { file, size } = await openRegular(path);
  return closing(file, async () => {
    if (size > MOST_LAYOUT) {
      throw new MembackingError(
        'SNAPSHOT_LAYOUT',
        `"${path}" has ${size} bytes: no layout has more than ${MOST_LAYOUT}`,
      );
    }
    const bytes = Buffer.alloc(size);
    await inSystem(`"${path}" cannot be read`, () => readAll(file, bytes, 0));
    return bytes.toString('utf8');
  });
}

/** Opens a file for reading that is an ordinary one: another would block, or have effects. */
async function openRegular(path: string): Promise<{ file: FileHandle; size: number }> {
  const file = await inSystem(`"${path}" cannot be opened`, () =>
    open(path, constants.O_RDONLY | constants.O_NONBLOCK),
  );
  const facts = await file.stat();
  if (facts.isFile()) return { file, size: facts.size };
  await file.close();
  throw new MembackingError('SNAPSHOT_DAMAGED', `"${path}" must be an ordinary file`);
}

/** Result of `body`, after which the file is closed, whatever becomes of it. */
async function closing<Result>(file: FileHandle, body: () => Promise<Result>): Promise<Result> {
  try {
    return await body();
  } finally {
    await file.close();
  }
}

async function inSystem<Result>(what: string, call: () => Promise<Result>): Promise<Result> {
  try {
    return await call();
  } catch (error) {
    if ((error as { syscall?: unknown }).syscall === undefined) throw error;
    throw wrapped(what, error);
  }
}
