// RAM that a monitor has mapped itself: the same bytes under the monitor's mapping and the guest's; what cannot be so
// is refused in words.

import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import test from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import { type Address, GuestMemoryBuilder, SharedMemory } from '../ts/index.ts';
import { footprint } from './support/footprint.ts';
import { refusal } from './support/map-state.ts';
import { tempFolder } from './support/temp-folder.ts';

const PAGE = 0x1000;
const SIZE = 64 * PAGE;

/** Memory of a monitor's own addon. */
const own: {
  mapMemory(fd: number, size: number, offset: number): bigint;
  unmapMemory(hva: bigint, size: number): void;
  peek(hva: bigint): number;
} = createRequire(import.meta.url)(artefact('obj/own-vm.node').pathname);

const adopt = (hva: Address, length: Address = SIZE) =>
  new GuestMemoryBuilder()
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: SIZE }], backing: { kind: 'adopted', hva, length } })
    .build();

test('memory that a monitor has mapped is RAM, and stays mapped', (t) => {
  const before = footprint();
  const memory = SharedMemory.create(SIZE);
  const hva = own.mapMemory(memory.fd, SIZE, 0);
  const manager = adopt(hva);
  manager.guestMemory.writeU8(5 * PAGE, 42);
  t.is(own.peek(hva + BigInt(5 * PAGE)), 42);
  t.is(manager.inspect().ram[0]!.backing, 'adopted');
  memory.close();
  manager.guestMemory.writeU8(5 * PAGE + 1, 43);
  t.is(own.peek(hva + BigInt(5 * PAGE + 1)), 43);
  manager.close();
  t.is(own.peek(hva + BigInt(5 * PAGE)), 42, 'the mapping is the caller’s');
  own.unmapMemory(hva, SIZE);
  t.deepEqual(footprint(), before);
});

test('what cannot be shown elsewhere is refused in words, and nothing is left', (t) => {
  const folder = tempFolder(t);
  const path = join(folder, 'ram');
  const fd = openSync(path, 'w+');
  ftruncateSync(fd, 2 * SIZE);
  const [later, anonymous] = [own.mapMemory(fd, SIZE, PAGE), own.mapMemory(-1, SIZE, 0)];
  const before = footprint();
  const said = (hva: Address, length?: Address) =>
    refusal(() => adopt(hva, length)).replaceAll(/0x[0-9a-f]{8,}/g, 'there');
  t.deepEqual(
    [said(anonymous), said(later), said(0x1000), said(anonymous, PAGE), said(-1)],
    [
      'OPTION_MISFIT: RAM "ram" cannot be the memory at there: it is private memory, which is nowhere but in its mapping: map a memfd shared there',
      'OPTION_MISFIT: RAM "ram" cannot be the memory at there: it is not one file from its beginning on',
      'MISSING_BACKING: RAM "ram" cannot be the memory at 0x1000: not all of it is mapped',
      'BACKING_SIZE: the memory "ram" that is adopted has 0x1000 bytes, its RAM 0x40000',
      'INVALID_ARGUMENT: hva must be a safe integer or a bigint from 0 to 2^64 - 1, not -1',
    ],
  );
  t.deepEqual(footprint(), before);
  own.unmapMemory(later, SIZE);
  own.unmapMemory(anonymous, SIZE);
  closeSync(fd);
});

test('memory whose descriptor is closed is found by its mapping, or it is said how to hand it over', (t) => {
  const memory = SharedMemory.create(SIZE);
  const hva = own.mapMemory(memory.fd, SIZE, 0);
  memory.close();
  if (process.getuid?.() === 0) {
    const manager = adopt(hva);
    manager.guestMemory.writeU8(0, 1);
    t.is(own.peek(hva), 1);
    manager.close();
  } else {
    t.regex(
      refusal(() => adopt(hva)),
      /^OPTION_MISFIT: .*hand it over as \{ kind: 'fd' \}$/,
    );
  }
  own.unmapMemory(hva, SIZE);
});
