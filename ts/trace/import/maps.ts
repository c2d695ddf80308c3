// Maps in any form that is understood, as one trace. What a text is, it shows itself.

import { MembackingError } from '../../core/errors.ts';
import { text as checkText, invalid } from '../../core/validate.ts';
import type { TraceOperation } from '../operations.ts';
import { readFirmware } from './firmware.ts';
import type { ImportedMap } from './imported.ts';
import { readIomem } from './iomem.ts';
import { type ListedRange, type Listing, mapOf } from './listing.ts';
import { readBars } from './lspci.ts';
import { type Moment, traceOf } from './moments.ts';
import { importMtree } from './mtree.ts';
import { looksLikeMtree } from './mtree-text.ts';
import { parseQemuMap } from './qemu-json.ts';

/** A text that holds a memory map, in any form that is understood. */
export interface MapFile {
  /** Name for messages, and for the map if the text gives none. */
  readonly name: string;
  /** Text, whole. */
  readonly text: string;
}

/** Result of `importMaps`. */
export interface MapImport {
  /** Operations that make the maps, one after the other: a transaction for each moment. */
  readonly operations: readonly TraceOperation[];
  /** @internal */
  readonly moments: readonly Moment[];
  /** Notes for people: what the texts left open, and what was taken for it. */
  readonly notes: readonly string[];
}

/**
 * The trace of maps of one machine, in the order in which they were taken. Throws QEMU_MAP and IMPORT_TEXT for what is
 * wrong in itself, QEMU_MAP_MISMATCH for maps that cannot be moments of one machine, INVALID_ARGUMENT.
 */
export function importMaps(files: readonly MapFile[]): MapImport {
  checkFiles(files);
  const notes: string[] = [];
  const maps: ImportedMap[] = [];
  let listed: Listed | undefined;
  for (const { name, text } of files) {
    const note = (said: string) => notes.push(`${name}: ${said}`);
    if (/^\s*\{\s*"membacking"/.test(text)) throw refused(name, 'it is a trace already, and needs no import');
    if (/^\s*\{/.test(text)) maps.push(parseQemuMap(text, name));
    else if (looksLikeMtree(text)) maps.push(...importMtree(text, name, note));
    else {
      const now = listedIn(text, name, note);
      // BARs alone lie on what was listed before them.
      if (now.listings.length === 0 && listed !== undefined) {
        listed = { ...listed, bars: [...listed.bars, ...now.bars] };
        maps.pop();
      } else listed = now;
      maps.push(mapOf(listed.name, listed.listings, listed.bars));
      continue;
    }
    listed = undefined;
  }
  return { ...traceOf(maps), notes };
}

/** The operations alone of `importMaps`. Throws what that throws. */
export function importQemuMaps(files: readonly MapFile[]): TraceOperation[] {
  return [...importMaps(files).operations];
}

function checkFiles(files: readonly MapFile[]): void {
  if (!Array.isArray(files)) throw invalid('the maps must be a list of { name, text }');
  for (const [i, file] of files.entries()) {
    checkText(file?.name, `the name of map ${i}`);
    if (typeof file.text !== 'string') throw invalid(`the text of map ${i} must be a string`);
  }
}

/** A listing that is no map of QEMU. */
interface Listed {
  readonly name: string;
  readonly listings: readonly Listing[];
  readonly bars: readonly ListedRange[];
}

function listedIn(text: string, name: string, note: (note: string) => void): Listed {
  const iomem = readIomem(text, name, note);
  const listings = [...(iomem === undefined ? [] : [iomem]), ...readFirmware(text, name, note)];
  const bars = readBars(text, name, note);
  if (listings.length + bars.length > 0) return { name, listings, bars };
  const problem =
    'there is no memory map in it that is understood: no "info mtree", /proc/iomem, e820, EFI or lspci listing, no JSON';
  throw refused(name, problem);
}

function refused(name: string, problem: string): MembackingError {
  return new MembackingError('IMPORT_TEXT', `${name}: ${problem}`, { details: { file: name } });
}
