// The I/O port space: who answers at which port.

/** A device that answers at I/O ports. */
export interface PortDevice {
  /** The widest access that it takes whole, in bytes; a wider one comes byte by byte. */
  readonly widest: 1 | 2 | 4;
  /** `offset`: from the first port of the claim. `size`: 1, 2 or 4 bytes. */
  read(offset: number, size: number): number;
  /** Takes a write: `value` is below 2^(8 * size). */
  write(offset: number, size: number, value: number): void;
}

/** Ports at which a device answers. */
export interface PortClaim {
  /** First port. */
  readonly first: number;
  /** Number of ports. */
  readonly count: number;
  /** Device that answers there. */
  readonly device: PortDevice;
}

/** Value of each byte that is read where no device answers. */
const OPEN_BUS = 0xff;

/** The I/O port space: which device answers at which port. */
export class PortBus {
  #claims: PortClaim[] = [];

  /** Claims `count` ports from `first` on, where nobody else has: the device answers there from now on. */
  claim(first: number, count: number, device: PortDevice): PortClaim {
    const claim = { first, count, device };
    this.#claims.push(claim);
    return claim;
  }

  /** Takes a claim back: nobody answers there any more. */
  release(claim: PortClaim): void {
    this.#claims = this.#claims.filter((other) => other !== claim);
  }

  /** Value that the guest reads at a port: `size` is 1, 2 or 4 bytes; all bits set where nobody answers. */
  read(port: number, size: number): number {
    const claim = this.#find(port, size);
    if (claim !== undefined) return claim.device.read(port - claim.first, size) >>> 0;
    if (size === 1) return OPEN_BUS;
    return (
      Array.from({ length: size }, (_, i) => this.read(port + i, 1) << (8 * i)).reduce((all, byte) => all | byte) >>> 0
    );
  }

  /** Hands a write of the guest to the device at a port: `size` is 1, 2 or 4 bytes. */
  write(port: number, size: number, value: number): void {
    const claim = this.#find(port, size);
    if (claim !== undefined) claim.device.write(port - claim.first, size, value >>> 0);
    else if (size > 1) for (let i = 0; i < size; i++) this.write(port + i, 1, (value >>> (8 * i)) & 0xff);
  }

  /** An exit: `data` holds as many items of `size` bytes as the instruction moves. */
  access(port: number, size: number, isWrite: boolean, data: Uint8Array): void {
    for (let at = 0; at + size <= data.length; at += size) {
      if (isWrite) this.write(port, size, littleEndian(data.subarray(at, at + size)));
      else data.set(bytesOf(this.read(port, size), size), at);
    }
  }

  #find(port: number, size: number): PortClaim | undefined {
    return this.#claims.find(
      ({ first, count, device }) => port >= first && port + size <= first + count && size <= device.widest,
    );
  }
}

/** Up to 4 bytes. */
export function littleEndian(bytes: Uint8Array): number {
  return bytes.reduceRight((high, byte) => (high << 8) | byte, 0) >>> 0;
}

/** Up to 4 bytes. */
export function bytesOf(value: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => value >>> (8 * i));
}
