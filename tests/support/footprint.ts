// Footprint of a process in the system: descriptors and mappings. Equal before and after means that nothing was left.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Every open descriptor of a file or memory, and how many of each. */
export function descriptors(): string[] {
  return readdirSync('/proc/self/fd')
    .flatMap((fd) => {
      try {
        const target = readlinkSync(`/proc/self/fd/${fd}`);
        return target.startsWith('/proc/') ? [] : [target];
      } catch {
        return [];
      }
    })
    .sort();
}

/** The mappings of memory files and reservations: what this package makes, but for its own reserve of mappings. */
function mappings(): string[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => /memfd:|membacking:/.test(line) && !line.includes('membacking:headroom'))
    .map((line) => line.replace(/ +/g, ' '));
}

export function footprint(): { descriptors: string[]; mappings: string[] } {
  return { descriptors: descriptors(), mappings: mappings() };
}
