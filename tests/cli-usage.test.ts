// The help of the command and of each subcommand, and wrong usage.

import { readFileSync } from 'node:fs';
import test from 'ava';
import { lines, membacking, SMALL_TRACE, withFiles } from './support/cli.ts';

const COMMANDS = ['import', 'replay', 'flatview', 'explain', 'view', 'boot', 'doctor', 'demo'];

test('help', (t) => {
  const help = membacking(['--help']);
  t.is(help.code, 0);
  t.is(help.err, '');
  t.snapshot(lines(help.out));
  for (const command of COMMANDS) t.regex(help.out, new RegExp(`^  ${command} `, 'm'));
});

for (const command of COMMANDS) {
  test(`help of ${command}`, (t) => {
    const help = membacking([command, '--help']);
    t.is(help.code, 0);
    t.is(help.err, '');
    t.snapshot(lines(help.out));
    t.deepEqual(membacking([command, '-h']), help);
  });
}

test('the version is the package’s', (t) => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  t.deepEqual(membacking(['--version']), { code: 0, out: `${version}\n`, err: '' });
});

test('usage that cannot be meant ends with 2, says why and where to look', (t) => {
  const wrong = [
    [],
    ['resolve'],
    ['constructor'],
    ['--verbose'],
    ['import'],
    ['import', '-', '-'],
    ['import', 'qemu-map'],
    ['replay'],
    ['replay', 'a', 'b'],
    ['replay', '--plans', 'a'],
    ['replay', '--plan=yes', 'a'],
    ['flatview'],
    ['flatview', '--json'],
    ['flatview', '--diff', 'a'],
    ['flatview', '--diff', 'a', 'b', 'c'],
    ['explain', 'a'],
    ['explain', 'a', '0x0', 'b'],
    ['doctor', 'a'],
    ['demo', 'a'],
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
