// Subcommands: their interface, their exit codes and the errors that they report.

import type { ParseArgsConfig } from 'node:util';

export const EXIT = {
  done: 0,
  /** The input is wrong, or the system does not give what is needed. */
  wrongInput: 1,
  wrongUsage: 2,
  /** The command itself is wrong. */
  bug: 70,
} as const;

export interface Arguments {
  /** Options by name. */
  readonly options: Readonly<Record<string, string | boolean | undefined>>;
  readonly operands: readonly string[];
}

export interface Command {
  /** Everything that `--help` prints. */
  readonly help: string;
  /** Besides `--help`. */
  readonly options: NonNullable<ParseArgsConfig['options']>;
  /** Does it, and gives the exit code. Throws UsageError and MembackingError. */
  run(given: Arguments): Promise<number>;
}

/** Error for arguments that mean nothing. */
export class UsageError extends Error {}

/** Checks that there is at least one file, and standard input at most once. Throws UsageError. */
export function checkFiles(files: readonly string[]): void {
  if (files.length === 0) throw new UsageError('name at least one FILE, or - for standard input');
  if (files.filter((file) => file === '-').length > 1) throw new UsageError('standard input (-) can be read only once');
}
