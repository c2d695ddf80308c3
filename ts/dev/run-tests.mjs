// Runs ava and reads its TAP: failures in full and what tests log, as they come; then passed counts by file, the
// skipped tests, and as the very last line `N passed, N failed`. Fails closed: a crash, or no test at all, is a failure.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const RESULT = /^(not )?ok \d+ - (.*?)( # [A-Z]+\b.*)?$/;
/** Stands behind all results. */
const PLAN = /^1\.\.\d+$/;
/** What belongs to the result above it: its log, its error. */
const DETAIL = /^#? {2}/;

/** Gives the exit code. @param {string[]} args handed to ava */
export async function runTests(args) {
  const ava = spawn(process.execPath, ['node_modules/ava/entrypoints/cli.mjs', '--tap', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => ava.on('close', (code, signal) => resolve(signal ?? code)));

  const passedIn = new Map();
  const skipped = [];
  let passed = 0;
  let failed = 0;
  let heading = '';
  let isWhole = false;
  const fail = (title) => {
    failed++;
    console.log(`\nFAILED ${title}`);
    heading = '';
  };
  for await (const line of createInterface({ input: ava.stdout })) {
    const [isResult, not, title, directive] = RESULT.exec(line) ?? [];
    isWhole ||= PLAN.test(line);
    if (!isResult) {
      if (!DETAIL.test(line)) continue;
      if (heading !== '') console.log(heading);
      heading = '';
      console.log(line.replace(/^#/, ' '));
    } else if (directive) {
      skipped.push(title);
    } else if (not) {
      fail(title);
    } else {
      passed++;
      heading = `\n${title}`;
      const [file, test] = title.split(' › ');
      if (test) passedIn.set(file, (passedIn.get(file) ?? 0) + 1);
    }
  }

  const ending = await ended;
  if (!isWhole || (ending !== 0 && failed === 0))
    fail(`ava ended with ${ending}${isWhole ? '' : ', and not all tests ran'}`);
  if (passed + failed === 0) fail('no test ran');
  console.log();
  for (const [file, count] of [...passedIn].sort()) console.log(`${String(count).padStart(5)} passed in ${file}`);
  if (skipped.length > 0) console.log(`\nskipped:\n${skipped.map((title) => `  ${title}`).join('\n')}\n`);
  console.log(`${passed} passed, ${failed} failed${skipped.length > 0 ? `, ${skipped.length} skipped` : ''}`);
  return failed > 0 ? 1 : 0;
}
