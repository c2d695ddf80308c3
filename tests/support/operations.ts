// Operations of a trace's file, all at once.

import { openOperations, type TraceOperation } from '../../ts/index.ts';

export async function operationsOf(file: string): Promise<TraceOperation[]> {
  const operations: TraceOperation[] = [];
  for await (const batch of (await openOperations(file)).batches) operations.push(...batch);
  return operations;
}
