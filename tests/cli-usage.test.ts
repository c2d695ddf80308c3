// The help of the command and of each subcommand, and wrong usage.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import test from 'ava';
import { lines, membacking, SMALL_TRACE, withFiles } from './support/cli.ts';

const { out: HELP } = membacking(['--help']);
/** All of them, as the help lists them. */
const COMMANDS = Array.from(HELP.split('\n\n')[2]!.matchAll(/^ {2}([a-z-]+) /gm), ([, command]) => command!);

test('help', (t) => {
  const help = membacking(['--help']);
  t.is(help.code, 0);
  t.is(help.err, '');
  t.snapshot(lines(help.out));
  t.true(COMMANDS.length > 10, 'they are found');
});

for (const command of COMMANDS) {
  test(`help of ${command}`, (t) => {
    const help = membacking([command, '--help']);
    t.is(help.code, 0);
    t.is(help.err, '');
    t.snapshot(lines(help.out));
    t.deepEqual(membacking([command, '-h']), help);
    t.deepEqual(membacking(['help', command]), help);
    const [, examples] = help.out.split('\nExamples:\n');
    t.regex(examples!, new RegExp(`^  .*\\bmembacking ${command}\\b`, 'm'));
  });
}

test('the version is the package’s', (t) => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  for (const option of ['--version', '-v']) {
    t.deepEqual(membacking([option]), { code: 0, out: `${version}\n`, err: '' });
  }
  t.deepEqual(membacking(['help']), membacking(['--help']));
});

test('usage that cannot be meant ends with 2, says why and where to look', (t) => {
  const wrong = [
    [],
    ['resolve'],
    ['falt view'],
    ['flatveiw'],
    ['replya', 'a'],
    ['help', 'docter'],
    ['--versoin'],
    ['constructor'],
    ['--verbose'],
    ['import'],
    ['import', '-', '-'],
    ['import', 'qemu-map'],
    ['replay'],
    ['replay', 'a', 'b'],
    ['replay', '--plans', 'a'],
    ['replay', '--plan=yes', 'a'],
    ['replay', '--zzz', 'a'],
    ['replay', '-x', 'a'],
    ['replay', 'a', '--color'],
    ['replay', 'a', '--color', 'blue'],
    ['view', 'a', '--out'],
    ['view', 'a', '--out', '--open'],
    ['boot', '--timeout', '-1'],
    ['boot', '--timeout=soon'],
    ['boot', '--memory', '-5M'],
    ['completion'],
    ['completion', 'tcsh'],
    ['flatview'],
    ['flatview', '--json'],
    ['flatview', '--diff', 'a'],
    ['flatview', '--diff', 'a', 'b', 'c'],
    ['explain', 'a'],
    ['explain', 'a', '0x0', 'b'],
    ['compare-slots'],
    ['compare-slots', 'a', 'b'],
    ['snapshot'],
    ['snapshot', 'inspect', 'a'],
    ['snapshot', 'constructor', 'a'],
    ['snapshot', 'info'],
    ['snapshot', 'diff', 'a'],
    ['snapshot', 'merge', 'a', 'b', 'c'],
    ['top'],
    ['top', '1', '2'],
    ['top', '1', '--json', '--svg'],
    ['doctor', 'a'],
    ['demo', 'a'],
    ['compile', 'a'],
  ];
  t.snapshot(
    wrong.map((args) => {
      const { code, out, err } = membacking(args);
      t.is(code, 2, args.join(' '));
      t.is(out, '');
      return [`membacking ${args.join(' ')}`, ...lines(err.trimEnd())];
    }),
  );
});

test('a GPA that is none is wrong usage', (t) => {
  withFiles({ 'small.jsonl': SMALL_TRACE }, (cwd) => {
    for (const gpa of [
      '',
      'ram',
      '0x',
      '0x1g',
      '-1',
      '1.5',
      '0x10000000000000000',
      '100000',
      'c8000',
      '18446744073709551615',
    ]) {
      const { code, err } = membacking(['explain', '--', 'small.jsonl', gpa], { cwd });
      t.is(code, 2, gpa);
      t.regex(err, /the GPA must be/);
    }
    const explained = (gpa: string) => {
      const { code, out } = membacking(['explain', 'small.jsonl', gpa], { cwd });
      t.is(code, 0, gpa);
      return out;
    };
    t.is(explained('ffffffffffffffff'), explained('0xffffffffffffffff'));
    t.is(explained('00100000'), explained('0x100000'), 'as it is printed');
    t.is(explained('000C8000'), explained('0xc8000'));
    t.is(explained('0'), explained('0x0'));
  });
});

/** `null`: the shell is not installed. */
function shell(name: string, script: string): string[] | null {
  const { error, stdout, stderr } = spawnSync(name, ['-c', script], {
    encoding: 'utf8',
    env: { ...process.env, HOME: '/' },
  });
  if (error !== undefined) return null;
  if (stderr !== '') throw new Error(stderr);
  return lines(stdout.trimEnd());
}

const SCRIPT = '"$NODE" build/cli.js completion';

/** Words that are typed, and what completes the last one. */
const TYPED: readonly [words: string[], completed: string[]][] = [
  [['re'], ['replay', 'restore']],
  [['flatview', '--d'], ['--diff']],
  [
    ['replay', '--plan'],
    ['--plan', '--plan-hash'],
  ],
  [['help', 'do'], ['doctor']],
  [
    ['completion', ''],
    ['bash', 'fish', 'zsh'],
  ],
  [
    ['view', '--color', 'a'],
    ['always', 'auto'],
  ],
  [['view', 'x'], []],
];

test('bash completes commands, options and their values', (t) => {
  process.env.NODE = process.execPath;
  for (const [words, completed] of TYPED) {
    const quoted = ['membacking', ...words].map((word) => `'${word}'`).join(' ');
    const script = `source <(${SCRIPT} bash); COMP_WORDS=(${quoted}); COMP_CWORD=${words.length}; _membacking; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const found = shell('bash', script)!.filter((word) => word !== '');
    t.deepEqual(found.sort(), completed, words.join(' '));
  }
});

const hasFish = spawnSync('fish', ['--version']).error === undefined;
(hasFish ? test : test.skip)(`fish completes them too${hasFish ? '' : ': fish is not installed'}`, (t) => {
  process.env.NODE = process.execPath;
  for (const [words, completed] of TYPED.filter(([, expected]) => expected.length > 0)) {
    const script = `${SCRIPT} fish | source; complete -C 'membacking ${words.join(' ')}'`;
    const found = shell('fish', script)!.map((line) => line.split('\t')[0]!);
    t.deepEqual(found.filter((word) => !existsSync(word)).sort(), completed, words.join(' '));
  }
});

const hasZsh = spawnSync('zsh', ['--version']).error === undefined;
(hasZsh ? test : test.skip)(`zsh completes them too${hasZsh ? '' : ': zsh is not installed'}`, (t) => {
  process.env.NODE = process.execPath;
  const typed = TYPED.map(([words]) => `'membacking ${words.join(' ')}'`).join(' ');
  const found = shell('zsh', `zsh -f tests/support/complete.zsh ${typed}`)!;
  t.is(found.length, TYPED.length);
  for (const [index, [words, completed]] of TYPED.entries()) {
    const each = Array.from(found[index]!.matchAll(/FOUND:(\S+)/g), ([, word]) => word!);
    t.deepEqual(each.filter((word) => !existsSync(word)).sort(), completed, words.join(' '));
  }
});

test('colour where it is wanted, and nowhere else', (t) => {
  const bold = (...args: string[]) => membacking(args, { input: SMALL_TRACE }).out.includes('\x1b[');
  t.true(bold('demo', '--color', 'always'));
  t.false(bold('demo', '--color=auto'));
  t.false(bold('demo', '--color', 'never'));
});
