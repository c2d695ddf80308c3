// QEMU's "info mtree" as people paste it: what the tree shows must be the flat view that QEMU printed beside it.

import test, { type ExecutionContext } from 'ava';
import { MembackingError } from '../ts/core/errors.ts';
import { importMaps } from '../ts/trace/import/maps.ts';
import { formatOperation } from '../ts/trace/write.ts';
import { mtreeText, mtreeTexts, parted, saidBy, shownBy } from './support/mtree-texts.ts';
import { Random, SEED } from './support/random.ts';

/** A text with a tree of one address space, and what it shows. */
function shown(t: ExecutionContext, ...lines: string[]): object {
  const { views, notes } = shownBy(lines.join('\n'));
  t.true(notes.every((note) => note.startsWith('text: ')));
  const rows = Object.entries(views).map(([name, each]) => [name, each.flatMap((view) => view.split('\n'))] as const);
  return { views: Object.fromEntries(rows), notes };
}

function refused(t: ExecutionContext, text: string): string {
  const error = t.throws(() => importMaps([{ name: 'text', text }]), { instanceOf: MembackingError });
  return `${error.code}: ${error.message}`;
}

const SYSTEM = '  0000000000000000-ffffffffffffffff (prio 0, i/o): system';
const RAM = '    0000000000000000-0000000000ffffff (prio 0, ram): ram';

test('each recorded tree shows what "info mtree -f" says in the same text, in every address space', (t) => {
  const texts = mtreeTexts();
  for (const { name, text } of texts) {
    const { views, notes } = shownBy(text);
    t.deepEqual(views, saidBy(text), name);
    t.deepEqual(notes, [], name);
  }
  t.is(texts.length, 186);
});

test('a flat view without its tree shows itself', (t) => {
  for (const { name, text } of mtreeTexts()) {
    const { flat } = parted(text);
    if (!flat.includes('address-space: ')) t.deepEqual(shownBy(flat).views, saidBy(text), name);
  }
});

test('without a flat view most trees are guessed right, and the guesses are said', (t) => {
  let right = 0;
  for (const { name, text } of mtreeTexts()) {
    const { views, notes } = shownBy(parted(text).tree);
    const said = saidBy(text);
    t.deepEqual(Object.keys(views).sort(), Object.keys(said).sort(), name);
    if (Object.entries(views).every(([space, view]) => view.join() === said[space]?.join())) right++;
    t.true(
      notes.some((note) => note.includes('"info mtree -f" in the same text would settle this')),
      name,
    );
  }
  t.true(right >= 120, `${right}`);
});

test('what a tree leaves open, and what is taken', (t) => {
  t.snapshot({
    'nothing is open but the containers': shown(t, 'address-space: memory', SYSTEM, RAM),
    'one of equal priority that begins later is on top': shown(
      t,
      ...['address-space: memory', SYSTEM],
      '    0000000000001000-0000000000004fff (prio 0, i/o): early',
      '    0000000000003000-0000000000006fff (prio 0, i/o): late',
    ),
    'of two in one place the first': shown(
      t,
      ...['address-space: memory', SYSTEM],
      '    0000000000001000-0000000000001fff (prio 0, i/o): first',
      '    0000000000001000-0000000000002fff (prio 0, i/o): second',
    ),
    'a container shows what is below, a device does not': shown(
      t,
      ...['address-space: memory', SYSTEM, RAM],
      '    0000000000001000-0000000000002fff (prio 1, i/o): bus',
      '      0000000000001000-0000000000001007 (prio 0, i/o): uart',
      '    0000000000005000-0000000000005fff (prio 1, i/o): nic',
    ),
    'RAM as ROM': shown(
      t,
      ...['address-space: memory', SYSTEM, RAM],
      '    00000000000c0000-00000000000c3fff (prio 1, ram): alias pam-rom @ram 00000000000c0000-00000000000c3fff',
    ),
  });
});

test('the flat view beside the tree settles it', (t) => {
  const tree = [
    ...['address-space: memory', SYSTEM, RAM],
    '    0000000000001000-0000000000004fff (prio 1, i/o): early',
    '      0000000000001000-0000000000001007 (prio 0, i/o): uart',
    '    0000000000003000-0000000000006fff (prio 1, i/o): late',
    '    00000000000c0000-00000000000c3fff (prio 1, ram): alias window @ram 00000000000c0000-00000000000c3fff',
    '',
    'FlatView #0',
    ' AS "memory", root: system',
    ' Root memory region: system',
  ];
  const rest = [
    '  00000000000c0000-00000000000c3fff (prio 0, rom): ram @00000000000c0000',
    '  00000000000c4000-0000000000ffffff (prio 0, ram): ram @00000000000c4000',
  ];
  const early = [
    '  0000000000000000-0000000000000fff (prio 0, ram): ram',
    '  0000000000001000-0000000000001007 (prio 0, i/o): uart',
    '  0000000000001008-0000000000004fff (prio 1, i/o): early @0000000000000008',
    '  0000000000005000-0000000000006fff (prio 1, i/o): late @0000000000002000',
    '  0000000000007000-00000000000bffff (prio 0, ram): ram @0000000000007000',
    ...rest,
  ];
  const neither = [
    '  0000000000000000-0000000000000fff (prio 0, ram): ram',
    '  0000000000001000-0000000000001007 (prio 0, i/o): uart',
    '  0000000000001008-0000000000002fff (prio 0, ram): ram @0000000000001008',
    '  0000000000003000-0000000000006fff (prio 1, i/o): late',
    '  0000000000007000-00000000000bffff (prio 0, ram): ram @0000000000007000',
    ...rest,
  ];
  for (const rows of [early, neither]) {
    const text = [...tree, ...rows].join('\n');
    const { views, notes } = shownBy(text);
    t.deepEqual(views, saidBy(text));
    t.deepEqual(notes, []);
  }
  const wrong = [...tree, '  0000000000000000-0000000000000fff (prio 0, ram): another'].join('\n');
  t.snapshot(shownBy(wrong).notes);
});

test('a tree without an address space is shown all the same', (t) => {
  t.snapshot(
    shown(
      t,
      ...['(qemu) info mtree', 'memory-region: system', SYSTEM],
      '    0000000000000000-0000000007ffffff (prio 0, ram): alias low-ram @board.ram 0000000000000000-0000000007ffffff',
      '    000000000c001000-000000000c00101f (prio 1, i/o): fuses',
      '',
      'memory-region: board.ram',
      '  0000000000000000-0000000007ffffff (prio 0, ram): board.ram',
    ),
  );
});

test('older forms', (t) => {
  t.snapshot({
    'QEMU 1.0': shown(
      t,
      'memory',
      '0000000000000000-7ffffffffffffffe (prio 0): system',
      '  00000000000c0000-00000000000c3fff (prio 1): alias pam-rom @pc.ram 00000000000c0000-00000000000c3fff',
      '  0000000000000000-0000000007ffffff (prio 0): alias ram-below-4g @pc.ram 0000000000000000-0000000007ffffff',
      'I/O',
      '0000000000000000-000000000000ffff (prio 0): io',
      '  0000000000000cf8-0000000000000cfb (prio 0): pci-conf-idx',
      'aliases',
      'pc.ram',
      '0000000000000000-0000000007ffffff (prio 0): pc.ram',
    ),
    'QEMU 2.5: what can be read and written, every address space with its own copy': shown(
      t,
      'address-space: memory',
      '  0000000000000000-ffffffffffffffff (prio 0, RW): system',
      '    0000000000000000-0000000007ffffff (prio 0, RW): alias ram-below-4g @pc.ram 0000000000000000-0000000007ffffff',
      '    00000000fffc0000-00000000ffffffff (prio 0, R-): pc.bios',
      '    00000000fec00000-00000000fec00fff (prio 0, RW): ioapic',
      '',
      'address-space: cpu-memory',
      '  0000000000000000-ffffffffffffffff (prio 0, RW): system',
      '    0000000000000000-0000000007ffffff (prio 0, RW): alias ram-below-4g @pc.ram 0000000000000000-0000000007ffffff',
      '    00000000fffc0000-00000000ffffffff (prio 0, R-): pc.bios',
      '    00000000fec00000-00000000fec00fff (prio 0, RW): ioapic',
      '',
      'memory-region: pc.ram',
      '  0000000000000000-0000000007ffffff (prio 0, RW): pc.ram',
    ),
    'QEMU 2.9: a flat view for each address space': shown(
      t,
      'address-space (flat view): memory',
      '  0000000000000000-000000000009ffff (prio 0, ram): pc.ram',
      '  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom',
      '  0000000000100000-0000000007ffffff (prio 0, ram): pc.ram @0000000000100000',
    ),
    'QEMU 3: disabled regions, owners, persistent memory': shown(
      t,
      ...['address-space: memory', SYSTEM, `${RAM} owner:{obj path=/objects/mem}`],
      '    0000000000001000-0000000000001fff (prio 1, i/o): off [disabled] parent:{dev id=nic}',
      '    0000000000002000-0000000000002fff (prio 1, ram): alias window @ram 0000000000000000-0000000000000fff [disabled]',
      '    0000000001000000-0000000001ffffff (prio 1, nv-ram): nvdimm owner:{dev id=n}',
    ),
  });
});

test('what stands in something disabled that is not printed is not seen', (t) => {
  t.snapshot(
    shown(
      t,
      ...['address-space: memory', SYSTEM, RAM],
      '      0000000001000000-0000000001000fff (prio 0, i/o): in the RAM by its indentation',
      '        0000000000001000-0000000000001fff (prio 1, i/o): too far in',
      '          0000000000001000-0000000000001fff (prio 1, i/o): further in',
      '    0000000000002000-0000000000002fff (prio 1, ram): alias window @ram 0000000000000000-0000000000000fff',
      '      0000000000005000-0000000000005fff (prio 1, i/o): in an alias by its indentation',
      '    0000000000006000-0000000000006fff (prio 1, i/o): seen',
    ),
  );
});

test('of targets with one name, each alias has its own', (t) => {
  const tree = [
    ...['address-space: memory', SYSTEM],
    '    0000000000001000-0000000000001fff (prio 0, ram): alias a @bar 0000000000000000-0000000000000fff',
    '    0000000000002000-0000000000002fff (prio 0, i/o): alias b @bar 0000000000000000-0000000000000fff',
    '',
    'memory-region: bar',
    '  0000000000000000-0000000000000fff (prio 0, ram): bar',
    '',
    'memory-region: bar',
    '  0000000000000000-0000000000000fff (prio 0, i/o): bar',
    '    0000000000000000-00000000000000ff (prio 0, i/o): msix-table',
  ];
  t.snapshot(shown(t, ...tree));
});

test('parts cut off: the first lines, a target, the last line', (t) => {
  t.snapshot({
    'no heading': shown(t, RAM, '    0000000000001000-0000000000001fff (prio 1, i/o): nic'),
    'no target': shown(
      t,
      ...['address-space: memory', SYSTEM],
      '    0000000000000000-0000000000000fff (prio 0, ram): alias low @ram 0000000000001000-0000000000001fff',
    ),
    'half an alias': shown(
      t,
      ...['address-space: memory', SYSTEM, RAM],
      '    0000000000001000-0000000000001fff (prio 1, ram): alias window @ra',
    ),
    'half a line': shown(t, 'address-space: memory', SYSTEM, RAM, '    0000000000001000-0000000000001fff (prio 1, i/'),
  });
});

test('two answers in one text are two moments', (t) => {
  const text = mtreeText('devices.q35-two-moments');
  const { operations, moments } = importMaps([{ name: 'q35', text }]);
  t.deepEqual(
    moments.map(({ snapshot }) => snapshot),
    ['q35#1', 'q35#2'],
  );
  t.true(operations.length - (moments[0]?.end as number) < (moments[0]?.end as number) / 2);
  const tree = ['(qemu) info mtree', 'address-space: memory', SYSTEM, RAM];
  const nic = '    0000000000001000-0000000000001fff (prio 1, i/o): nic';
  const two = importMaps([{ name: 'two', text: [...tree, ...tree, nic].join('\n') }]);
  t.snapshot(two.operations.slice(two.moments[0]?.end).map(formatOperation));
});

test('address spaces that come and go between two moments', (t) => {
  const spaces = (...lines: string[]) => ['(qemu) info mtree', 'address-space: memory', SYSTEM, ...lines].join('\n');
  const nic = ['', 'address-space: nic', '  0000000000000000-ffffffffffffffff (prio 0, i/o): bus master'];
  const texts = [spaces(RAM), spaces(RAM, ...nic), spaces(RAM)].map((text, i) => ({ name: `${i}`, text }));
  const { operations, moments } = importMaps(texts);
  t.snapshot(moments.slice(1).map(({ end }, i) => operations.slice(moments[i]?.end, end).map(formatOperation)));
});

test('what a terminal, a mail or an editor puts around a text makes no difference', (t) => {
  const text = mtreeText('q35-vga').replace(/\r/g, '');
  const plain = importMaps([{ name: 'text', text }]);
  const dressed: Record<string, string> = {
    'line ends of Windows': text.replace(/\n/g, '\r\n'),
    'line ends of a serial console': text.replace(/\n/g, '\r\r\n'),
    'a byte order mark': `\ufeff${text}`,
    'terminal codes': text.replace(/\(qemu\)/g, '\u001b[K\u001b[1m(qemu)\u001b[0m'),
    'a quotation': text.replace(/^/gm, '> '),
    'a quotation of a quotation': text.replace(/^/gm, '> > '),
    'NUL bytes': text.replace(/\n/g, '\u0000\n'),
    'blanks behind the lines': text.replace(/\n/g, '  \t\n'),
    indentation: text.replace(/^ /gm, '     ').replace(/^(address|memory-region|FlatView)/gm, '    $1'),
    'wider steps': text.replace(/^ +(?=[0-9a-f])/gm, (blanks) => blanks.repeat(2)),
    'other commands': `(qemu) info status\nVM status: running\n${text}(qemu) info registers\n0000000000000000 0000\n`,
    'the flat view first': `${parted(text).flat}\n(qemu) info mtree\n${parted(text).tree}`,
  };
  for (const [what, each] of Object.entries(dressed))
    t.deepEqual(importMaps([{ name: 'text', text: each }]).operations, plain.operations, what);
});

test('a line that goes wrong is refused, with its place', (t) => {
  t.snapshot([
    refused(t, 'nothing of the kind\n'),
    refused(t, ''),
    refused(
      t,
      ['address-space: memory', SYSTEM, '   0000000000000000-0000000000000fff (prio x, ram): a', RAM].join('\n'),
    ),
    refused(t, ['address-space: memory', SYSTEM, '0000000000000000-0000000000000fff (prio 0, ram)', RAM].join('\n')),
    refused(t, ['address-space: memory', SYSTEM, `${RAM}${'x'.repeat(5000)}`, RAM].join('\n')),
    refused(
      t,
      [
        ...[
          'address-space: memory',
          '  0000000000000000-0000000000000fff (prio 0, ram): alias a @b 0000000000000000-0000000000000fff',
          '',
        ],
        ...[
          'memory-region: b',
          '  0000000000000000-0000000000000fff (prio 0, ram): alias b @c 0000000000000000-0000000000000fff',
          '',
        ],
        ...[
          'memory-region: c',
          '  0000000000000000-0000000000000fff (prio 0, ram): alias c @b 0000000000000000-0000000000000fff',
        ],
      ].join('\n'),
    ),
    refused(t, ['address-space: memory', ...Array<string>(100_001).fill(SYSTEM)].join('\n')),
  ]);
});

test('a hostile text ends in time, understood or refused', (t) => {
  const row = (i: number, depth: number) =>
    `${' '.repeat(depth)}${(i * 4096).toString(16).padStart(16, '0')}-ffffffffffffffff (prio 0, i/o): r${i}`;
  const window = '0000000000000000-00000000ffffffff';
  const texts: Record<string, string[]> = {
    'as deep as a line can be': Array.from({ length: 2000 }, (_, i) => row(i, 2 + 2 * i)),
    'every alias twice in the one before it': Array.from({ length: 60 }, (_, i) => [
      `memory-region: r${i}`,
      `  ${window} (prio 0, i/o): r${i}`,
      `    ${window} (prio 0, i/o): alias a @r${i + 1} ${window}`,
      `    ${window} (prio 0, i/o): alias b @r${i + 1} ${window}`,
      '',
    ]).flat(),
    'an alias of what it stands in': [
      ...['memory-region: r', `  ${window} (prio 0, i/o): r`, `    ${window} (prio 0, i/o): alias a @r ${window}`],
    ],
    'all at one place': Array.from({ length: 10_000 }, () => RAM),
    'one name': Array.from({ length: 5000 }, () => ['address-space: a', SYSTEM, '']).flat(),
    'targets that are nowhere': Array.from(
      { length: 10_000 },
      (_, i) => `    ${window} (prio 0, ram): alias a @t${i} ${window}`,
    ),
  };
  for (const [what, lines] of Object.entries(texts)) {
    const flats = Array.from({ length: 500 }, () => ['FlatView #0', ' AS "a", root: r', RAM, '']).flat();
    const text = ['address-space: a', SYSTEM, ...lines, '', ...flats].join('\n');
    t.notThrows(() => importMaps([{ name: 'text', text }]), what);
  }
});

test(`texts that are cut and damaged anywhere are understood or refused (seed ${SEED})`, (t) => {
  const random = new Random();
  const texts = mtreeTexts().filter(({ text }) => text.length < 12_000);
  let refusals = 0;
  for (let i = 0; i < 300; i++) {
    const { name, text } = random.pick(texts);
    const from = random.below(2) === 0 ? 0 : random.below(text.length);
    const cut = text.slice(from, random.below(text.length));
    const at = random.below(cut.length + 1);
    const damaged =
      random.below(2) === 0 ? cut : `${cut.slice(0, at)}${random.pick([...'(-:@ \n\u0000f9'])}${cut.slice(at + 1)}`;
    try {
      shownBy(damaged);
    } catch (error) {
      if (!(error instanceof MembackingError)) throw error;
      t.true(
        ['IMPORT_TEXT', 'TOO_COMPLEX', 'CYCLE', 'QEMU_MAP_MISMATCH'].includes(error.code),
        `${name}: ${error.message}`,
      );
      refusals++;
    }
  }
  t.true(refusals < 200);
});
