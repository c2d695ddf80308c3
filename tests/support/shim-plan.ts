// Plans written by hand, for tests of the shim without the core.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import * as abi from '../../assembly/abi.ts';
import { type Executor, type MemoryObject, native, type Reservation, type SystemError } from '../../ts/core/native.ts';

export const PAGE = abi.PAGE_SIZE;
export const { ACCESS_READ: READ, ACCESS_WRITE: WRITE } = abi;
const READ_WRITE = READ | WRITE;

export interface Command {
  op: number;
  sink?: number;
  gpa?: number;
  length?: number;
  offset?: number;
  /** The object of a VA command. */
  object?: number;
  /** The VA space of a slot command. */
  va?: number;
  access?: number;
  slot?: number;
}

export function encode(commands: readonly Command[]): ArrayBuffer {
  const plan = new DataView(new ArrayBuffer(commands.length * abi.COMMAND_SIZE));
  for (const [index, command] of commands.entries()) {
    const at = index * abi.COMMAND_SIZE;
    plan.setUint32(at + abi.COMMAND_OP, command.op, true);
    plan.setUint32(at + abi.COMMAND_SINK, command.sink ?? VA, true);
    plan.setBigUint64(at + abi.COMMAND_GPA, BigInt.asUintN(64, BigInt(command.gpa ?? 0)), true);
    plan.setBigUint64(at + abi.COMMAND_LENGTH, BigInt.asUintN(64, BigInt(command.length ?? PAGE)), true);
    plan.setBigUint64(at + abi.COMMAND_OFFSET, BigInt.asUintN(64, BigInt(command.offset ?? 0)), true);
    plan.setUint32(at + abi.COMMAND_OBJECT, command.object ?? command.va ?? 0, true);
    plan.setUint32(at + abi.COMMAND_ACCESS, command.access ?? READ_WRITE, true);
    plan.setUint32(at + abi.COMMAND_SLOT, command.slot ?? 0, true);
  }
  return plan.buffer;
}

/** Sink ids of a World. */
export const VA = 1;
export const PARTITION = 2;
/** Object ids of a World. */
export const SHARED = 1;
export const PRIVATE = 2;

/** One VA space, one shared and one private object, and an executor that knows them. */
export interface World {
  space: Reservation;
  shared: MemoryObject;
  private: MemoryObject;
  executor: Executor;
  /** Carries out all of it, or throws. */
  run(...commands: Command[]): void;
  /** Carries out none of it: the error. */
  refused(command: Command): SystemError;
  read(gpa: number, length: number): Uint8Array;
  close(): void;
}

export function makeWorld({ size = 64 * PAGE, objectSize = 32 * PAGE } = {}): World {
  const { Reservation, MemoryObject, Executor } = native();
  const space = Reservation.create(size);
  const shared = MemoryObject.memfd('test', objectSize, 0);
  const privately = MemoryObject.privateMemory(objectSize);
  const executor = Executor.create();
  executor.setSink(VA, abi.SINK_VA, space);
  executor.setObject(SHARED, shared);
  executor.setObject(PRIVATE, privately);
  return {
    space,
    shared,
    private: privately,
    executor,
    run(...commands) {
      const done = executor.run(encode(commands), 0, commands.length);
      if (executor.failure) throw executor.failure;
      if (done !== commands.length) throw new Error(`${done} of ${commands.length} commands, and no failure`);
    },
    refused(command) {
      const done = executor.run(encode([command]), 0, 1);
      if (done !== 0 || !executor.failure) throw new Error('the command was carried out');
      return executor.failure;
    },
    read(gpa, length) {
      const bytes = new Uint8Array(length);
      const fault = space.read(gpa, bytes);
      if (fault !== 0) throw new Error(`fault ${fault} at 0x${space.facts[2]?.toString(16)}`);
      return bytes;
    },
    close() {
      for (const handle of [executor, shared, privately, space]) handle.close();
    },
  };
}

/** Mappings in `[base, base + size)`, one line a piece: offset, length, access, and what it is; the names that some
 *  kernels show for anonymous memory are left out. */
export function mapsOf(base: bigint, size: bigint): string[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .flatMap((line) => {
      const fields = /^(\w+)-(\w+) (\S+) (\w+) \S+ (\d+) *(.*)$/.exec(line);
      if (!fields) return [];
      const start = BigInt(`0x${fields[1]}`);
      const end = BigInt(`0x${fields[2]}`);
      if (end <= base || start >= base + size) return [];
      const from = start > base ? start : base;
      const to = end < base + size ? end : base + size;
      const what =
        fields[5] === '0' ? fields[6]!.replace(/^\[anon:.*/, '') : `${fields[6]}+${fields[4]?.replace(/^0+/, '') || 0}`;
      return [`${(from - base).toString(16)} ${(to - from).toString(16)} ${fields[3]} ${what}`.trim()];
    });
}

export function spaceMaps(world: World): string[] {
  return mapsOf(world.space.base, world.space.size);
}

/** Everything of this process that a leak would show in: mappings of ours, descriptors of ours. */
export function footprint(): string[] {
  const maps = readFileSync('/proc/self/maps', 'utf8').match(/.*(memfd:|kvm-vcpu).*/g) ?? [];
  const fds = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`];
    } catch {
      return []; // the descriptor that listed the others
    }
  });
  return [...maps, ...fds];
}
