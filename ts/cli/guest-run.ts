// Running a guest of the example monitor: its keys, its output, its snapshots, and how it ends.

import type { Monitor, Stop } from '../vmm/index.ts';
import { type Arguments, EXIT, UsageError } from './command.ts';
import { Console } from './console.ts';
import type { GuestOutput } from './guest-output.ts';
import type { Snapshots } from './guest-snapshots.ts';
import { complain } from './output.ts';

const TIME_UP = 124;

/** Surroundings of a guest that runs. */
interface Surroundings {
  /** Seconds. */
  readonly timeout: number | undefined;
  readonly output: GuestOutput;
  readonly snapshots: Snapshots;
  /** Whether standard input is the guest's. */
  readonly hasInput: boolean;
}

/** Runs a guest. Returns how it ended; undefined if its user has left. */
export async function runGuest(monitor: Monitor, surroundings: Surroundings): Promise<Stop | undefined> {
  const { timeout, output, snapshots, hasInput } = surroundings;
  const timer = timeout === undefined ? undefined : setTimeout(() => monitor.stop(), timeout * 1000);
  let input: Console | undefined;
  let hasLeft = false;
  try {
    snapshots.begin(monitor);
    const leave = () => {
      hasLeft = true;
      monitor.stop();
    };
    const type = (bytes: Uint8Array) => monitor.type(bytes);
    if (hasInput) input = new Console({ type, leave, snapshot: () => snapshots.take() });
    output.watch(monitor);
    const end = await monitor.run();
    await output.flush();
    await snapshots.end(end);
    return hasLeft ? undefined : end;
  } finally {
    clearTimeout(timer);
    input?.close();
    snapshots.close();
  }
}

/** Reads `--timeout`. Throws UsageError. */
export function seconds(time: Arguments['options'][string]): number | undefined {
  if (time === undefined) return undefined;
  const value = Number(time);
  if (value > 0 && value <= 2 ** 31 / 1000) return value;
  throw new UsageError(`--timeout must be a number of seconds above 0, such as 60, not "${time}"`);
}

/** The exit code for the end of a guest, after saying what is wrong with it. `name`: what tells it from others. */
export function exitCode(stop: Stop | undefined, name?: string): number {
  const say = (kind: 'note' | 'error', message: string) =>
    complain(kind, name === undefined ? message : `${name}: ${message}`);
  switch (stop?.kind) {
    case undefined:
      return EXIT.done;
    case 'exit':
      if (stop.status === 0) return EXIT.done;
      say('error', `the guest says that it failed: ${stop.status}`);
      return EXIT.wrongInput;
    case 'stopped':
      say('note', 'the time was up');
      return TIME_UP;
    case 'reset':
      say('error', 'the guest resets itself, which is its end here');
      return EXIT.wrongInput;
    case 'crashed':
      say('error', stop.message);
      return EXIT.wrongInput;
  }
}
