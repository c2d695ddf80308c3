// The processors: a partition of KVM with its interrupt controllers and timer, and a thread for each vCPU.

import { type AttachedPartition, type Exit, type GuestMemoryManager, KvmPartition, type Vcpu } from '../index.ts';
import { KVM_PAGES } from './layout.ts';

export class Processors {
  readonly partition = KvmPartition.open({ name: 'machine' });
  readonly vcpus: Vcpu[] = [];
  #attached: AttachedPartition | undefined;

  /** `count` cores of one package. The first begins where it is told to; the others wait for it to start them. */
  constructor(memory: GuestMemoryManager, count: number) {
    try {
      this.partition.setTssAddress(KVM_PAGES);
      this.partition.createIrqchip();
      this.partition.createPit();
      this.#attached = memory.attachPartition(this.partition);
      const cpuid = this.partition.supportedCpuid({ cores: count });
      for (let id = 0; id < count; id++) this.vcpus.push(this.partition.createVcpu(id, { cpuid }));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Runs all until `isDone`, which is asked after each exit. An error of `handle` ends all, and is thrown. */
  async run(handle: (exit: Exit, vcpu: Vcpu) => void, isDone: () => boolean): Promise<void> {
    const failures: unknown[] = [];
    const runs = this.vcpus.map(async (vcpu) => {
      try {
        while (failures.length === 0 && !isDone()) handle(await vcpu.runAsync(), vcpu);
      } catch (error) {
        failures.push(error);
      }
      this.kick(); // whoever ends, ends all
    });
    await Promise.all(runs);
    if (failures.length > 0) throw failures[0];
  }

  /** Makes each vCPU ask whether all is done. */
  kick(): void {
    for (const vcpu of this.vcpus) vcpu.kick();
  }

  close(): void {
    for (const vcpu of this.vcpus) vcpu.close();
    this.#attached?.close();
    this.partition.close();
  }
}
