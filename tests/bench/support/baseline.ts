// The addon that does the same without this package: see native/baseline.cc.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { artefact } from '../../../ts/core/artefact.ts';

/** Pieces of memory: triples of host address (or offset in a reservation), bytes, and offset in the file or GPA. */
export type Pieces = BigUint64Array;

interface Baseline {
  empty(): void;
  /** Maps each piece of the file, over whatever is there. */
  remap(fd: number, pieces: Pieces): void;
  /** Maps nothing over each piece. */
  clear(pieces: Pieces): void;
  /** Gives each piece of the file back to the machine. */
  punch(fd: number, pieces: Pieces): void;
  /** Writes to the first `pages` pages of each piece. */
  touch(pieces: Pieces, pages: number): void;
  /** Write-protects each piece asynchronously, for good. */
  watch(pieces: Pieces): void;
  /** Finds the bytes written in them since they were asked for last. */
  collect(pieces: Pieces): void;
  /** Makes a sparse file of `bytes` with each piece at its offset: under another name, synced, renamed. */
  writePages(path: string, bytes: number, pieces: Pieces): void;
  /** Address of new memory, whose pages a bare fault handler copies from a file. */
  serveFaults(fd: number, bytes: number): bigint;
  /** Has each first write to the memory wait for the handler again, which was given no file (-1). */
  protectFaults(): void;
  endFaults(): void;
  /** mprotect of each piece, whose third word is PROT_*. */
  protect(pieces: Pieces): void;
  /** One memcpy for each GPA. */
  copy(hva: bigint, bytes: Uint8Array, length: number, gpas: Float64Array, isWrite: boolean): void;
  /** Makes a memory slot read-only or writable, and back, `count` changes in all. The offset of the piece that it shows
   *  is its GPA. */
  flip(vm: number, slot: number, shown: Pieces, isReadOnly: boolean, count: number): void;
  /** KVM notes, from now on, which pages of a slot at GPA 0 are written. */
  logWrites(vm: number, slot: number, size: number, hva: bigint): void;
  /** Takes what it has noted of a slot of `pages`, which begins anew. */
  takeLog(vm: number, slot: number, pages: number): void;
  /** Reserves, maps, gives the VM its slots, and takes everything back. */
  build(vm: number, reserved: number, bytes: number, pieces: Pieces, slots: Pieces): void;
  /** Runs a vCPU for `count` exits. */
  exits(vcpu: number, kvmRunSize: number, count: number): void;
  /** Makes processes that change a mapping of theirs when they are told to. Their numbers. */
  beginFollowers(count: number): number[];
  /** Tells them all, and waits until all have done so, `count` times. */
  tellFollowers(count: number): void;
  /** Gives the first of them a descriptor, and waits for its answer, `count` times. */
  giveFollower(fd: number, count: number): void;
  endFollowers(): void;
  /** std::map: these keys and no others. */
  treeFill(keys: Float64Array): void;
  /** Takes one key out, puts the next one in, and so on. */
  treeChange(keys: Float64Array): void;
}

export const baseline: Baseline = createRequire(import.meta.url)(fileURLToPath(artefact('obj/baseline.node')));
