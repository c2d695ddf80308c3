// A file's operations through the core, with errors that say where in the file.

import {
  MembackingError,
  openOperations,
  readText,
  type TraceHeader,
  type TraceOperation,
  TraceReplay,
  type TraceReplayOptions,
} from '../index.ts';
import { complain } from './output.ts';
import { Progress } from './progress.ts';

interface ReplayFileOptions extends Pick<TraceReplayOptions, 'onPlan'> {
  readonly onHeader?: (header: TraceHeader) => void;
  /** Whether an operation is carried out; all are, without it. */
  readonly wanted?: (operation: TraceOperation) => boolean;
  /** Listener that is told of every some hundred operations: to print what has come up. */
  readonly onBatch?: (operations: readonly TraceOperation[]) => Promise<void>;
}

/** Replays a trace or a map. Throws MembackingError with the file, and the line where there is one. */
export async function replayFile(file: string, options: ReplayFileOptions = {}): Promise<TraceReplay> {
  const progress = new Progress(file);
  try {
    return await replayed(file, progress, options);
  } finally {
    progress.end();
  }
}

/** Text of a map, whole. Throws as `readText`. */
export async function readMap(file: string): Promise<string> {
  const progress = new Progress(file);
  try {
    return await readText(file, { progress: progress.advance.bind(progress) });
  } finally {
    progress.end();
  }
}

async function replayed(file: string, bar: Progress, options: ReplayFileOptions): Promise<TraceReplay> {
  const progress = bar.advance.bind(bar);
  const { kind, header, notes, batches } = await named(file, () => openOperations(file, { progress }));
  for (const note of notes) complain('note', note);
  options.onHeader?.(header);
  const replay = new TraceReplay({ policy: header.policy, ...(options.onPlan && { onPlan: options.onPlan }) });
  let line = 1;
  const iterator = batches[Symbol.asyncIterator]();
  for (
    let next = await named(file, () => iterator.next());
    !next.done;
    next = await named(file, () => iterator.next())
  ) {
    for (const operation of next.value) {
      line++;
      if (options.wanted !== undefined && !options.wanted(operation)) continue;
      try {
        replay.apply(operation);
      } catch (error) {
        throw located(error, kind === 'trace' ? `${file}: line ${line}: "${operation.op}"` : file);
      }
    }
    await options.onBatch?.(next.value);
  }
  const open = replay.finish();
  if (open > 0) complain('note', `${file}: ends inside a transaction; what that had begun is taken back`);
  return replay;
}

export interface History {
  readonly header: TraceHeader;
  readonly operations: readonly TraceOperation[];
}

/** All of a trace, or of a map, which the core has carried out once. Throws as `replayFile`. */
export async function readHistory(file: string): Promise<History> {
  const operations: TraceOperation[] = [];
  let header: TraceHeader | undefined;
  await replayFile(file, {
    onHeader: (found) => {
      header = found;
    },
    onBatch: async (batch) => {
      for (const operation of batch) operations.push(operation);
    },
  });
  return { header: header!, operations };
}

/** Whether an error is the input's fault, so that the next file may be right. */
export function isUserError(error: unknown): error is MembackingError {
  return error instanceof MembackingError && error.code !== 'CORE_TRAPPED' && error.code !== 'VERSION_MISMATCH';
}

/** Puts the file's name before messages that do not have it. */
async function named<Result>(file: string, action: () => Promise<Result>): Promise<Result> {
  try {
    return await action();
  } catch (error) {
    throw error instanceof MembackingError && error.code.startsWith('TRACE_') && !error.message.startsWith(file)
      ? located(error, file)
      : error;
  }
}

function located(error: unknown, where: string): unknown {
  if (!(error instanceof MembackingError)) return error;
  return new MembackingError(error.code, `${where}: ${error.message}`, { details: error.details, cause: error });
}
