// Protections of one sink: what is left of the access that the map gives.

import { type Address } from './address.ts';
import type { Context } from './context.ts';
import { ACCESSES, type Access, accessNumber } from './kinds.ts';
import * as validate from './validate.ts';

export interface ProtectOptions {
  /** First GPA of the address space; a multiple of the page size. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
  /** What may still be done; `rwx` takes the protection away. */
  readonly access: Access;
}

export function protectSink(options: ProtectOptions, context: Context, sink: number): void {
  const { gpa, length, access } = validate.options(options, ['gpa', 'length', 'access'], 'protect');
  const start = validate.address(gpa, 'gpa');
  const bytes = validate.length(length, 'length');
  const left = validate.oneOf(ACCESSES, access, 'access');
  context.perform(() => {
    context.core.protect(sink, start, bytes, accessNumber(left));
    context.recorder?.record({ op: 'protect', sink, start, length: bytes, access: left });
  });
}
