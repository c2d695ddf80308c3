// The one door to building and testing: `node ts/dev/task.mjs COMMAND`, behind every script of package.json.
// Installs what is missing, then does only the steps whose inputs have changed.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { benchInLab, runInLab, setUpLab } from '../../tests/lab/lab.mjs';
import { setUpRuntimes } from '../../tests/support/runtimes.mjs';
import { addon, helperAddon, hostPrebuild, plainUnit, prebuilds } from './addon.mjs';
import {
  checkStyle,
  checkTypes,
  commonJs,
  core,
  debugCore,
  declarations,
  fixStyle,
  library,
  programs,
  reference,
  referenceTools,
  samples,
  viewer,
} from './build.mjs';
import { runTests } from './run-tests.mjs';
import { digest, execute, filesUnder, StepError, together } from './steps.mjs';

/** Digest of the package-lock.json that node_modules was last made from. */
const INSTALLED = 'node_modules/.membacking-lock';

const commands = {
  /** Builds everything that `npm start` and a user's program need. */
  async build() {
    if (!isInstalled()) await together(install(), plainUnit());
    await together(core().then(viewer), addon(), library(), samples());
  },

  /** @param {string[]} args handed to ava */
  test(args) {
    return tested(() => runTests(args));
  },

  /** @param {string[]} args names of test files, none for all; --part for the part for every commit */
  lab(args) {
    return tested(() => runInLab(args));
  },

  /** Downloads and makes what the lab needs, and says what is missing. @param {string[]} args as of `lab` */
  async 'lab-set-up'(args) {
    await setUpLab(args);
  },

  async check() {
    await install();
    await together(checkTypes(), checkStyle());
  },

  async format() {
    await install();
    await fixStyle();
  },

  /** Makes the pages of ts/guide/reference from the declarations. */
  async reference() {
    await install();
    await together(declarations(), referenceTools());
    await reference();
  },

  /** Downloads what the package is tried on. */
  'runtimes-set-up'() {
    setUpRuntimes();
  },

  /** Installs what the reference is made with, and its test needs. */
  async 'reference-set-up'() {
    await install();
    await referenceTools();
  },

  /** @param {string[]} args names of benchmarks, none for all; --compare FILE for what changed since that run */
  async bench(args) {
    await benchmarks();
    const flags = ['--enable-source-maps', 'build/bench/main.bench.js'];
    return spawnSync(process.execPath, [...flags, ...args], { stdio: 'inherit' }).status ?? 1;
  },

  /** Measures how systems start on stock KVM, in the lab. The report of the next whole run has it. */
  async 'bench-lab'() {
    await benchmarks();
    writeFileSync('build/bench.lab.json', await benchInLab(['boot']));
  },

  /** Builds everything that the package has for this machine: for who installs it from the repository. */
  async package() {
    await commands.build();
    await together(debugCore(), declarations().then(commonJs), hostPrebuild());
  },

  /** Builds the addon for every machine that the package brings it for. */
  async prebuildify() {
    await install();
    await prebuilds();
  },

  /** Builds everything that `npm pack` needs. */
  async prepack() {
    await commands.prebuildify();
    await commands.package();
  },

  /** Builds behind npm's own install, in a clone: node_modules is as it should be then. */
  async prepare() {
    if (/^(ci|install)$/.test(process.env.npm_command ?? '')) markInstalled();
    await commands.package();
  },
};

async function benchmarks() {
  await commands.package();
  await together(...helpers('tests/bench/native'), programs('build/bench', filesUnder('tests/bench', '.bench.ts')));
}

function helpers(folder) {
  return filesUnder(folder, '.cc').map(helperAddon);
}

function isInstalled() {
  return existsSync(INSTALLED) && readFileSync(INSTALLED, 'utf8') === digest(readFileSync('package-lock.json'));
}

/** Makes node_modules what package-lock.json says, unless it is already. */
async function install() {
  if (isInstalled()) return;
  console.log('npm ci');
  // No script that would come back here.
  await execute('npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund');
  markInstalled();
}

function markInstalled() {
  writeFileSync(INSTALLED, digest(readFileSync('package-lock.json')));
}

/** Builds the tests and runs them; what cannot be built is a failure. */
async function tested(run) {
  try {
    await commands.build();
    await together(
      debugCore(),
      programs('build/tests', filesUnder('tests', '.test.ts')),
      declarations().then(commonJs),
      hostPrebuild(),
      ...helpers('tests/native'),
    );
    return await run();
  } catch (error) {
    explain(error);
    console.log('0 passed, 1 failed');
    return 1;
  }
}

function explain(error) {
  console.error(error instanceof StepError ? error.message : error);
}

process.chdir(fileURLToPath(new URL('../..', import.meta.url)));
const [name, ...args] = process.argv.slice(2);
if (Object.hasOwn(commands, name ?? '')) {
  try {
    process.exitCode = (await commands[name](args)) ?? 0;
  } catch (error) {
    explain(error);
    process.exitCode = 1;
  }
} else {
  console.error(`usage: node ts/dev/task.mjs ${Object.keys(commands).join(' | ')}`);
  process.exitCode = 2;
}
