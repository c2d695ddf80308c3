// Arguments as they are typed: names that nobody knows, and options that are not as they must be, in words that help.

import { parseArgs } from 'node:util';
import { type Arguments, type Command, UsageError } from './command.ts';

/** Options that every subcommand has. */
export const COMMON_OPTIONS = {
  help: { type: 'boolean', short: 'h' },
  color: { type: 'string' },
} as const satisfies Command['options'];

export const COLORS = ['auto', 'always', 'never'] as const;

/** Reads what was typed behind a subcommand. Throws UsageError. */
export function parseArguments(command: Command, args: readonly string[]): Arguments {
  const options = { ...command.options, ...COMMON_OPTIONS };
  try {
    const config = { args: joined(args, options), options, allowPositionals: true, strict: true };
    const { values, positionals } = parseArgs(config);
    return { options: values as Arguments['options'], operands: positionals };
  } catch (error) {
    throw new UsageError(explained(error as NodeJS.ErrnoException, Object.keys(options)));
  }
}

/** A value that begins like an option is one nevertheless, where it is a number: what is wrong with it, the subcommand
 *  says. */
function joined(args: readonly string[], options: Command['options']): string[] {
  const isValueOf = (name: string | undefined, value: string) =>
    name?.startsWith('--') && options[name.slice(2)]?.type === 'string' && /^-\d/.test(value);
  return args.flatMap((arg, index) => {
    if (isValueOf(args[index - 1], arg)) return [];
    const next = args[index + 1];
    return next !== undefined && isValueOf(arg, next) ? [`${arg}=${next}`] : [arg];
  });
}

function explained(error: NodeJS.ErrnoException, known: readonly string[]): string {
  const name = /'(?:-\w, )?(-[^' ]*)/.exec(error.message)?.[1];
  if (name === undefined || !error.code?.startsWith('ERR_PARSE_ARGS')) throw error;
  if (error.code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') {
    return `there is no option ${name}${suggestion(
      name,
      known.map((each) => `--${each}`),
    )}`;
  }
  return /does not take/.test(error.message) ? `${name} takes no value` : `${name} needs a value`;
}

/** `; did you mean "replay"?`, where one of the known words is near to what was typed; else nothing. */
export function suggestion(typed: string, known: readonly string[]): string {
  const near = known
    .map((word) => ({ word, distance: distance(typed, word) }))
    .filter(({ word, distance: far }) => far <= Math.max(1, word.replace(/^-+/, '').length / 3))
    .sort((a, b) => a.distance - b.distance);
  return near[0] === undefined ? '' : `; did you mean ${near[0].word}?`;
}

/** Letters that are added, left out, changed, or swapped with their neighbour, between two words. */
function distance(from: string, to: string): number {
  const rows = [Array.from({ length: to.length + 1 }, (_, column) => column)];
  for (let i = 1; i <= from.length; i++) {
    const row = [i];
    for (let j = 1; j <= to.length; j++) {
      const changed = rows[i - 1]![j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1);
      const isSwapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1];
      const swapped = isSwapped ? rows[i - 2]![j - 2]! + 1 : Number.POSITIVE_INFINITY;
      row.push(Math.min(changed, swapped, rows[i - 1]![j]! + 1, row[j - 1]! + 1));
    }
    rows.push(row);
  }
  return rows[from.length]![to.length]!;
}
