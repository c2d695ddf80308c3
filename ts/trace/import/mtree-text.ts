// The text of QEMU's `info mtree` and `info mtree -f`, line by line: which lines belong to it, and what each says. What
// the lines mean together is worked out elsewhere. Forms since QEMU 1.0 are read, with a session's prompts and other
// commands around them.

import type { MembackingError } from '../../core/errors.ts';
import { WHOLE } from './imported.ts';
import { linesOf, MAX_LINE, RegionCount, type TextLine, textError } from './lines.ts';

/** Type that QEMU prints of a region, or `old` in texts that say only whether it can be read and written. */
type MtreeType = 'ram' | 'rom' | 'romd' | 'ramd' | 'i/o' | 'old';

export interface MtreeLine {
  /** Line in the text, from 1. */
  readonly line: number;
  readonly indent: number;
  readonly start: bigint;
  /** Bytes, 1 to 2^64: that a region has none at all cannot be seen. */
  readonly size: bigint;
  readonly priority: number;
  readonly type: MtreeType;
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
  readonly enabled: boolean;
  readonly name: string;
  /** Target of an alias by its name, and the offset in it of the alias's first byte. */
  readonly target: string | undefined;
  readonly targetStart: bigint;
}

/** Lines that stand under one heading. */
export interface TreeSection {
  /** Indent of the heading; undefined where that is cut off. */
  readonly indent: number | undefined;
  /** Names of the address spaces that show it. */
  readonly spaces: string[];
  /** Name of the region that aliases show. */
  readonly region: string | undefined;
  readonly lines: MtreeLine[];
}

export interface FlatRow {
  readonly start: bigint;
  /** Inclusive. */
  readonly end: bigint;
  readonly type: MtreeType;
  readonly nonvolatile: boolean;
  readonly priority: number;
  readonly name: string;
  readonly offsetInRegion: bigint;
}

export interface FlatSection {
  readonly spaces: string[];
  readonly rows: FlatRow[];
}

/** The answers of one moment. */
export interface MtreeText {
  readonly trees: TreeSection[];
  readonly flats: FlatSection[];
  /** Whether the last line is cut off in the middle. */
  cut: boolean;
}

const REGION =
  /^(\[DETECTED OVERFLOW!\] ?)?( *)([0-9a-f]{8,16})-([0-9a-f]{8,16}) \(prio (-?\d{1,10})(?:, ([^)]*))?\): (.+)$/i;
const ALIAS = /^alias (.*) ([0-9a-f]{8,16})-[0-9a-f]{8,16}(?: \[disabled\])?(?: owner:\{.*| parent:\{.*| orphan)?$/i;
const LIKE_REGION = /^ *[0-9a-f]{8,16}-[0-9a-f]{8,16} \(/i;
const TREE_HEADING = /^( *)(address-space|memory-region): (.*)$/;
const OLD_FLAT_HEADING = /^ *address-space \(flat view\): (.*)$/;
const FLAT_HEADING = /^ *FlatView #\d+\s*$/;
const FLAT_SPACE = /^ *AS "(.*)", root: /;
const TYPES: ReadonlySet<string> = new Set(['ram', 'rom', 'romd', 'ramd', 'i/o']);

/** Whether a text has anything of `info mtree` in it. */
export function looksLikeMtree(text: string): boolean {
  return /^[> \t]*(?:\[DETECTED OVERFLOW!\] *)?[0-9a-f]{8,16}-[0-9a-f]{8,16} \(prio -?\d/im.test(text);
}

/**
 * The moments in a text: a second answer with a tree, or a second flat one, begins the next. Throws IMPORT_TEXT for a
 * line that begins as a region and does not go on as one, unless it is the last.
 */
export function readMtree(text: string, file: string): MtreeText[] {
  return new Reader(text, file).read();
}

/** Place that the lines that come belong to. */
type Place = { tree: TreeSection } | { flat: FlatSection } | undefined;

class Reader {
  readonly #text: string;
  readonly #file: string;
  readonly #moments: MtreeText[] = [];
  readonly #count: RegionCount;
  #place: Place;
  /** Kinds of text that came since the last prompt: more of them belongs to the same moment. */
  #answered = { trees: false, flats: false };
  /** A line that says nothing by itself: the heading of old texts, if regions follow. */
  #plain: string | undefined;
  /** State in texts of QEMU 1.x: headings from here on name what aliases show. */
  #inAliases = false;
  /** A line that is wrong unless it is the last. */
  #broken: TextLine | undefined;

  constructor(text: string, file: string) {
    this.#text = text;
    this.#file = file;
    this.#count = new RegionCount(file);
  }

  read(): MtreeText[] {
    for (const line of linesOf(this.#text)) this.#read(line);
    if (this.#broken !== undefined) {
      if (this.#moments.length === 0) throw this.#brokenError(this.#broken);
      this.#now.cut = true;
    }
    return this.#moments;
  }

  #read(line: TextLine): void {
    const { text } = line;
    if (this.#broken !== undefined && text !== '') throw this.#brokenError(this.#broken);
    const plain = this.#plain;
    this.#plain = undefined;
    const region = text.length > MAX_LINE ? null : REGION.exec(text);
    if (region !== null && isWhole(region)) this.#region(region, line, plain);
    else if (LIKE_REGION.test(text)) this.#broken = line;
    else this.#other(text);
  }

  /** A heading, a prompt, or nothing of "info mtree". */
  #other(text: string): void {
    const tree = TREE_HEADING.exec(text);
    const flat = OLD_FLAT_HEADING.exec(text) ?? FLAT_HEADING.exec(text);
    const space = FLAT_SPACE.exec(text);
    if (tree !== null) this.#treeHeading(tree);
    else if (flat !== null) this.#flatHeading(flat[1] === undefined ? [] : [flat[1]]);
    else if (space !== null) this.#flatSpace(space[1] as string);
    else if (text.startsWith('(qemu)')) this.#prompt();
    else if (text.trim() === 'aliases') this.#inAliases = true;
    else if (text === '') this.#blank();
    else if (!text.startsWith(' ')) this.#plain = text;
  }

  get #now(): MtreeText {
    return this.#moments.at(-1) as MtreeText;
  }

  /** The moment that an answer of this kind belongs to. */
  #moment(kind: 'trees' | 'flats'): MtreeText {
    const now = this.#moments.at(-1);
    if (now === undefined || (!this.#answered[kind] && now[kind].length > 0))
      this.#moments.push({ trees: [], flats: [], cut: false });
    this.#answered[kind] = true;
    return this.#now;
  }

  #prompt(): void {
    this.#place = undefined;
    this.#answered = { trees: false, flats: false };
    this.#inAliases = false;
  }

  /** Headings of spaces with one root follow each other; one without a root has a blank line behind it. */
  #blank(): void {
    if (this.#place !== undefined && 'tree' in this.#place && this.#place.tree.lines.length === 0)
      this.#place = undefined;
  }

  #treeHeading([, { length: indent } = '', kind, name = '']: RegExpExecArray): void {
    const place = this.#place;
    const open = place !== undefined && 'tree' in place && place.tree.lines.length === 0 ? place.tree : undefined;
    if (kind === 'memory-region') this.#open({ indent, spaces: [], region: name, lines: [] });
    else if (open !== undefined && open.spaces.length > 0) open.spaces.push(name);
    else this.#open({ indent, spaces: [name], region: undefined, lines: [] });
  }

  #open(tree: TreeSection): TreeSection {
    this.#moment('trees').trees.push(tree);
    this.#place = { tree };
    return tree;
  }

  #flatHeading(spaces: string[]): void {
    const flat: FlatSection = { spaces, rows: [] };
    this.#moment('flats').flats.push(flat);
    this.#place = { flat };
  }

  #flatSpace(name: string): void {
    if (this.#place !== undefined && 'flat' in this.#place) this.#place.flat.spaces.push(name);
  }

  #region(parts: RegExpExecArray, line: TextLine, plain: string | undefined): void {
    this.#count.add(line);
    const place = this.#place;
    if (place !== undefined && 'flat' in place) {
      place.flat.rows.push(flatRow(parts));
      return;
    }
    const indent = (parts[2] as string).length;
    const oldHeading = plain !== undefined && (place === undefined || indent <= (place.tree.lines[0]?.indent ?? 0));
    const tree = oldHeading
      ? this.#open(oldSection(plain, indent, this.#inAliases))
      : (place?.tree ?? this.#open({ indent: undefined, spaces: [], region: undefined, lines: [] }));
    tree.lines.push(treeLine(parts, line.number));
  }

  #brokenError(line: TextLine): MembackingError {
    const problem =
      line.text.length > MAX_LINE
        ? `a region of more than ${MAX_LINE} characters`
        : 'this begins as a region of "info mtree", START-END (prio N, TYPE): NAME, and goes on differently';
    return textError(this.#file, line, problem);
  }
}

/** Reads a heading of QEMU 1.x, where regions may stand no further in than their heading. */
function oldSection(name: string, indent: number, isTarget: boolean): TreeSection {
  return { indent: indent - 2, spaces: isTarget ? [] : [name], region: isTarget ? name : undefined, lines: [] };
}

/** Whether an alias says all that it shows. */
function isWhole(parts: RegExpExecArray): boolean {
  const rest = parts[7] as string;
  return !rest.startsWith('alias ') || ALIAS.exec(rest)?.[1]?.includes(' @') === true;
}

function treeLine(parts: RegExpExecArray, line: number): MtreeLine {
  const alias = ALIAS.exec(parts[7] as string);
  const rest = withoutOwner(parts[7] as string);
  return {
    line,
    indent: (parts[2] as string).length,
    ...extent(parts),
    priority: Number(parts[5]) | 0,
    ...typeOf(parts[6]),
    enabled: !rest.endsWith(' [disabled]'),
    ...(alias === null ? { name: rest.replace(/ \[disabled\]$/, ''), target: undefined } : namesOf(alias[1] as string)),
    targetStart: alias === null ? 0n : BigInt(`0x${alias[2]}`),
  };
}

/** `NAME @TARGET` */
function namesOf(text: string): { name: string; target: string } {
  const at = text.lastIndexOf(' @');
  return { name: text.slice(0, at), target: text.slice(at + 2) };
}

function flatRow(parts: RegExpExecArray): FlatRow {
  const rest = withoutOwner(parts[7] as string).replace(/(?: KVM)+$/, '');
  const offset = /^(.*) @([0-9a-f]{8,16})$/i.exec(rest);
  const { start, size } = extent(parts);
  const { type, nonvolatile } = typeOf(parts[6]);
  return {
    ...{ start, end: start + size - 1n, type, nonvolatile },
    priority: Number(parts[5]) | 0,
    name: offset?.[1] ?? rest,
    offsetInRegion: offset === null ? 0n : BigInt(`0x${offset[2]}`),
  };
}

/** The end is that of 64 bits: a region may reach over it. */
function extent(parts: RegExpExecArray): { start: bigint; size: bigint } {
  const start = BigInt(`0x${parts[3]}`);
  const size = BigInt.asUintN(64, BigInt(`0x${parts[4]}`) - start + 1n);
  return { start, size: size === 0n ? WHOLE : size };
}

function typeOf(text = ''): { type: MtreeType; readonly: boolean; nonvolatile: boolean } {
  const nonvolatile = text.startsWith('nv-');
  const type = nonvolatile ? text.slice(3) : text;
  if (TYPES.has(type)) return { type: type as MtreeType, readonly: type === 'rom', nonvolatile };
  return { type: 'old', readonly: /^R-/.test(type), nonvolatile };
}

/** QEMU's `-o` says whose the region is. */
function withoutOwner(text: string): string {
  const at = text.search(/ (?:owner|parent):\{| orphan$/);
  return at < 0 ? text : text.slice(0, at);
}
