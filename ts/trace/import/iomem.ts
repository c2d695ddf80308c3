// Linux's /proc/iomem: who has claimed which physical addresses, nested by two spaces.

import { MembackingError } from '../../core/errors.ts';
import { linesOf, MAX_LINE, RegionCount, textError } from './lines.ts';
import type { ListedRange, Listing } from './listing.ts';

/** Ranges that stand in each other. */
const MAX_DEPTH = 64;
const RANGE = /^( *)([0-9a-f]{8,16})-([0-9a-f]{8,16}) : (.+)$/i;
const MEMORY = /^(?:System RAM|Persistent Memory|ACPI |Kernel (?:code|data|rodata|bss)|Crash kernel|dax\d)/;

/** The listing in a text; undefined if there is none. Throws IMPORT_TEXT, also where the addresses are hidden. */
export function readIomem(text: string, file: string, note: (note: string) => void): Listing | undefined {
  const ranges: ListedRange[] = [];
  /** The ranges that the last one stands in, and itself. */
  const path: { indent: number; range: ListedRange }[] = [];
  const count = new RegionCount(file);
  for (const line of linesOf(text)) {
    const parts = line.text.length > MAX_LINE ? null : RANGE.exec(line.text);
    if (parts === null) continue;
    count.add(line);
    const [, indent, from, to, name] = parts as unknown as [string, string, string, string, string];
    while (path.length > 0 && (path.at(-1) as (typeof path)[number]).indent >= indent.length) path.pop();
    const [start, end] = [BigInt(`0x${from}`), BigInt(`0x${to}`)];
    if (end < start) throw textError(file, line, 'the range ends before it begins');
    const around = path.at(-1)?.range;
    if (around !== undefined && (start < around.start || end > around.end))
      throw textError(file, line, `"${name}" stands in "${around.name}" and reaches out of it`);
    if (path.length === MAX_DEPTH) throw textError(file, line, `more than ${MAX_DEPTH} ranges stand in each other`);
    const range = { name, ...kindOf(name), start, end, depth: path.length, enabled: true };
    ranges.push(range);
    path.push({ indent: indent.length, range });
  }
  if (ranges.length === 0) return undefined;
  if (ranges.length > 1 && ranges.every(({ end }) => end === 0n)) {
    const problem = 'all addresses of /proc/iomem are 0: the kernel shows them to root alone; read it with sudo';
    throw new MembackingError('IMPORT_TEXT', `${file}: ${problem}`, { details: { file } });
  }
  if (ranges.some(({ name }) => name.startsWith('Reserved'))) note('"Reserved" may be memory or devices: taken as i/o');
  return { space: 'iomem', ranges };
}

function kindOf(name: string): Pick<ListedRange, 'kind' | 'nonvolatile'> {
  const nonvolatile = name.startsWith('Persistent Memory');
  if (MEMORY.test(name)) return { kind: 'ram', nonvolatile };
  if (/\bROM\b/.test(name)) return { kind: 'rom', nonvolatile };
  return { kind: name.startsWith('PCI Bus') ? 'container' : 'i/o', nonvolatile };
}
