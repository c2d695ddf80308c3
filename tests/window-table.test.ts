// The table of windows finds what looking at each window finds.

import test from 'ava';
import type { WindowRange } from '../ts/access/guest-window.ts';
import { WindowTable } from '../ts/access/window-table.ts';
import { Random, SEED } from './support/random.ts';

const PAGE = 0x1000;

const shownBy =
  ({ start, end, isWritable }: WindowRange) =>
  (gpa: number, isWrite: boolean) =>
    gpa >= start && gpa < end && (isWritable || !isWrite);

test(`a window is found by each byte that it shows, and by no other (seed ${SEED})`, (t) => {
  const random = new Random();
  for (const count of [0, 1, 2, 3, 6, 7, 16, 64, 256]) {
    for (const most of [3, 300, 2 ** 30]) {
      const windows: WindowRange[] = [];
      let next = random.below(100) * PAGE;
      for (let i = 0; i < count; i++) {
        const start = next + random.below(most) * PAGE;
        next = start + (1 + random.below(most)) * PAGE;
        windows.push({ start, end: next, isWritable: random.below(4) > 0 });
      }
      const table = new WindowTable();
      const all = windows.map((range) => Object.assign(range, { shows: shownBy(range) }));
      table.set(random.shuffled(all));
      const edges = windows.flatMap(({ start, end }) => [start - 1, start, start + PAGE, end - 1, end]);
      for (const gpa of [0, ...edges, next + PAGE, 2 ** 52]) {
        for (const isWrite of [false, true]) {
          const found = all.find((window) => window.shows(gpa, isWrite));
          t.is(table.at(gpa, isWrite), found, `${count} windows, ${gpa.toString(16)}`);
        }
      }
    }
  }
});
