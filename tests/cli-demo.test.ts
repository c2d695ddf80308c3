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
