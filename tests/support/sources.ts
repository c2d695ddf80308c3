// The project's sources as text, for rules that are said of it: lines, comments, functions, what is imported and
// exported.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

/** Each source's text, by its path from the project's root. */
export const sources: ReadonlyMap<string, string> = new Map(
  ['assembly', 'shim', 'ts', 'tests', '.ci']
    .flatMap((folder) => readdirSync(folder, { recursive: true }).map((path) => `${folder}/${path}`))
    .filter((path) => /\.(ts|mjs|cc|h|json)$|^\.ci\/run$/.test(path) && !path.startsWith('tests/fixtures/'))
    .concat(['package.json', 'asconfig.json', '.npmrc', 'README.md', 'CHANGELOG.md'].filter((path) => existsSync(path)))
    .map((path) => [path, readFileSync(path, 'utf8')]),
);

/** Sources whose path matches. */
export function within(pattern: RegExp): [path: string, text: string][] {
  return [...sources].filter(([path]) => pattern.test(path));
}

/** `path:line: text` of every line that matches. */
export function lines(files: [string, string][], pattern: RegExp): string[] {
  return files.flatMap(([path, text]) =>
    text.split('\n').flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
  );
}

// ---- Imports -----------------------------------------------------------------------------------

/** An import, a re-export, or an include. */
interface Import {
  readonly from: string;
  readonly to: string;
  /** Names that are imported; `*` for all of them. */
  readonly names: readonly string[];
  /** Whether all of them are exported again. */
  readonly isPassedOn: boolean;
}

const IMPORT = new RegExp(
  [
    /(?:^|[\s;])(?:import\s(?:(?<clause>[^'";]*?)from\s*)?|export\s(?<passed>[^'";]*?)from\s*)'(?<target>\.[^']*)'/,
    /import\('(?<late>\.[^']*)'\)/,
  ]
    .map(({ source }) => source)
    .join('|'),
  'g',
);

/** Imports of the project's own files, those of types too. */
export const imports: readonly Import[] = within(/\.(ts|mjs)$/).flatMap(([from, text]) =>
  [...text.matchAll(IMPORT)].map(({ groups }) => {
    const path = normalize(join(dirname(from), (groups?.target ?? groups?.late) as string));
    return {
      from,
      to: sources.has(path) ? path : `${path}.ts`,
      names: namesIn(groups?.clause ?? groups?.passed),
      isPassedOn: groups?.passed?.trim() === '*',
    };
  }),
);

/** Includes of the shim's own headers. (`abi.h` is generated.) */
export const includes: readonly Import[] = within(/^shim\//).flatMap(([from, text]) =>
  [...text.matchAll(/^\s*#\s*include\s*"(.*)"/gm)].flatMap(([, name]) =>
    sources.has(`shim/${name}`) ? [{ from, to: `shim/${name}`, names: ['*'], isPassedOn: false }] : [],
  ),
);

function namesIn(clause: string | undefined): string[] {
  const braces = /\{(?<list>[^}]*)\}/.exec(clause ?? '*')?.groups?.list;
  if (braces === undefined) return ['*'];
  const names = braces.split(',').map((name) =>
    name
      .trim()
      .replace(/^type /, '')
      .replace(/ as .*/, ''),
  );
  return names.filter((name) => name !== '');
}

/** Names that a file exports by declaring them. */
export function exportsOf(text: string): string[] {
  const declaration =
    /^export (?:default )?(?:abstract )?(?:async )?(?:const enum|const|let|function\*?|class|interface|type|enum) (\w+)/gm;
  return [...text.matchAll(declaration)].map(([, name]) => name as string);
}

// ---- Comments ----------------------------------------------------------------------------------

/** A comment that stands on lines of its own. */
interface Comment {
  /** Number of its first line, from 1. */
  readonly line: number;
  /** Whether editors show it on hover: it stands above what it documents, or heads the file. */
  readonly isDoc: boolean;
  /** All of it, without the marks. */
  readonly text: string;
}

export function commentsOf(text: string): Comment[] {
  const found: Comment[] = [];
  const mark = /^\s*(?:\/\*\*|\/\*|\/\/\/|\/\/|\*\/|\*)\s?/;
  const all = text.split('\n');
  for (let first = 0; first < all.length; first++) {
    const kind = /^\s*(\/\*\*?|\/\/\/?)(?![/*])/.exec(all[first]!)?.[1];
    if (kind === undefined) continue;
    let end = first + 1;
    if (kind.startsWith('/*')) while (!all[end - 1]!.includes('*/')) end++;
    else while (end < all.length && /^\s*\/\//.test(all[end]!)) end++;
    const words = all.slice(first, end).map((line) => line.replace(mark, '').replace(/\s*\*\/\s*$/, ''));
    const isDoc = kind === '/**' || kind === '///' || first === 0;
    found.push({ line: first + 1, isDoc, text: words.join(' ').trim() });
    first = end - 1;
  }
  return found;
}

// ---- Functions ---------------------------------------------------------------------------------

/** A function with a body. */
interface FunctionText {
  readonly name: string;
  /** Number of its first line, from 1. */
  readonly line: number;
  /** Lines from its name to its end. */
  readonly lines: number;
  readonly parameters: readonly string[];
}

const NO_FUNCTIONS = new Set(['if', 'for', 'while', 'switch', 'catch', 'return', 'constructor']);
const TS_HEAD =
  /^[ \t]*(?:(?:export|default|async|static|private|protected|public|override|abstract|get|set|function|@\w+)\s+)*(?:const (\w+)(?::[^=\n]*)? = (?:async )?|\*?\s*(#?[\w$]+)\s*(?:<[^(\n]*>)?)\(/gm;
const CC_HEAD = /^[ \t]*(?:[\w:<>,&*~[\]]+\s+)*?[*&]*([\w:~]+)\(/gm;

/** Functions and methods of a source, also those inside others. Function expressions that are handed over have no name
 *  and are lines of the function around them. */
export function functionsOf(path: string, text: string): FunctionText[] {
  const code = withoutTexts(text);
  const isCc = /\.(cc|h)$/.test(path);
  const found: FunctionText[] = [];
  for (const match of code.matchAll(isCc ? CC_HEAD : TS_HEAD)) {
    const name = (match[1] ?? match[2]) as string;
    if (NO_FUNCTIONS.has(name) && name !== 'constructor') continue;
    const open = match.index + match[0].length - 1;
    const close = endOf(code, open);
    const body = bodyAfter(code, close, isCc);
    if (body === -1) continue;
    const start = match.index + match[0].search(/\S/);
    const line = lineAt(code, start);
    const parameters = parted(code.slice(open + 1, close));
    found.push({ name, line, lines: lineAt(code, endOf(code, body)) - line + 1, parameters });
  }
  return found;
}

/** Index at which the body of a function begins whose parameters end at `close`; -1 where none does. */
function bodyAfter(code: string, close: number, isCc: boolean): number {
  const between = isCc
    ? /\s*(?:(?:const|noexcept|override|final|mutable)\b\s*)*(?:->\s*[\w:<>*& ]+)?(?::\s[^;{]*)?\{/y
    : /\s*(?::\s*(?:[^;{}=]|=>(?!\s*\{)|\{[^{}]*\}(?=\s*(?:\{|\||=>|\[)))*?)?\s*(?:=>\s*)?\{/y;
  between.lastIndex = close + 1;
  const found = between.exec(code);
  return found === null ? -1 : found.index + found[0].length - 1;
}

/** Index of the bracket that closes the one at `open`. */
function endOf(code: string, open: number): number {
  let depth = 0;
  for (let at = open; at < code.length; at++) {
    if ('([{'.includes(code[at]!)) depth++;
    else if (')]}'.includes(code[at]!) && --depth === 0) return at;
  }
  return code.length - 1;
}

function lineAt(code: string, index: number): number {
  return code.slice(0, index).split('\n').length;
}

/** The parameters of a list, cut at its own commas. */
function parted(list: string): string[] {
  const parts = [''];
  let depth = 0;
  for (const char of list.replace(/=>/g, '  ')) {
    if ('([{<'.includes(char)) depth++;
    else if (')]}>'.includes(char)) depth--;
    if (char === ',' && depth === 0) parts.push('');
    else parts.push(parts.pop()! + char);
  }
  return parts.map((part) => part.trim()).filter((part) => part !== '' && part !== 'void');
}

/** Parameters, of which those count as one that are a range, or an address in two words. */
export function withoutPairs(parameters: readonly string[]): string[] {
  const names = parameters.map((parameter) => parameter.replace(/[?:=].*/s, '').trim());
  return names.filter((name, i) => {
    const before = names[i - 1] ?? '';
    const isHigh = name.endsWith('High') && before === name.replace(/High$/, 'Low');
    const isEnd = /^(last|length|end)(Low)?$/.test(name) && /^(start|from|first|gpa|offset)(High)?$/.test(before);
    return !isHigh && !isEnd;
  });
}

/** Source code of the same length and lines, with blanks for comments, strings, templates and regular expressions. */
function withoutTexts(text: string): string {
  const token = new RegExp(
    [
      /\/\/[^\n]*/,
      /\/\*(?:[^*]|\*(?!\/))*\*\//,
      /'(?:\\.|[^'\\\n])*'/,
      /"(?:\\.|[^"\\\n])*"/,
      /`(?:\\.|[^`\\])*`/,
      /(?<=[(,=:[!&|?{};\n]\s*|return\s)\/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/,
    ]
      .map(({ source }) => source)
      .join('|'),
    'g',
  );
  return text.replace(token, (found) => found.replace(/[^\n]/g, ' '));
}
