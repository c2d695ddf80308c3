// Mappings in a region behave like mmap: a new one overwrites and splits old ones, an unmap may cut one in two, and
// nobody sees half of it.

import test from 'ava';
import { KIND_DEVICE } from '../assembly/abi.ts';
import { type Address, LAST_ADDRESS } from '../ts/core/address.ts';
import { BUILDS, type Build, World } from './support/world.ts';

function window(build: Build): World {
  return new World(build)
    .place(`
      name    kind       size    in      at
      system  container  100000
      dax     device     10000   system  40000
    `)
    .change(`
      space memory root system
      object file 100000
      object other 10000
      object locked 10000 readonly
      object secret 10000 private
      va va 200000 of memory
      partition vm 4
      attach vtl0 of vm to memory through va
    `);
}

/** Each: what is mapped, what is done, and what is mapped then. */
const CASES: readonly (readonly [title: string, script: string, mappings: readonly string[]])[] = [
  ['one mapping', 'map dax 2000 3000 file 8000', ['2000-4fff  file+8000  rw']],
  [
    'neighbours that go on in the same object become one',
    'map dax 0 1000 file 4000\nmap dax 2000 1000 file 6000\nmap dax 1000 1000 file 5000',
    ['0-2fff  file+4000  rw'],
  ],
  [
    'neighbours that do not go on stay two',
    'map dax 0 1000 file 4000\nmap dax 1000 1000 file 6000\nmap dax 2000 1000 other 7000',
    ['0-fff      file+4000   rw', '1000-1fff  file+6000   rw', '2000-2fff  other+7000  rw'],
  ],
  [
    'neighbours that may be written and may not stay two',
    'map dax 0 1000 file 0\nmap dax 1000 1000 file 1000 readonly',
    ['0-fff      file+0     rw', '1000-1fff  file+1000  r'],
  ],
  [
    'a mapping over the same place replaces it',
    'map dax 0 4000 file 0\nmap dax 0 4000 other 0',
    ['0-3fff  other+0  rw'],
  ],
  [
    'a mapping over the middle leaves both ends',
    'map dax 0 6000 file 0\nmap dax 2000 2000 other 0',
    ['0-1fff     file+0     rw', '2000-3fff  other+0    rw', '4000-5fff  file+4000  rw'],
  ],
  [
    'a mapping over several takes what it covers of each',
    'map dax 0 2000 file 0\nmap dax 2000 2000 file 8000\nmap dax 6000 4000 file 20000\nmap dax 1000 7000 other 0',
    ['0-fff      file+0      rw', '1000-7fff  other+0     rw', '8000-9fff  file+22000  rw'],
  ],
  [
    'the same mapping over a part of itself changes nothing',
    'map dax 0 6000 file 0\nmap dax 2000 1000 file 2000',
    ['0-5fff  file+0  rw'],
  ],
  [
    'a part becomes read-only',
    'map dax 0 6000 file 0\nmap dax 2000 1000 file 2000 readonly',
    ['0-1fff     file+0     rw', '2000-2fff  file+2000  r', '3000-5fff  file+3000  rw'],
  ],
  ['an unmap of all of it', 'map dax 0 6000 file 0\nunmap dax 0 6000', []],
  ['an unmap of the beginning', 'map dax 0 6000 file 0\nunmap dax 0 1000', ['1000-5fff  file+1000  rw']],
  ['an unmap of the end', 'map dax 0 6000 file 0\nunmap dax 5000 1000', ['0-4fff  file+0  rw']],
  [
    'an unmap of the middle cuts it in two',
    'map dax 0 6000 file 0\nunmap dax 2000 1000',
    ['0-1fff     file+0     rw', '3000-5fff  file+3000  rw'],
  ],
  ['an unmap of nothing is nothing', 'unmap dax 0 10000', []],
  [
    'an unmap over several takes what it covers of each',
    'map dax 0 2000 file 0\nmap dax 4000 2000 file 8000\nmap dax 8000 2000 file c000\nunmap dax 1000 8000',
    ['0-fff      file+0     rw', '9000-9fff  file+d000  rw'],
  ],
  ['a read-only object may be mapped read-only', 'map dax 0 1000 locked 0 readonly', ['0-fff  locked+0  r']],
  ['the last page of the region and of the object', 'map dax f000 1000 file ff000', ['f000-ffff  file+ff000  rw']],
  [
    'what is past the end of a region that shrinks is gone for good',
    'map dax 0 10000 file 0\nresize dax to 3000\nresize dax to 10000',
    ['0-2fff  file+0  rw'],
  ],
  [
    'a region that ends inside of a page keeps the mapping of that page',
    'map dax 0 10000 file 0\nresize dax to 2800',
    ['0-2fff  file+0  rw'],
  ],
  ['a region of size 0 has no mappings', 'map dax 0 1000 file 0\nresize dax to 0\nresize dax to 10000', []],
];

for (const build of BUILDS) {
  for (const [title, script, mappings] of CASES) {
    test(`${title} (${build})`, (t) => {
      const atOnce = window(build).change(script);
      t.deepEqual(atOnce.mappings('dax'), mappings);
      atOnce.checkSinks();
      const step = window(build);
      for (const line of script.split('\n')) {
        step.change(line);
        step.checkSinks();
      }
      t.deepEqual(step.mappings('dax'), mappings, 'the same, one by one');
      t.deepEqual(step.pieces('va'), atOnce.pieces('va'));
    });
  }

  test(`a mapping that changes costs the guest no slot, and is put over the old one directly (${build})`, (t) => {
    const world = window(build).change('map dax 0 8000 file 0');
    const slots = world.slots('vtl0');
    world.change('map dax 1000 2000 other 0\nunmap dax 6000 1000');
    t.deepEqual(world.planLines, ['va-unmap  va  46000+1000', 'va-map    va  41000+2000  other+0  rw']);
    t.is(world.disturbance, 'none');
    t.deepEqual(world.slots('vtl0'), slots);
  });

  test(`mappings in one transaction that go on in one object are one command (${build})`, (t) => {
    const world = window(build);
    world.change('map dax 0 1000 file 0\nmap dax 2000 1000 file 2000\nmap dax 1000 1000 file 1000');
    t.deepEqual(world.planLines, ['va-map  va  40000+3000  file+0  rw']);
  });

  test(`private memory is moved to where it is mapped and back, and is in one VA space (${build})`, (t) => {
    const world = window(build).change('map dax 0 4000 secret 0');
    t.deepEqual(world.planLines, ['va-unpark  va  40000+4000  secret+0  rw']);
    world.change('map dax 8000 2000 secret 2000\nunmap dax 2000 2000');
    t.deepEqual(world.planLines, [
      'va-park    va  42000+2000  secret+2000  rw',
      'va-unpark  va  48000+2000  secret+2000  rw',
    ]);
    const before = world.describe();
    t.throws(() => world.change('va late 200000 of memory'), {
      code: 'PRIVATE_TWICE',
      message:
        '"secret" is private memory, and "dax" would show the same part of it twice (at 0x40000): only whole pages can be, in one VA space',
    });
    t.deepEqual(world.describe(), before);
  });

  test(`private memory that is seen at two places is mapped at one, and slots show it at both (${build})`, (t) => {
    const world = window(build).change('map dax 0 4000 secret 0');
    const look = () => [world.pieces('va'), world.homes('vtl0')];
    t.deepEqual(look(), [['40000-43fff  secret+0  rw'], []]);
    world.change('alias mirror 2000 of dax at 1000\nplace mirror in system at 8000');
    t.deepEqual(world.planLines, ['slot-add  vtl0  8000+2000  dax+1000  rwx  slot 1']);
    t.deepEqual(look(), [['40000-43fff  secret+0  rw'], ['8000+2000 at 41000']]);
    // The home goes, and the alias is all that is left: the pages move there, and so does its slot.
    world.change('remove dax');
    t.deepEqual(world.planLines, [
      'slot-delete  vtl0  8000+2000    dax+1000     rwx  slot 1',
      'slot-delete  vtl0  40000+10000  dax+0        rwx  slot 0',
      'va-park      va    40000+4000   secret+0     rw',
      'va-unpark    va    8000+2000    secret+1000  rw',
      'slot-add     vtl0  8000+2000    dax+1000     rwx  slot 0',
    ]);
    t.is(world.disturbance, 'unchanged-bytes');
    t.deepEqual(look(), [['8000-9fff  secret+1000  rw'], []]);
    // Where the region itself stands is home again, although the alias was there first.
    world.change('place dax in system at 40000');
    t.deepEqual(look(), [['40000-43fff  secret+0  rw'], ['8000+2000 at 41000']]);
    world.change('remove mirror');
    t.deepEqual(world.planLines, ['slot-delete  vtl0  8000+2000  dax+1000  rwx  slot 0']);
    world.checkSinks();
  });

  test(`where private memory gives way to what is mapped elsewhere, nothing is absent for a moment (${build})`, (t) => {
    const world = window(build).change('detach vtl0\nmap dax 0 2000 secret 0\nmap dax 8000 2000 secret 2000');
    world.change('map dax 8000 2000 secret 0');
    t.deepEqual(world.planLines, ['va-park  va  48000+2000  secret+2000  rw']);
    t.is(world.disturbance, 'none');
    // Half of it comes to be mapped there, the other half is seen from elsewhere.
    world.change('map dax 8000 2000 secret 4000');
    world.change('map dax 8000 1000 secret 6000\nmap dax 9000 1000 secret 1000');
    t.is(world.disturbance, 'changed');
    world.change('map dax 8000 2000 file 0');
    world.change('map dax 8000 2000 secret 0');
    t.deepEqual(world.planLines, ['va-unmap  va  48000+2000']);
    t.is(world.disturbance, 'none');
    world.checkSinks();
  });

  test(`an alias of private memory has no more access than its home (${build})`, (t) => {
    const world = window(build).change('map dax 0 4000 secret 0\nalias mirror 4000 of dax at 0');
    world.change('place mirror in system at 8000');
    const access = () => world.slots('vtl0').map((line) => line.replace(/^.* /, ''));
    t.deepEqual(access(), ['rwx', 'rwx']);
    world.change('map dax 0 4000 secret 0 readonly');
    t.deepEqual(access(), ['rx', 'rx', 'rwx']);
    world.change('map dax 0 4000 secret 0');
    t.deepEqual(access(), ['rwx', 'rwx', 'rwx']);
    world.change('set mirror readonly');
    t.deepEqual(access(), ['rx', 'rwx', 'rwx']);
    world.checkSinks();
  });

  test(`a page that is seen at two places is not cut, nor is what is seen of it in the VA space (${build})`, (t) => {
    const world = window(build).change('map dax 0 4000 secret 0\nalias mirror 4000 of dax at 0');
    world.change('place mirror in system at 8000\nmmio fuses 28');
    const before = world.describe();
    t.throws(() => world.change('place fuses in system at 9000 priority 1'), { code: 'PRIVATE_TWICE' });
    t.deepEqual(world.describe(), before);
    // At home it may be: the alias shows all of it.
    world.change('place fuses in system at 41000 priority 1');
    t.deepEqual(world.homes('vtl0'), ['8000+4000 at 40000']);
    world.change('remove fuses\nremove mirror');
    world.checkSinks();
  });
}

for (const build of BUILDS) {
  test(`what is read of a range is what reaches into it, of ${build}`, (t) => {
    const world = window(build);
    const { core } = world;
    // Two pages of each four, never neighbours in the file.
    for (let page = 0; page < 16; page += 4)
      world.change(`map dax ${page.toString(16)}000 2000 file ${(15 - page).toString(16)}000`);
    const region = core.flat(0).find(({ kind }) => kind === KIND_DEVICE)!.id;
    const [mappings, parts] = [core.mappings(region), core.partsIn(0, 0, LAST_ADDRESS)];
    t.is(mappings.length, 4);
    t.is(parts.length, 4);
    for (let first = 0; first <= 0x10000; first += 0x800) {
      const at = 0x40000 + first;
      t.deepEqual(
        core.mappingAt(region, first),
        mappings.find(({ start, last }) => start <= first && last >= first),
      );
      for (let last = first; last <= 0x10fff; last += 0x7ff) {
        const reaching = (row: { start: Address; last: Address }, base: number) =>
          row.start <= base + last && row.last >= base + first;
        t.deepEqual(
          core.mappingsIn(region, first, last),
          mappings.filter((row) => reaching(row, 0)),
        );
        const pageLast = (0x40000 + last) | 0xfff;
        t.deepEqual(
          core.partsIn(0, at, 0x40000 + last),
          parts
            .filter((row) => reaching(row, 0x40000))
            .map((row) => ({ ...row, last: Math.min(Number(row.last), pageLast) })),
        );
      }
    }
  });
}
