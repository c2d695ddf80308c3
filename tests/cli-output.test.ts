// The output of the command, on text and files that are good.

import { spawnSync } from 'node:child_process';
import { gzipSync } from 'node:zlib';
import test from 'ava';
import { lines, membacking, SMALL_TRACE, traceOf, withFiles } from './support/cli.ts';
import { caseNamed, cases, machines } from './support/qemu-cases.ts';

const SAMPLE = 'ts/trace/samples/pc-boot.trace.jsonl';

function done(args: string[], options: Parameters<typeof membacking>[1] = {}): string {
  const { code, out, err } = membacking(args, options);
  if (code !== 0 || err !== '') throw new Error(`membacking ${args.join(' ')} ended with ${code}: ${err}`);
  return out;
}

test('the flat view of a trace, spaces that show the same together', (t) => {
  t.snapshot(lines(done(['flatview', '-'], { input: SMALL_TRACE })));
});

test('several files are told apart, and one that is wrong does not stop the others', (t) => {
  const map = caseNamed('x86_64.microvm.acpi=off--memory');
  withFiles({ 'a.jsonl': SMALL_TRACE, 'b.jsonl': '{}\n', 'c.json': map.file.text }, (cwd) => {
    const { code, out, err } = membacking(['flatview', 'a.jsonl', 'b.jsonl', 'c.json'], { cwd });
    t.is(code, 1);
    t.snapshot({ out: lines(out), err: lines(err) });
  });
});

test('as JSON, one line per file', (t) => {
  withFiles({ 'a.jsonl': SMALL_TRACE, 'b.jsonl.gz': gzipSync(SMALL_TRACE) }, (cwd) => {
    const [a, b, end] = lines(done(['flatview', '--json', 'a.jsonl', 'b.jsonl.gz'], { cwd }));
    t.snapshot(JSON.parse(a!));
    t.deepEqual(JSON.parse(b!), { ...JSON.parse(a!), file: 'b.jsonl.gz' });
    t.is(end, '');
  });
});

/** The rows of a case, in the command's words. */
function rangesOf({
  tree,
  flat,
}: {
  tree: { regions: { kind: string }[] };
  flat: Record<string, unknown>[];
}): object[] {
  return flat.map((row) => rangeOf(row, tree.regions[row.region as number]!.kind));
}

/** `kind`: of the region, as QEMU calls it; a row of QEMU's has `rom` wherever nothing can be written. */
function rangeOf(row: Record<string, unknown>, kind: string): object {
  const kinds: Readonly<Record<string, string>> = { romd: 'rom', ramd: 'device', 'i/o': 'mmio' };
  return {
    start: row.start,
    end: row.end,
    name: row.name,
    kind: kinds[kind] ?? kind,
    offsetInRegion: row.offset_in_region,
    readonly: row.readonly ?? false,
  };
}

test('every recorded map shows exactly what QEMU showed', (t) => {
  const all = [...cases()];
  const files = Object.fromEntries(
    all.map(({ file }, i) => [i % 2 ? `${i}.json.gz` : `${i}.json`, i % 2 ? gzipSync(file.text) : file.text]),
  );
  withFiles(files, (cwd) => {
    const out = lines(done(['flatview', '--json', ...Object.keys(files)], { cwd }).trimEnd());
    t.is(out.length, all.length);
    for (const [i, { name, file }] of all.entries()) {
      const { address_spaces, ...map } = JSON.parse(file.text);
      const ranges = rangesOf(map);
      const addressSpaces = address_spaces.map((space: string) => ({ name: space, ranges }));
      t.deepEqual(JSON.parse(out[i]!), { file: Object.keys(files)[i], addressSpaces }, name);
    }
  });
});

test('an imported machine replays to its last moment', (t) => {
  const machine = machines().find(({ name }) => name === 'x86_64.pc.vga-qxl.boot--cpu-smm-0')!;
  const files = Object.fromEntries(machine.cases.map(({ file }) => [file.name, file.text]));
  withFiles(files, (cwd) => {
    const trace = done(['import', ...Object.keys(files)], { cwd });
    const last = JSON.parse(machine.cases.at(-1)!.file.text);
    const { addressSpaces } = JSON.parse(done(['replay', '--json', '-'], { input: trace }));
    t.deepEqual(addressSpaces[0].ranges, rangesOf(last));
    t.is(addressSpaces[0].name, last.address_spaces[0]);
  });
});

const PASTED = `(qemu) info mtree
memory-region: system
  0000000000000000-ffffffffffffffff (prio 0, i/o): system
    0000000000000000-0000000007ffffff (prio 0, ram): alias low-ram @board.ram 0000000000000000-0000000007ffffff
    000000000c001000-000000000c00101f (prio 1, i/o): fuses

memory-region: board.ram
  0000000000000000-0000000007ffffff (prio 0, ram): board.ram
`;

test('a pasted map: what it shows on standard output, what was taken for what it leaves open beside it', (t) => {
  const command = (...args: string[]) => {
    const { code, out, err } = membacking(args, { input: PASTED });
    t.is(code, 0);
    return { out: lines(out.trimEnd()), err: lines(err.trimEnd()) };
  };
  t.snapshot([command('flatview', '-'), command('explain', '-', '0xc001004'), command('import', '-')]);
});

test('a pasted map as JSON: what the trace would hold, and what was taken for what the text leaves open', (t) => {
  const { code, out, err } = membacking(['import', '-', '--json'], { input: PASTED });
  t.deepEqual({ code, err }, { code: 0, err: '' });
  const { notes, ...counts } = JSON.parse(out);
  t.snapshot(counts);
  const asText = membacking(['import', '-'], { input: PASTED });
  t.deepEqual(
    notes,
    lines(asText.err.trimEnd()).map((line) => line.replace('membacking: note: ', '')),
  );
  t.is(counts.operations.total, lines(asText.out.trimEnd()).length - 1, 'all lines but the header');
});

test('what changed between two moments', (t) => {
  const moved = PASTED.replace('c001000-000000000c00101f', '7000000-000000000700001f').replace('7ffffff', 'fffffff');
  const files = { 'a.txt': PASTED, 'b.txt': moved.replaceAll('7ffffff', 'fffffff'), 'c.jsonl': SMALL_TRACE };
  withFiles(files, (cwd) => {
    const diff = (...args: string[]) => lines(membacking(['flatview', ...args], { cwd }).out.trimEnd());
    t.snapshot(diff('a.txt', 'b.txt', '--diff'));
    t.snapshot(JSON.parse(diff('a.txt', 'b.txt', '--diff', '--json')[0]!));
    t.snapshot(diff('a.txt', 'c.jsonl', '--diff'));
    t.deepEqual(diff('a.txt', 'a.txt', '--diff'), ['nothing changed']);
    t.deepEqual(JSON.parse(diff('a.txt', 'a.txt', '--diff', '--json')[0]!).addressSpaces, []);
  });
});

test('plans of the recorded boot', (t) => {
  t.snapshot(lines(done(['replay', '--plan', SAMPLE])));
});

test('a plan as JSON', (t) => {
  const plans = lines(done(['replay', '--plan', '--json', '-'], { input: SMALL_TRACE }).trimEnd());
  t.snapshot(plans.map((line) => JSON.parse(line)));
});

test('counts of the recorded boot', (t) => {
  const out = lines(done(['replay', '--stats', SAMPLE]));
  t.snapshot(out.filter((line) => !line.startsWith('core memory')));
  t.true(out.some((line) => /^core memory +\d+ KiB +of \d+ KiB$/.test(line)));
  const { stats } = JSON.parse(done(['replay', '--stats', '--json', SAMPLE]));
  t.snapshot({ ...stats, coreMemory: Object.keys(stats.coreMemory) });
});

test('the same trace has the same plans, whatever way it comes', (t) => {
  const hash = done(['replay', '--plan-hash', '-'], { input: SMALL_TRACE });
  t.regex(hash, /^[0-9a-f]{64}\n$/);
  t.is(done(['replay', '--plan-hash', '-'], { input: gzipSync(SMALL_TRACE) }), hash);
  t.is(JSON.parse(done(['replay', '--plan-hash', '--json', '-'], { input: SMALL_TRACE })).planHash, hash.trim());
  t.not(done(['replay', '--plan-hash', SAMPLE]), hash);
});

test('why a byte is what it is', (t) => {
  const explained = (gpa: string) => lines(done(['explain', '-', gpa], { input: SMALL_TRACE }).trimEnd());
  t.snapshot(['0xf1234', '0', '0x200004', '0x150000', '0xffffffff80000010', '0xffffffffffffffff'].map(explained));
});

test('why a byte is what it is, as JSON', (t) => {
  const out = lines(done(['explain', '--json', '-', '0xf1234'], { input: SMALL_TRACE }).trimEnd());
  t.snapshot(out.map((line) => JSON.parse(line)));
});

test('a trace that ends inside a transaction: a note, and what stood before', (t) => {
  const input = `${SMALL_TRACE}{"op":"begin"}\n{"op":"remove","id":1}\n`;
  const { code, out, err } = membacking(['flatview', '-'], { input });
  t.is(code, 0);
  t.is(out, done(['flatview', '-'], { input: SMALL_TRACE }));
  t.regex(err, /note: -: ends inside a transaction/);
});

test('a reader that has seen enough is no error', (t) => {
  const { file } = caseNamed('x86_64.microvm.acpi=off--memory');
  withFiles({ 'map.json': file.text }, (cwd) => {
    const files = new Array(60).fill('map.json').join(' ');
    const command = `"${process.execPath}" "${process.cwd()}/build/cli.js" flatview ${files} | head -n 1; echo "\${PIPESTATUS[0]}"`;
    const { stdout, stderr } = spawnSync('bash', ['-c', command], { cwd, encoding: 'utf8' });
    t.deepEqual([...lines(stdout).slice(-2), stderr], ['0', '', '']);
  });
});

test('names from outside give no orders to the terminal', (t) => {
  const input = traceOf(
    '{"op":"region","id":0,"name":"\\u001b[2J\\nram","kind":"ram","size":"0x1000"}',
    '{"op":"space","id":0,"name":"\\u0007","root":0}',
    '{"op":"region","id":1,"name":"\\u202emar\\u2066","kind":"ram","size":"0x1000"}',
    '{"op":"space","id":1,"name":"\\u200fdma","root":1}',
  );
  t.snapshot(lines(done(['flatview', '-'], { input })));
  const { err } = membacking(['flatview', '\u202e.trace\u0007']);
  t.regex(err, /^membacking: \\u202e\.trace\\x07: cannot be read/);
});

test('a file with a byte order mark is read like any other', (t) => {
  const map = caseNamed('x86_64.microvm.acpi=off--memory').file.text;
  const plain = { 'a.jsonl': SMALL_TRACE, 'b.json': map };
  const marked = { 'a.jsonl': `\ufeff${SMALL_TRACE}\n`, 'b.json': `\ufeff${map}` };
  const [expected, read] = [plain, marked].map((files) =>
    withFiles(files, (cwd) => done(['flatview', ...Object.keys(files)], { cwd })),
  );
  t.is(read, expected);
});
