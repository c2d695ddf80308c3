// Addresses as they are typed.

import { type Address, parseHex } from '../index.ts';
import { UsageError } from './command.ts';

/** Digits without 0x: as many as are printed, as fewer might be decimal; or one, which is the same in both. */
const AS_PRINTED = /^(?:[0-9a-f]{8,16}|\d)$/i;

/** Address of a hexadecimal text, as it is printed or with 0x. Throws UsageError. */
export function addressFrom(text: string): Address {
  const value = parseHex(AS_PRINTED.test(text) ? `0x${text}` : text);
  if (value !== undefined && value < 2n ** 64n) return value;
  throw new UsageError(`the GPA must be hexadecimal, below 2^64, such as 0xc8000 or 000c8000, not "${text}"`);
}
