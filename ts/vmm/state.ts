// State of a machine's devices: plain data that a snapshot keeps, small and in words.

import { deflateSync, inflateSync } from 'node:zlib';
import type { PartitionState, PlainState, VcpuState } from '../index.ts';
import { invalid } from './invalid.ts';

/** A part of the machine whose state can be kept, and given to another machine's. */
export interface Device {
  /** State as it is now. */
  save(): PlainState;
  /** Makes its state what `save` gave. Precondition: it is like its own. */
  restore(state: PlainState): void;
}

/** State of a machine but for its RAM. */
interface MachineState {
  readonly version: number;
  /** Bytes of RAM. */
  readonly memory: number;
  readonly cpus: number;
  /** Whether the guest has pulled the reset line, and it is not done yet. */
  readonly isResetWanted: boolean;
  /** Disk that it has: of its contents, nothing. */
  readonly disk: { readonly size: number; readonly file: string | undefined } | undefined;
  readonly partition: PartitionState;
  readonly vcpus: readonly VcpuState[];
  readonly devices: Readonly<Record<string, PlainState>>;
  /** Memory that is not RAM, packed; firmware and its variables where the machine has them. */
  readonly memories: {
    readonly video: Uint8Array;
    readonly shared: Uint8Array;
    readonly firmware: Uint8Array | undefined;
    readonly variables: Uint8Array | undefined;
  };
}

/** Form of the state. */
export const STATE_VERSION = 1;

/** State as a snapshot takes it. */
export function plain(state: MachineState): PlainState {
  return state as unknown as PlainState;
}

/** State of a machine, as `plain` has given it and anybody may have changed it: its frame is checked here, its parts by
 *  those that they are given to. Throws INVALID_ARGUMENT. */
export function machineState(given: PlainState | undefined): MachineState {
  const { version, memory, cpus, vcpus, devices, memories, ...rest } = Object(given) as Partial<MachineState>;
  if (version !== STATE_VERSION) throw invalid('the snapshot has no state of a machine that this monitor can make');
  const isFramed = Array.isArray(vcpus) && vcpus.length === cpus && isObject(devices) && isObject(memories);
  if (!isFramed || (rest.disk !== undefined && !isObject(rest.disk)))
    throw invalid('the state of the machine is damaged');
  return { version, memory, cpus, vcpus, devices, memories, ...rest } as MachineState;
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

/** Numbers that a device holds: the largest is the address of a virtio queue. */
const MOST = 2 ** 44;

/** The state, which anybody may have written, if it has the form of `sample`: the same fields, lists and bytes as long
 *  (any number of bytes where the sample has none). Throws INVALID_ARGUMENT. */
export function like<State>(sample: State, given: unknown, path: string): State {
  const isAlike = (() => {
    if (typeof sample === 'number') return Number.isInteger(given) && Math.abs(given as number) <= MOST;
    if (typeof sample !== 'object' || sample === null) return typeof given === typeof sample;
    if (typeof given !== 'object' || given === null) return false;
    if (sample instanceof Uint8Array) {
      return given instanceof Uint8Array && (sample.length === 0 || sample.length === given.length);
    }
    return Array.isArray(sample) === Array.isArray(given) && Object.keys(sample).length === Object.keys(given).length;
  })();
  if (!isAlike) throw invalid(`${path} is not the state of this machine`);
  if (typeof sample !== 'object' || sample === null || sample instanceof Uint8Array) return given as State;
  for (const [name, part] of Object.entries(sample)) {
    like(part, (given as Record<string, unknown>)[name], `${path}.${name}`);
  }
  return given as State;
}

/** Bytes of a device's memory as a snapshot keeps them. */
export function packed(bytes: Uint8Array): Uint8Array {
  return deflateSync(bytes);
}

/** Bytes that were packed, `size` of them at most. Throws INVALID_ARGUMENT. */
export function unpacked(given: unknown, size: number, path: string): Uint8Array {
  try {
    if (given instanceof Uint8Array) return inflateSync(given, { maxOutputLength: size });
  } catch {
    // What is said of it is said below.
  }
  throw invalid(`${path} must be the bytes of a memory, at most ${size}`);
}
