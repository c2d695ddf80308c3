// Codes that a call throws: they stand in its comment, and so in the reference.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { PrivateMemory, SharedMemory } from '../ts/index.ts';
import { LoggingPartition, Machine, refusal } from './support/map-state.ts';
import { PAGE } from './support/shim-plan.ts';
import { ThrownCodes } from './support/thrown-codes.ts';

const PAGES = 'ts/guide/reference';

/** Codes that can come from every call, and are said once: at the head of the guide's page of errors. */
const EVERYWHERE = ['INVALID_ARGUMENT', 'CLOSED', 'NATIVE_MISSING'];

/** Text of a page's head, and of each member's part. */
function partsOf(className: string): Map<string, string> {
  const [head, ...parts] = readFileSync(join(PAGES, `${className}.md`), 'utf8').split(/^### /m);
  return new Map([['', head!], ...parts.map((part) => [part.split('\n')[0]!, part] as const)]);
}

/** Text of the reference on a member: its part, those that it refers to ("Throws as `map`"), and the page's head. */
function documented(className: string, member: string): string {
  const parts = partsOf(className);
  const part = parts.get(member) ?? '';
  const others = Array.from(part.matchAll(/[Tt]hrows\s+as\s+`(\w+)`/g), ([, other]) => parts.get(other!) ?? '');
  return [parts.get(''), part, ...others].join('\n');
}

test('codes of every call are said at the head of the page of errors', (t) => {
  const head = readFileSync('ts/guide/errors.md', 'utf8').split('\n## ')[0]!;
  for (const code of EVERYWHERE) t.true(head.includes(`\`${code}\``), code);
});

test('a member names the codes that its source throws', (t) => {
  const thrown = new ThrownCodes();
  const silent: string[] = [];
  let found = 0;
  for (const className of readdirSync(PAGES).map((file) => file.replace(/\.md$/, ''))) {
    for (const member of partsOf(className).keys()) {
      const codes = [...(thrown.of(className, member) ?? [])].filter((code) => !EVERYWHERE.includes(code));
      found += codes.length;
      const text = documented(className, member);
      for (const code of codes) if (!text.includes(code)) silent.push(`${className}.${member}: ${code}`);
    }
  }
  t.true(found > 30, `they are found: ${found}`);
  t.deepEqual(silent, [], 'Say in the comment what is thrown, and run "npm run reference".');
});

/** Calls that the map's rules refuse. */
const REFUSED: readonly [member: string, code: string, call: (machine: Machine) => unknown][] = [
  ['Region.place', 'PLACED', ({ ram, root }) => ram.place(root)],
  ['Region.place', 'CYCLE', ({ ram, root }) => root.place(ram)],
  ['Region.place', 'BAD_KIND', ({ map, ram }) => aliasOf(map, ram).place(aliasOf(map, ram))],
  ['Region.remove', 'NOT_PLACED', ({ root }) => root.remove()],
  ['Region.move', 'NOT_PLACED', ({ root }) => root.move(0)],
  ['Region.setPriority', 'NOT_PLACED', ({ root }) => root.setPriority(1)],
  ['Region.retarget', 'BAD_KIND', ({ ram }) => ram.retarget(0)],
  ['Region.map', 'BAD_KIND', ({ root, memory }) => root.map({ object: memory })],
  ['Region.map', 'BAD_RANGE', ({ ram, memory }) => ram.map({ object: memory })],
  ['Region.map', 'UNALIGNED', ({ ram, memory }) => ram.map({ object: memory, offset: 1, length: PAGE })],
  ['Region.map', 'READONLY_OBJECT', ({ ram }) => ram.map({ object: readOnly(), length: PAGE, writable: true })],
  ['Region.map', 'PRIVATE_TWICE', mapTwice],
  ['Region.unmap', 'BAD_KIND', ({ root }) => root.unmap(0, PAGE)],
  ['Region.unmap', 'BAD_RANGE', ({ ram }) => ram.unmap(0, 1000 * PAGE)],
  ['Region.unmap', 'UNALIGNED', ({ ram }) => ram.unmap(1, PAGE)],
  ['Region.close', 'PLACED', ({ ram }) => ram.close()],
  ['Region.close', 'IN_USE', ({ root }) => root.close()],
  ['AddressSpace.close', 'IN_USE', ({ space }) => space.close()],
  ['VaSpace.close', 'IN_USE', (machine) => [machine.attach(new LoggingPartition()), machine.va.close()]],
  ['VaSpace.protect', 'UNALIGNED', ({ va }) => va.protect({ gpa: 1, length: PAGE, access: 'r' })],
  ['VaSpace.protect', 'BAD_RANGE', ({ va }) => va.protect({ gpa: 0, length: 1000 * PAGE, access: 'r' })],
  ['MemoryMap.close', 'IN_USE', ({ map }) => map.transaction(() => map.close())],
  ['MemoryMap.attachVaSpace', 'PRIVATE_TWICE', mirrorTwice],
  ['MemoryMap.attachVaSpace', 'PAST_LIMIT', ({ map, space }) => map.attachVaSpace(space, { size: PAGE })],
  [
    'MemoryMap.attachPartition',
    'NO_SLOTS',
    (machine) => {
      const rom = machine.map.createRegion({ name: 'rom', kind: 'rom', size: PAGE });
      rom.map({ object: machine.memory, length: PAGE });
      rom.place(machine.root, { offset: PAGE, priority: 1 });
      return machine.attach(new LoggingPartition('of two slots', 2));
    },
  ],
  [
    'MemoryMap.attachPartition',
    'ATTACHMENT_OVERLAP',
    (machine) => {
      const partition = new LoggingPartition();
      return [machine.attach(partition), machine.attach(partition)];
    },
  ],
];

function aliasOf(map: Machine['map'], target: Machine['ram']): Machine['ram'] {
  return map.createAlias({ name: 'alias', target, size: PAGE });
}

function readOnly(): SharedMemory {
  return SharedMemory.fromFd(SharedMemory.create(PAGE).fd, { writable: false });
}

function mapTwice({ map, space, ram }: Machine): void {
  map.attachVaSpace(space);
  ram.map({ object: PrivateMemory.create(PAGE), length: PAGE });
}

function mirrorTwice({ map, space, ram }: Machine): void {
  ram.map({ object: PrivateMemory.create(PAGE), length: PAGE });
  map.attachVaSpace(space);
}

test('a call that the map refuses names the code', (t) => {
  const [silent, others]: [string[], string[]] = [[], []];
  for (const [member, code, call] of REFUSED) {
    const machine = new Machine();
    const said = refusal(() => call(machine));
    if (!said.startsWith(`${code}: `)) others.push(`${member}: ${code}, not ${said}`);
    const [className, name] = member.split('.') as [string, string];
    if (!documented(className, name).includes(code)) silent.push(`${member}: ${code}`);
    machine.map.close();
  }
  t.deepEqual(others, []);
  t.deepEqual(silent, [], 'Say in the comment what is thrown, and run "npm run reference".');
});
