// State of a replay as JSON, but for the core's memory, which is bytes.

import { type Address, formatHex } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { NAME_TABLES, Names } from '../core/names.ts';
import { ReplayState } from './core-replay.ts';
import { parseHex } from './fields.ts';
import { TABLES, type Table } from './operations.ts';
import { byTable, type TraceIds } from './replay.ts';

type Pairs<Value> = readonly (readonly [number, Value])[];

/** Result of `stateJson`; the same version of the package reads it. */
export interface StateJson {
  /** A number, or a bigint in decimal with an n behind it. */
  readonly globals: readonly (number | string)[];
  /** @internal */
  readonly ids: Readonly<Record<Table, Pairs<number>>>;
  /** @internal */
  readonly names: Readonly<Record<(typeof NAME_TABLES)[number], Pairs<string>>>;
  /** @internal */
  readonly spaces: Pairs<number>;
  /** @internal */
  readonly roots: Pairs<{ readonly region: number; readonly offset: string }>;
}

export function stateJson(state: ReplayState): StateJson {
  const { core, ids, names, spaces, roots } = state;
  return {
    globals: core.globals.map((value) => (typeof value === 'bigint' ? `${value}n` : value)),
    ids: byTable(TABLES, (table) => [...ids[table]]),
    names: byTable(NAME_TABLES, (table) => [...names[table]]),
    spaces: [...spaces],
    roots: [...roots].map(([id, { region, offset }]) => [id, { region, offset: formatHex(offset) }]),
  };
}

/** State from what `stateJson` gave and the bytes of its core's memory, as they are in a stream of this package's own
 *  inspection server. Throws INVALID_ARGUMENT for bytes that are no memory of a core. */
export function stateFromJson(json: StateJson, memory: Uint8Array<ArrayBuffer>): ReplayState {
  if (memory.byteLength === 0 || memory.byteLength % 65536 !== 0) {
    throw new MembackingError('INVALID_ARGUMENT', 'these bytes are not the memory of a core');
  }
  const names = new Names();
  for (const table of NAME_TABLES) for (const [id, name] of json.names[table]) names[table].set(id, name);
  return new ReplayState({
    core: {
      memory,
      globals: json.globals.map((value) => (typeof value === 'string' ? BigInt(value.slice(0, -1)) : value)),
    },
    ids: byTable(TABLES, (table) => new Map(json.ids[table])) satisfies TraceIds,
    names,
    spaces: new Map(json.spaces),
    roots: new Map(json.roots.map(([id, { region, offset }]) => [id, { region, offset: parseHex(offset) as Address }])),
  });
}
