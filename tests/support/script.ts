// Operations in words, with names instead of ids. Numbers are hexadecimal; K, M, G and T after decimal digits are
// powers of 1024, `all` is 2^64, `last` the last byte of it.
//
//   ram NAME SIZE            rom, device, mmio, container the same; then any of readonly, nonvolatile, disabled
//   alias NAME SIZE of TARGET [at OFFSET]                  then the same
//   place NAME in PARENT [at OFFSET] [priority N]          move NAME to OFFSET       remove NAME      destroy NAME
//   resize NAME to SIZE      priority NAME N               retarget NAME to OFFSET
//   set NAME [readonly | writable] [nonvolatile | volatile] [disabled | enabled]
//   space NAME root REGION [at OFFSET]                     close-space NAME
//   object NAME SIZE [private] [readonly] [pages SIZE]     close-object NAME
//   map REGION OFFSET LENGTH OBJECT OFFSET [readonly]      unmap REGION OFFSET LENGTH
//   va NAME SIZE of SPACE [stretches N [unit SIZE] [bytes SIZE]]
//   partition NAME SLOTS [of SIZE]
//   attach NAME of PARTITION to SPACE through VA [at OFFSET] [end LAST]
//   detach NAME              protect SINK START LENGTH ACCESS
//   keep PARTITION START LENGTH                            give-back PARTITION START LENGTH
//   withhold SINK START LENGTH ACCESS                      restore SINK START LENGTH
//   event NAME of REGION at OFFSET length LENGTH [match N | coalesced]                  close-event NAME
//   events NAME of ATTACHMENT to SPACE [at OFFSET] [end LAST]
//   begin                    commit                        abort

import { type Address, LAST_ADDRESS, toAddress, WHOLE_SPACE } from '../../ts/core/address.ts';
import type { Access } from '../../ts/core/kinds.ts';
import type { OperationOf, TraceOperation } from '../../ts/trace/operations.ts';
import { parseTable } from './table.ts';

export type Table = 'region' | 'space' | 'object' | 'partition' | 'sink' | 'event';

/** Names, by table; making a thing gives its name a new id. */
export class Script {
  readonly #ids = new Map<string, number>();
  #count = 0;

  id(table: Table, name: string): number {
    const id = this.#ids.get(`${table} ${name}`);
    if (id === undefined) throw new Error(`the script has no ${table} "${name}"`);
    return id;
  }

  /** The name that was last given to an id. */
  nameOf(table: Table, id: number): string | undefined {
    const found = [...this.#ids].findLast(([key, value]) => value === id && key.startsWith(`${table} `));
    return found?.[0].slice(table.length + 1);
  }

  parse(line: string): TraceOperation {
    const words = line.trim().split(/\s+/);
    const [op, name = '', ...rest] = words;
    const has = (word: string) => rest.includes(word);
    const after = (word: string) => (has(word) ? rest[rest.indexOf(word) + 1] : undefined);
    const number = (word: string, otherwise = '0') => parseNumber(after(word) ?? otherwise);
    const at = (index: number) => parseNumber(rest[index] ?? '');
    const flags = { readonly: has('readonly'), nonvolatile: has('nonvolatile'), enabled: !has('disabled') };
    const is = (yes: string, no: string) => (has(yes) ? true : has(no) ? false : undefined);
    const region = () => this.id('region', name);
    switch (op) {
      case 'ram':
      case 'rom':
      case 'device':
      case 'mmio':
      case 'container':
        return {
          op: 'region',
          id: this.#new('region', name),
          name,
          kind: op as OperationOf<'region'>['kind'],
          size: at(0),
          ...flags,
        };
      case 'alias': {
        const target = this.id('region', after('of') ?? '');
        return { op, id: this.#new('region', name), name, target, offset: number('at'), size: at(0), ...flags };
      }
      case 'place': {
        const priority = Number(after('priority') ?? 0);
        return { op, id: region(), parent: this.id('region', after('in') ?? ''), offset: number('at'), priority };
      }
      case 'move':
      case 'retarget':
        return { op, id: region(), offset: number('to') };
      case 'remove':
      case 'destroy':
        return { op, id: region() };
      case 'resize':
        return { op, id: region(), size: number('to') };
      case 'priority':
        return { op, id: region(), priority: Number(rest[0]) };
      case 'set': {
        const [readonly, nonvolatile] = [is('readonly', 'writable'), is('nonvolatile', 'volatile')];
        const enabled = is('enabled', 'disabled');
        return {
          op: 'flags',
          id: region(),
          ...(readonly === undefined ? {} : { readonly }),
          ...(nonvolatile === undefined ? {} : { nonvolatile }),
          ...(enabled === undefined ? {} : { enabled }),
        };
      }
      case 'space': {
        const root = this.id('region', after('root') ?? '');
        return { op, id: this.#new('space', name), name, root, offset: number('at') };
      }
      case 'close-space':
        return { op: 'space-close', id: this.id('space', name) };
      case 'object': {
        const kind = has('private') ? 'private' : 'shared';
        const pageSize = Number(number('pages', '1000'));
        return { op, id: this.#new('object', name), name, kind, size: at(0), writable: !has('readonly'), pageSize };
      }
      case 'close-object':
        return { op: 'object-close', id: this.id('object', name) };
      case 'map': {
        const object = this.id('object', rest[2] ?? '');
        const where = { offset: at(0), length: at(1), object, objectOffset: at(3) };
        return { op, region: region(), ...where, writable: !has('readonly') };
      }
      case 'unmap':
        return { op, region: region(), offset: at(0), length: at(1) };
      case 'va': {
        const space = this.id('space', after('of') ?? '');
        const limits = {
          ...(has('stretches') && {
            stretches: Number(after('stretches')),
            stretchUnit: Number(number('unit', '1000')),
          }),
          ...(has('bytes') && { stretchBytes: number('bytes') }),
        };
        return { op, id: this.#new('sink', name), space, size: at(0), ...limits };
      }
      case 'view': {
        const space = this.id('space', after('of') ?? '');
        const va = this.id('sink', after('through') ?? '');
        return { op, id: this.#new('sink', name), space, va, size: at(0) };
      }
      case 'partition':
        return { op, id: this.#new('partition', name), slots: Number(rest[0]), largestSlot: number('of', 'all') };
      case 'keep':
      case 'give-back':
        return {
          ...{ op: 'keep', partition: this.id('partition', name) },
          ...{ start: at(0), length: at(1), kept: op === 'keep' },
        };
      case 'attach': {
        const partition = this.id('partition', after('of') ?? '');
        const space = this.id('space', after('to') ?? '');
        const va = this.id('sink', after('through') ?? '');
        const limits = { gpaOffset: number('at'), lastGpa: number('end', 'last') };
        return { op, id: this.#new('sink', name), partition, space, va, ...limits };
      }
      case 'events': {
        const attachment = this.id('sink', after('of') ?? '');
        const space = this.id('space', after('to') ?? '');
        const limits = { gpaOffset: number('at'), lastGpa: number('end', 'last') };
        return { op, id: this.#new('sink', name), attachment, space, ...limits };
      }
      case 'event': {
        const where = { region: this.id('region', after('of') ?? ''), offset: number('at'), length: number('length') };
        const match = has('match') ? { match: number('match') } : {};
        return {
          op,
          id: this.#new('event', name),
          ...where,
          ...match,
          kind: has('coalesced') ? 'coalesced' : 'eventfd',
        };
      }
      case 'close-event':
        return { op: 'event-close', id: this.id('event', name) };
      case 'detach':
        return { op, id: this.id('sink', name) };
      case 'protect': {
        const access = (rest[2] ?? '') as Access;
        return { op, sink: this.id('sink', name), start: at(0), length: at(1), access };
      }
      case 'withhold':
        return { op, sink: this.id('sink', name), start: at(0), length: at(1), access: (rest[2] ?? '') as Access };
      case 'restore':
        return { op: 'give-back', sink: this.id('sink', name), start: at(0), length: at(1) };
      case 'begin':
      case 'commit':
      case 'abort':
        return { op };
      default:
        throw new Error(`no such line: ${line}`);
    }
  }

  #new(table: Table, name: string): number {
    this.#ids.set(`${table} ${name}`, this.#count);
    return this.#count++;
  }
}

/**
 * The lines that make and place each region of a table: name, kind, size, in, at, priority, flags; an alias `shows`
 * NAME+OFFSET.
 */
export function regionLines(table: string): string {
  const lines = parseTable(table).map(
    ({ name, kind, size, shows = '', flags = '', at = '0', priority = '0', ...row }) => {
      const [target, offset = '0'] = shows.split('+');
      const window = kind === 'alias' ? `of ${target} at ${offset}` : '';
      const where = row.in === undefined ? '' : `place ${name} in ${row.in} at ${at} priority ${priority}`;
      return `${kind} ${name} ${size} ${window} ${flags}\n${where}`;
    },
  );
  return lines.join('\n');
}

const UNITS: Readonly<{ [unit: string]: bigint }> = { K: 1n << 10n, M: 1n << 20n, G: 1n << 30n, T: 1n << 40n };

function parseNumber(word: string): Address {
  if (word === 'all') return WHOLE_SPACE;
  if (word === 'last') return LAST_ADDRESS;
  const scaled = /^(\d+)([KMGT])$/.exec(word);
  if (scaled !== null) return toAddress(BigInt(scaled[1] as string) * (UNITS[scaled[2] as string] as bigint));
  if (!/^[\da-f]+$/.test(word)) throw new Error(`"${word}" is no number`);
  return toAddress(BigInt(`0x${word}`));
}
