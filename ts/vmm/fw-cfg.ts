// fw_cfg: how the monitor hands values and files to the firmware, at ports 510 (which one) and 511 (its next byte).

import type { PortBus } from './ports.ts';

const SIGNATURE = 0x00;
const INTERFACES = 0x01;
const RAM_SIZE = 0x03;
const CPU_COUNT = 0x05;
const MAX_CPUS = 0x0f;
const DIRECTORY = 0x19;
const FIRST_FILE = 0x20;

const DIRECTORY_ENTRY = 64;
const NAME_AT = 8;
const NAME_LENGTH = 55;

export class FwCfg {
  readonly #items: ReadonlyMap<number, Uint8Array>;
  #key = SIGNATURE;
  #at = 0;

  /** `lowRam`: bytes of RAM below 4 GiB. File names have at most 55 characters. */
  constructor(ports: PortBus, lowRam: number, cpus: number, files: Readonly<Record<string, Uint8Array>>) {
    const entries = Object.entries(files);
    this.#items = new Map([
      [SIGNATURE, Buffer.from('QEMU')],
      [INTERFACES, number(1, 4)],
      [RAM_SIZE, number(lowRam, 8)],
      [CPU_COUNT, number(cpus, 2)],
      [MAX_CPUS, number(cpus, 2)],
      [DIRECTORY, directory(entries)],
      ...entries.map(([, content], i) => [FIRST_FILE + i, content] as const),
    ]);
    ports.claim(0x510, 2, {
      widest: 2,
      read: (offset) => (offset === 1 ? (this.#items.get(this.#key)?.[this.#at++] ?? 0) : 0xff),
      write: (offset, _, value) => {
        if (offset !== 0) return;
        this.#key = value;
        this.#at = 0;
      },
    });
  }

  save() {
    return { key: this.#key, at: this.#at };
  }

  restore({ key, at }: ReturnType<FwCfg['save']>): void {
    this.#key = key;
    this.#at = at;
  }
}

/** A value as files and items hold it: little-endian. */
export function number(value: number, size: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.subarray(0, size);
}

/** Big-endian, unlike everything else. */
function directory(files: readonly (readonly [string, Uint8Array])[]): Uint8Array {
  const bytes = Buffer.alloc(4 + files.length * DIRECTORY_ENTRY);
  bytes.writeUInt32BE(files.length);
  for (const [i, [name, content]] of files.entries()) {
    const at = 4 + i * DIRECTORY_ENTRY;
    bytes.writeUInt32BE(content.length, at);
    bytes.writeUInt16BE(FIRST_FILE + i, at + 4);
    bytes.write(name.slice(0, NAME_LENGTH), at + NAME_AT, 'latin1');
  }
  return bytes;
}
