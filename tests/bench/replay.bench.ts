// A recorded trace of a million operations: from the file to its plans, and from operations that were read before.

import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { artefact } from '../../ts/core/artefact.ts';
import { formatHeader, formatOperation, openOperations, type TraceOperation, TraceReplay } from '../../ts/index.ts';
import { Random } from '../support/random.ts';
import { type Group, runGroup } from './support/group.ts';
import { atLeast, compare } from './support/measure.ts';

const OPERATIONS = 1_000_000;
const SLOT = 0x20_0000;
const SLOTS = 16_384;
const BARS = 256;
const HEADER = { version: 1, policy: 'layered' } as const;

/** A machine: a DAX window that is filled and emptied (most of it), BARs that move and hide, some in transactions. */
function* operations(count: number): Generator<TraceOperation> {
  const random = new Random(21);
  const region = { readonly: false, nonvolatile: false, enabled: true };
  const setUp: TraceOperation[] = [
    { op: 'region', id: 0, name: 'root', kind: 'container', size: 2 ** 46, ...region },
    { op: 'region', id: 1, name: 'dax', kind: 'device', size: SLOTS * SLOT, ...region },
    { op: 'place', id: 1, parent: 0, offset: 2 ** 40, priority: 0 },
    ...Array.from({ length: BARS }, (_, bar): TraceOperation[] => [
      { op: 'region', id: 2 + bar, name: `bar ${bar}`, kind: 'mmio', size: 0x4000, ...region },
      { op: 'place', id: 2 + bar, parent: 0, offset: 2 ** 32 + bar * 0x10000, priority: 0 },
    ]).flat(),
    { op: 'object', id: 0, name: 'file', kind: 'shared', size: 2 ** 46, writable: true, pageSize: 4096 },
    { op: 'space', id: 0, name: 'memory', root: 0, offset: 0 },
    { op: 'va', id: 0, space: 0, size: 2 ** 46 },
  ];
  yield* setUp;
  for (let done = setUp.length; done < count; done++) {
    const kind = random.below(100);
    const offset = random.below(SLOTS) * SLOT;
    const id = 2 + random.below(BARS);
    if (kind < 45) {
      const objectOffset = random.below(2 ** 20) * SLOT;
      yield { op: 'map', region: 1, offset, length: SLOT, object: 0, objectOffset, writable: true };
    } else if (kind < 84) yield { op: 'unmap', region: 1, offset, length: SLOT };
    else if (kind < 90) yield { op: 'flags', id, enabled: random.below(2) === 0 };
    else if (kind < 94) yield { op: 'move', id, offset: 2 ** 32 + random.below(4096) * 0x10000 };
    else if (done + 5 < count) {
      yield { op: 'begin' };
      for (let i = 0; i < 3; i++) yield { op: 'unmap', region: 1, offset: random.below(SLOTS) * SLOT, length: SLOT };
      yield { op: 'commit' };
      done += 4;
    } else yield { op: 'unmap', region: 1, offset, length: SLOT };
  }
}

function write(path: string, all: Iterable<TraceOperation>): void {
  const file = openSync(path, 'w');
  let text = `${formatHeader(HEADER)}\n`;
  for (const operation of all) {
    text += `${formatOperation(operation)}\n`;
    if (text.length < 2 ** 20) continue;
    writeSync(file, text);
    text = '';
  }
  writeSync(file, text);
  closeSync(file);
}

async function replayFile(path: string): Promise<void> {
  const { header, batches } = await openOperations(path);
  const replay = new TraceReplay(header);
  for await (const batch of batches) for (const operation of batch) replay.apply(operation);
}

/** JSON.parse of every line, and no more. */
function parseAll(path: string): void {
  for (const line of readFileSync(path, 'latin1').split('\n')) if (line !== '') JSON.parse(line);
}

/** The most that the heap and the core hold while a file is replayed, after garbage collection. */
async function peak(path: string): Promise<number> {
  const { header, batches } = await openOperations(path);
  const replay = new TraceReplay(header);
  const held: number[] = [];
  let batchesSeen = 0;
  for await (const batch of batches) {
    for (const operation of batch) replay.apply(operation);
    if (batchesSeen++ % 50 !== 10) continue;
    // Buffers that are collected are given back a turn later.
    globalThis.gc?.();
    await setImmediate();
    globalThis.gc?.();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    held.push(heapUsed + arrayBuffers + replay.coreMemory.bytes);
  }
  return Math.max(...held);
}

async function memory(group: Group, short: string, long: string): Promise<void> {
  group.doing('memory of a replay');
  await peak(short); // what was compiled stays
  const [least, most] = [await peak(short), await peak(long)];
  await group.add({
    ...{ what: 'memory of a replay, four times the operations', unit: 'bytes', ours: most },
    baseline: { what: 'a quarter of the trace', value: least },
    speed: { median: least / most, p10: least / most, p90: least / most, pairs: 1 },
    goals: [{ of: 'speed', atLeast: 0.8 }],
  });
}

await runGroup(async (group) => {
  const path = fileURLToPath(artefact('bench/long.trace.jsonl'));
  const short = fileURLToPath(artefact('bench/short.trace.jsonl'));
  group.doing('writing a trace of 1000000 operations');
  write(path, operations(OPERATIONS));
  write(short, operations(OPERATIONS / 4));
  const parse = { what: 'JSON.parse of its lines', run: () => parseAll(path) };
  const common = { baseline: parse, operations: OPERATIONS, isRate: true, leastPairs: 5 };
  group.doing('replay, file to plans');
  await group.add(
    compare({
      ...{ what: 'replay of 1000000 operations, file to plans', ...common, goals: [atLeast(500_000)] },
      ours: { run: () => replayFile(path) },
    }),
  );
  group.doing('replay, parsed ahead');
  const parsed = [...operations(OPERATIONS)];
  await group.add(
    compare({
      ...{ what: 'replay of 1000000 operations, parsed ahead', ...common, goals: [atLeast(1_500_000)] },
      ours: {
        run: () => {
          const replay = new TraceReplay(HEADER);
          for (const operation of parsed) replay.apply(operation);
        },
      },
    }),
  );
  parsed.length = 0;
  await memory(group, short, path);
  rmSync(path);
  rmSync(short);
});
