// Listings of memory by Linux: /proc/iomem, the firmware's in the kernel's log, lspci.

import test, { type ExecutionContext } from 'ava';
import { MembackingError } from '../ts/core/errors.ts';
import { importMaps } from '../ts/trace/import/maps.ts';
import { viewsOf } from './support/mtree-texts.ts';

const IOMEM = `$ sudo cat /proc/iomem
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-000fffff : Reserved
  000f0000-000fffff : System ROM
00100000-7fffffff : System RAM
  01000000-02276f47 : Kernel code
80000000-febfffff : PCI Bus 0000:00
  fd000000-fdffffff : 0000:00:02.0
    fd000000-fd2fffff : efifb
100000000-13fffffff : Persistent Memory
`;

const E820 = `[    0.000000] Linux version 6.12
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable
[    0.000000] BIOS-e820: [mem 0x000000000009fc00-0x000000000009ffff] reserved
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000007ffdffff] usable
[    0.000000] BIOS-e820: [mem 0x000000007ffe0000-0x000000007fffffff] ACPI data
[    0.000458] e820: update [mem 0x00000000-0x00000fff] usable ==> reserved
`;

const LSPCI = `00:02.0 VGA compatible controller: Device 1234:1111 (rev 02) (prog-if 00 [VGA controller])
\tSubsystem: Red Hat, Inc. Device 1100
\tRegion 0: Memory at fd000000 (32-bit, prefetchable) [size=16M]
\tRegion 2: Memory at febf0000 (32-bit, non-prefetchable) [size=4K]
\tExpansion ROM at 000c0000 [virtual] [disabled] [size=128K]

0000:00:03.0 Non-Volatile memory controller: Red Hat, Inc. Device 0010
\tRegion 0: Memory at c000000000 (64-bit, non-prefetchable) [size=16K]
\tRegion 2: Memory at <unassigned> (64-bit, prefetchable) [disabled]
\tRegion 3: Memory at 90000000 (64-bit, prefetchable)
\tRegion 4: I/O ports at c040 [size=32]
`;

function shown(...texts: string[]): object {
  const { operations, notes } = importMaps(texts.map((text, i) => ({ name: `text ${i}`, text })));
  const views = Object.entries(viewsOf(operations)).map(([name, [view]]) => [name, view?.split('\n')] as const);
  return { views: Object.fromEntries(views), notes };
}

function refused(t: ExecutionContext, text: string): string {
  const error = t.throws(() => importMaps([{ name: 'text', text }]), { instanceOf: MembackingError });
  return `${error.code}: ${error.message}`;
}

test('/proc/iomem: what stands in something is on top of it, buses show what is in them', (t) => {
  t.snapshot(shown(IOMEM));
});

test('/proc/iomem without its addresses is refused, with the remedy', (t) => {
  t.is(
    refused(t, IOMEM.replace(/^( *)\w+-\w+ :/gm, '$100000000-00000000 :')),
    'IMPORT_TEXT: text: all addresses of /proc/iomem are 0: the kernel shows them to root alone; read it with sudo',
  );
});

test('e820, new and old form', (t) => {
  t.snapshot(shown(E820));
  const old = [
    'BIOS-provided physical RAM map:',
    ' BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)',
    ' BIOS-e820: 000000000009fc00 - 00000000000a0000 (reserved)',
    ' BIOS-e820: 0000000000100000 - 000000007ffe0000 (usable)',
    ' BIOS-e820: 000000007ffe0000 - 0000000080000000 (ACPI data)',
  ];
  t.deepEqual(shown(old.join('\n')), shown(E820));
});

test('EFI, new and old form', (t) => {
  t.snapshot(
    shown(`[    0.000000] efi: mem00: [Boot Code          |   |  |WB|WT|WC|UC] range=[0x0000000000000000-0x0000000000000fff] (0MB)
[    0.000000] efi: mem01: [Conventional Memory|   |  |WB|WT|WC|UC] range=[0x0000000000001000-0x000000000009ffff] (0MB)
[    0.000000] efi: mem02: [Memory Mapped I/O  |RUN|  |  |  |  |UC] range=[0x00000000e0000000-0x00000000efffffff] (256MB)
[    0.000000] efi: mem03: type=7, attr=0xf, range=[0x0000000000100000-0x0000000000800000) (7MB)
[    0.000000] efi: mem04: type=0, attr=0xf, range=[0x0000000000800000-0x0000000000900000) (1MB)`),
  );
});

test('BARs lie on what is in the same text, or in the file before theirs', (t) => {
  t.snapshot(shown(IOMEM, LSPCI));
  const { views } = shown(`${IOMEM}${LSPCI}`) as { views: object };
  t.deepEqual(views, (shown(IOMEM, LSPCI) as { views: object }).views);
  t.snapshot(shown(LSPCI));
});

test('a line that cannot be is refused, with its place', (t) => {
  const deep = Array.from({ length: 70 }, (_, i) => `${'  '.repeat(i)}00000000-0000ffff : a`);
  t.snapshot([
    refused(t, '00001000-00001fff : a\n00001000-00000fff : b\n'),
    refused(t, '00001000-00001fff : a\n  00001000-00002fff : b\n'),
    refused(t, 'BIOS-e820: [mem 0x2000-0x1fff] usable\n'),
    refused(t, deep.join('\n')),
  ]);
});

test('what is no list of texts is refused at the door', (t) => {
  for (const files of [
    undefined,
    'text',
    {},
    [undefined],
    ['text'],
    [{ name: 'a' }],
    [{ text: IOMEM }],
    [{ name: 1, text: 2 }],
  ]) {
    t.throws(() => importMaps(files as never), { instanceOf: MembackingError, code: 'INVALID_ARGUMENT' });
  }
});
