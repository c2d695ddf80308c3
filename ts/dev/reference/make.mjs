// The reference, from the package's declarations: node make.mjs FOLDER. Every export and every member must have a
// comment, and every type that a signature names must be exported: else nothing is written, and the exit code is 1.
//
// TypeDoc reads the declarations. It needs an older TypeScript than the project's own, so that it is installed apart:
// the build copies this folder to build/reference-tools, and runs it there.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Application, Converter, ReflectionKind, UnknownType } from 'typedoc';
import { commentOf, pagesOf } from './pages.mjs';
import { expanded, sourceOf, textInside } from './source.mjs';

const app = await Application.bootstrap({
  name: 'membacking',
  entryPoints: ['index', 'core-index', 'vmm/index'].map((name) => `build/types/ts/${name}.d.ts`),
  tsconfig: 'build/reference-tools/tsconfig.json',
  excludePrivate: true,
  excludeProtected: true,
  excludeExternals: true,
  disableSources: true,
  disableGit: true,
  readme: 'none',
  sort: ['source-order'],
  validation: { notExported: true, notDocumented: false, invalidLink: true },
});

/** Source text of each declaration, by its reflection. */
const sources = new Map();
/** Aliases that are computed from tables of the package's own, with what they come to. */
const computed = new Map();

app.converter.on(Converter.EVENT_CREATE_DECLARATION, (context, reflection) => {
  const symbol = context.getSymbolFromReflection(reflection);
  if (reflection.kind === ReflectionKind.Module || symbol?.declarations === undefined) return;
  sources.set(reflection, sourceOf(symbol));
  if (reflection.kind !== ReflectionKind.TypeAlias || !/\b(typeof|keyof)\b/.test(sources.get(reflection))) return;
  computed.set(reflection, {
    text: expanded(context.checker, symbol),
    inside: textInside(context.checker, symbol),
  });
});
// Their types are not told: readers do not see the tables.
app.converter.on(Converter.EVENT_RESOLVE_BEGIN, () => {
  for (const [reflection, { text }] of computed) {
    const named = [...computed].reduce((all, [other, { inside }]) => replaced(all, inside, other.name), text);
    reflection.type = new UnknownType(named);
    sources.set(reflection, `type ${reflection.name} =${named};`);
  }
});

/** Names an alias where its fields are told. */
function replaced(text, inside, name) {
  return inside.startsWith('{') ? text.replaceAll(inside, name) : text;
}

const project = await app.convert();
if (project) {
  app.validate(project);
  for (const name of undocumented(project)) app.logger.error(`${name} has no comment`);
}
if (!project || app.logger.hasErrors() || app.logger.hasWarnings()) {
  process.exitCode = 1;
} else {
  const [folder] = process.argv.slice(2);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of pagesOf(project, sources)) writeFileSync(join(folder, name), text);
}

/** Whether there is nothing to say: a name of something that is told elsewhere, a constructor without parameters. */
function isItsOwnName({ kind, signatures = [] }) {
  if (kind === ReflectionKind.Reference) return true;
  return kind === ReflectionKind.Constructor && signatures.every(({ parameters = [] }) => parameters.length === 0);
}

/** Names of exports, and of members of exported classes and interfaces, that have no comment. */
function undocumented(project) {
  const exports = project.children.flatMap(({ children }) => children);
  const all = exports.flatMap((each) => [each, ...(each.children ?? [])]);
  return all.filter((each) => !isItsOwnName(each) && commentOf(each) === '').map((each) => each.getFullName());
}
