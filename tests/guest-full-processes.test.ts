// Processes that have no room for more mappings, as vm.max_map_count says: a change fails in the midst of its commands,
// in the manager or in a client, and is taken back with what is held for that.

import { readFileSync } from 'node:fs';
import test from 'ava';
import { AT, clientTest, PAGE } from './support/clients.ts';
import { DeviceProcess } from './support/device-process.ts';
import { run } from './support/faulty-system.ts';

/** Mappings that are left to a process, try by try. Three pages that are hidden cost two each. */
const LEFT = [2, 4, 6, 8, 10, 12, 20];
const HIDDEN = [AT, AT + 2 * PAGE, AT + 4 * PAGE];

const MAX_MAP_COUNT = Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8'));
/** Mappings that tests/native/faults.cc can make. */
const MOST = 2 ** 17;
const canFill = MAX_MAP_COUNT <= MOST;

const MANAGER = 'a manager without room for mappings takes back what it cannot do';
if (!canFill) test.skip(`${MANAGER}: ${MAX_MAP_COUNT} mappings are too many to be made here`, () => {});
else
  test(MANAGER, (t) => {
    // Mappings are counted now and then, and the last count is trusted: a change comes before each try.
    const ends = run(`
      const manager = build('shared');
      const fd = system.memfd(8 * PAGE);
      const { region, control } = manager.deviceMapper.newRegion(8 * PAGE, 'bar');
      region.map(0, fd, 0, 8 * PAGE, true);
      control.mapToGuest(BAR);
      const pages = [0, 1, 2, 3, 4, 5].map((page) => BAR + page * PAGE);
      for (const [index, gpa] of pages.entries()) manager.guestMemory.writeU32(gpa, index);
      const change = (what) => manager.map.transaction(() => {
        for (const offset of [1, 3, 5].map((page) => page * PAGE)) what(offset);
      });
      const hide = () => change((offset) => region.unmap(offset, PAGE));
      const show = () => change((offset) => region.map(offset, fd, offset, PAGE, true));
      return ${JSON.stringify(LEFT)}.map((left) => {
        hide();
        show();
        system.fillMappings(left);
        const end = code(hide);
        system.emptyMappings();
        const now = pages.map((gpa) => seen(manager.guestMemory, gpa));
        if (end === 'done') show();
        return [end, ...now];
      });
    `) as unknown[][];
    const refused = ends.filter(([end]) => end === 'PLAN_FAILED');
    t.log(`${refused.length} refused`);
    t.true(refused.length > 0 && refused.length < LEFT.length);
    for (const [end, ...now] of ends) {
      t.deepEqual(now, end === 'done' ? [0, 'hole', 2, 'hole', 4, 'hole'] : [0, 1, 2, 3, 4, 5]);
    }
  });

const CLIENT = 'a client without room for mappings refuses what it cannot do, and nobody has lost anything';
if (!canFill) test.skip(`${CLIENT}: ${MAX_MAP_COUNT} mappings are too many to be made here`, () => {});
else
  clientTest(CLIENT, async (t, manager) => {
    const client = manager.client();
    const tickets = [client.share(), client.share({ lazy: true }), client.share({ readOnly: true })];
    const devices = await Promise.all(tickets.map((ticket) => DeviceProcess.openFaulty(ticket)));
    const protect = (access: 'none' | 'rwx') =>
      manager.map.transaction(() => {
        for (const gpa of HIDDEN) manager.setVtlProtection(0, { gpa, length: PAGE }, access);
      });
    const bytes = HIDDEN.map((gpa) => `memory.readU8(${gpa})`).join(', ');
    const seen = () => Promise.all(devices.map((each) => each.run(`[${bytes}, mappings(/memfd:ram/).length]`)));
    for (const device of devices) {
      let refused = 0;
      for (const left of LEFT) {
        for (const access of ['none', 'rwx'] as const) protect(access);
        const before = await seen();
        await device.run(`loaded.exports.fillMappings(${left})`);
        try {
          protect('none');
        } catch (error) {
          t.like(error, { code: 'PLAN_FAILED', cause: { code: 'ENOMEM' } });
          refused++;
        }
        await device.run('loaded.exports.emptyMappings()');
        protect('rwx');
        t.deepEqual(await seen(), before, `${left} left`);
      }
      t.true(refused > 0 && refused < LEFT.length, `${refused} refused`);
    }
    await Promise.all(devices.map((each) => each.end()));
  });
