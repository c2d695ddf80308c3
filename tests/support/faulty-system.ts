// Stories in a process of their own, whose system calls tests/native/faults.cc can make fail.

import { spawnSync } from 'node:child_process';
import { artefact } from '../../ts/core/artefact.ts';
import { PATIENCE } from './patience.ts';

const PROLOGUE = `
import { ftruncateSync, writeSync } from 'node:fs';
import { GuestMemoryBuilder, RecordingPartition } from ${JSON.stringify(artefact('index.js').href)};
const module = { exports: {} };
process.dlopen(module, ${JSON.stringify(artefact('obj/faults.node').pathname)});
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

/** Runs a story, and gives what it returns as JSON. */
export function run(story: string): unknown {
  const env = { ...process.env, LD_PRELOAD: artefact('obj/faults.node').pathname };
  const args = ['--input-type=module', '-e', `${PROLOGUE}\nconsole.log(JSON.stringify((() => {${story}})()));`];
  const { stdout, stderr, signal } = spawnSync(process.execPath, args, { encoding: 'utf8', env, timeout: PATIENCE });
  if (stdout === '') throw new Error(`${signal}: ${stderr}`);
  return JSON.parse(stdout);
}
