// A guest that runs in a thread of its own and writes everywhere, and knows if a page is not as it left it.

import type { ExecutionContext } from 'ava';
import {
  GuestMemoryBuilder,
  type GuestMemoryManager,
  KvmPartition,
  type PartitionState,
  type PlainState,
  Vcpu,
  type VcpuState,
} from '../../ts/index.ts';
import { vmOf } from '../../ts/sinks/kvm.ts';
import { enterUserMode, guestImage, registersFor } from './guest.ts';

const MIB = 2 ** 20;
/** Bytes of RAM that `makeSwept` gives. */
export const SWEPT_SIZE = 16 * MIB;
/** Memory that the guest sweeps. */
const FROM = MIB;

/** Memory for a guest that sweeps it. */
export function makeSwept(kind: 'shared' | 'private' = 'shared'): GuestMemoryManager {
  const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 32 - 1 })
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: SWEPT_SIZE }], backing: { kind } })
    .build();
  manager.guestMemory.write(0, guestImage());
  return manager;
}

/** A guest that counts up every page of its memory, round by round, in a thread of its own. */
export class RunningGuest {
  readonly manager: GuestMemoryManager;
  readonly #partition = KvmPartition.open();
  readonly #vcpu: Vcpu;
  #isRunning = false;
  #run: Promise<void> = Promise.resolve();
  /** Start that is to come when the event loop has come round. */
  #nextStart: NodeJS.Immediate | undefined;
  rounds = 0;

  constructor(manager: GuestMemoryManager, state?: PlainState) {
    this.manager = manager;
    manager.attachPartition(this.#partition);
    const vcpu = vmOf(this.#partition).createVcpu(0);
    enterUserMode(vcpu);
    registersFor(vcpu, 'sweep', { rbx: FROM, rcx: SWEPT_SIZE });
    this.#vcpu = Vcpu.of(0, vcpu);
    if (state === undefined) return;
    const saved = state as unknown as { vcpu: VcpuState; partition: PartitionState };
    this.#partition.restore(saved.partition);
    this.#vcpu.restore(saved.vcpu);
  }

  start(): void {
    this.#isRunning = true;
    this.#run = this.#goOn();
  }

  async #goOn(): Promise<void> {
    while (this.#isRunning) {
      const exit = await this.#vcpu.runAsync();
      if (exit.kind === 'io' && exit.port === 0x15) this.rounds = Buffer.from(exit.data).readUInt32LE();
      else if (exit.kind !== 'kicked' && exit.kind !== 'interrupted')
        throw new Error(`a page was lost: ${JSON.stringify(exit.kind)}`);
    }
  }

  async stop(): Promise<void> {
    clearImmediate(this.#nextStart);
    this.#isRunning = false;
    this.#vcpu.kick();
    await this.#run;
  }

  /** State of the guest, which does not go on here. */
  readonly heldState = async (): Promise<PlainState> => {
    await this.stop();
    return { vcpu: this.#vcpu.save(), partition: this.#partition.save() } as unknown as PlainState;
  };

  /** State of the guest while its partition is held: the vCPU stops, and goes on when it is let go. */
  readonly state = async (): Promise<PlainState> => {
    const state = await this.heldState();
    this.#nextStart = setImmediate(() => this.start());
    return state;
  };

  /** Sweeps on in this thread. */
  sweep(t: ExecutionContext, rounds: number): void {
    for (let i = 0; i < rounds; i++) {
      let exit = this.#vcpu.runToExit();
      // A kick that came when the run had ended is the next one's.
      while (exit.kind === 'kicked') exit = this.#vcpu.runToExit();
      t.deepEqual([exit.kind, exit.kind === 'io' ? exit.port : 0], ['io', 0x15], 'no page was lost');
    }
  }

  close(): void {
    this.#vcpu.close();
    this.#partition.close();
    this.manager.close();
  }
}
