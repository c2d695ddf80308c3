// `membacking demo`, as `npm start` runs it.

import test from 'ava';
import { membacking } from './support/cli.ts';
import { kvmMissing } from './support/guest.ts';

test('the demonstration shows what the guest saw beside what the flat view said', (t) => {
  const { code, out, err } = membacking(['demo']);
  t.is(code, 0, err);
  t.is(err, '');
  const who = kvmMissing === undefined ? 'guest' : 'monitor';
  t.regex(out, new RegExp(`^ +${who} reads +${who} writes +flat view says$`, 'm'));
  t.regex(out, /^ {2}RAM +00000000 +11111111 done +pc\.ram \+ 80000, writable$/m);
  t.regex(out, /^ {2}ROM put over it +b105f00d +22222222 trapped +overlay\.rom \+ 0, read-only$/m);
  t.regex(out, /^ {2}ROM taken off +11111111 +33333333 done +pc\.ram \+ 80000, writable$/m);
  t.is(out.includes('no guest'), kvmMissing !== undefined);
  t.regex(out, /^ +fffc0000-ffffffff +rom +r- +pc\.bios$/m);
  t.true(out.split('\n').length <= 60);
});

test('with --json it says the same in one line', (t) => {
  const { code, out, err } = membacking(['demo', '--json']);
  t.is(code, 0, err);
  t.is(out.indexOf('\n'), out.length - 1);
  const { recorded, guest, looks, addressSpaces } = JSON.parse(out);
  t.is(guest.isThere, kvmMissing === undefined);
  t.is(typeof recorded.plans.total, 'number');
  const ram = { name: 'pc.ram', offsetInRegion: '0x80000', readonly: false };
  const rom = { name: 'overlay.rom', offsetInRegion: '0x0', readonly: true };
  const gpa = '0x80000';
  t.deepEqual(looks, [
    { moment: 'RAM', gpa, read: '0x0', value: '0x11111111', written: true, visible: ram },
    { moment: 'ROM put over it', gpa, read: '0xb105f00d', value: '0x22222222', written: false, visible: rom },
    { moment: 'ROM taken off', gpa, read: '0x11111111', value: '0x33333333', written: true, visible: ram },
  ]);
  const bios = { start: '0xfffc0000', end: '0xffffffff', name: 'pc.bios', kind: 'rom', offsetInRegion: '0x0' };
  t.like(addressSpaces[0].ranges.at(-1), bios);
});
