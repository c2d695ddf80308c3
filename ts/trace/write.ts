// The text of a trace: one canonical line per operation, defaults left out.

import { TRACE_VERSION, type TraceHeader } from './format.ts';
import { rowOf, type TraceOperation } from './operations.ts';

/** A whole trace, every line ended. */
export function formatTrace(header: TraceHeader, operations: Iterable<TraceOperation>): string {
  let text = `${formatHeader(header)}\n`;
  for (const operation of operations) text += `${formatOperation(operation)}\n`;
  return text;
}

/** The header's line, without its end. */
export function formatHeader(header: TraceHeader): string {
  return `{"membacking":"trace","version":${TRACE_VERSION},"policy":"${header.policy}"}`;
}

/** An operation's line, without its end. */
export function formatOperation(operation: TraceOperation): string {
  const values = operation as unknown as Readonly<Record<string, unknown>>;
  let text = `{"op":"${operation.op}"`;
  for (const { name, field, prefix } of rowOf(operation.op)!.written) {
    const value = values[name];
    if (value !== field.initial) text += prefix + field.type.write(value);
  }
  return `${text}}`;
}
