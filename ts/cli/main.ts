#!/usr/bin/env node
// The command: finds the subcommand, parses what was typed, and ends with the right exit code. Nothing is loaded that
// the subcommand does not need.

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Command, EXIT, UsageError } from './command.ts';
import { complain, print } from './output.ts';

const COMMANDS: Readonly<Record<string, { summary: string; load: () => Promise<Command> }>> = {
  import: {
    summary: 'make a trace from memory maps recorded elsewhere',
    load: async () => (await import('./import.ts')).importCommand,
  },
  replay: {
    summary: 'replay a trace through the core: views, plans, counts, a hash',
    load: async () => (await import('./replay.ts')).replayCommand,
  },
  flatview: {
    summary: 'what each address space of a map or trace shows',
    load: async () => (await import('./flatview.ts')).flatviewCommand,
  },
  explain: {
    summary: 'why a byte of guest memory is what it is',
    load: async () => (await import('./explain.ts')).explainCommand,
  },
  view: {
    summary: 'a page that shows a trace or a map step by step, or a still picture',
    load: async () => (await import('./view.ts')).viewCommand,
  },
  boot: {
    summary: 'a small PC on KVM, on which firmware or a kernel starts',
    load: async () => (await import('./boot.ts')).bootCommand,
  },
  doctor: {
    summary: 'what this machine can do for a monitor, and what mends the rest',
    load: async () => (await import('./doctor.ts')).doctorCommand,
  },
  demo: {
    summary: "a recorded machine's map on real memory, seen by a real guest",
    load: async () => (await import('./demo.ts')).demoCommand,
  },
};

const HELP = `membacking: guest memory maps, resolved, planned and applied

usage: membacking COMMAND [ARGUMENT...]
       membacking COMMAND --help

${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(10)}${summary}`)
  .join('\n')}

  --help      print this
  --version   print the version

Exit codes: 0 done, 1 the input is wrong or this machine lacks something, 2 the usage is wrong, 70 a bug of membacking.
`;

async function main([name, ...rest]: readonly string[]): Promise<number> {
  if (name === '--help' || name === '-h') return printed(HELP);
  if (name === '--version') return printed(`${version()}\n`);
  if (name === undefined) throw new UsageError('name a command');
  const known = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (known === undefined) throw new UsageError(`there is no command "${name}"`);
  const command = await known.load();
  const { options, operands } = parse(command, rest);
  if (options.help) return printed(command.help);
  return command.run({ options, operands });
}

function parse(command: Command, args: readonly string[]) {
  try {
    const options = { ...command.options, help: { type: 'boolean', short: 'h' } } as const;
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
    return { options: values as Record<string, string | boolean | undefined>, operands: positionals };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code?.startsWith('ERR_PARSE_ARGS')) throw new UsageError(message.replace(/\. To specify.*$/s, ''));
    throw error;
  }
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
    const help = command !== undefined && Object.hasOwn(COMMANDS, command) ? `${command} --help` : '--help';
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
