// QEMU's `info mtree` and `info mtree -f` as maps: one a moment. The tree is what is taken; the flat view beside it
// settles what the tree leaves open, shows the address spaces that the tree has not, and is all there is without a
// tree.

import { MembackingError } from '../../core/errors.ts';
import {
  aliasInCircle,
  type BuiltRegion,
  type ImportedMap,
  type ImportedRow,
  type ImportedView,
  WHOLE,
} from './imported.ts';
import { FlatBuilder } from './mtree-flat.ts';
import { Settler } from './mtree-settle.ts';
import { type FlatRow, type FlatSection, type MtreeText, readMtree } from './mtree-text.ts';
import { type MtreeTree, treeOf } from './mtree-tree.ts';
import { type Budget, flatViewOf, TooMuch } from './resolve.ts';

/** Regions that are entered while one text is worked out. */
const MAX_VISITS = 2_000_000;
/** Views and flat views with one name that are compared with each other. */
const MAX_PAIRS = 4096;
/** Names that a note lists. */
const LISTED = 4;

/** The maps of a text, told apart by `NAME#2`, … where it has several moments. Throws IMPORT_TEXT. */
export function importMtree(text: string, name: string, note: (note: string) => void): ImportedMap[] {
  const moments = readMtree(text, name);
  return moments.map((moment, i) => {
    const called = moments.length === 1 ? name : `${name}#${i + 1}`;
    const noted = (said: string) => note(i === 0 ? said : `#${i + 1}: ${said}`);
    if (moment.cut) noted('the last line is cut off: it is left out');
    return new Importer(moment, called, noted).map();
  });
}

interface View {
  readonly addressSpaces: readonly string[];
  readonly root: BuiltRegion;
  /** Rows that the text says it shows. */
  readonly rows: readonly FlatRow[] | undefined;
}

class Importer {
  readonly #name: string;
  readonly #note: (note: string) => void;
  readonly #tree: MtreeTree;
  readonly #flats: readonly FlatSection[];
  readonly #budget: Budget = { visits: MAX_VISITS };
  readonly #settler: Settler;

  constructor({ trees, flats }: MtreeText, name: string, note: (note: string) => void) {
    this.#name = name;
    this.#note = note;
    this.#tree = treeOf(trees);
    this.#flats = flats;
    this.#settler = new Settler(this.#tree.regions, (region) => this.#isOpen(region), this.#budget);
    for (const each of this.#tree.notes) note(each);
    const circular = aliasInCircle(this.#tree.regions);
    if (circular === undefined) return;
    const line = this.#tree.lines.get(circular as BuiltRegion)?.line;
    throw new MembackingError('IMPORT_TEXT', `${name}: line ${line}: the alias "${circular.name}" is its own target`, {
      details: { file: name, line },
    });
  }

  map(): ImportedMap {
    const { regions } = this.#tree;
    this.#guess();
    const views = this.#attempt(() => this.#views()) ?? this.#tree.views.map((view) => ({ ...view, rows: undefined }));
    const flats = this.#attempt(() => this.#settled(views)) ?? [];
    const shown = views.map(
      ({ addressSpaces, root }, i): ImportedView => ({ addressSpaces, root, flat: flats[i] ?? [] }),
    );
    return { name: this.#name, snapshot: this.#name, regions, views: [...shown, ...this.#flatViews(views)] };
  }

  /** Guesses what the tree leaves open, as far as names and places tell. */
  #guess(): void {
    for (const region of this.#tree.regions) {
      if (this.#isOpen(region) && isLikelyShown(region)) region.kind = 'i/o';
    }
  }

  #isOpen(region: BuiltRegion): boolean {
    const type = this.#tree.lines.get(region)?.type;
    return (type === 'i/o' || type === 'old') && region.kind !== 'alias' && region.kind !== 'ram';
  }

  /** Names of address spaces are not unique: of several with one name, each gets the flat view that it is most like. */
  #views(): View[] {
    const rowsOf = new Map<MtreeTree['views'][number], readonly FlatRow[]>();
    for (const views of listsBy(this.#tree.views, ({ addressSpaces }) => addressSpaces[0] as string).values()) {
      const name = views[0]?.addressSpaces[0];
      const flats = this.#flats.flatMap((flat) => flat.spaces.filter((space) => space === name).map(() => flat.rows));
      const likely = views.length * flats.length <= MAX_PAIRS ? flats : [];
      const pairs = views.flatMap((view) =>
        likely.map((rows, i) => ({ view, rows, i, cost: this.#cost(view, rows, flats) })),
      );
      const used = new Set<number>();
      for (const { view, rows, i } of pairs.sort((a, b) => a.cost - b.cost)) {
        if (rowsOf.has(view) || used.has(i)) continue;
        rowsOf.set(view, rows);
        used.add(i);
      }
    }
    return this.#tree.views.map((view) => ({ ...view, rows: rowsOf.get(view) }));
  }

  /** Measure of how much a view differs from rows, where there is a choice. */
  #cost(view: MtreeTree['views'][number], rows: readonly FlatRow[], choice: readonly unknown[]): number {
    return choice.length > 1 ? this.#settler.misfit({ root: view.root, rows }) : 0;
  }

  /** Rows of each view, once everything is settled that can be; nothing where that is too much. */
  #settled(views: readonly View[]): ImportedRow[][] {
    const { regions } = this.#tree;
    const known = views.flatMap(({ root, rows }) => (rows === undefined ? [] : [{ root, rows }]));
    this.#settler.settle(known);
    if (known.length < views.length) this.#guessReadonly();
    for (const { addressSpaces, root, rows } of views) {
      const [difference] = rows === undefined ? [] : this.#settler.differences({ root, rows });
      if (difference === undefined) continue;
      const { address, ours, theirs } = difference;
      this.#note(
        `"${addressSpaces[0]}" differs from "info mtree -f" in the same text from 0x${address.toString(16)} on: ` +
          `${quoted(ours && regions[ours.region]?.name)} and not ${quoted(theirs?.name)}`,
      );
    }
    if (known.length < views.length) this.#noteGuesses(views);
    return views.map(({ root }) => flatViewOf(regions, root, this.#budget));
  }

  /** Result of an action; undefined, and a note, where the tree is too large for it. */
  #attempt<Result>(action: () => Result): Result | undefined {
    try {
      return action();
    } catch (error) {
      if (!(error instanceof TooMuch)) throw error;
      this.#note('the tree is too large or too deep to be compared with "info mtree -f"; what that settles is guessed');
      return undefined;
    }
  }

  /** RAM that a PC's chipset shows as ROM. */
  #guessReadonly(): void {
    for (const region of this.#tree.regions) {
      if (region.kind === 'alias' && region.name === 'pam-rom') region.readonly = true;
    }
  }

  #targetKind(alias: BuiltRegion): BuiltRegion['kind'] {
    let at = alias;
    while (at.target !== undefined) at = this.#tree.regions[at.target] as BuiltRegion;
    return at.kind;
  }

  #noteGuesses(views: readonly View[]): void {
    const { regions, lines, leftOut } = this.#tree;
    const open = regions.filter(
      (region) => this.#isOpen(region) && (region.children.length > 0 || region.size === WHOLE),
    );
    const windows = regions.filter((region) => region.kind === 'alias' && this.#targetKind(region) === 'ram');
    const named = regions.filter((region) => lines.get(region)?.type === 'old' && region.kind === 'ram');
    this.#list('taken as containers, not i/o', open, ({ kind }) => kind === 'container');
    this.#list('taken as i/o, not containers', open, ({ kind }) => kind === 'i/o');
    this.#list('aliases taken as read-only', windows, ({ readonly }) => readonly);
    this.#list('aliases taken as writable', windows, ({ readonly }) => !readonly);
    this.#list('of equal priority with a neighbour, the one that begins later taken as on top', this.#ties());
    this.#list('taken as RAM after their names', named);
    if (leftOut > 0) this.#note(`${leftOut} lines are of what stands in disabled regions: left out`);
    const without = views.filter(({ rows }) => rows === undefined).length;
    const remedy = '"info mtree -f" in the same text would settle this';
    this.#note(`${remedy}; ${without} of ${views.length} views are without it`);
  }

  /** Regions that overlap the sibling before them, of equal priority, and begin elsewhere. */
  #ties(): BuiltRegion[] {
    const { regions } = this.#tree;
    const ties: BuiltRegion[] = [];
    for (const { children } of regions) {
      for (const [i, id] of children.entries()) {
        const [region, next] = [regions[id] as BuiltRegion, regions[children[i + 1] ?? -1]];
        if (next === undefined || next.priority !== region.priority || next.offset === region.offset) continue;
        if (next.offset + next.size > region.offset && isOpaque(region) && isOpaque(next)) ties.push(region);
      }
    }
    return ties;
  }

  #list(what: string, regions: readonly BuiltRegion[], isMeant = (_: BuiltRegion) => true): void {
    const names = [...new Set(regions.filter(isMeant).map(({ name }) => `"${name}"`))];
    if (names.length === 0) return;
    const more = names.length > LISTED ? ` and ${names.length - LISTED} more` : '';
    this.#note(`${what}: ${names.slice(0, LISTED).join(', ')}${more}`);
  }

  /** The address spaces of flat views that the tree has not. */
  #flatViews(views: readonly View[]): ImportedView[] {
    const inTree = new Set(views.flatMap(({ addressSpaces }) => addressSpaces));
    const builder = new FlatBuilder(this.#tree.regions, this.#flats);
    const shown: ImportedView[] = [];
    for (const { spaces, rows } of this.#flats) {
      const addressSpaces = spaces.filter((name) => !inTree.has(name));
      if (addressSpaces.length === 0) continue;
      const root = builder.view(addressSpaces[0] as string, rows);
      shown.push({ addressSpaces, root, flat: flatViewOf(this.#tree.regions, root, { visits: MAX_VISITS }) });
    }
    if (shown.length > 0) {
      const what = shown.flatMap(({ addressSpaces }) => addressSpaces.map((name) => `"${name}"`));
      this.#note(
        `${what.slice(0, LISTED).join(', ')}${what.length > LISTED ? ' …' : ''}: from "info mtree -f" alone; ` +
          'memory of one name is taken as one region, as large as it is seen',
      );
      shown.sort((a, b) => rank(a) - rank(b));
    }
    return shown;
  }
}

function listsBy<Key, Item>(items: readonly Item[], keyOf: (item: Item) => Key): Map<Key, Item[]> {
  const lists = new Map<Key, Item[]>();
  for (const item of items) {
    const list = lists.get(keyOf(item));
    if (list === undefined) lists.set(keyOf(item), [item]);
    else list.push(item);
  }
  return lists;
}

function isOpaque({ enabled, kind }: BuiltRegion): boolean {
  return enabled && kind !== 'container';
}

function quoted(name: string | undefined): string {
  return name === undefined ? 'nothing' : `"${name}"`;
}

/** Whether a region of type i/o shows itself: most of QEMU's do where nothing stands in them. */
function isLikelyShown({ name, children, size }: BuiltRegion): boolean {
  if (/^(?:io|rtc|vga\.mmio|aspeed\.io|aspeed\.smc\.flash|gpex_\w+_window)$|iommu(?!-)/.test(name)) return true;
  return children.length === 0 && size < WHOLE && !/\b(?:container|bus|smram|pci_io|pci_mem|gpex_ioport)\b/.test(name);
}

function rank({ addressSpaces }: ImportedView): number {
  return addressSpaces.includes('memory') ? 0 : addressSpaces.some((name) => name.startsWith('cpu')) ? 1 : 2;
}
