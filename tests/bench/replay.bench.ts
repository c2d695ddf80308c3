// A recorded trace of a million operations: from the file to its plans, and from operations that were read before.

import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { artefact } from '../../ts/core/artefact.ts';
import { formatHeader, formatOperation, openOperations, type TraceOperation, TraceReplay } from '../../ts/index.ts';
import { type Group, runGroup } from './support/group.ts';
import { operations } from './support/history.ts';
import { atLeast, compare } from './support/measure.ts';

const OPERATIONS = 1_000_000;
const HEADER = { version: 1, policy: 'layered' } as const;

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
