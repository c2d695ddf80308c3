// Runs ava on this machine.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { conclude, Results } from './results.mjs';

export const AVA = 'node_modules/ava/entrypoints/cli.mjs';

/** Gives the exit code. @param {string[]} args handed to ava */
export async function runTests(args) {
  const ava = spawn(process.execPath, [AVA, '--tap', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => ava.on('close', (code, signal) => resolve(signal ?? code)));
  const results = new Results();
  for await (const line of createInterface({ input: ava.stdout })) results.read(line);
  results.end(await ended);
  return conclude(results);
}
