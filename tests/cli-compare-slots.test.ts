// Logs of other monitors: the history of their memory slots beside what the core plans for the same changes.

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import test from 'ava';
import type { Slot } from '../ts/cli/compare/calls.ts';
import { type Change, SpaceHistory } from '../ts/cli/compare/history.ts';
import { lines, membacking } from './support/cli.ts';
import { Random, SEED, tries } from './support/random.ts';

const QEMU = 'tests/fixtures/qemu-slots.strace.gz';

/** A monitor that splits its RAM around a ROM, switches a dirty log, is refused a slot, and has two address spaces. */
const STORY = `100 memfd_create("pc.ram", MFD_CLOEXEC) = 9
100 mmap(NULL, 134217728, PROT_READ|PROT_WRITE, MAP_SHARED, 9, 0) = 0x7f0000000000
100 mmap(NULL, 262144, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f1000000000
100 ioctl(10, KVM_CREATE_VM, 0)       = 11
100 ioctl(11, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0, memory_size=134217728, userspace_addr=0x7f0000000000}) = 0
100 ioctl(11, KVM_SET_USER_MEMORY_REGION, {slot=1, flags=KVM_MEM_READONLY, guest_phys_addr=0xfffc0000, memory_size=262144, userspace_addr=0x7f1000000000}) = 0
101 ioctl(12, KVM_RUN, 0 <unfinished ...>
100 ioctl(11, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP) = 1
101 <... ioctl resumed>) = 0
101 ioctl(11, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0, memory_size=0, userspace_addr=0x7f0000000000}) = 0
101 ioctl(11, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0, memory_size=0xc0000, userspace_addr=0x7f0000000000}) = 0
101 ioctl(11, KVM_SET_USER_MEMORY_REGION, {slot=2, flags=KVM_MEM_READONLY, guest_phys_addr=0xc0000, memory_size=0x10000, userspace_addr=0x7f00000c0000} <unfinished ...>
100 madvise(0x7f1000000000, 4096, MADV_HUGEPAGE) = 0
101 <... ioctl resumed>) = 0
101 ioctl(11, KVM_SET_USER_MEMORY_REGION, {slot=3, flags=0, guest_phys_addr=0xd0000, memory_size=0x7f30000, userspace_addr=0x7f00000d0000}) = 0
101 ioctl(12, KVM_RUN, 0) = 0
100 madvise(0x7f0000100000, 4096, MADV_DONTNEED) = 0
101 ioctl(11, KVM_SET_USER_MEMORY_REGION, {slot=3, flags=KVM_MEM_LOG_DIRTY_PAGES, guest_phys_addr=0xd0000, memory_size=0x7f30000, userspace_addr=0x7f00000d0000}) = 0
101 ioctl(11, KVM_SET_USER_MEMORY_REGION, {slot=9, flags=0, guest_phys_addr=0xd0000, memory_size=0x1000, userspace_addr=0x7f00000d0000}) = -1 EEXIST (File exists)
101 ioctl(11, KVM_SET_USER_MEMORY_REGION, {slot=1, flags=KVM_MEM_READONLY, guest_phys_addr=0xfff00000, memory_size=262144, userspace_addr=0x7f1000000000}) = 0
101 ioctl(11, KVM_SET_USER_MEMORY_REGION, {slot=65536, flags=0, guest_phys_addr=0, memory_size=0xa0000, userspace_addr=0x7f0000000000}) = 0
100 --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER, si_pid=1, si_uid=0} ---
100 +++ exited with 0 +++
`;

const SLOT = '{slot=0, flags=0, guest_phys_addr=0, memory_size=0x1000, userspace_addr=0x7f0000000000}';

function told(log: string, ...options: string[]): { code: number | null; text: string[] } {
  const { code, out, err } = membacking(['compare-slots', '-', ...options], { input: log });
  return { code, text: lines((out + err).trimEnd()) };
}

test('a monitor’s slots, change by change, and what would have been planned', (t) => {
  t.snapshot(told(STORY));
  t.snapshot(told(STORY, '--json'));
});

test('QEMU’s own: a PC whose firmware begins to boot', (t) => {
  const log = gunzipSync(readFileSync(QEMU)).toString();
  t.snapshot(told(log, '--summary'));
  t.snapshot(told(log).text.slice(0, 60));
});

test('every form of line that strace writes tells the same', (t) => {
  const expected = told(STORY, '--json');
  const forms: Readonly<Record<string, (line: string) => string>> = {
    'as on a terminal': (line) => line.replace(/^(\d+) /, '[pid   $1] '),
    'with the time of day': (line) => line.replace(/^(\d+) /, '$1 12:30:00.000001 '),
    'with seconds since 1970': (line) => line.replace(/^(\d+) /, '$1 1700000000.123456 '),
    'with seconds since the last': (line) => line.replace(/^(\d+) /, '$1      0.000123 '),
    'with what a call took': (line) => line.replace(/( = -?\w.*)$/, '$1 <0.000012>'),
    'with what descriptors are': (line) => line.replace(/ioctl\((\d+),/, 'ioctl($1</dev/kvm>,'),
  };
  for (const [form, change] of Object.entries(forms))
    t.deepEqual(told(lines(STORY).map(change).join('\n'), '--json'), expected, form);
});

test('virtual machines of one descriptor, one after the other, are two', (t) => {
  const machine = `ioctl(3, KVM_CREATE_VM, 0) = 4\nioctl(4, KVM_SET_USER_MEMORY_REGION, ${SLOT}) = 0\n`;
  const { text } = told(machine + machine, '--json');
  t.is(text.filter((line) => line.includes('"change":1')).length, 2);
});

test('a log that begins late tells what it can', (t) => {
  const deletes = SLOT.replace('0x1000', '0');
  t.snapshot(
    told(`7 <... ioctl resumed>) = 0
ioctl(4, KVM_SET_USER_MEMORY_REGION, ${deletes}) = 0
ioctl(4, KVM_SET_USER_MEMORY_REGION, ${SLOT}) = 0
8 ioctl(4, KVM_SET_USER_MEMORY_REGION, ${SLOT} <unfinished ...>
`),
  );
});

test('a log without slots says so', (t) => {
  t.snapshot(told('close(3) = 0\n'));
  t.snapshot(told(''));
});

/** Logs that are wrong, by what is wrong with them. */
const WRONG: Readonly<Record<string, string>> = {
  'a line of another program': `close(3) = 0\nqemu: could not load kernel\n`,
  'bytes of anything': 'close(3) = 0\n\x7fELF\x01\x02\n',
  'a call that breaks off': `5 ioctl(4, KVM_SET_USER_MEMORY_REGION, {slot=0, fla`,
  'a line without an end': `mmap(${'x'.repeat(70_000)}`,
  'a slot that strace does not take apart': 'ioctl(4, KVM_SET_USER_MEMORY_REGION, 0x7ffc12345678) = 0',
  'an address that is text': `ioctl(4, KVM_SET_USER_MEMORY_REGION, ${SLOT.replace('0x7f0000000000', 'here')}) = 0`,
  'an address of more than 64 bits': `ioctl(4, KVM_SET_USER_MEMORY_REGION, ${SLOT.replace('0x7f0', '0xffff7f0000')}) = 0`,
  'half a page': `ioctl(4, KVM_SET_USER_MEMORY_REGION, ${SLOT.replace('0x1000', '0x800')}) = 0`,
  'memory past what there can be': `ioctl(4, KVM_SET_USER_MEMORY_REGION, ${SLOT.replace('phys_addr=0', 'phys_addr=0xfffffffffffff000')}) = 0`,
  'a slot of more than 32 bits': `ioctl(4, KVM_SET_USER_MEMORY_REGION, ${SLOT.replace('slot=0', 'slot=4294967296')}) = 0`,
  'flags that are text': `ioctl(4, KVM_SET_USER_MEMORY_REGION, ${SLOT.replace('flags=0', 'flags=SOME')}) = 0`,
  'a slot over another one': [0, 1]
    .map((slot) => `ioctl(4, KVM_SET_USER_MEMORY_REGION, ${SLOT.replace('slot=0', `slot=${slot}`)}) = 0`)
    .join('\n'),
};

test('a log that is wrong is refused, with its line and column', (t) => {
  t.snapshot(
    Object.entries(WRONG).map(([title, log]) => {
      const { code, text } = told(log);
      t.is(code, 1, title);
      t.is(text.length, 1, title);
      return `${title}: ${text[0]}`;
    }),
  );
});

// ---- A model: arrays of pages ------------------------------------------------------------------

const PAGES = 12;

/** Memory at each page of the guest: the monitor's page, and whether it can be written. */
type Pages = readonly (string | undefined)[];

function pagesOf(slots: Iterable<Slot>): Pages {
  const pages: (string | undefined)[] = new Array(PAGES).fill(undefined);
  for (const { gpa, pages: count, hva, readonly } of slots) {
    for (let page = 0; page < count; page++) pages[gpa + page] = `${hva + page}${readonly ? ' r' : ' rw'}`;
  }
  return pages;
}

/** Slots that a monitor could have: of its first PAGES pages, cut anywhere, each of one of two memories. */
function someSlots(random: Random): Slot[] {
  const slots: Slot[] = [];
  for (let gpa = random.below(3); gpa < PAGES; ) {
    const pages = 1 + random.below(Math.min(4, PAGES - gpa));
    const hva = 1000 * random.below(2) + gpa;
    slots.push({ slot: slots.length, gpa, pages, hva, readonly: random.below(4) === 0, logsDirty: false });
    gpa += pages + random.below(2);
  }
  return slots;
}

/** Makes the slots of a history what they are to be, as one change. */
function changed(history: SpaceHistory, slots: readonly Slot[]): void {
  const take = (slot: Slot) => history.take({ kind: 'slot', vm: 0, space: 0, slot, error: undefined }, 1, 1);
  for (const slot of [...history.table.all]) take({ ...slot, pages: 0 });
  for (const slot of slots) take(slot);
  history.end();
}

test('what was absent, and what was planned, agree with arrays of pages', (t) => {
  t.log(`seed ${SEED}`);
  const random = new Random();
  for (let round = 0; round < tries(300); round++) {
    const history = new SpaceHistory(0);
    let slots = new Map<number, Slot>();
    for (let step = 0; step < 6; step++) {
      const before = pagesOf(history.table.all);
      changed(history, someSlots(random));
      const after = pagesOf(history.table.all);
      const { monitor, planner } = history.changes.at(-1) as Change;
      const isSame = (_: unknown, page: number) => before[page]?.split(' ')[0] === after[page]?.split(' ')[0];
      t.is(monitor.absent, 4096 * before.filter((page, at) => page !== undefined && isSame(page, at)).length);

      const taken = new Set<number>();
      slots = new Map(slots);
      for (const { op, slot, gpa, length, access } of planner.commands) {
        const range = { slot: slot as number, gpa: Number(gpa) / 4096, pages: Number(length) / 4096 };
        if (op === 'slot-add')
          slots.set(range.slot, { ...range, hva: range.gpa, readonly: !access.includes('w'), logsDirty: false });
        if (op !== 'slot-delete') continue;
        slots.delete(range.slot);
        for (let page = range.gpa; page < range.gpa + range.pages; page++) taken.add(page);
      }
      t.is(planner.absent, 4096 * [...taken].filter((page) => before[page] !== undefined && isSame(0, page)).length);
      t.is(planner.holds, planner.absent > 0);
      const access = (page: string | undefined) => page?.split(' ')[1];
      t.deepEqual(pagesOf(slots.values()).map(access), after.map(access));
    }
  }
});
