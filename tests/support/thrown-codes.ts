// Codes that the source of a class's member throws, as far as the text shows it: itself, in other members of the class,
// and in functions of this package that it calls by name. Calls of other objects' members are not followed.

import { sources, within } from './sources.ts';

interface Source {
  readonly file: string;
  readonly text: string;
}

interface Class {
  readonly file: string;
  readonly base: string | undefined;
  readonly members: ReadonlyMap<string, string>;
}

const FUNCTION = /^(?:export )?(?:async )?function\*? (\w+)[\s\S]*?^}/gm;
const CLASS = /^(?:export )?(?:abstract )?class (\w+)(?:<.*?>)?(?: extends (\w+))?[\s\S]*?^}/gm;
const MEMBER =
  /^ {2}(?:(?:static|async|override|protected|get|set) )*\*?(#?\w+|\[[\w.]+\])(?:<.*?>)?\([\s\S]*?(?:^ {2}\}$|;$)/gm;
const THROWN = /\b(?:MembackingError|MemoryBuildError|PartitionAttachError)\(\s*'([A-Z_]+)'/g;

export class ThrownCodes {
  /** Functions by name; there can be several of one name. */
  readonly #functions = new Map<string, Source[]>();
  readonly #classes = new Map<string, Class>();

  constructor() {
    for (const [file, text] of within(/^ts\/.*\.ts$/)) {
      for (const [whole, name] of text.matchAll(FUNCTION)) {
        this.#functions.set(name!, [...(this.#functions.get(name!) ?? []), { file, text: whole }]);
      }
      for (const [whole, name, base] of text.matchAll(CLASS)) {
        const members = new Map<string, string>();
        for (const [body, member] of whole.matchAll(MEMBER)) {
          members.set(member!, `${members.get(member!) ?? ''}${body}`);
        }
        this.#classes.set(name!, { file, base, members });
      }
    }
  }

  /** Codes of a member; undefined where there is no such class or member. */
  of(className: string, member: string): Set<string> | undefined {
    const source = this.#member(className, member);
    return source && this.#codes(source, className, new Set());
  }

  #member(className: string | undefined, member: string): Source | undefined {
    const found = className === undefined ? undefined : this.#classes.get(className);
    const text = found?.members.get(member);
    if (found === undefined || text !== undefined) return text === undefined ? undefined : { file: found!.file, text };
    return this.#member(found.base, member);
  }

  #codes(source: Source, className: string | undefined, seen: Set<string>): Set<string> {
    const codes = new Set(Array.from(source.text.matchAll(THROWN), ([, code]) => code!));
    if (seen.has(source.text)) return codes;
    seen.add(source.text);
    const add = (called: Source | undefined, of?: string) => {
      if (called !== undefined) for (const code of this.#codes(called, of, seen)) codes.add(code);
    };
    for (const [, member] of source.text.matchAll(/\bthis\.(#?\w+)\(/g))
      add(this.#member(className, member!), className);
    for (const [, name] of source.text.matchAll(/(?<![.\w#])(\w+)\(/g)) add(this.#function(name!, source.file));
    return codes;
  }

  /** Function that a name means in a file: its own, or the one that it imports. */
  #function(name: string, file: string): Source | undefined {
    const all = this.#functions.get(name) ?? [];
    const isImported = () => new RegExp(`^import [^;]*\\b${name}\\b[^;]* from `, 'm').test(sources.get(file)!);
    return all.find((each) => each.file === file) ?? (all.length === 1 && isImported() ? all[0] : undefined);
  }
}
