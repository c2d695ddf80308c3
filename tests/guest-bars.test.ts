// BARs, flash and windows as ts/guide/bars.md says them, with a guest that looks: what it reads, where its writes land,
// and which of its accesses exit.

import { closeSync, writeSync } from 'node:fs';
import type { MappedRegion } from '../ts/guest/device.ts';
import type { GuestMemoryManager } from '../ts/guest/manager.ts';
import { PrivateMemory, SharedMemory } from '../ts/index.ts';
import { renderExplanation } from '../ts/text/render.ts';
import { Failing } from './support/failing.ts';
import { namelessFile } from './support/nameless-file.ts';
import { type Guest, got, MIB, vmTest, wrote } from './support/vm.ts';

const PAGE = 0x1000;
const BAR = 0x8000_0000;
const ELSEWHERE = 0x9000_0000;

/** Maps a file into the region, of which each page begins with its number. */
function fill(region: MappedRegion, pages: number): void {
  const fd = namelessFile(pages * PAGE);
  for (let page = 0; page < pages; page++) writeSync(fd, Uint8Array.of(page), 0, 1, page * PAGE);
  region.map(0, fd, 0, pages * PAGE, true);
  closeSync(fd);
}

/** A shared object whose pages begin with a number each, from `first` on. */
function numbered(name: string, pages: number, first: number): SharedMemory {
  const object = SharedMemory.create(pages * PAGE, { name });
  for (let page = 0; page < pages; page++) object.write(page * PAGE, Uint8Array.of(first + page));
  return object;
}

const readsIn = (guest: Guest, gpas: number[]) => gpas.map((gpa) => guest.read(gpa));

/** A BAR of 16 pages that traps in its third one. */
function msixBar({ map, deviceMapper }: GuestMemoryManager) {
  const bar = deviceMapper.newRegion(16 * PAGE, 'bar');
  fill(bar.region, 16);
  const table = map.createRegion({ name: 'msi-x table', kind: 'mmio', size: PAGE });
  table.place(bar.region.region, { offset: 2 * PAGE });
  return { ...bar, table };
}

vmTest('the MSI-X table in a BAR traps wherever the BAR is, and the rest of it does not', {}, (t, manager, guest) => {
  const { control, region, table } = msixBar(manager);
  for (const gpa of [BAR, ELSEWHERE]) {
    control.mapToGuest(gpa);
    t.deepEqual(readsIn(guest, [gpa + PAGE, gpa + 2 * PAGE, gpa + 3 * PAGE]), [
      got(1),
      `mmio read ${(gpa + 2 * PAGE).toString(16)}`,
      got(3),
    ]);
    t.is(guest.write(gpa + 2 * PAGE + 0xc, 1), `mmio write ${(gpa + 2 * PAGE + 0xc).toString(16)} = 1`);
  }
  t.throws(() => region.close(), { code: 'IN_USE' });
  t.is(guest.read(ELSEWHERE + 3 * PAGE), got(3), 'nothing has changed');
  manager.map.transaction(() => {
    table.remove();
    region.close();
  });
  t.is(guest.read(ELSEWHERE + 3 * PAGE), `mmio read ${(ELSEWHERE + 3 * PAGE).toString(16)}`);
});

vmTest('a table that does not fill its page makes the whole page trap, and the monitor answers', {}, (t, manager) => {
  const { control, region, table } = msixBar(manager);
  table.resize(0x800);
  control.mapToGuest(BAR);
  const read = (gpa: number) => {
    const exit = { kind: 'mmio', gpa, isWrite: false, data: new Uint8Array(1) } as const;
    return manager.guestMemory.answer(exit) ? exit.data[0] : 'the device answers';
  };
  manager.guestMemory.writeU8(BAR + 2 * PAGE + 0x800, 9);
  t.deepEqual([read(BAR + 2 * PAGE + 0x800), read(BAR + 2 * PAGE + 0x7ff)], [9, 'the device answers']);
  t.deepEqual(
    manager.inspect().trappingPages.map(({ gpa }) => gpa),
    [BAR + 2 * PAGE],
  );
  table.remove();
  region.close();
});

vmTest('a BAR that the guest puts over RAM is behind it, and comes forward elsewhere', {}, (t, manager, guest) => {
  const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'bar');
  fill(region, 4);
  t.is(guest.write(2 * MIB, 0x55), wrote(0x55));
  control.mapToGuest(2 * MIB);
  t.is(guest.read(2 * MIB), got(0x55));
  control.mapToGuest(4 * MIB - 2 * PAGE);
  t.deepEqual(readsIn(guest, [4 * MIB - PAGE, 4 * MIB, 4 * MIB + PAGE]), [got(0), got(2), got(3)]);
  control.mapToGuest(BAR);
  t.deepEqual(readsIn(guest, [2 * MIB, BAR + PAGE]), [got(0x55), got(1)]);
});

vmTest('a BAR above RAM covers it, and RAM is as it was when it goes', {}, (t, manager, guest) => {
  const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'aperture', { priority: 256 });
  fill(region, 4);
  t.is(guest.write(2 * MIB + PAGE, 0x55), wrote(0x55));
  control.mapToGuest(2 * MIB);
  t.is(guest.read(2 * MIB + PAGE), got(1));
  t.is(guest.write(2 * MIB + PAGE, 0x77), wrote(0x77));
  control.unmapFromGuest();
  t.is(guest.read(2 * MIB + PAGE), got(0x55));
  control.mapToGuest(BAR);
  t.is(guest.read(BAR + PAGE), got(0x77));
});

vmTest(
  'of two BARs at one place the first is on top, and the other comes forward when it goes',
  {},
  (t, manager, guest) => {
    const [first, second] = ['first', 'second'].map((name) => manager.deviceMapper.newRegion(4 * PAGE, name));
    for (const { region } of [first!, second!]) fill(region, 4);
    first!.control.mapToGuest(BAR);
    second!.control.mapToGuest(BAR + 2 * PAGE);
    const look = () => readsIn(guest, [BAR, BAR + 2 * PAGE, BAR + 4 * PAGE]);
    t.deepEqual(look(), [got(0), got(2), got(2)]);
    first!.control.unmapFromGuest();
    t.deepEqual(look(), [`mmio read ${BAR.toString(16)}`, got(0), got(2)]);
  },
);

vmTest(
  'a BAR that is resized keeps what fits, and its traps come back when it grows again',
  {},
  (t, manager, guest) => {
    const { control, region } = msixBar(manager);
    control.mapToGuest(BAR);
    const look = () => readsIn(guest, [BAR + PAGE, BAR + 2 * PAGE, BAR + 3 * PAGE]);
    const exits = (page: number) => `mmio read ${(BAR + page * PAGE).toString(16)}`;
    region.resize(2 * PAGE);
    t.deepEqual(look(), [got(1), exits(2), exits(3)]);
    manager.map.transaction(() => {
      control.unmapFromGuest();
      region.resize(4 * PAGE);
      control.mapToGuest(ELSEWHERE);
    });
    t.deepEqual(readsIn(guest, [ELSEWHERE + PAGE, ELSEWHERE + 2 * PAGE, ELSEWHERE + 3 * PAGE]), [
      got(1),
      `mmio read ${(ELSEWHERE + 2 * PAGE).toString(16)}`,
      'memory-fault',
    ]);
  },
);

vmTest(
  'flash shows a bank at a time, its writes exit, and reads too while it answers them',
  {},
  (t, manager, guest) => {
    const chip = numbered('flash', 16, 0x40);
    const flash = manager.map.createRegion({ name: 'flash', kind: 'rom', size: 4 * PAGE });
    const select = (bank: number) =>
      flash.map({ object: chip, objectOffset: bank * 4 * PAGE, length: 4 * PAGE, writable: false });
    select(0);
    flash.place(manager.root, { offset: BAR });
    const slots = () => guest.attached.attachments.flatMap((each) => each.slots());
    const before = slots();
    for (const bank of [0, 3, 1]) {
      select(bank);
      t.deepEqual(readsIn(guest, [BAR, BAR + 3 * PAGE]), [got(0x40 + 4 * bank), got(0x43 + 4 * bank)]);
    }
    t.deepEqual(slots(), before);
    t.is(guest.write(BAR, 0x70), 'mmio write 80000000 = 70');
    flash.setFlags({ enabled: false });
    t.is(guest.read(BAR), 'mmio read 80000000');
    flash.setFlags({ enabled: true });
    t.is(guest.read(BAR), got(0x44));
    chip.close();
  },
);

vmTest(
  'a window shows bank after bank of what is seen elsewhere too, and then something else',
  {},
  (t, manager, guest) => {
    const { map, root } = manager;
    const [pixels, fonts] = [numbered('pixels', 16, 0x40), numbered('fonts', 4, 0x80)];
    const screen = map.createRegion({ name: 'screen', kind: 'device', size: 16 * PAGE }).place(root, { offset: BAR });
    screen.map({ object: pixels });
    const window = 0xa0000;
    const banked = map.createAlias({ name: 'banked', target: screen, offset: 0, size: 4 * PAGE });
    const text = map.createRegion({ name: 'text', kind: 'ram', size: 4 * PAGE });
    text.map({ object: fonts });
    text.setFlags({ enabled: false });
    for (const each of [banked, text]) each.place(root, { offset: window, priority: 256 });
    const show = (isText: boolean) =>
      map.transaction(() => {
        banked.setFlags({ enabled: !isText });
        text.setFlags({ enabled: isText });
      });

    t.is(guest.read(window + PAGE), got(0x41));
    banked.retarget(8 * PAGE);
    t.is(guest.read(window + PAGE), got(0x49));
    t.is(guest.write(window + PAGE, 0x99), wrote(0x99));
    t.is(guest.read(BAR + 9 * PAGE), got(0x99));
    show(true);
    t.is(guest.read(window + PAGE), got(0x81));
    show(false);
    t.is(guest.read(window + PAGE), got(0x99));
    for (const each of [pixels, fonts]) each.close();
  },
);

const RAM_AT = 0x8000_0000;
const ALIAS_AT = 0x9000_0000;

/** Private memory of four pages, seen where it stands and through an alias. */
function mirrored({ map, root }: GuestMemoryManager) {
  const own = PrivateMemory.create(4 * PAGE, { name: 'own' });
  const ram = map.createRegion({ name: 'scratch', kind: 'ram', size: 4 * PAGE });
  ram.map({ object: own });
  ram.place(root, { offset: RAM_AT });
  const alias = map.createAlias({ name: 'mirror', target: ram, offset: 0, size: 4 * PAGE });
  alias.place(root, { offset: ALIAS_AT });
  return { own, ram, alias };
}

vmTest('private memory is the same through an alias, whichever of both goes', {}, (t, manager, guest) => {
  const { own, ram, alias } = mirrored(manager);
  const word = (gpa: number) => manager.guestMemory.readU32(gpa);
  t.is(guest.write(RAM_AT + PAGE, 0x55), wrote(0x55));
  t.is(guest.read(ALIAS_AT + PAGE), got(0x55));
  t.is(guest.write(ALIAS_AT + PAGE, 0x66), wrote(0x66));
  t.is(word(RAM_AT + PAGE), 0x66);
  t.throws(() => word(ALIAS_AT + PAGE), { code: 'GUEST_ACCESS' });
  t.regex(
    renderExplanation(manager.space.explain(ALIAS_AT + PAGE)).join('\n'),
    /mapped at 80001000, where the monitor/,
  );

  ram.remove();
  t.is(guest.read(ALIAS_AT + PAGE), got(0x66));
  t.is(guest.read(RAM_AT + PAGE), 'mmio read 80001000');
  t.is(word(ALIAS_AT + PAGE), 0x66);
  t.is(guest.write(ALIAS_AT + PAGE, 0x77), wrote(0x77));

  ram.place(manager.root, { offset: RAM_AT });
  t.deepEqual(readsIn(guest, [RAM_AT + PAGE, ALIAS_AT + PAGE]), [got(0x77), got(0x77)]);
  t.is(word(RAM_AT + PAGE), 0x77, 'the monitor has it where the region stands');
  alias.remove();
  t.is(guest.read(ALIAS_AT + PAGE), 'mmio read 90001000');
  t.is(guest.read(RAM_AT + PAGE), got(0x77));
  own.close();
});

vmTest('an alias of private memory is written no more than where that is mapped', {}, (t, manager, guest) => {
  const { own, ram } = mirrored(manager);
  ram.map({ object: own, length: PAGE, writable: false });
  t.is(guest.write(ALIAS_AT, 1), 'mmio write 90000000 = 1');
  t.is(guest.write(ALIAS_AT + PAGE, 2), wrote(2));
  ram.map({ object: own, length: PAGE });
  t.is(guest.write(ALIAS_AT, 3), wrote(3));
  t.is(guest.read(RAM_AT), got(3));
  own.close();
});

vmTest(
  'whichever command fails of those that move private memory to its alias, nothing has happened',
  {},
  (t, manager, guest) => {
    const { own, ram } = mirrored(manager);
    const failing = new Failing(manager.map.context);
    t.is(guest.write(RAM_AT, 0x55), wrote(0x55));
    // Both slots go, the pages are parked and put at the other place, and its slot comes.
    for (let command = 0; command < 5; command++) {
      failing.after = command;
      t.throws(() => ram.remove(), { code: 'PLAN_FAILED' });
      failing.after = Number.POSITIVE_INFINITY;
      t.deepEqual(readsIn(guest, [RAM_AT, ALIAS_AT]), [got(0x55), got(0x55)]);
      t.is(manager.guestMemory.readU32(RAM_AT), 0x55);
    }
    failing.after = 5;
    ram.remove();
    failing.after = Number.POSITIVE_INFINITY;
    t.is(guest.read(ALIAS_AT), got(0x55));
    own.close();
  },
);
