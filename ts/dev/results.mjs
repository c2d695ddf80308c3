// Reads ava's TAP: failures in full and what tests log, as they come; then passed counts by file and the skipped tests.
// Fails closed: a crash, or no test at all, is a failure; tests that are all skipped are none, and said to be.

const RESULT = /^(not )?ok \d+ - (.*?)( # [A-Z]+\b.*)?$/;
/** Stands behind all results. */
const PLAN = /^1\.\.\d+$/;
/** A line that belongs to the result above it: its log, its error. */
const DETAIL = /^#? {2}/;

/** Results of one run of ava. */
export class Results {
  passed = 0;
  failed = 0;
  skipped = [];
  /** File of the last result; empty where ava runs one file alone and does not name it. */
  file = '';
  #passedIn = new Map();
  #heading = '';
  #isWhole = false;

  /** @param {string} line of ava's TAP */
  read(line) {
    const [isResult, not, title, directive] = RESULT.exec(line) ?? [];
    this.#isWhole ||= PLAN.test(line);
    if (!isResult) {
      if (DETAIL.test(line)) this.#detail(line.replace(/^#/, ' '));
      return;
    }
    const [file, test] = title.split(' › ');
    if (test) this.file = file;
    if (directive) this.skipped.push(title);
    else if (not) this.#fail(title);
    else this.#pass(title, test && file);
  }

  /** @param {string | number} ending the exit code of ava, or what else became of it */
  end(ending) {
    if (!this.#isWhole || (ending !== 0 && this.failed === 0))
      this.#fail(`ava ended with ${ending}${this.#isWhole ? '' : ', and not all tests ran'}`);
    if (this.passed + this.failed + this.skipped.length === 0) this.#fail('no test ran');
    console.log();
    for (const [file, count] of [...this.#passedIn].sort())
      console.log(`${String(count).padStart(5)} passed in ${file}`);
    const { skipped } = this;
    if (skipped.length > 0) console.log(`\nskipped:\n${skipped.map((title) => `  ${title}`).join('\n')}\n`);
  }

  #pass(title, file) {
    this.passed++;
    this.#heading = `\n${title}`;
    if (file) this.#passedIn.set(file, (this.#passedIn.get(file) ?? 0) + 1);
  }

  #fail(title) {
    this.failed++;
    console.log(`\nFAILED ${title}`);
    this.#heading = '';
  }

  #detail(line) {
    if (this.#heading !== '') console.log(this.#heading);
    this.#heading = '';
    console.log(line);
  }
}

/** Writes the very last line, `N passed, N failed`, and gives the exit code. @param {Results[]} runs */
export function conclude(...runs) {
  const sum = (count) => runs.reduce((total, results) => total + count(results), 0);
  const failed = sum((results) => results.failed);
  const skipped = sum((results) => results.skipped.length);
  console.log(
    `${sum((results) => results.passed)} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`,
  );
  return failed > 0 ? 1 : 0;
}
