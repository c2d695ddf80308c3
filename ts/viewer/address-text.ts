// Addresses as people type them.

import type { Address } from '../core-index.ts';

/** An address as people write it, hexadecimal with or without 0x: "c8000", "0xc8000". Undefined if it is none. */
export function addressFrom(text: string): Address | undefined {
  const digits = /^\s*(?:0x)?([0-9a-f]{1,16})\s*$/i.exec(text)?.[1];
  if (digits === undefined) return undefined;
  const value = BigInt(`0x${digits}`);
  return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}
