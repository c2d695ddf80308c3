// The subcommand `compile`: the addon, for a machine that the package brings none for.

import { spawn } from 'node:child_process';
import { readFileSync, renameSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { inspectMachine, MembackingError } from '../index.ts';
import { type Command, EXIT, UsageError } from './command.ts';
import { jsonLine } from './json.ts';
import { complain, print } from './output.ts';

const HELP = `usage: membacking compile [--json]

Compiles the addon from the sources that are part of the package, and puts it into its folder build/,
where it is preferred to those that the package brings. It takes a C++17 compiler: c++, or what the environment variable
CXX names. For machines that the package has no addon for, or on which it does not load.

  --json     one line: {"file","compiler","seconds"}
  --help     print this

Exit codes: 0 done, 1 it cannot be compiled or does not load, 2 the usage is wrong.

Examples:
  npx membacking compile
  CXX=clang++ npx membacking compile
`;

interface Recipe {
  readonly compile: readonly string[];
  readonly link: readonly string[];
  readonly output: string;
  readonly units: readonly string[];
}

export const compileCommand: Command = {
  help: HELP,
  options: { json: { type: 'boolean' } },
  async run({ options: { json }, operands }) {
    if (operands.length > 0) throw new UsageError('compile takes no arguments');
    const root = fileURLToPath(new URL('..', import.meta.url));
    const { compile, link, output, units }: Recipe = JSON.parse(readFileSync(`${root}shim/recipe.json`, 'utf8'));
    const compiler = process.env.CXX ?? 'c++';
    if (process.stderr.isTTY) complain('note', `${compiler} is at work; this takes up to a minute`);
    const started = performance.now();
    // Not the file itself: another process may have it loaded.
    const made = `${output}.new`;
    await run(compiler, [...compile, ...link, ...units, '-o', made], root);
    renameSync(`${root}${made}`, `${root}${output}`);
    const { addonError } = inspectMachine();
    if (addonError !== undefined) throw new MembackingError('NATIVE_MISSING', addonError);
    const answer = { file: `${root}${output}`, compiler, seconds: Math.round(performance.now() - started) / 1000 };
    await print(json ? jsonLine(answer) : `${answer.file}: made by ${compiler} in ${answer.seconds} s, and loads\n`);
    return EXIT.done;
  },
};

/** Runs the compiler to its end. Throws NATIVE_MISSING with what it said. */
async function run(compiler: string, args: readonly string[], folder: string): Promise<void> {
  const child = spawn(compiler, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (said += text));
  const failure = await new Promise<string | undefined>((resolve) => {
    child.on('error', ({ message }) => resolve(`${compiler} does not start (${message}): install g++, or set CXX`));
    child.on('close', (code, signal) =>
      resolve(code === 0 ? undefined : `${said}${compiler} ended with ${signal ?? code}`),
    );
  });
  if (failure !== undefined) {
    throw new MembackingError('NATIVE_MISSING', `the addon cannot be compiled in ${folder}: ${failure}`);
  }
}
