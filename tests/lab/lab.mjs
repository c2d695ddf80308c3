// The tests in the lab: on a stock KVM, with protection keys and without, on the oldest Node and on the newest.

import { existsSync } from 'node:fs';
import { conclude, Results } from '../../ts/dev/results.mjs';
import { AVA } from '../../ts/dev/run-tests.mjs';
import { StepError } from '../../ts/dev/steps.mjs';
import { linesOf, PROCESSORS } from './machine.mjs';
import { NODES, nodeProgram, setUp } from './set-up.mjs';

/** The part for every commit: what meets the processor and KVM, where a mistake shows first. */
const CORE_PART = ['shim-guest-access', 'shim-kvm', 'map-guests', 'guest-vtl', 'vmm-firmware'];

const ENDING = /^lab: the job ended with (\d+)$/;

/**
 * Runs the tests and gives the exit code.
 * @param {string[]} args names of test files, none for all; --part for the part that takes minutes: with protection
 *   keys, on the oldest Node
 */
export async function runInLab(args) {
  const isPart = args.includes('--part');
  const names = isPart ? CORE_PART : args;
  const files = names.length === 0 ? ['build/tests/*.test.js'] : names.map(fileOf);
  const parts = await setUp();
  const runs = [];
  for (const [processor, cpu] of Object.entries(PROCESSORS).slice(0, isPart ? 1 : undefined)) {
    for (const [version, node] of Object.entries(NODES).slice(0, isPart ? 1 : undefined)) {
      console.log(`\n${processor}, ${node}`);
      runs.push(await run(linesOf(parts, cpu, script(version, files))));
    }
  }
  return conclude(...runs);
}

function fileOf(name) {
  const file = `build/tests/${name}.test.js`;
  if (existsSync(file)) return file;
  throw new StepError(`there is no tests/${name}.test.ts`);
}

/** One file after the other, with the patience that a machine of a twentieth of the speed needs. */
function script(version, files) {
  const ava = `${AVA} --tap --concurrency=1 --timeout=30m`;
  return `cd '${process.cwd()}' && ulimit -n 4096 && exec '${nodeProgram(version)}' ${ava} ${files.join(' ')}\n`;
}

async function run(lines) {
  const results = new Results();
  const progress = new Progress();
  let ending = 'the machine stopped';
  for await (const line of lines) {
    const [, code] = ENDING.exec(line) ?? [];
    if (code !== undefined) ending = Number(code);
    else if (line.startsWith('lab: ')) ending = line;
    progress.hide();
    results.read(line);
    progress.show(results);
  }
  progress.hide();
  results.end(ending);
  return results;
}

/** The line that says how far a run is, rewritten as it goes on; where nobody watches, one line a file. */
class Progress {
  #started = Date.now();
  #file = '';
  #isLive = process.stdout.isTTY;

  show({ file, passed, failed }) {
    if (!this.#isLive && file === this.#file) return;
    const seconds = Math.round((Date.now() - this.#started) / 1000);
    const text = `${String(seconds).padStart(5)} s  ${passed} passed, ${failed} failed, in ${file || 'the first file'}`;
    process.stdout.write(this.#isLive ? text : `${text}\n`);
    this.#file = file;
  }

  hide() {
    if (this.#isLive) process.stdout.write('\r\x1b[K');
  }
}
