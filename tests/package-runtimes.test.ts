// The package in an empty folder, on every runtime that it is for.

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { asScript, install, readmeExample } from './support/installed.ts';
import { PATIENCE } from './support/patience.ts';
import { RUNTIMES } from './support/runtimes.mjs';

const { folder, remove } = install();
test.after.always(remove);

/** Accesses that fail, and that the process survives, whatever the processor. */
const FAULTS = `
import { MemoryMap, SharedMemory } from 'membacking';
const map = new MemoryMap();
const ram = map.createRegion({ name: 'ram', kind: 'ram', size: 0x2000 });
ram.map({ object: SharedMemory.create(0x2000) });
const { memory } = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root: ram }));
const said = (access) => {
  try { return access(); } catch ({ code, details }) { return code + ' ' + details.gpa.toString(16); }
};
console.log(said(() => memory.readU64(0x2000)), said(() => memory.writeU32(0x5000, 1)));
console.log(said(() => memory.read(0x1ff5, new Uint8Array(64))), said(() => memory.write(0x1fff, new Uint8Array(2))));
memory.writeU64(8, 5n);
console.log(memory.compareExchange(8, 8, 4n, 6n), memory.compareExchange(8, 8, 5n, 6n), memory.readU64(8));
map.close();
`;

const PRINTED = '0\n4660\n';
const FAULTS_PRINTED = 'GUEST_ACCESS 2000 GUEST_ACCESS 5000\nGUEST_ACCESS 2000 GUEST_ACCESS 2000\n';

for (const { name, command, missing, isEmulated } of RUNTIMES) {
  const attempt = command === undefined ? test.skip : test;
  attempt(`${name}${missing === undefined ? '' : ` (${missing})`}`, (t) => {
    const run = (file: string, code: string) => {
      writeFileSync(join(folder, file), code);
      const [program, ...args] = [...command!, file];
      const { stdout, stderr } = spawnSync(program!, args, { cwd: folder, encoding: 'utf8', timeout: PATIENCE });
      return stdout || stderr;
    };
    t.true(run('faults.mjs', FAULTS).startsWith(FAULTS_PRINTED));
    if (isEmulated) return; // each program takes a minute there
    t.is(run('example.mjs', readmeExample()), PRINTED);
    t.is(run('example.cjs', asScript(readmeExample())), PRINTED);
  });
}
