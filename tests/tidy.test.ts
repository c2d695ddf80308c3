// Rules that keep the tree readable, as ordinary tests: the message of a failure is the remedy.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { ENTRIES, VIEWER } from '../ts/dev/build.mjs';
import {
  commentsOf,
  exportsOf,
  functionsOf,
  imports,
  includes,
  lines,
  sources,
  within,
  withoutPairs,
} from './support/sources.ts';

function none(t: ExecutionContext, found: string[], remedy: string): void {
  t.deepEqual(found, [], remedy);
}

// ---- Imports -----------------------------------------------------------------------------------

function importing(from: RegExp, unless: RegExp): string[] {
  return imports
    .filter((each) => from.test(each.from) && !unless.test(each.to))
    .map(({ from, to }) => `${from} -> ${to}`);
}

test('every import leads to a file', (t) => {
  none(t, importing(/./, new RegExp(`^(${[...sources.keys()].join('|')})$`)), 'Name the file with its extension.');
});

test('the core knows nothing but itself', (t) => {
  none(
    t,
    importing(/^assembly\//, /^assembly\//),
    'Hand it over as an argument; the core imports only from assembly/.',
  );
});

test('of the core, the rest knows only the numbers', (t) => {
  none(t, importing(/^(ts|tests)\//, /^(ts|tests)\/|^assembly\/abi\.ts$/), 'Only assembly/abi.ts is for everybody.');
});

test('the product knows neither its tests nor its build', (t) => {
  none(t, importing(/^ts\/(?!dev\/)/, /^ts\/(?!dev\/)|^assembly\//), 'Move what is needed into ts/.');
});

test('the command uses what every user can', (t) => {
  none(
    t,
    importing(/^ts\/cli\//, /^ts\/(cli\/.*|viewer\/.*|index\.ts|vmm\/index\.ts)$/),
    'Export it from ts/index.ts, and import it from there.',
  );
});

test('the monitor uses what every user can', (t) => {
  none(
    t,
    importing(/^ts\/vmm\//, /^ts\/(vmm\/.*|index\.ts)$/),
    'Export it from ts/index.ts, and import it from there.',
  );
});

test('the viewer uses what every page can', (t) => {
  none(
    t,
    importing(/^ts\/viewer\//, /^ts\/(viewer\/.*|core-index\.ts)$/),
    'Export it from ts/core-index.ts, and import it from there.',
  );
});

test('nothing inside imports the face', (t) => {
  const found = imports.filter(
    ({ from, to }) =>
      /^ts\/(?!(cli|vmm|viewer)\/)/.test(from) && /^ts\/(index\.ts|core-index\.ts|cli\/|vmm\/|viewer\/)/.test(to),
  );
  none(
    t,
    found.map(({ from, to }) => `${from} -> ${to}`),
    'Import from the file that defines it: imports go one way.',
  );
});

test('one file touches the Wasm memory, one has its code, one loads the addon', (t) => {
  const product = within(/^ts\/(?!dev\/)/);
  none(
    t,
    lines(
      product.filter(([path]) => !/^ts\/core\/(core|module)\.ts$/.test(path)),
      /\bWebAssembly\./,
    ),
    'That is for ts/core/core.ts and module.ts alone.',
  );
  none(
    t,
    lines(
      product.filter(([path]) => path !== 'ts/core/native.ts'),
      /\.node['"`]/,
    ),
    'That is for ts/core/native.ts alone.',
  );
});

/** Folders and top files of each part, from the top down: imports and includes go down these lists. */
const ORDER: Readonly<Record<string, readonly string[]>> = {
  assembly: ['index', 'verify', 'describe', 'plan', 'sinks', 'seen', 'asked', 'tree', 'undo', 'base', 'abi'],
  shim: ['addon', 'napi', 'mapper', 'executor', 'trackers', 'sinks', 'kvm', 'host', 'recipe'],
  // The three at the top use what every user can, see above: the index of the package.
  ts: [
    ...['dev', 'cli', 'vmm', 'viewer', 'index', 'core-index'],
    ...['guest', 'snapshot', 'map', 'sinks', 'access', 'asked', 'trace', 'apply', 'machine', 'text', 'core'],
  ],
};

test('imports and includes go down the folders, those of types too', (t) => {
  const upwards = [...imports, ...includes].filter(({ from, to }) => {
    const [part, above] = placeOf(from);
    const [other, below] = placeOf(to);
    const order = part === other ? (ORDER[part] ?? []) : [];
    return order.includes(below) && order.indexOf(below) < order.indexOf(above);
  });
  none(
    t,
    upwards.map(({ from, to }) => `${from} -> ${to}`),
    'Move what both need into a folder below both, or say as an interface what is needed.',
  );
  const unplaced = within(/^(assembly|ts)\/.*\.ts$|^shim\//)
    .map(([path]) => placeOf(path))
    .filter(([part, place]) => !ORDER[part]!.includes(place));
  none(t, [...new Set(unplaced.map(([part, place]) => `${part}/${place}`))], 'Give it a place in ORDER.');
});

/** The part of the project that a file belongs to, and the folder or top file in it. */
function placeOf(path: string): [part: string, place: string] {
  const [part, place, ...rest] = path.split('/') as [string, string, ...string[]];
  return [part, rest.length > 0 ? place : place.replace(/\.\w+$/, '')];
}

test('no file imports itself by a detour, for types either', (t) => {
  const targets = new Map<string, string[]>();
  for (const { from, to } of [...imports, ...includes]) targets.set(from, [...(targets.get(from) ?? []), to]);
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (file: string, path: string[]) => {
    if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
    else if (!done.has(file)) for (const next of targets.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of targets.keys()) visit(file, []);
  none(t, cycles, 'Move what both need into a file below both.');
});

test('every file is used', (t) => {
  const scripts = [...sources.values()].flatMap((text) => text.match(/\bts\/dev\/[\w/-]+\.mjs\b/g) ?? []);
  const entries = [...Object.values(ENTRIES), VIEWER, 'assembly/index.ts', 'assembly/abi.ts', ...scripts];
  const used = new Set([...entries, ...within(/^tests\/.*\.(test|bench)\.ts$/).map(([path]) => path)]);
  for (const file of used) {
    for (const { from, to } of imports)
      if (from === file && !(to.startsWith('ts/') && file.startsWith('tests/'))) used.add(to);
  }
  const unused = within(/^(assembly|ts|tests)\/.*\.(ts|mjs)$/)
    .map(([path]) => path)
    .filter((path) => !used.has(path));
  none(t, unused, 'Nothing that is shipped (or, in tests/, no test) reaches these files: delete them.');
});

// ---- The shim ----------------------------------------------------------------------------------

test('the shim includes its own headers, the numbers, Node-API and the system', (t) => {
  const found = lines(within(/^shim\//), /^\s*#\s*include\s*"/).filter((line) => {
    const name = /"(.*)"/.exec(line)?.[1];
    return name !== 'abi.h' && !sources.has(`shim/${name}`);
  });
  none(t, found, 'The shim knows neither assembly/ nor ts/: take it as a checked number.');
});

/** Words of the system that one folder of the shim alone may say, with what another folder is to do instead. */
const FOLDER_WORDS: readonly (readonly [folder: string, words: RegExp, remedy: string])[] = [
  [
    'host',
    /<sys\/mman\.h>|\b(m(un)?map|mprotect|mremap|m(un)?lock2?|mbind|madvise|fallocate|memfd_create|userfaultfd|membarrier)\(|\b(PROT|MAP|MADV|MREMAP|MFD|UFFD|MEMBARRIER)_[A-Z]/,
    'Ask shim/host/ for it: another operating system is to be another folder.',
  ],
  [
    'kvm',
    /<linux\/kvm\.h>|\bKVM_[A-Z]|(?<!\/)\bkvm_[a-z]/,
    'Ask shim/kvm/ for it: another hypervisor is to be another folder.',
  ],
  [
    'napi',
    /<(napi|node_api)\.h>|\bNapi::|\bnapi_/,
    'Hand it over as plain values: shim/napi/ alone speaks to JavaScript.',
  ],
];

for (const [folder, words, remedy] of FOLDER_WORDS) {
  test(`shim/${folder}/ alone names what is behind it`, (t) => {
    const others = within(/^shim\//).filter(
      ([path]) => !path.startsWith(`shim/${folder}/`) && path !== 'shim/addon.cc',
    );
    none(
      t,
      lines(
        others.map(([path, text]) => [path, text.replace(/\/\/.*/g, '')]),
        words,
      ),
      remedy,
    );
  });
}

test('memory is mapped in one file of the shim', (t) => {
  const found = lines(within(/^shim\/(?!host\/host_range\.)/), /\b(mmap|mremap|munmap|mprotect)\(|\bMAP_FIXED/);
  none(t, found, 'Add what is missing to shim/host/host_range.cc, where every range is proved to be owned.');
});

test('a SAFETY sentence stands above each pointer operation', (t) => {
  const operation = /\b(mmap|mremap|munmap|mprotect|memcpy|memmove|memset)\(|\breinterpret_cast<[^>]*\*>/;
  const found = within(/^shim\//).flatMap(([path, text]) => {
    const all = text.split('\n');
    return all.flatMap((line, index) => {
      if (!operation.test(line.replace(/\/\/.*/, ''))) return [];
      const paragraph = all.slice(all.lastIndexOf('', index) + 1, index + 1);
      return paragraph.some((above) => above.includes('SAFETY:')) ? [] : [`${path}:${index + 1}: ${line.trim()}`];
    });
  });
  none(
    t,
    found,
    'Say in a comment above, in the same paragraph, `SAFETY:` and who guarantees that the memory is there.',
  );
});

// ---- Comments ----------------------------------------------------------------------------------

const CODE = /\.(ts|mjs|cc|h)$/;

test('a file begins with a line that says what it is', (t) => {
  const found = within(CODE).filter(([, text]) => !/^(#!.*\n)?\/\/ \S/.test(text));
  none(
    t,
    found.map(([path]) => path),
    'Begin it with a comment: its subject, and what it is for.',
  );
});

test('comments end before column 121', (t) => {
  const comment = /^\s*(\/\/|\/?\*)/;
  const found = lines(within(CODE), /^.{121}/).filter((line) => comment.test(line.replace(/^.*?:\d+: /, '')));
  none(t, found, 'Break the line: 120 columns at most.');
});

/** Beginnings that make a reader look for the noun. */
const NO_SUBJECT = new RegExp(
  `^(The (same|others?|rest)|${[
    'What Who Whom Whose Where Which When Why How Of In On At As For By From To With Inside Between Before After Until',
    'Because It Its This That Those These They Them Same Such See Also Default Undefined Throws Precondition Told',
  ]
    .join(' ')
    .replaceAll(' ', '|')})\\b`,
);

test('a doc begins with its subject', (t) => {
  const found = within(CODE).flatMap(([path, text]) =>
    commentsOf(text)
      .filter((comment) => comment.isDoc && NO_SUBJECT.test(comment.text))
      .map((comment) => `${path}:${comment.line}: ${comment.text.slice(0, 80)}`),
  );
  none(
    t,
    found,
    'Begin with the noun (of a function: the verb): it is read alone, on hover, by people who have read nothing else.',
  );
});

// ---- Functions ---------------------------------------------------------------------------------

/** Functions of the product, by `path:line: name`. */
const functions = within(/^(assembly|shim|ts)\/.*\.(ts|mjs|cc|h)$/).flatMap(([path, text]) =>
  functionsOf(path, text).map((each) => ({ ...each, place: `${path}:${each.line}: ${each.name}` })),
);

test('functions have forty lines at most', (t) => {
  const found = functions.filter(({ lines }) => lines > 40).map(({ place, lines }) => `${place}: ${lines} lines`);
  none(t, found, 'Give a part of it a name of its own.');
});

test('functions have six parameters at most', (t) => {
  const found = functions
    .map(({ place, parameters }) => ({ place, count: withoutPairs(parameters).length }))
    .filter(({ count }) => count > 6)
    .map(({ place, count }) => `${place}: ${count} parameters`);
  none(t, found, 'Hand over what belongs together as one thing. (A range counts as one.)');
});

test('every export is used', (t) => {
  const used = new Map<string, Set<string>>();
  const namesOf = (file: string) => used.get(file) ?? new Set<string>();
  for (const { to, names, isPassedOn } of imports) if (!isPassedOn) used.set(to, new Set([...namesOf(to), ...names]));
  for (const { from, to, isPassedOn } of imports)
    if (isPassedOn) used.set(to, new Set([...namesOf(to), ...namesOf(from)]));
  const faces = new Set([...Object.values(ENTRIES), VIEWER, 'assembly/index.ts']);
  const found = within(/^(assembly|ts|tests)\/.*\.(ts|mjs)$/)
    .filter(([path]) => !faces.has(path))
    .flatMap(([path, text]) =>
      exportsOf(text)
        .filter((name) => !namesOf(path).has(name) && !(namesOf(path).has('*') && isNamedElsewhere(path, name)))
        .map((name) => `${path}: ${name}`),
    );
  none(t, found, 'Take `export` away, or all of it.');
});

/** Whether a file that imports all of `path` uses a name of it. Numbers of abi.ts are the shim's, too. */
function isNamedElsewhere(path: string, name: string): boolean {
  const use = new RegExp(`\\b${name}\\b`);
  const importers = new Set(imports.filter(({ to }) => to === path).map(({ from }) => from));
  const isUser = (other: string) => importers.has(other) || (path === 'assembly/abi.ts' && /^shim\//.test(other));
  return [...sources].some(([other, text]) => isUser(other) && use.test(text));
}

test('assertions stay', (t) => {
  /** Assertions that each part has at least; the builds that check themselves have those of the verifying files
   *  besides. */
  const floor = { assembly: 63, ts: 28 };
  for (const [part, least] of Object.entries(floor)) {
    const files = within(new RegExp(`^${part}/(?!.*verify\\.ts$)`));
    const count = lines(files, /\b(assert|INVARIANT)\(/).length;
    t.true(
      count >= least,
      `${part}/ had ${least} assertions that hold in release, and has ${count}: keep what made sure.`,
    );
    if (count > least) t.log(`${part}/ has ${count} assertions, not ${least}: raise the number`);
  }
});

// ---- Everything --------------------------------------------------------------------------------

test('types, style and formatting hold', (t) => {
  try {
    execFileSync(process.execPath, ['ts/dev/task.mjs', 'check'], { encoding: 'utf8', stdio: 'pipe' });
    t.pass();
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    t.fail(`npm run format mends most of it; npm run check shows the rest:\n${stdout}${stderr}`);
  }
});

test('nothing is left for later', (t) => {
  const words = ['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX', 'HA' + 'CK'];
  none(
    t,
    lines([...sources], new RegExp(`\\b(${words.join('|')})\\b`)),
    'Finish it, or write it where work is planned.',
  );
});

test('nothing points at one machine', (t) => {
  const path = /\/(?:work|farm|root|home\/\w+)\//;
  none(t, lines([...sources], path), 'Say it relative to the project, or take it from the environment.');
  const hosts = /"resolved": "https?:\/\/(?!registry\.npmjs\.org\/)|^registry\s*=/;
  const lockfile: [string, string] = ['package-lock.json', readFileSync('package-lock.json', 'utf8')];
  none(
    t,
    lines([lockfile, ...sources], hosts),
    'Leave registry hosts out: npm install, with the .npmrc of the project.',
  );
});

test('no file is longer than a stranger can follow', (t) => {
  const long = within(/\.(ts|mjs|cc|h)$/).filter(([, text]) => text.split('\n').length > 700);
  none(
    t,
    long.map(([path]) => path),
    'Divide it where the subject changes: 700 lines at most.',
  );
});

test('the top level holds what a newcomer needs to see', (t) => {
  const allowed =
    /^(\..*|package(-lock)?\.json|asconfig\.json|assembly|shim|ts|build|tests|node_modules|README\.md|LICENSE|CHANGELOG\.md)$/;
  none(
    t,
    readdirSync('.').filter((name) => !allowed.test(name)),
    'Move it into the folder that it belongs to.',
  );
});

test('every test runs, or says in its title why not', (t) => {
  const tests = within(/^tests\/(?!tidy)/);
  none(t, lines(tests, /\.(only|todo|failing)\(/), 'Finish the test, or take it out.');
  none(t, lines(tests, /\.skip\((?!.*: )/), 'End the title with a colon and the reason.');
});

test('ava finds the snapshots of every test file', (t) => {
  const found = within(/^tests\/[^/]*\.test\.ts$/).filter(([, text]) =>
    /^import[^;]*from '\./m.test(text.split(/from '[^.]/, 1)[0] as string),
  );
  none(
    t,
    found.map(([path]) => path),
    "Import 'ava' before anything of the project: the first source in the source map names the snapshot.",
  );
});

test('the README tells how to run and how to test', (t) => {
  const readme = sources.get('README.md') ?? '';
  t.regex(readme, /\bnpm start\b/, 'Name the command that runs it: npm start.');
  t.regex(readme, /\bnpm test\b/, 'Name the command that tests it: npm test.');
});
