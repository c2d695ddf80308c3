// Build steps that run only when what they are made from has changed. Node's own modules only:
// this runs before anything is installed.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';

const CACHE = 'build/.cache.json';

/** Every step depends on the versions of the tools. */
export const TOOLS = 'package-lock.json';

/** A step that could not be done; the message is all that the user needs to see. */
export class StepError extends Error {}

/**
 * @typedef {object} Step
 * @property {string} name what the progress line says
 * @property {string[]} from files that it reads
 * @property {string[]} to files that it makes
 * @property {unknown} [key] whatever else decides the result
 * @property {() => unknown} run
 */

/** Runs the step unless its inputs are as they were when it last succeeded. @param {Step} step */
export async function perform(step) {
  const inputs = digest(JSON.stringify([step.key, step.from.map((path) => [path, digest(readFileSync(path))])]));
  if (cache()[step.name] === inputs && step.to.every((path) => existsSync(path))) return;
  for (const path of step.to) mkdirSync(dirname(path), { recursive: true });
  const started = performance.now();
  await step.run();
  remember(step.name, inputs);
  console.log(`${step.name.padEnd(24)} ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

/** Waits for all of the steps to end, also when one fails. @param {Promise<unknown>[]} steps */
export async function together(...steps) {
  const results = await Promise.allSettled(steps);
  const reasons = results.filter(({ status }) => status === 'rejected').map(({ reason }) => reason);
  if (reasons.every((reason) => reason instanceof StepError)) {
    if (reasons.length > 0) throw new StepError(reasons.map(({ message }) => message).join('\n\n'));
  } else {
    throw reasons.find((reason) => !(reason instanceof StepError));
  }
}

/** Every file under the folder, at any depth, whose path ends so; sorted. None where there is no such folder. */
export function filesUnder(folder, ...endings) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .map((path) => `${folder}/${path}`)
    .filter((path) => endings.some((ending) => path.endsWith(ending)))
    .sort();
}

export function digest(content) {
  return createHash('sha256').update(content).digest('hex');
}

/** Runs a program to its end and gives its output; one that fails is a StepError that shows the output. */
export async function execute(program, ...args) {
  await processor();
  try {
    return await new Promise((resolve, reject) => {
      const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
      let output = '';
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text) => (output += text));
      child.on('error', reject);
      child.on('close', (code, signal) => {
        if (code === 0) resolve(output);
        else
          reject(new StepError(`${[program, ...args].join(' ')}\n${output}\nended with ${signal ?? `code ${code}`}`));
      });
    });
  } finally {
    processorFree();
  }
}

// ---- No more programs at a time than there are processors ------------------------------------

let idle = availableParallelism();
const waiting = [];

async function processor() {
  if (idle > 0) idle--;
  else await new Promise((resolve) => waiting.push(resolve));
}

function processorFree() {
  const next = waiting.shift();
  if (next) next();
  else idle++;
}

// ---- The inputs of each step when it last succeeded ------------------------------------------

let remembered;

function cache() {
  if (!remembered) {
    try {
      remembered = JSON.parse(readFileSync(CACHE, 'utf8'));
    } catch {
      remembered = {};
    }
  }
  return remembered;
}

function remember(name, inputs) {
  cache()[name] = inputs;
  writeFileSync(`${CACHE}.new`, JSON.stringify(cache(), null, 1));
  renameSync(`${CACHE}.new`, CACHE);
}
