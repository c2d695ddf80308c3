// Exits of vCPUs: why a run ended, and what the guest wants to be answered.

import { KVM_EXIT } from '../core/kvm-numbers.ts';
import { type ExitFact, native, type Vcpu } from '../core/native.ts';

/** An exit as an object, for people and slow paths. `data` is the live exchange: read or answer it before the next
 *  run. `isWrite`: the guest writes; otherwise the run after gives `data` to it. */
export type Exit =
  | { kind: 'io'; port: number; size: number; count: number; isWrite: boolean; data: Uint8Array }
  | { kind: 'mmio'; gpa: number; isWrite: boolean; data: Uint8Array }
  /** Access to a slot whose memory cannot be had. KVM does not always say where. The next run tries again. */
  | { kind: 'memory-fault'; gpa: number | undefined }
  | { kind: 'kicked' }
  /** A signal came to the thread. */
  | { kind: 'interrupted' }
  | { kind: 'hlt' }
  | { kind: 'shutdown' }
  | { kind: 'fail-entry'; hardwareReason: bigint }
  | { kind: 'internal-error'; suberror: number }
  | { kind: 'system-event'; type: number }
  | { kind: 'unknown'; reason: number };

/** The facts of a vCPU's last exit, read in place: nothing is allocated. Make one for a handle, once. */
export class VcpuExit {
  /** The answer to a read of the guest, zero until written, or what the guest writes; a page. */
  readonly data: Uint8Array;
  /** The bytes of `data`, as numbers. */
  readonly dataView: DataView;
  readonly #words: Uint32Array;
  readonly #at: Readonly<Record<ExitFact, number>>;

  /** @internal Made by Vcpu. */
  constructor(vcpu: Vcpu) {
    const layout = native().exitLayout;
    this.data = new Uint8Array(vcpu.exchange, layout.data);
    this.dataView = new DataView(vcpu.exchange, layout.data);
    this.#words = new Uint32Array(vcpu.exchange, 0, layout.data / Uint32Array.BYTES_PER_ELEMENT);
    const words = Object.entries(layout).map(([fact, offset]) => [fact, offset / Uint32Array.BYTES_PER_ELEMENT]);
    this.#at = Object.fromEntries(words);
  }

  /** Number of the reason: see KVM_EXIT. */
  get reason(): number {
    return this.#words[this.#at.reason]!;
  }

  /** Port and MMIO: whether the guest writes. */
  get isWrite(): boolean {
    return this.#words[this.#at.isWrite] !== 0;
  }

  /** Number of the I/O port. */
  get port(): number {
    return this.#words[this.#at.port]!;
  }

  /** Bytes: of one item at a port, of an MMIO access. */
  get size(): number {
    return this.#words[this.#at.size]!;
  }

  /** Items at a port: string instructions have many. */
  get count(): number {
    return this.#words[this.#at.count]!;
  }

  /** GPA of an MMIO access or a memory fault; undefined where KVM does not say. */
  get gpa(): number | undefined {
    if (this.#words[this.#at.isGpaKnown] === 0) return undefined;
    return this.#words[this.#at.gpa]! + this.#words[this.#at.gpa + 1]! * 2 ** 32;
  }

  /** Interrupted: whether by kick(). */
  get isKicked(): boolean {
    return this.#words[this.#at.isKicked] !== 0;
  }

  /** The exit as an object. */
  describe(): Exit {
    const { isWrite, size, count } = this;
    switch (this.reason) {
      case KVM_EXIT.IO:
        return { kind: 'io', port: this.port, size, count, isWrite, data: this.data.subarray(0, size * count) };
      case KVM_EXIT.MMIO:
        return { kind: 'mmio', gpa: this.gpa!, isWrite, data: this.data.subarray(0, size) };
      case KVM_EXIT.MEMORY_FAULT:
        return { kind: 'memory-fault', gpa: this.gpa };
      case KVM_EXIT.INTR:
        return { kind: this.isKicked ? 'kicked' : 'interrupted' };
      case KVM_EXIT.HLT:
        return { kind: 'hlt' };
      case KVM_EXIT.SHUTDOWN:
        return { kind: 'shutdown' };
      case KVM_EXIT.FAIL_ENTRY: {
        const [low, high] = this.#words.subarray(this.#at.hardwareReason);
        return { kind: 'fail-entry', hardwareReason: BigInt(low!) | (BigInt(high!) << 32n) };
      }
      case KVM_EXIT.INTERNAL_ERROR:
        return { kind: 'internal-error', suberror: this.#words[this.#at.detail]! };
      case KVM_EXIT.SYSTEM_EVENT:
        return { kind: 'system-event', type: this.#words[this.#at.detail]! };
      default:
        return { kind: 'unknown', reason: this.reason };
    }
  }
}
