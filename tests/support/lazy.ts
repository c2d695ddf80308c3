// Tests of lazy restores, where the kernel can make them.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import test, { type ExecutionContext } from 'ava';
import { Pager } from '../../ts/asked/pager.ts';
import { type GuestMemoryManager, KvmPartition, type PageLostMessage, Vcpu } from '../../ts/index.ts';
import { vmOf } from '../../ts/sinks/kvm.ts';
import { enterUserMode, registersFor } from './cpl3-guest.ts';
import { threadsNamed } from './threads.ts';

/** Reason why nothing can be restored lazily here; undefined where it can. */
export const lazyMissing = whyNotLazy();

function whyNotLazy(): string | undefined {
  try {
    Pager.open().close();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Number of threads of this process that bring pages. */
export function pagerThreads(): number {
  return threadsNamed((name) => name === 'membacking-page').length;
}

/** A guest that waits for its pages while JavaScript goes on. */
export class WaitingGuest {
  /** Pages that were lost since it came, by offset: why. */
  readonly lost = new Map<number, string>();
  readonly #partition = KvmPartition.open();
  readonly #addon = vmOf(this.#partition).createVcpu(0);
  readonly #vcpu = Vcpu.of(0, this.#addon);
  readonly #listener = (message: unknown) => {
    const { offset, error } = message as PageLostMessage;
    this.lost.set(offset, (error.cause as Error).message);
  };

  constructor(manager: GuestMemoryManager) {
    manager.attachPartition(this.#partition);
    enterUserMode(this.#addon);
    subscribe('membacking:page-lost', this.#listener);
  }

  /** Reads at an address: the value, or how that ended. */
  async read(gpa: number): Promise<number | string> {
    registersFor(this.#addon, 'read', { rbx: gpa });
    const exit = await this.#vcpu.runAsync();
    return exit.kind === 'io' ? Buffer.from(exit.data).readUInt32LE() : exit.kind;
  }

  close(): void {
    unsubscribe('membacking:page-lost', this.#listener);
    this.#vcpu.close();
    this.#partition.close();
  }
}

/** A test that needs lazy restores; where there are none, a skipped test that says so. One after the other. */
export function lazyTest(title: string, body: (t: ExecutionContext) => void | Promise<void>): void {
  if (lazyMissing === undefined) test.serial(title, body);
  else test.serial.skip(`${title}: ${lazyMissing}`, body);
}
