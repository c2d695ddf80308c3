// The tests in the lab: on a stock KVM, with protection keys and without, on the oldest Node and on the newest.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { conclude, Results } from '../../ts/dev/results.mjs';
import { AVA } from '../../ts/dev/run-tests.mjs';
import { StepError } from '../../ts/dev/steps.mjs';
import { linesOf, PROCESSORS } from './machine.mjs';
import { NODES, setUp } from './set-up.mjs';

/** The part for every commit: what meets the processor and KVM, where a mistake shows first. */
const CORE_PART = ['shim-fault-guard', 'shim-guest-access', 'shim-kvm', 'map-guests', 'guest-vtl', 'vmm-firmware'];

const ENDING = /^lab: the job ended with (\d+)$/;

/**
 * Chooses what is to be run.
 * @param {string[]} args names of test files, none for all; --part for the part that takes minutes: with protection
 *   keys, on the oldest Node
 */
function choose(args) {
  const [processors, versions] = [Object.entries(PROCESSORS), NODES];
  if (!args.includes('--part')) return { names: args, processors, versions };
  return { names: CORE_PART, processors: processors.slice(0, 1), versions: versions.slice(0, 1) };
}

/** Gets what `runInLab` needs. @param {string[]} args see `choose` */
export function setUpLab(args) {
  return setUp(choose(args).versions);
}

/** Runs the tests and gives the exit code. @param {string[]} args see `choose` */
export async function runInLab(args) {
  const { names, processors, versions } = choose(args);
  const files = names.length === 0 ? ['build/tests/*.test.js'] : names.map(fileOf);
  const { nodes, ...machine } = await setUp(versions);
  const runs = [];
  for (const [processor, cpu] of processors) {
    for (const node of nodes) {
      console.log(`\n${processor}, Node ${execFileSync(node, ['--version'], { encoding: 'utf8' })}`);
      runs.push(await run(linesOf(machine, cpu, script(node, files))));
    }
  }
  return conclude(...runs);
}

function fileOf(name) {
  const file = `build/tests/${name}.test.js`;
  if (existsSync(file)) return file;
  throw new StepError(`there is no tests/${name}.test.ts`);
}

/** One file after the other, with the effort and the patience that are right for a machine of a twentieth of the
 *  speed. */
function script(node, files) {
  const ava = `'${node}' ${AVA} --tap --concurrency=1 --timeout=30m ${files.join(' ')}`;
  return `cd '${process.cwd()}' && ulimit -n 4096 && export MEMBACKING_EFFORT=0.05 && exec ${ava}\n`;
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
