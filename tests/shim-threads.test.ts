// Windows and locks of the shim under ThreadSanitizer, in a program of their own (tests/native/thread-races.cc).

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';

const COMPILER = process.env.CXX ?? 'c++';
const SANITIZED = ['-std=c++17', '-O1', '-g', '-fsanitize=thread', '-pthread', '-Ishim', '-Ibuild'];
const SOURCES = [
  ...['windows', 'use_map', 'limits', 'locks', 'fence'].map((name) => `shim/host/${name}.cc`),
  ...['shim/sinks/client_locks.cc', 'shim/mapper/shown_locks.cc'],
];

function run(command: string, args: string[]): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', timeout: 120_000 });
  return { status, text: stdout + stderr };
}

const folder = mkdtempSync(join(tmpdir(), 'membacking-threads-'));
const program = join(folder, 'thread-races');
process.once('exit', () => rmSync(folder, { recursive: true }));

/** Whether programs with this sanitizer can be made here, and run: musl has none. */
function hasSanitizer(): boolean {
  const trivial = join(folder, 'trivial');
  const { status, error } = spawnSync(COMPILER, [...SANITIZED, '-x', 'c++', '-', '-o', trivial], {
    input: 'int main() { return 0; }',
  });
  return error === undefined && status === 0 && run(trivial, []).status === 0;
}

const TITLE = 'threads that use memory and the one that changes it touch no byte without an order between them';

if (hasSanitizer()) {
  test(TITLE, (t) => {
    const made = run(COMPILER, [...SANITIZED, 'tests/native/thread-races.cc', ...SOURCES, '-o', program]);
    t.is(made.status, 0, made.text);
    const { status, text } = run(program, []);
    t.log(text);
    t.is(status, 0);
    t.regex(text, /^[1-9]\d* accesses, [1-9]\d* late, [1-9]\d* locks, [1-9]\d* refused, [1-9]\d* changes, 0 wrong\n$/);
  });
} else {
  test.skip(`${TITLE}: this machine makes no programs with ThreadSanitizer`, () => {});
}
