// Stories in a process of their own, whose system calls tests/native/faults.cc can make fail.

import { spawnSync } from 'node:child_process';
import { artefact } from '../../ts/core/artefact.ts';
import { PATIENCE } from './patience.ts';

/** Addon, and library for LD_PRELOAD, by which system calls fail: see tests/native/faults.cc. */
export const FAULTS = artefact('obj/faults.node').pathname;

const PROLOGUE = `
import { ftruncateSync, writeSync } from 'node:fs';
import { GuestMemoryBuilder, RecordingPartition } from ${JSON.stringify(artefact('index.js').href)};
const module = { exports: {} };
process.dlopen(module, ${JSON.stringify(FAULTS)});
const system = module.exports;
const PAGE = 4096;
const BAR = 0x80000000;
const code = (body) => {
  try {
    body();
    return 'done';
  } catch (error) {
    return error.code;
  }
};
const build = (kind) => {
  const backing = { kind };
  return new GuestMemoryBuilder({ maxAddress: 2 ** 33 - 1, debug: true }).addRam({ backing, ranges: [{ gpa: 0, length: 0x100000 }] }).build();
};
const seen = (memory, gpa) => {
  try {
    return memory.readU32(gpa);
  } catch (error) {
    return error.details.fault;
  }
};
`;

/** Environment of a process whose system calls can fail. Its malloc goes on without new mappings: where they run out,
 *  V8 would end the process. */
export const FAULTY_ENV = {
  ...process.env,
  LD_PRELOAD: FAULTS,
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: String(2 ** 25),
  MALLOC_TOP_PAD_: String(2 ** 26),
};

/** Runs a story, and gives what it returns as JSON. */
export function run(story: string): unknown {
  const args = ['--input-type=module', '-e', `${PROLOGUE}\nconsole.log(JSON.stringify((() => {${story}})()));`];
  const { stdout, stderr, signal } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    env: FAULTY_ENV,
    timeout: PATIENCE,
  });
  if (stdout === '') throw new Error(`${signal}: ${stderr}`);
  return JSON.parse(stdout);
}
