// Sources of facts about a machine: its files, its devices, the addon. Tests give another one.

import { closeSync, constants, openSync, readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { type Kvm, type MachineAnswers, native } from '../core/native.ts';

/** Folder of the pools of huge pages, one for each size. */
export const HUGE_PAGE_POOLS = '/sys/kernel/mm/hugepages';

export interface MachineSource {
  /** The text of a file; undefined where it cannot be read. */
  read(path: string): string | undefined;
  /** Names in a folder; none where it cannot be read. */
  list(path: string): string[];
  /** Reason why a device cannot be opened for reading and writing: the system's code, such as ENOENT. Undefined: it
   *  can. */
  refusal(path: string): string | undefined;
  /** Asks the addon what only calls show. Throws an Error that says what to do where there is no addon. */
  ask(): MachineAnswers;
  /** Opens /dev/kvm. Throws a SystemError. */
  openKvm(): Pick<Kvm, 'checkExtension' | 'close'> & { createVm(): { close(): void } };
  /** Node.js, the processor and the kernel, as Node.js says them; the C library: undefined where it is not glibc. */
  readonly runtime: { node: string; arch: string; kernel: string; glibc: string | undefined };
}

export function thisMachine(): MachineSource {
  return {
    read: (path) => attempted(() => readFileSync(path, 'utf8')),
    list: (path) => attempted(() => readdirSync(path)) ?? [],
    refusal(path) {
      try {
        closeSync(openSync(path, constants.O_RDWR));
        return undefined;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code;
      }
    },
    ask: () => native().askMachine(),
    openKvm: () => native().Kvm.open(),
    runtime: { node: process.versions.node, arch: process.arch, kernel: release(), glibc: glibcVersion() },
  };
}

function attempted<Result>(action: () => Result): Result | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}

function glibcVersion(): string | undefined {
  const report = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
  return report.header.glibcVersionRuntime;
}
