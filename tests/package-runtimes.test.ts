// The package in an empty folder, on every runtime that it is for.

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { membacking } from './support/cli.ts';
import { asScript, install, readmeExample } from './support/installed.ts';
import { PATIENCE } from './support/patience.ts';
import { RUNTIMES } from './support/runtimes.mjs';

const { folder, remove } = install();
test.after.always(remove);

/** Accesses that fail, and that the process survives, whatever the processor; then the sample trace's plans. */
const PROGRAM = `
import { createHash } from 'node:crypto';
import { MemoryMap, parseTrace, readText, SharedMemory, sampleTrace, TraceReplay } from 'membacking';
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
const hash = createHash('sha256');
const { header, operations } = parseTrace(await readText(sampleTrace()));
const replay = new TraceReplay({ policy: header.policy, onPlan: (plan) => hash.update(plan.bytes) });
for (const operation of operations) replay.apply(operation);
console.log(hash.digest('hex'));
`;

const PRINTED = [
  'GUEST_ACCESS 2000 GUEST_ACCESS 5000',
  'GUEST_ACCESS 2000 GUEST_ACCESS 2000',
  '5n 5n 6n',
  membacking(['replay', 'ts/trace/samples/pc-boot.trace.jsonl', '--plan-hash']).out,
].join('\n');
const EXAMPLE_PRINTED = '0\n4660\n';

for (const { name, command, missing, isEmulated } of RUNTIMES) {
  const attempt = command === undefined ? test.skip : test;
  attempt(`${name}${missing === undefined ? '' : ` (${missing})`}`, (t) => {
    const run = (file: string, code: string) => {
      writeFileSync(join(folder, file), code);
      const [program, ...args] = [...command!, file];
      const { stdout, stderr } = spawnSync(program!, args, { cwd: folder, encoding: 'utf8', timeout: PATIENCE });
      return stdout || stderr;
    };
    t.is(run('program.mjs', PROGRAM), PRINTED);
    if (isEmulated) return; // each program takes a minute there
    t.is(run('example.mjs', readmeExample()), EXAMPLE_PRINTED);
    t.is(run('example.cjs', asScript(readmeExample())), EXAMPLE_PRINTED);
  });
}
