// Memory of the core that means nothing any more, and the machine's account of it.

import { readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import test from 'ava';
import { Machine } from './support/map-state.ts';
import { PAGE } from './support/shim-plan.ts';

test('what the core needed for a large change goes back to the machine', async (t) => {
  const pages = 20_000;
  const machine = new Machine({ pages: 4 * pages, debug: false });
  const { map, root, memory } = machine;
  const { core } = map.context;
  const bytes = () => {
    const size = new RegExp(`^\\w+-\\w+ rw-p .*\nSize: +${core.memory.buffer.byteLength / 1024} kB$`, 'm');
    const own = readFileSync('/proc/self/smaps', 'utf8').split(size)[1]!;
    return Number(/^Rss: +(\d+) kB$/m.exec(own)![1]) * 1024;
  };
  const dax = map.createRegion({ name: 'dax', kind: 'device', size: 2 * pages * PAGE });
  dax.place(root, { offset: 0, priority: 1 });
  map.transaction(() => {
    for (let page = 0; page < pages; page++) {
      dax.map({ offset: 2 * page * PAGE, object: memory, objectOffset: (page % 16) * PAGE, length: PAGE });
    }
  });
  const before = bytes();
  await wait(300);
  const [after, used] = [bytes(), core.heapInUse()];
  t.log({ before, after, used });
  t.true(after <= 3 * used && before > 2 * after);
  machine.end(t);
});
