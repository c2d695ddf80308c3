// The text of a trace: one canonical line per operation, defaults left out.

import { POLICIES } from '../core/kinds.ts';
import * as validate from '../core/validate.ts';
import { TRACE_VERSION, type TraceHeader } from './format.ts';
import { rowOf, type TraceOperation } from './operations.ts';

/** A whole trace, every line ended. */
export function formatTrace(header: TraceHeader, operations: Iterable<TraceOperation>): string {
  if (typeof operations?.[Symbol.iterator] !== 'function') throw validate.invalid('operations must be a list of them');
  let text = `${formatHeader(header)}\n`;
  for (const operation of operations) text += `${formatOperation(operation)}\n`;
  return text;
}

/** The header's line, without its end. */
export function formatHeader(header: TraceHeader): string {
  validate.oneOf(POLICIES, header?.policy, 'header.policy');
  return `{"membacking":"trace","version":${TRACE_VERSION},"policy":"${header.policy}"}`;
}

/** An operation's line, without its end. */
export function formatOperation(operation: TraceOperation): string {
  const row = rowOf(operation?.op);
  if (row === undefined) throw validate.invalid('an operation must be an object with the name of one as its op');
  const values = operation as unknown as Readonly<Record<string, unknown>>;
  let text = `{"op":"${operation.op}"`;
  for (const { name, field, prefix } of row.written) {
    const value = values[name];
    if (value !== field.initial) text += prefix + field.type.write(value);
  }
  return `${text}}`;
}
