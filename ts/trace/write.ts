// The text of a trace: one canonical line per operation, defaults left out.

import { type Address, formatHex, LAST_ADDRESS } from '../core/address.ts';
import type { RegionFlags } from '../core/kinds.ts';
import { TRACE_VERSION, type TraceHeader, type TraceOperation } from './format.ts';

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
  return `{"op":"${operation.op}"${fields(operation)}}`;
}

function fields(o: TraceOperation): string {
  switch (o.op) {
    case 'region':
      return `${number('id', o.id)}${name(o.name)},"kind":"${o.kind}"${hex('size', o.size)}${flags(o)}`;
    case 'alias':
      return (
        `${number('id', o.id)}${name(o.name)}${number('target', o.target)}` +
        `${hex('offset', o.offset)}${hex('size', o.size)}${flags(o)}`
      );
    case 'place':
      return (
        `${number('id', o.id)}${number('parent', o.parent)}${hex('offset', o.offset)}` +
        (o.priority === 0 ? '' : number('priority', o.priority))
      );
    case 'move':
    case 'retarget':
      return `${number('id', o.id)}${hex('offset', o.offset)}`;
    case 'resize':
      return `${number('id', o.id)}${hex('size', o.size)}`;
    case 'priority':
      return `${number('id', o.id)}${number('priority', o.priority)}`;
    case 'flags':
      return (
        number('id', o.id) +
        (o.readonly === undefined ? '' : flag('readonly', o.readonly)) +
        (o.nonvolatile === undefined ? '' : flag('nonvolatile', o.nonvolatile)) +
        (o.enabled === undefined ? '' : flag('enabled', o.enabled))
      );
    case 'remove':
    case 'destroy':
    case 'space-close':
    case 'object-close':
    case 'partition-close':
    case 'detach':
      return number('id', o.id);
    case 'space':
      return (
        `${number('id', o.id)}${name(o.name)}${number('root', o.root)}` +
        (o.offset === 0 ? '' : hex('offset', o.offset))
      );
    case 'object':
      return `${number('id', o.id)}${name(o.name)},"kind":"${o.kind}"${hex('size', o.size)}${flag('writable', o.writable)}`;
    case 'map':
      return (
        `${number('region', o.region)}${hex('offset', o.offset)}${hex('length', o.length)}` +
        `${number('object', o.object)}${hex('objectOffset', o.objectOffset)}${flag('writable', o.writable)}`
      );
    case 'unmap':
      return `${number('region', o.region)}${hex('offset', o.offset)}${hex('length', o.length)}`;
    case 'va':
      return `${number('id', o.id)}${number('space', o.space)}${hex('size', o.size)}`;
    case 'partition':
      return `${number('id', o.id)}${number('slots', o.slots)}`;
    case 'attach':
      return (
        `${number('id', o.id)}${number('partition', o.partition)}${number('space', o.space)}${number('va', o.va)}` +
        (o.gpaOffset === 0 ? '' : hex('gpaOffset', o.gpaOffset)) +
        (o.lastGpa === LAST_ADDRESS ? '' : hex('lastGpa', o.lastGpa))
      );
    case 'protect':
      return `${number('sink', o.sink)}${hex('start', o.start)}${hex('length', o.length)},"access":"${o.access}"`;
    case 'begin':
    case 'commit':
    case 'abort':
      return '';
  }
}

function number(field: string, value: number): string {
  return `,"${field}":${value}`;
}

function hex(field: string, value: Address): string {
  return `,"${field}":"${formatHex(value)}"`;
}

function flag(field: string, value: boolean): string {
  return `,"${field}":${value}`;
}

function name(value: string): string {
  return `,"name":${JSON.stringify(value)}`;
}

function flags(o: RegionFlags): string {
  return (
    (o.readonly ? ',"readonly":true' : '') +
    (o.nonvolatile ? ',"nonvolatile":true' : '') +
    (o.enabled ? '' : ',"enabled":false')
  );
}
