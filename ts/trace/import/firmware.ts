// The memory maps that firmware hands to Linux, as the kernel's log has them: e820 and EFI, old and new forms.

import { linesOf, MAX_LINE, RegionCount, textError } from './lines.ts';
import type { ListedRange, Listing } from './listing.ts';

/** `BIOS-e820: [mem 0x0-0x9fbff] usable`, before Linux 3.4 `BIOS-e820: 0 - 9fc00 (usable)`, end excluded. */
const E820 = /\bBIOS-e820: \[mem 0x([0-9a-f]{1,16})-0x([0-9a-f]{1,16})\] (.+)$/i;
const OLD_E820 = /\bBIOS-e820: ([0-9a-f]{16}) - ([0-9a-f]{16}) \(([^)]+)\)$/i;
/** `efi: mem00: [Boot Code |…] range=[0x0-0xfff] (0MB)`; old: `type=3, attr=0xf, range=[0x0-0x1000) (0MB)`. */
const EFI = /\bmem\d+: (?:\[([^|\]]+)[^\]]*\]|type=(\d+),.*) range=\[0x([0-9a-f]{1,16})-0x([0-9a-f]{1,16})([\])])/i;

const EFI_TYPES = [
  ...['Reserved', 'Loader Code', 'Loader Data', 'Boot Code', 'Boot Data', 'Runtime Code', 'Runtime Data'],
  ...['Conventional Memory', 'Unusable Memory', 'ACPI Reclaim Memory', 'ACPI Memory NVS', 'Memory Mapped I/O'],
  ...['MMIO Port Space', 'PAL Code', 'Persistent Memory', 'Unaccepted'],
];
const MEMORY = /usable$|^ACPI|Code$|Data$|^Conventional|^Persistent|^persistent|soft reserved|Unaccepted/i;
const NOT_MEMORY = /^unusable/i;

/** The listings in a text: none, one or both. Throws IMPORT_TEXT. */
export function readFirmware(text: string, file: string, note: (note: string) => void): Listing[] {
  const found = { e820: [] as ListedRange[], efi: [] as ListedRange[] };
  const count = new RegionCount(file);
  for (const line of linesOf(text)) {
    if (line.text.length > MAX_LINE) continue;
    const e820 = E820.exec(line.text) ?? OLD_E820.exec(line.text);
    const efi = e820 === null ? EFI.exec(line.text) : null;
    const type = e820?.[3] ?? efi?.[1]?.trim() ?? EFI_TYPES[Number(efi?.[2])] ?? `type ${efi?.[2]}`;
    const start = BigInt(`0x${e820?.[1] ?? efi?.[3] ?? '0'}`);
    const excluded = e820 === null ? efi?.[5] === ')' : !line.text.includes('[mem');
    const end = BigInt(`0x${e820?.[2] ?? efi?.[4] ?? '0'}`) - (excluded ? 1n : 0n);
    if (e820 === null && efi === null) continue;
    count.add(line);
    if (end < start) throw textError(file, line, 'the range ends before it begins');
    found[e820 === null ? 'efi' : 'e820'].push(rangeOf(type, start, end));
  }
  const listings = Object.entries(found).flatMap(([space, ranges]) => (ranges.length > 0 ? [{ space, ranges }] : []));
  if (listings.some(({ ranges }) => ranges.some(({ name }) => /reserved|unusable/i.test(name))))
    note('what firmware calls reserved may be memory or devices: taken as i/o');
  return listings;
}

function rangeOf(name: string, start: bigint, end: bigint): ListedRange {
  const kind = MEMORY.test(name) && !NOT_MEMORY.test(name) ? 'ram' : 'i/o';
  return { name, kind, start, end, depth: 0, enabled: true, nonvolatile: /^persistent/i.test(name) };
}
