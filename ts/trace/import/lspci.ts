// The memory BARs in `lspci -v` and `-vv`.

import { linesOf, MAX_LINE, RegionCount } from './lines.ts';
import type { ListedRange } from './listing.ts';

const DEVICE = /^((?:[0-9a-f]{4,}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) /i;
const BAR = /^ +(?:Region (\d): )?(?:\[virtual\] )?Memory at ([0-9a-f]{1,16}) \(([^)]*)\)(.*)$/i;
const ROM = /^ +Expansion ROM at ([0-9a-f]{1,16})(.*)$/i;
const SIZE = /\[size=(\d{1,6})([KMGT]?)\]/;
const UNITS = ['', 'K', 'M', 'G', 'T'];

/** Reads BARs in the order of the text; none if there are none. Throws IMPORT_TEXT where there are too many. */
export function readBars(text: string, file: string, note: (note: string) => void): ListedRange[] {
  const bars: ListedRange[] = [];
  const count = new RegionCount(file);
  let device: string | undefined;
  let ordinal = 0;
  let sizeless = 0;
  for (const line of linesOf(text)) {
    if (line.text.length > MAX_LINE) continue;
    const heading = DEVICE.exec(line.text);
    if (heading !== null) [device, ordinal] = [heading[1], 0];
    if (device === undefined) continue;
    const bar = BAR.exec(line.text);
    const rom = bar === null ? ROM.exec(line.text) : null;
    if (bar === null && rom === null) continue;
    count.add(line);
    const rest = (bar?.[4] ?? rom?.[2]) as string;
    const size = sizeOf(rest);
    if (size === 0n) {
      sizeless++;
      continue;
    }
    const start = BigInt(`0x${bar?.[2] ?? rom?.[1]}`);
    const what = rom === null ? `BAR ${bar?.[1] ?? ordinal++}` : 'ROM';
    const kind = rom === null ? (/(?<!non-)prefetchable/.test(bar?.[3] as string) ? 'ramd' : 'i/o') : 'rom';
    const enabled = !rest.includes('[disabled]');
    bars.push({
      name: `${device} ${what}`,
      kind,
      start,
      end: start + size - 1n,
      depth: 0,
      enabled,
      nonvolatile: false,
    });
  }
  if (sizeless > 0) note(`${sizeless} BARs have no size in the text: left out`);
  if (bars.some(({ kind }) => kind === 'ramd')) note('prefetchable BARs are taken as device memory, the others as i/o');
  return bars.filter(({ end }) => end < 1n << 64n);
}

/** Size in bytes; 0 where the text does not say. */
function sizeOf(text: string): bigint {
  const size = SIZE.exec(text);
  return size === null ? 0n : BigInt(size[1] as string) << BigInt(10 * UNITS.indexOf(size[2] as string));
}
