// Maps, managers and memory that nobody closed: they go with the garbage collector, which is asked before something has
// run out. Each in a process of its own, with limits of its own.

import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';

const PRELUDE = `
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import * as mb from ${JSON.stringify(resolve('build/index.js'))};
const reservations = () => readFileSync('/proc/self/maps', 'utf8').split('\\n').filter((line) => line.includes('membacking:va')).length;
const nameOf = (fd) => { try { return readlinkSync('/proc/self/fd/' + fd); } catch { return ''; } };
const memories = () => readdirSync('/proc/self/fd').filter((fd) => nameOf(fd).includes('memfd:')).length;
const warnings = [];
process.on('warning', ({ code }) => warnings.push(code));
const later = () => new Promise((resolve) => setTimeout(resolve, 1));
const collected = async (isDone) => {
  for (let i = 0; !isDone(); i++, await later()) i < 200 ? gc() : process.exit(1);
};
const say = (value) => console.log(JSON.stringify(value));
const caught = (body) => { try { body(); } catch ({ name, code, message }) { return { name, code, message }; } };
/** A map with a VA space of 1 TiB that shows an object, and of which nothing is kept. */
const dropMap = (object = mb.SharedMemory.create(4096)) => {
  const map = new mb.MemoryMap();
  const root = map.createRegion({ name: 'ram', kind: 'ram', size: 4096 });
  root.map({ object });
  map.attachVaSpace(map.createAddressSpace({ name: 'guest', root })).memory.writeU8(0, 1);
};
const dropManager = () => {
  const manager = new mb.GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 2 ** 20 }] }).build();
  const { region, control } = manager.deviceMapper.newRegion(4096, 'bar', { holes: 'zero' });
  control.mapToGuest(2 ** 30);
  for (let i = 0; i < 3000; i++) manager.guestMemory.readU8(0); // through a window
};
`;

/** Runs a program, and gives what it says. */
async function run(program: string, limit = ''): Promise<unknown> {
  const script = `${limit && `ulimit ${limit}; `}exec "$0" --expose-gc --input-type=module -e "$1"`;
  const { stdout } = await promisify(execFile)('sh', ['-c', script, process.execPath, PRELUDE + program]);
  return JSON.parse(stdout);
}

const CASES: Readonly<Record<string, { program: string; limit?: string; says: unknown }>> = {
  'maps that were dropped go with the collector, though an object of theirs lives on, and one warning says so': {
    program: `
      const object = mb.SharedMemory.create(4096);
      for (let i = 0; i < 20; i++) dropMap(object);
      await collected(() => reservations() === 0 && memories() === 1);
      await later();
      object.close();
      say(warnings);`,
    says: ['MAP_DROPPED'],
  },
  'managers that were dropped with their memory shared go with the collector, and their clients are told': {
    program: `
      import { spawn } from 'node:child_process';
      import { once } from 'node:events';
      import { existsSync } from 'node:fs';
      const path = '/tmp/membacking-dropped-' + process.pid + '.sock';
      const share = () => {
        const client = new mb.GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 2 ** 20 }] }).build().client();
        client.share();
        client.share({ path });
        return spawn(process.execPath, ['--input-type=module', '-e', \`
          import { GuestMemoryClient } from \${JSON.stringify(import.meta.resolve(${JSON.stringify(resolve('build/index.js'))}))};
          const client = await GuestMemoryClient.open(3);
          client.memory.lock({ gpa: 0, length: 8 }, 'read', { holder: 'x' });
          console.log('open');
          const timer = setInterval(() => client.ended && clearInterval(timer), 5);
        \`], { stdio: ['ignore', 'pipe', 'inherit', client.share().fd] });
      };
      const device = share();
      await once(device.stdout, 'data');
      await collected(() => reservations() === 0 && memories() === 0 && !existsSync(path));
      const [code] = await once(device, 'exit');
      say([code, warnings]);`,
    says: [0, ['MAP_DROPPED']],
  },
  'managers that were dropped go with the collector, with their devices and windows': {
    program: `
      for (let i = 0; i < 20; i++) dropManager();
      await collected(() => reservations() === 0 && memories() === 0);
      await later();
      say(warnings);`,
    says: ['MAP_DROPPED'],
  },
  'what was closed is not warned of': {
    program: `
      for (let i = 0; i < 20; i++) {
        const map = new mb.MemoryMap();
        map.attachVaSpace(map.createAddressSpace({ name: 's', root: map.createRegion({ name: 'r', kind: 'ram', size: 4096 }) }));
        map.close();
      }
      for (let i = 0; i < 20; i++) { gc(); await later(); }
      say([reservations(), warnings]);`,
    says: [0, []],
  },
  'a map stays as long as a partition of a monitor shows its memory to a guest': {
    program: `
      const partition = new mb.RecordingPartition();
      (() => {
        const manager = new mb.GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 2 ** 20 }] }).build();
        manager.attachPartition(partition);
      })();
      for (let i = 0; i < 20; i++) { gc(); await later(); }
      say([partition.slots.size, reservations() > 0, warnings]);`,
    says: [1, true, []],
  },
  'addresses that have run out are asked of the collector': {
    // 128 TiB are all that a process has.
    program: `
      for (let i = 0; i < 300; i++, await later()) dropMap();
      say('done');`,
    says: 'done',
  },
  'descriptors that have run out are asked of the collector': {
    program: `
      for (let i = 0; i < 300; i++, await later()) mb.SharedMemory.create(4096);
      for (let i = 0; i < 100; i++, await later()) dropManager();
      const kept = [];
      const error = caught(() => { for (;;) kept.push(mb.SharedMemory.create(4096)); });
      say([error.name, error.code, error.message.includes('EMFILE')]);`,
    limit: '-n 64',
    says: ['MembackingError', 'SYSTEM', true],
  },
  'a map for whose core there are no addresses is refused with an error of this package': {
    program: `
      // Newer versions of Node.js take so few addresses that there are enough.
      const { name, code, message } = caught(() => new mb.MemoryMap().close()) ?? new mb.MembackingError('SYSTEM', 'ulimit -v');
      say([name, code, message.includes('ulimit -v')]);`,
    limit: '-v 5000000',
    says: ['MembackingError', 'SYSTEM', true],
  },
};

for (const [title, { program, limit, says }] of Object.entries(CASES)) {
  test(title, async (t) => {
    t.deepEqual(await run(program, limit), says);
  });
}
