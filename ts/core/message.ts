// Messages between a manager and its clients: headers of assembly/abi.ts as objects.

import * as abi from '../../assembly/abi.ts';
import { type Address, toAddress } from './address.ts';

/** Header of a message. */
export interface Message {
  /** MESSAGE_* of abi.ts. */
  readonly kind: number;
  readonly version: number;
  readonly sequence: Address;
  readonly start: Address;
  readonly length: Address;
  /** Errno, or 0. */
  readonly error: number;
  readonly done: number;
  readonly objects: number;
  readonly count: number;
  readonly memory: bigint;
  readonly mapper: Address;
}

const WORDS = {
  kind: abi.MESSAGE_KIND,
  version: abi.MESSAGE_VERSION,
  error: abi.MESSAGE_ERROR,
  done: abi.MESSAGE_DONE,
  objects: abi.MESSAGE_OBJECTS,
  count: abi.MESSAGE_COUNT,
} as const;

const WIDE_WORDS = {
  sequence: abi.MESSAGE_SEQUENCE,
  start: abi.MESSAGE_START,
  length: abi.MESSAGE_LENGTH,
  memory: abi.MESSAGE_MEMORY,
  mapper: abi.MESSAGE_MAPPER,
} as const;

/** Bytes of a message of this version; fields that are left out are 0. */
export function encodeMessage(message: Partial<Message> & Pick<Message, 'kind'>): Uint8Array {
  const bytes = new Uint8Array(abi.MESSAGE_SIZE);
  const view = new DataView(bytes.buffer);
  const fields = { version: abi.ABI_VERSION, ...message };
  for (const [name, offset] of entries(WORDS)) view.setUint32(offset, fields[name] ?? 0, true);
  for (const [name, offset] of entries(WIDE_WORDS)) view.setBigUint64(offset, BigInt(fields[name] ?? 0), true);
  return bytes;
}

/** The message that bytes are; undefined where they have another length. */
export function decodeMessage(bytes: Uint8Array): Message | undefined {
  if (bytes.length !== abi.MESSAGE_SIZE) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (offset: number) => view.getUint32(offset, true);
  const wide = (offset: number) => toAddress(view.getBigUint64(offset, true));
  return {
    kind: word(WORDS.kind),
    version: word(WORDS.version),
    sequence: wide(WIDE_WORDS.sequence),
    start: wide(WIDE_WORDS.start),
    length: wide(WIDE_WORDS.length),
    error: word(WORDS.error),
    done: word(WORDS.done),
    objects: word(WORDS.objects),
    count: word(WORDS.count),
    memory: view.getBigUint64(WIDE_WORDS.memory, true),
    mapper: wide(WIDE_WORDS.mapper),
  };
}

function entries<Fields extends object>(fields: Fields): [keyof Fields, number][] {
  return Object.entries(fields) as [keyof Fields, number][];
}
