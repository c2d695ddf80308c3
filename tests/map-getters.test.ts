// Getters of handles, against a model that is told the same: before, inside and after every change.

import test from 'ava';
import { SharedMemory } from '../ts/asked/object.ts';
import type { Region } from '../ts/asked/region.ts';
import { MemoryMap } from '../ts/map/map.ts';

const PAGE = 0x1000;

interface Said {
  readonly size: number | bigint;
  readonly offset: number | bigint | undefined;
  readonly readonly: boolean;
  readonly mapped: number;
}

/** Each change, and what it makes of what was said before. */
const CHANGES: readonly [title: string, change: (region: Region, root: Region) => void, after: Partial<Said>][] = [
  ['placed above 0', (region, root) => region.place(root, { offset: 0xfebf_0000 }), { offset: 0xfebf_0000 }],
  ['moved', (region) => region.move(0x1_0000_0000), { offset: 0x1_0000_0000 }],
  ['made larger', (region) => region.resize(8 * PAGE), { size: 8 * PAGE }],
  ['made smaller', (region) => region.resize(2 * PAGE), { size: 2 * PAGE, mapped: 2 * PAGE }],
  ['made read-only', (region) => region.setFlags({ readonly: true }), { readonly: true }],
  ['moved to the very end', (region) => region.move(2n ** 64n - 1n), { offset: 2n ** 64n - 1n }],
  ['emptied', (region) => region.resize(0), { size: 0, mapped: 0 }],
  ['given a size again', (region) => region.resize(3 * PAGE), { size: 3 * PAGE }],
  ['removed', (region) => region.remove(), { offset: undefined }],
];

function said(region: Region): Said {
  const mapped = region.mappings().reduce((sum, { length }) => sum + Number(length), 0);
  return { size: region.size, offset: region.offset, readonly: region.flags.readonly, mapped };
}

test('a region says its size, place and flags in every state: alone, in a transaction, and when that was taken back', (t) => {
  const map = new MemoryMap({ debug: true });
  const memory = SharedMemory.create(4 * PAGE);
  const root = map.createRegion({ name: 'system', kind: 'container', size: 2n ** 64n });
  const region = map.createRegion({ name: 'bar', kind: 'device', size: 4 * PAGE });
  map.createAddressSpace({ name: 'guest', root });
  region.map({ object: memory });
  let model: Said = { size: 4 * PAGE, offset: undefined, readonly: false, mapped: 4 * PAGE };
  t.deepEqual(said(region), model, 'made');
  for (const [title, change, after] of CHANGES) {
    const next = { ...model, ...after };
    t.throws(
      () =>
        map.transaction(() => {
          change(region, root);
          t.deepEqual(said(region), next, `${title}, inside the transaction`);
          throw new Error('not this time');
        }),
      { message: 'not this time' },
    );
    t.deepEqual(said(region), model, `${title}, and taken back`);
    change(region, root);
    t.deepEqual(said(region), next, title);
    model = next;
  }
  map.close();
  memory.close();
});
