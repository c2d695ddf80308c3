// The reference's pages: one for each class, and for each interface that has methods; the types that only one of them
// names stand there too. What is left, and functions and constants, are on the page of their entry point.

import { ReflectionKind } from 'typedoc';

/** Entry points in the order of the index: the name of the module, what is imported, and its page. */
const ENTRIES = [
  { module: 'index', path: 'membacking', page: 'membacking.md' },
  { module: 'core-index', path: 'membacking/core', page: 'membacking-core.md' },
  { module: 'vmm', path: 'membacking/vmm', page: 'membacking-vmm.md' },
];
const HANDLE = 'Handle';

/** Text of each page, by its file's name. `sources`: text of declarations by their reflections. */
export function pagesOf(project, sources) {
  const exports = ENTRIES.flatMap((entry) =>
    exportsOf(project, entry)
      .filter(({ kind }) => kind !== ReflectionKind.Reference)
      .map((reflection) => ({ reflection, name: reflection.name, entry })),
  );
  const byName = new Map(exports.map(({ reflection, name }) => [name, reflection]));
  const pages = placed(exports, (reflection) => namedBy(reflection, { sources, byName }));
  const writer = {
    source: (reflection) => sources.get(reflection),
    links: (reflection) =>
      namedBy(reflection, { sources, byName })
        .map((each) => linkTo(each, pages))
        .sort(),
  };
  const texts = new Map([['README.md', index(project, pages)]]);
  for (const page of new Set(pages.values())) {
    const items = exports.filter(({ reflection }) => pages.get(reflection) === page);
    texts.set(page, pageText(items, writer));
  }
  return texts;
}

function exportsOf(project, { module }) {
  return project.children.find(({ name }) => name === module).children;
}

// ---- Places ------------------------------------------------------------------------------------

/** The page of each export. */
function placed(exports, named) {
  const pages = new Map();
  for (const { reflection, entry } of exports) {
    if (hasOwnPage(reflection)) pages.set(reflection, `${reflection.name}.md`);
    else if (!isType(reflection)) pages.set(reflection, entry.page);
  }
  const users = new Map(exports.map(({ reflection }) => [reflection, new Set()]));
  for (const { reflection } of exports) for (const used of named(reflection)) users.get(used).add(reflection);
  const waiting = exports.filter(({ reflection }) => !pages.has(reflection));
  // A type whose users all stand on one page stands there: again and again, as its users may be such types.
  for (let before = -1; before !== pages.size; ) {
    before = pages.size;
    for (const { reflection } of waiting) {
      const found = new Set([...users.get(reflection)].map((user) => pages.get(user)));
      const [page, ...others] = found;
      if (page !== undefined && others.length === 0) pages.set(reflection, page);
    }
  }
  for (const { reflection, entry } of waiting) if (!pages.has(reflection)) pages.set(reflection, entry.page);
  return pages;
}

function hasOwnPage({ kind, children = [] }) {
  return (
    kind === ReflectionKind.Class ||
    children.some((member) => member.kind === ReflectionKind.Method && !member.flags.isOptional)
  );
}

function isType({ kind }) {
  return kind === ReflectionKind.Interface || kind === ReflectionKind.TypeAlias;
}

/** Exports that a declaration names. */
function namedBy(reflection, { sources, byName }) {
  const words =
    sources
      .get(reflection)
      ?.replace(/\/\*\*.*?\*\//gs, '')
      .match(/\b[A-Z]\w*/g) ?? [];
  const named = [...new Set(words)].map((word) => byName.get(word));
  return named.filter((each) => each !== undefined && each !== reflection);
}

function linkTo(reflection, pages) {
  const page = pages.get(reflection);
  const isWhole = hasOwnPage(reflection);
  return `[${reflection.name}](${page}${isWhole ? '' : `#${reflection.name.toLowerCase()}`})`;
}

// ---- Text --------------------------------------------------------------------------------------

/** Kinds of exports in the index, by whether a reflection is one. */
const KINDS = {
  Classes: hasOwnPage,
  'Functions and constants': (reflection) => !hasOwnPage(reflection) && !isType(reflection),
  Types: (reflection) => !hasOwnPage(reflection) && isType(reflection),
};

/** All exports, by entry point and kind, with the first sentence of each. */
function index(project, pages) {
  const parts = ENTRIES.flatMap((entry) => {
    const all = exportsOf(project, entry).map((each) =>
      each.kind === ReflectionKind.Reference ? each.getTargetReflectionDeep() : each,
    );
    const lists = Object.entries(KINDS).map(([kind, isOne]) => {
      const lines = all
        .filter(isOne)
        .map((each) => `- ${linkTo(each, pages)}: ${firstSentence(commentOf(each))}\n`)
        .sort((a, b) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1));
      return `### ${kind}\n\n${lines.join('')}`;
    });
    return [`## ${entry.path}\n`, ...lists];
  });
  const origin = 'All exports of the package, from the comments of its declarations: made by `npm run reference`.\n';
  return ['# Reference\n', origin, ...parts].join('\n');
}

function pageText(items, writer) {
  const [own, ...others] = [...items].sort(
    (a, b) => Number(hasOwnPage(b.reflection)) - Number(hasOwnPage(a.reflection)),
  );
  if (hasOwnPage(own.reflection)) {
    const parts = others.map(({ reflection }) => section(reflection, '##', writer));
    return [classText(own, writer), ...parts].join('\n');
  }
  const sorted = items.toSorted((a, b) => (a.name.toLowerCase() < b.name.toLowerCase() ? -1 : 1));
  return [`# ${own.entry.path}\n`, ...sorted.map(({ reflection }) => section(reflection, '##', writer))].join('\n');
}

function classText({ reflection, name, entry }, writer) {
  const word = reflection.kind === ReflectionKind.Class ? 'import' : 'import type';
  const parts = [`# ${name}`, code(`${word} { ${name} } from '${entry.path}';`), commentOf(reflection)];
  const inherited = [];
  for (const member of reflection.children ?? []) {
    if (isFromHandle(member, name)) inherited.push(shownName(member));
    else parts.push(section(member, '###', writer).trimEnd());
  }
  if (inherited.length > 0)
    parts.push(`As every [${HANDLE}](${HANDLE}.md): ${inherited.map((each) => `\`${each}\``).join(', ')}.`);
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

/** One export or member: its name, its declaration, its comment, and the types that it names. */
function section(reflection, heading, { source, links }) {
  const parts = [
    `${heading} ${shownName(reflection)}`,
    code(source(reflection)),
    commentOf(reflection),
    links(reflection).join(' · '),
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

function shownName({ name, kind }) {
  if (kind === ReflectionKind.Constructor) return 'constructor';
  return name.replace(/^\[(dispose|custom)\]$/, (_, symbol) =>
    symbol === 'dispose' ? '[Symbol.dispose]' : '[inspect.custom]',
  );
}

/** Whether a member is as it is in `Handle`. */
function isFromHandle({ name, inheritedFrom }, owner) {
  return owner !== HANDLE && inheritedFrom !== undefined && ['close', 'closed', '[dispose]', '[custom]'].includes(name);
}

function code(text) {
  return `\`\`\`ts\n${text}\n\`\`\``;
}

/** Text of a declaration's comment: of a method, those of its signatures. */
export function commentOf(reflection) {
  const { signatures = [], getSignature, setSignature } = reflection;
  const texts = [reflection, ...signatures, getSignature, setSignature]
    .map((each) => each?.comment?.summary.map(({ text }) => text).join('') ?? '')
    .map((text) => text.replace(/\n +/g, '\n').trim());
  return [...new Set(texts)].filter((text) => text !== '').join('\n\n');
}

function firstSentence(text) {
  const line = text.split('\n\n')[0].replaceAll('\n', ' ');
  return /^.*?[^.\s]\.(?=\s|$)/.exec(line)?.[0] ?? line;
}
