// Flat views as commands print them. A small trace can have views of any size (aliases of aliases): more than a limit
// are printed only where that is asked for, and JSON leaves row by row.

import { MAX_VIEW_RANGES, MembackingError, type TraceReplay } from '../index.ts';
import { eventJson, rangeJson } from './json.ts';
import { print } from './output.ts';

/** Characters of one write. */
const ENOUGH = 0x1_0000;

/** The option that lifts the limit. */
export const ALL_OPTION = { all: { type: 'boolean' } } as const;

export const ALL_HELP = `views of any size; without it, more than ${MAX_VIEW_RANGES} ranges are refused`;

/** Checks that the views can be shown. Throws VIEW_TOO_LARGE with the file and the way out. */
export function checkViews(file: string, replay: TraceReplay): void {
  try {
    replay.checkViews();
  } catch (error) {
    if (!(error instanceof MembackingError)) throw error;
    throw new MembackingError(error.code, `${file}: ${error.message}: --all prints them`, { details: error.details });
  }
}

/** One line: {"file","addressSpaces":[{"name","ranges":[…]}]}. */
export async function printViewsJson(file: string, replay: TraceReplay): Promise<void> {
  let text = '';
  for (const part of viewsJson(file, replay)) {
    text += part;
    if (text.length < ENOUGH) continue;
    await print(text);
    text = '';
  }
  await print(text);
}

function* viewsJson(file: string, replay: TraceReplay): Generator<string> {
  yield `{"file":${JSON.stringify(file)},"addressSpaces":[`;
  for (const [i, { id, name }] of replay.spaces().entries()) {
    yield `${i === 0 ? '' : ','}{"name":${JSON.stringify(name)},"ranges":[`;
    let separator = '';
    for (const range of replay.flatRanges(id)) {
      yield `${separator}${JSON.stringify(rangeJson(range))}`;
      separator = ',';
    }
    const events = replay.events(id);
    yield events.length === 0 ? ']}' : `],"events":${JSON.stringify(events.map(eventJson))}}`;
  }
  yield ']}\n';
}
