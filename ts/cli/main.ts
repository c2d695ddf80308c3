#!/usr/bin/env node
// The command: finds the subcommand, parses what was typed, and ends with the right exit code.

import { readFileSync } from 'node:fs';
import { parseArguments, suggestion } from './arguments.ts';
import { type Command, EXIT, UsageError } from './command.ts';
import { COMMANDS, type CommandEntry } from './commands.ts';
import { complain, print, setColors } from './output.ts';

const ALL: Readonly<Record<string, CommandEntry>> = {
  ...COMMANDS,
  completion: {
    summary: 'what makes a shell complete commands and options',
    load: async () => (await import('./completion.ts')).completionOf(ALL),
  },
};

const HELP = `membacking: guest memory maps, resolved, planned and applied

usage: membacking COMMAND [ARGUMENT...]
       membacking help COMMAND

${Object.entries(ALL)
  .map(([name, { summary }]) => `  ${name.padEnd(15)}${summary}`)
  .join('\n')}

  --help, -h      print this; behind a command, its help
  --version, -v   print the version
  --color WHEN    behind a command: always, never, or auto, as without it: on a terminal, unless NO_COLOR is set

Exit codes: 0 done, 1 the input is wrong or this machine lacks something, 2 the usage is wrong, 70 a bug of membacking.

Examples:
  membacking doctor                        what this machine can do
  membacking import mtree.txt > pc.jsonl   QEMU's "info mtree" as a trace
  membacking explain pc.jsonl 0xc8000      why that byte is what it is
  membacking view pc.jsonl --open          all of it, step by step, in the browser
`;

async function main([name, ...rest]: readonly string[]): Promise<number> {
  if (name === undefined) throw new UsageError('name a command');
  if (name === '--help' || name === '-h') return printed(HELP);
  if (name === '--version' || name === '-v') return printed(`${version()}\n`);
  if (name === 'help') return printed(rest[0] === undefined ? HELP : (await commandNamed(rest[0])).help);
  const command = await commandNamed(name);
  const given = parseArguments(command, rest);
  setColors(given.options.color);
  return given.options.help ? printed(command.help) : command.run(given);
}

async function commandNamed(name: string): Promise<Command> {
  const known = Object.hasOwn(ALL, name) ? ALL[name] : undefined;
  if (known !== undefined) return known.load();
  const kind = name.startsWith('-') ? 'option' : 'command';
  const words = kind === 'option' ? ['--help', '--version'] : [...Object.keys(ALL), 'help'];
  throw new UsageError(`there is no ${kind} "${name}"${suggestion(name, words)}`);
}

/** Version of the package that this file is part of. */
function version(): string {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;
}

async function printed(text: string): Promise<number> {
  await print(text);
  return EXIT.done;
}

/** The exit code for what was thrown, after saying it. */
function ended(error: unknown, command: string | undefined): number {
  const { name, code, syscall, message, stack } = error as NodeJS.ErrnoException;
  if (error instanceof UsageError) {
    const help = command !== undefined && Object.hasOwn(ALL, command) ? `${command} --help` : '--help';
    complain('error', `${message}\nSee membacking ${help}.`);
    return EXIT.wrongUsage;
  }
  if ((name === 'MembackingError' && code !== 'CORE_TRAPPED') || syscall !== undefined) {
    complain('error', message);
    return EXIT.wrongInput;
  }
  complain(
    'bug',
    `this should not happen. Please report it, with the input and what follows.\n${stack ?? String(error)}`,
  );
  return EXIT.bug;
}

/** The exit code where standard output takes no more. */
function outputEnded({ code, message }: NodeJS.ErrnoException): number {
  if (code === 'EPIPE') return EXIT.done; // who reads has seen enough
  complain('error', `the output cannot be written: ${message}`);
  return EXIT.wrongInput;
}

const args = process.argv.slice(2);
process.stdout.on('error', (error) => process.exit(outputEnded(error)));
process.stderr.on('error', () => {});
try {
  process.exitCode = await main(args);
} catch (error) {
  process.exitCode = ended(error, args[0]);
}
