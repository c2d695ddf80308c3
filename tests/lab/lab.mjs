// The tests in the lab: on a stock KVM, with protection keys and without, on the oldest Node and on the newest. The
// benchmark of what starts on it.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { conclude, Results } from '../../ts/dev/results.mjs';
import { AVA } from '../../ts/dev/run-tests.mjs';
import { StepError } from '../../ts/dev/steps.mjs';
import { GUESTS } from './guests.mjs';
import { FIRMWARE_MACHINE, linesOf, MACHINES, SYSTEMS_MACHINE } from './machine.mjs';
import { NODES, setUp } from './set-up.mjs';

/** The part for every commit: what meets the processor and KVM, where a mistake shows first. */
const CORE_PART = ['shim-fault-guard', 'shim-guest-access', 'shim-kvm', 'map-guests', 'guest-vtl', 'vmm-firmware'];

const ENDING = /^lab: the job ended with (\d+)$/;

/** Files whose guests are whole systems: in a machine for those. Elsewhere their tests skip. */
const SYSTEMS = ['vmm-debian', 'vmm-ovmf'];

/** Files of those whose guests are firmware, in a machine for that. */
const FIRMWARE = ['vmm-ovmf'];

/**
 * Chooses what is to be run.
 * @param {string[]} args names of test files, none for all; --part for the part that takes minutes: with protection
 *   keys, on the oldest Node
 */
function choose(args) {
  const [machines, versions] = [Object.entries(MACHINES), NODES];
  if (args.includes('--part')) {
    return { names: CORE_PART, systems: SYSTEMS, machines: machines.slice(0, 1), versions: versions.slice(0, 1) };
  }
  const names = args.filter((name) => !SYSTEMS.includes(name));
  const systems = args.length === 0 ? SYSTEMS : args.filter((name) => SYSTEMS.includes(name));
  return { names, systems, machines: args.length > 0 && names.length === 0 ? [] : machines, versions };
}

/** Gets what `runInLab` needs. @param {string[]} args see `choose` */
export function setUpLab(args) {
  return setUp(choose(args).versions);
}

/** Runs the tests and gives the exit code. @param {string[]} args see `choose` */
export async function runInLab(args) {
  const { names, systems, machines, versions } = choose(args);
  const files = names.length === 0 ? ['build/tests/*.test.js'] : names.map(fileOf);
  const { nodes, ...parts } = await setUp(versions);
  mkdirSync('node_modules/.cache/ava', { recursive: true }); // ava would, where files can be written
  const runs = [];
  for (const [title, machine] of machines) {
    for (const node of nodes) {
      announce(title, node);
      runs.push(await run(linesOf(parts, machine, script(node, files))));
    }
  }
  if (systems.length > 0) {
    const [node] = nodes;
    for (const name of systems) {
      announce(`${name}, whose guests are whole systems`, node);
      const machine = FIRMWARE.includes(name) ? FIRMWARE_MACHINE : SYSTEMS_MACHINE;
      runs.push(await run(linesOf(parts, machine, script(node, [fileOf(name)], { MEMBACKING_GUESTS: GUESTS }))));
    }
  }
  return conclude(...runs);
}

/** Runs groups of benchmarks where whole systems start, and gives the run: a line of JSON. @param {string[]} names */
export async function benchInLab(names) {
  const { nodes, ...parts } = await setUp(NODES.slice(0, 1));
  const program = `'${nodes[0]}' --enable-source-maps build/bench/main.bench.js --json ${names.join(' ')}`;
  const job = `cd '${process.cwd()}' && MEMBACKING_GUESTS='${GUESTS}' exec ${program}\n`;
  let run;
  for await (const line of linesOf(parts, SYSTEMS_MACHINE, job)) {
    if (line.startsWith('{')) run = line;
    else console.log(line);
  }
  if (run === undefined) throw new StepError('the benchmark in the lab came to nothing');
  return run;
}

function announce(title, node) {
  console.log(`\n${title}, Node ${execFileSync(node, ['--version'], { encoding: 'utf8' })}`);
}

function fileOf(name) {
  const file = `build/tests/${name}.test.js`;
  if (existsSync(file)) return file;
  throw new StepError(`there is no tests/${name}.test.ts`);
}

/** One file after the other, with the effort and the patience that are right for a machine of a twentieth of the
 *  speed. */
function script(node, files, settings = {}) {
  const ava = `'${node}' ${AVA} --tap --concurrency=1 --timeout=30m ${files.join(' ')}`;
  const exports = Object.entries({ MEMBACKING_EFFORT: 0.05, ...settings }).map(([name, value]) => `${name}='${value}'`);
  return `cd '${process.cwd()}' && ulimit -n 4096 && export ${exports.join(' ')} && exec ${ava}\n`;
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
