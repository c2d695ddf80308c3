// The format of traces: one header line, then one operation a line, as JSON objects. A byte order mark before the first
// and empty lines after the last are no part of it.
//
//   {"membacking":"trace","version":1,"policy":"layered"}
//   {"op":"region","id":1,"name":"pc.ram","kind":"ram","size":"0x8000000"}
//
// Addresses, sizes, offsets and lengths are hexadecimal strings. Ids are chosen by the writer: regions, spaces,
// objects, partitions and sinks (VA spaces and attachments together) have one numbering each. An operation outside
// begin/commit is a transaction of its own. Regions placed at equal priority: the one placed first wins.
//
// In memory every field is present, with its default where the line left it out.

import { MembackingError } from '../core/errors.ts';
import { POLICIES, type Policy } from '../core/kinds.ts';
import { OPERATIONS, type OperationRow, rowOf, type TraceOperation } from './operations.ts';

export const TRACE_VERSION = 1;
/** First line of a trace. */
export interface TraceHeader {
  /** Version of the format. */
  readonly version: typeof TRACE_VERSION;
  /** Policy for overlaps. Default `layered`. */
  readonly policy: Policy;
}

/** The header on line 1. Throws TRACE_HEADER or TRACE_VERSION. */
export function parseHeader(value: unknown): TraceHeader {
  if (!isObject(value) || value.membacking !== 'trace') {
    throw headerError('TRACE_HEADER', 'this is no trace: line 1 must be {"membacking":"trace","version":1,…}');
  }
  if (value.version !== TRACE_VERSION) {
    const found = shown(value.version);
    throw headerError('TRACE_VERSION', `the trace says version ${found}; this package reads version ${TRACE_VERSION}`);
  }
  for (const field in value) {
    if (field !== 'membacking' && field !== 'version' && field !== 'policy') {
      throw headerError('TRACE_HEADER', `line 1: the header has no field ${shown(field)}`);
    }
  }
  const policy = value.policy ?? 'layered';
  if (!includes(POLICIES, policy)) {
    throw headerError('TRACE_HEADER', `line 1: "policy" must be one of ${POLICIES.join(', ')}, not ${shown(policy)}`);
  }
  return { version: TRACE_VERSION, policy };
}

/** Operation from the JSON value of its line. Throws TRACE_OPERATION with the line's number and, where it is about a
 *  field of `text`, the column. */
export function parseOperation(value: unknown, line: number, text = ''): TraceOperation {
  try {
    return operation(value);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const column = error.field === undefined ? 0 : text.indexOf(JSON.stringify(error.field)) + 1;
    const place = column === 0 ? `line ${line}` : `line ${line}, column ${column}`;
    const details = { line, ...(column > 0 && { column }) };
    throw new MembackingError('TRACE_OPERATION', `${place}: ${error.message}`, { details });
  }
}

/** Error of one operation, in words; its line is added by who knows it. */
class Problem extends Error {
  /** The field that it is about. */
  readonly field: string | undefined;

  constructor(message: string, field?: string) {
    super(message);
    this.field = field;
  }
}

function operation(value: unknown): TraceOperation {
  if (!isObject(value)) throw new Problem(`an operation must be a JSON object, not ${shown(value)}`);
  const row = rowOf(value.op);
  if (row === undefined) {
    if (value.op === undefined) throw new Problem('the field "op" is missing');
    throw new Problem(
      `there is no operation ${shown(value.op)}; there are ${Object.keys(OPERATIONS).join(', ')}`,
      'op',
    );
  }
  for (const name in value) {
    if (name === 'op' || Object.hasOwn(row.fields, name)) continue;
    const known = Object.keys(row.fields).join(', ') || 'none';
    throw new Problem(`"${value.op}" has no field ${shown(name)}; its fields are: ${known}`, name);
  }
  const result: Record<string, unknown> = { op: value.op };
  for (const name in row.fields) {
    const field = row.fields[name]!;
    const read = value[name] === undefined ? absent(name, field) : field.type.read(value[name]);
    if (read !== undefined) result[name] = read;
    else if (value[name] !== undefined) throw mustBe(name, field.type.must, value[name]);
  }
  return result as unknown as TraceOperation;
}

/** The value of a field that the line leaves out. */
function absent(name: string, { presence, initial }: OperationRow['fields'][string]): unknown {
  if (presence === 'required') throw new Problem(`the field "${name}" is missing`);
  return initial;
}

function mustBe(field: string, what: string, value: unknown): Problem {
  return new Problem(`"${field}" must be ${what}, not ${shown(value)}`, field);
}

function headerError(code: 'TRACE_HEADER' | 'TRACE_VERSION', message: string): MembackingError {
  return new MembackingError(code, message, { details: { line: 1 } });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function includes<Value>(values: readonly Value[], value: unknown): value is Value {
  return (values as readonly unknown[]).includes(value);
}

/** A JSON value for a message, at most about 40 characters of it. */
export function shown(value: unknown): string {
  if (value === undefined) return 'undefined';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  const json = JSON.stringify(value);
  return json.length > 40 ? `${json.slice(0, 37)}…` : json;
}
