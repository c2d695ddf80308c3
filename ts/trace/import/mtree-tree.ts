// The regions that the sections of `info mtree` show together. A region is printed once for every place that leads to
// it: under its address space, inside the sections of what it stands in, and as a section of its own where aliases show
// it. Here they become one again, and aliases find their targets, which the text gives by name alone.

import { addChild, addRegion, type BuiltRegion, type ImportedKind, WHOLE } from './imported.ts';
import type { MtreeLine, TreeSection } from './mtree-text.ts';
import { lower } from './resolve.ts';

export interface MtreeTree {
  readonly regions: BuiltRegion[];
  /** Lines where each region was first printed: none for those that the text leaves out. */
  readonly lines: ReadonlyMap<BuiltRegion, MtreeLine>;
  readonly views: readonly { readonly addressSpaces: string[]; readonly root: BuiltRegion }[];
  /** Lines that are left out: what they show stands in something disabled. */
  readonly leftOut: number;
  /** Notes for people: what the text left open, and what was taken for it. */
  readonly notes: readonly string[];
}

/** One line, in its section. */
interface Node {
  readonly line: MtreeLine;
  /** Offset in what it stands in. */
  readonly offset: bigint;
  readonly parent: Node | undefined;
  readonly children: Node[];
  /** Signature: equal for nodes that are printed alike, with all that stands in them. */
  signature: number;
  /** The node that is printed for the same region. */
  same: Node | undefined;
}

/** Joins the sections of one answer. */
export function treeOf(sections: readonly TreeSection[]): MtreeTree {
  return new Joiner(sections).join();
}

class Joiner {
  readonly #sections: readonly TreeSection[];
  /** All nodes, in the order of the text, and the roots of each section. */
  readonly #nodes: Node[] = [];
  readonly #roots: Node[][];
  readonly #notes: string[] = [];
  readonly #regions: BuiltRegion[] = [];
  readonly #regionOf = new Map<Node, BuiltRegion>();
  /** The last node of each name that is no alias, and the windows of aliases by target, once they are asked for. */
  #printed: Map<string, Node> | undefined;
  #windows: Map<string, bigint> | undefined;
  /** Columns that a region stands further in than what it stands in. */
  readonly #step: number;
  #leftOut = 0;

  constructor(sections: readonly TreeSection[]) {
    this.#sections = sections;
    this.#step = stepOf(sections);
    this.#roots = sections.map((section) => this.#nest(section));
    this.#sign();
  }

  join(): MtreeTree {
    this.#joinRepeatedSpaces();
    this.#joinTargets();
    for (const node of this.#nodes) if (node.same === undefined) this.#create(node);
    this.#bindAliases();
    for (const node of this.#nodes) {
      if (node.same === undefined)
        for (const child of inOrder(node.children)) addChild(this.#region(node), this.#region(child));
    }
    const views = this.#views();
    const lines = new Map([...this.#regionOf].map(([{ line }, region]) => [region, line]));
    return { regions: this.#regions, lines, views, leftOut: this.#leftOut, notes: this.#notes };
  }

  /**
   * The nodes of a section, by indentation. What stands further in than it can, or in an alias, stands in a disabled
   * region that the text leaves out: it is left out too.
   */
  #nest({ indent, lines }: TreeSection): Node[] {
    const roots: Node[] = [];
    const path: Node[] = [];
    const base = indent ?? lines.reduce((least, line) => Math.min(least, line.indent), 1 << 20) - this.#step;
    let unseen = Number.POSITIVE_INFINITY;
    for (const line of lines) {
      while (path.length > 0 && (path.at(-1) as Node).line.indent >= line.indent) path.pop();
      const parent = path.at(-1);
      if (line.indent < unseen) unseen = Number.POSITIVE_INFINITY;
      const stands = parent?.line.indent ?? base;
      if (line.indent >= unseen || parent?.line.target !== undefined || line.indent - stands > this.#step) {
        unseen = Math.min(unseen, line.indent);
        this.#leftOut++;
        continue;
      }
      const offset = BigInt.asUintN(64, line.start - (parent?.line.start ?? 0n));
      const node: Node = { line, offset, parent, children: [], signature: 0, same: undefined };
      (parent?.children ?? roots).push(node);
      this.#nodes.push(node);
      path.push(node);
    }
    return roots;
  }

  /** Gives equal numbers to nodes that are printed alike. */
  #sign(): void {
    const numbers = new Map<string, number>();
    for (const node of this.#nodes.toReversed()) {
      const { name, type, size, priority, target, targetStart, enabled, nonvolatile } = node.line;
      const text = JSON.stringify([
        ...[name, type, `${node.offset} ${size} ${targetStart}`, priority, target ?? null, enabled, nonvolatile],
        ...node.children.map(({ signature }) => signature),
      ]);
      node.signature = numbers.get(text) ?? numbers.size;
      numbers.set(text, node.signature);
    }
  }

  /**
   * Texts before QEMU 4 print a tree again for each address space that shows it. Trees that hold nothing but aliases
   * may be the like ones of several devices.
   */
  #joinRepeatedSpaces(): void {
    if (this.#sections.some(({ spaces }) => spaces.length > 1)) return;
    const first = new Map<number, Node>();
    for (const [i, roots] of this.#roots.entries()) {
      const root = roots[0];
      if (this.#sections[i]?.spaces.length === 0 || roots.length !== 1 || root === undefined) continue;
      if (root.children.every(({ line }) => line.target !== undefined)) continue;
      const other = first.get(root.signature);
      if (other === undefined) first.set(root.signature, root);
      else unite(root, other);
    }
  }

  /** The section of what an alias shows is printed a second time where that stands in a tree. */
  #joinTargets(): void {
    const isTarget = this.#sections.map(({ region }) => region !== undefined);
    const own = new Set<Node>();
    for (const [i, roots] of this.#roots.entries()) if (isTarget[i]) for (const root of roots) own.add(root);
    const places = new Map<number, Node[]>();
    for (const node of this.#nodes.toReversed()) if (!own.has(node)) listed(places, node.signature).push(node);
    const taken = new Set<Node>();
    for (const root of own) {
      const alike = listed(places, root.signature);
      while (alike.length > 0 && taken.has(first(alike.at(-1) as Node))) alike.pop();
      if (alike.length === 0) continue;
      const place = first(alike.at(-1) as Node);
      taken.add(place);
      unite(root, place, (from, to) => {
        if (taken.has(from)) taken.add(to);
      });
    }
  }

  #region(node: Node): BuiltRegion {
    return this.#regionOf.get(first(node)) as BuiltRegion;
  }

  #create(node: Node): void {
    const { name, type, size, priority, nonvolatile, enabled, readonly, target, targetStart } = node.line;
    const kind = target === undefined ? kindOf(type, name) : 'alias';
    const region = addRegion(this.#regions, {
      ...{ name, kind, size, priority, nonvolatile, enabled, targetStart, offset: node.offset },
      readonly: target === undefined && readonly,
    });
    this.#regionOf.set(node, region);
  }

  /**
   * QEMU prints a section for each target in the order in which it first comes upon an alias of it. So of sections with
   * one name, the next one belongs to the next alias that names it as soon as it is its turn.
   */
  #bindAliases(): void {
    const targets = this.#targets();
    const byName = new Map<string, number[]>();
    for (const [i, { name }] of targets.entries()) listed(byName, name).push(i);
    const known = new Map<string, BuiltRegion[]>();
    let next = 0;
    for (const node of this.#nodes) {
      const alias = this.#region(node);
      const { target: name } = node.line;
      if (name === undefined || alias.target !== undefined) continue;
      const sections = byName.get(name) ?? [];
      const already = listed(known, name);
      if (already.length > 0 && targets[next]?.name !== name) {
        alias.target = likeliest(already, node).id;
        continue;
      }
      const section = sections.find((index) => index >= next);
      if (section === undefined) already.push(this.#unprinted(node));
      else already.push((targets[section] as (typeof targets)[number]).region);
      if (section !== undefined) next = section + 1;
      alias.target = (already.at(-1) as BuiltRegion).id;
    }
  }

  /** Regions that the sections of alias targets show; a section without a line is that of a disabled region. */
  #targets(): { name: string; region: BuiltRegion }[] {
    return this.#sections.flatMap(({ region: name }, i) => {
      if (name === undefined) return [];
      const root = this.#roots[i]?.[0];
      if (root !== undefined) return [{ name, region: this.#region(root) }];
      return [{ name, region: addRegion(this.#regions, { name, kind: 'container', size: WHOLE, enabled: false }) }];
    });
  }

  /** The target of an alias where the text has no section of it: printed elsewhere, or made as the alias describes
   *  it. */
  #unprinted({ line }: Node): BuiltRegion {
    const name = line.target as string;
    this.#printed ??= new Map(
      this.#nodes.filter((node) => node.line.target === undefined).map((node) => [node.line.name, node]),
    );
    const printed = this.#printed.get(name);
    if (printed !== undefined) return this.#region(printed);
    const kind = kindOf(line.type, name);
    this.#notes.push(
      `"${name}", which the alias "${line.name}" on line ${line.line} shows, is not in the text: ` +
        `taken as ${kind === 'container' ? 'i/o' : kind}`,
    );
    return addRegion(this.#regions, { name, kind: kind === 'container' ? 'i/o' : kind, size: this.#window(name) });
  }

  /** Bytes that aliases see of what they show under this name. */
  #window(name: string): bigint {
    this.#windows ??= this.#nodes.reduce((windows, { line: { target, targetStart, size } }) => {
      const end = lower(targetStart + size, WHOLE);
      if (target !== undefined && end > (windows.get(target) ?? 0n)) windows.set(target, end);
      return windows;
    }, new Map<string, bigint>());
    return this.#windows.get(name) as bigint;
  }

  /** The views of the text; of one without address spaces, those of the regions that nothing else shows. */
  #views(): { addressSpaces: string[]; root: BuiltRegion }[] {
    const views = this.#sections.flatMap(({ indent, spaces }, i) => {
      if (spaces.length > 0) return [{ addressSpaces: spaces, root: this.#root(i) }];
      if (indent !== undefined) return [];
      const root = this.#root(i);
      this.#notes.push('the heading of the first regions is cut off: taken as those of an address space');
      return [{ addressSpaces: [root.name], root }];
    });
    if (views.length > 0) return views.sort((a, b) => rank(a) - rank(b));
    const shown = new Set(this.#regions.map(({ target }) => target));
    return this.#sections.flatMap((_, i) => {
      const root = this.#root(i);
      if (root.parent !== undefined || shown.has(root.id)) return [];
      this.#notes.push(`no address space is in the text: "${root.name}" is shown as one`);
      return [{ addressSpaces: [root.name], root }];
    });
  }

  /** The one region of a section, or one around them. A section without a line is that of a disabled root. */
  #root(section: number): BuiltRegion {
    const roots = (this.#roots[section] as Node[]).map((root) => this.#region(root));
    const [root, other] = roots;
    if (
      root !== undefined &&
      other === undefined &&
      (root.size === WHOLE || this.#sections[section]?.indent !== undefined)
    )
      return root;
    const { spaces, region } = this.#sections[section] as TreeSection;
    const around = addRegion(this.#regions, {
      ...{ name: region ?? spaces[0] ?? 'cut off', kind: 'container', size: WHOLE, enabled: roots.length > 0 },
    });
    for (const each of inOrder(this.#roots[section] as Node[])) addChild(around, this.#region(each));
    return around;
  }
}

/** QEMU's is 2; who pasted a text may have made it wider. */
function stepOf(sections: readonly TreeSection[]): number {
  let step = Number.POSITIVE_INFINITY;
  for (const { indent, lines } of sections) {
    let before = indent;
    for (const line of lines) {
      if (before !== undefined && line.indent > before) step = Math.min(step, line.indent - before);
      before = line.indent;
    }
  }
  return step === Number.POSITIVE_INFINITY ? 2 : step;
}

/** Siblings in order, strongest first: QEMU prints the priority; of equal ones in one place the stronger first, and
 *  else does not say. */
function inOrder(siblings: readonly Node[]): Node[] {
  return siblings
    .map((node, index) => ({ node, index }))
    .sort(
      (a, b) =>
        b.node.line.priority - a.node.line.priority || compare(b.node.offset, a.node.offset) || a.index - b.index,
    )
    .map(({ node }) => node);
}

/** The likeliest of targets with one name: the last that is of the type that the alias is printed with. */
function likeliest(targets: readonly BuiltRegion[], { line }: Node): BuiltRegion {
  return targets.findLast(({ kind }) => kind === line.type) ?? (targets.at(-1) as BuiltRegion);
}

function listed<Key, Item>(lists: Map<Key, Item[]>, key: Key): Item[] {
  const list = lists.get(key) ?? [];
  if (list.length === 0) lists.set(key, list);
  return list;
}

function compare(a: bigint, b: bigint): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** The node that stands for all that are printed of one region. */
function first(node: Node): Node {
  let at = node;
  while (at.same !== undefined) at = at.same;
  return at;
}

/** Two nodes that are printed alike are one, and so is what stands in them. */
function unite(from: Node, to: Node, onUnited?: (from: Node, to: Node) => void): void {
  const waiting: [Node, Node][] = [[from, to]];
  for (let pair = waiting.pop(); pair !== undefined; pair = waiting.pop()) {
    const [a, b] = [first(pair[0]), first(pair[1])];
    if (a === b) continue;
    onUnited?.(a, b);
    a.same = b;
    for (const [i, child] of a.children.entries()) waiting.push([child, b.children[i] as Node]);
  }
}

const MEMORY_NAME = /(?:^|[.\-_ ])(?:[vs]?ram|s?dram|e?e?p?rom|bios|flash|vapic)\d*(?:$|[.\-_ ])/i;

/** A region whose type is i/o is taken as a container; what settles that comes later. */
function kindOf(type: MtreeLine['type'], name: string): Exclude<ImportedKind, 'alias'> {
  if (type === 'i/o') return 'container';
  if (type !== 'old') return type;
  return MEMORY_NAME.test(name) ? 'ram' : 'container';
}

/** The address space that processors see comes first. */
function rank({ addressSpaces, root }: { addressSpaces: string[]; root: BuiltRegion }): number {
  if (addressSpaces.includes('memory')) return 0;
  if (root.name === 'system') return 1;
  return addressSpaces.some((name) => name.startsWith('cpu')) ? 2 : 3;
}
