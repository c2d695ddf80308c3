// The text of traces: read, refused with words, written.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { MembackingError } from '../ts/core/errors.ts';
import { flatDifference } from '../ts/text/difference.ts';
import { renderExplanation, renderFlatDifference } from '../ts/text/render.ts';
import { importQemuMaps } from '../ts/trace/import/maps.ts';
import { openOperations } from '../ts/trace/input.ts';
import type { TraceOperation } from '../ts/trace/operations.ts';
import { MAX_LINE_BYTES, openTrace, parseTrace, TraceDecoder } from '../ts/trace/read.ts';
import { readChunks, readText } from '../ts/trace/source.ts';
import { formatOperation, formatTrace } from '../ts/trace/write.ts';

const HEADER = '{"membacking":"trace","version":1,"policy":"layered"}';

/** Every operation, with every field that it can have. */
const EVERY_LINE = [
  '{"op":"begin"}',
  '{"op":"region","id":0,"name":"system","kind":"container","size":"0x10000000000000000"}',
  '{"op":"region","id":1,"name":"pc.ram","kind":"ram","size":"0x8000000"}',
  '{"op":"region","id":2,"name":"bi\\"os","kind":"rom","size":"0x0","readonly":true,"nonvolatile":true,"enabled":false}',
  '{"op":"alias","id":3,"name":"below 4G","target":1,"offset":"0x0","size":"0x8000000"}',
  '{"op":"alias","id":2147483647,"name":"","target":1,"offset":"0xffffffffffffffff","size":"0x1","readonly":true}',
  '{"op":"place","id":3,"parent":0,"offset":"0x20000000000000"}',
  '{"op":"place","id":2,"parent":0,"offset":"0x1fffffffffffff","priority":-2147483648}',
  '{"op":"remove","id":1}',
  '{"op":"move","id":1,"offset":"0x1000"}',
  '{"op":"resize","id":1,"size":"0x2000"}',
  '{"op":"priority","id":1,"priority":-1}',
  '{"op":"flags","id":1}',
  '{"op":"flags","id":1,"readonly":true,"nonvolatile":false,"enabled":true}',
  '{"op":"retarget","id":3,"offset":"0x3000"}',
  '{"op":"destroy","id":1}',
  '{"op":"space","id":0,"name":"memory","root":0}',
  '{"op":"space","id":1,"name":"dma","root":0,"offset":"0x40000000"}',
  '{"op":"space-close","id":1}',
  '{"op":"object","id":1,"name":"pc.ram","kind":"shared","size":"0x1000","writable":true}',
  '{"op":"object-close","id":1}',
  '{"op":"map","region":1,"offset":"0x0","length":"0x1000","object":1,"objectOffset":"0x2000","writable":false}',
  '{"op":"unmap","region":1,"offset":"0x0","length":"0x1000"}',
  '{"op":"va","id":1,"space":0,"size":"0x10000000000"}',
  '{"op":"partition","id":0,"slots":509}',
  '{"op":"attach","id":2,"partition":0,"space":0,"va":1}',
  '{"op":"attach","id":3,"partition":0,"space":0,"va":1,"gpaOffset":"0x100000000","lastGpa":"0xfffffffff"}',
  '{"op":"detach","id":2}',
  '{"op":"protect","sink":2,"start":"0x0","length":"0x10000000000000000","access":"rx"}',
  '{"op":"protect","sink":2,"start":"0x0","length":"0x1000","access":"none"}',
  '{"op":"abort"}',
  '{"op":"commit"}',
];

function traceOf(...lines: string[]): string {
  return [HEADER, ...lines].map((line) => `${line}\n`).join('');
}

function only(line: string): TraceOperation | undefined {
  return parseTrace(traceOf(line)).operations[0];
}

function failure(t: ExecutionContext, action: () => unknown): string {
  const error = t.throws(action, { instanceOf: MembackingError });
  return `${error.code}: ${error.message}`;
}

async function failureOf(t: ExecutionContext, action: Promise<unknown>): Promise<string> {
  const error = await t.throwsAsync(action, { instanceOf: MembackingError });
  return `${error.code}: ${error.message}`;
}

async function* chunksOf(...chunks: (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield Buffer.from(chunk as string);
}

async function operationsOf(chunks: AsyncIterable<Uint8Array>): Promise<TraceOperation[]> {
  const { batches } = await openTrace(chunks);
  const operations: TraceOperation[] = [];
  for await (const batch of batches) operations.push(...batch);
  return operations;
}

test('what is written reads back, line for line', (t) => {
  const { header, operations } = parseTrace(traceOf(...EVERY_LINE));
  t.deepEqual(header, { version: 1, policy: 'layered' });
  t.deepEqual(formatTrace(header, operations).split('\n'), [HEADER, ...EVERY_LINE, '']);
});

test('what a line leaves out is there with its default', (t) => {
  t.deepEqual(only('{"op":"region","id":1,"name":"a","kind":"ram","size":"0x1000"}'), {
    op: 'region',
    id: 1,
    name: 'a',
    kind: 'ram',
    size: 0x1000,
    readonly: false,
    nonvolatile: false,
    enabled: true,
  });
  t.deepEqual(only('{"op":"attach","id":2,"partition":1,"space":3,"va":4}'), {
    op: 'attach',
    id: 2,
    partition: 1,
    space: 3,
    va: 4,
    gpaOffset: 0,
    lastGpa: 0xffff_ffff_ffff_ffffn,
  });
  t.deepEqual(only('{"op":"flags","id":1,"enabled":false}'), { op: 'flags', id: 1, enabled: false });
});

test('an address is a number as long as that is exact', (t) => {
  const addresses = [
    '0x0',
    '0xAbC',
    '0x000000000000000000001',
    '0x1fffffffffffff',
    '0x20000000000000',
    '0xffffffffffffffff',
  ];
  t.deepEqual(
    addresses.map((offset) => (only(`{"op":"move","id":1,"offset":"${offset}"}`) as { offset: unknown }).offset),
    [0, 0xabc, 1, Number.MAX_SAFE_INTEGER, 0x20000000000000n, 0xffffffffffffffffn],
  );
});

test('a line may be cut anywhere between two chunks', async (t) => {
  const bytes = Buffer.from(traceOf(...EVERY_LINE, '{"op":"space","id":7,"name":"Speicherfläche","root":0}'));
  const { operations } = parseTrace(bytes.toString());
  for (let cut = 0; cut <= bytes.length; cut += 7) {
    t.deepEqual(await operationsOf(chunksOf(bytes.subarray(0, cut), bytes.subarray(cut))), operations);
  }
  t.deepEqual(await operationsOf(chunksOf(...[...bytes].map((byte) => Uint8Array.of(byte)))), operations);
});

test('the last line needs no end, and lines may end as on Windows', (t) => {
  t.is(parseTrace(`${HEADER}\r\n{"op":"begin"}\r\n{"op":"commit"}`).operations.length, 2);
});

test('a byte order mark and empty lines at the end, as editors leave them, are no part of it', async (t) => {
  const text = `\ufeff${HEADER}\n{"op":"begin"}\n{"op":"commit"}\n\r\n\n`;
  t.is(parseTrace(text).operations.length, 2);
  t.is((await operationsOf(chunksOf(...[...Buffer.from(text)].map((byte) => Uint8Array.of(byte))))).length, 2);
  t.is(parseTrace(`${HEADER}\n{"op":"begin"}\n  `).operations.length, 1);
});

test('a wrong line is named, with what it should be', (t) => {
  const wrong = [
    '{"op":"regoin","id":1}',
    '{"id":1}',
    '[]',
    '7',
    'null',
    '{"op":"remove","id":1,"priority":2}',
    '{"op":"begin","__proto__":1}',
    '{"op":"remove"}',
    '{"op":"remove","id":-1}',
    '{"op":"remove","id":1.5}',
    '{"op":"remove","id":"1"}',
    '{"op":"remove","id":2147483648}',
    '{"op":"remove","id":{}}',
    `{"op":"remove","id":${'['.repeat(200_000)}${']'.repeat(200_000)}}`,
    '{"op":"move","id":1,"offset":4096}',
    '{"op":"move","id":1,"offset":"4096"}',
    '{"op":"move","id":1,"offset":"0x"}',
    '{"op":"move","id":1,"offset":"0x1g"}',
    '{"op":"move","id":1,"offset":" 0x1"}',
    '{"op":"move","id":1,"offset":"-0x1"}',
    '{"op":"move","id":1,"offset":"0x10000000000000000"}',
    '{"op":"move","id":1,"offset":"0x1234567890abcdefg"}',
    '{"op":"resize","id":1,"size":"0x10000000000000001"}',
    '{"op":"region","id":1,"name":"a","kind":"alias","size":"0x1000"}',
    '{"op":"region","id":1,"name":7,"kind":"ram","size":"0x1000"}',
    '{"op":"region","id":1,"name":"a","kind":"ram","size":"0x1000","readonly":1}',
    '{"op":"priority","id":1,"priority":2147483648}',
    '{"op":"partition","id":1,"slots":0}',
    '{"op":"protect","sink":1,"start":"0x0","length":"0x1000","access":"wr"}',
  ];
  t.snapshot(wrong.map((line) => failure(t, () => parseTrace(traceOf('{"op":"begin"}', line)))));
});

test('a line that is no JSON object in UTF-8 is named', (t) => {
  const notUtf8 = Buffer.from(traceOf('{"op":"begin"}', '{"op":"space","id":1,"name":"?","root":1}'));
  notUtf8[notUtf8.indexOf('?')] = 0xff;
  t.snapshot([
    failure(t, () => parseTrace(traceOf('{"op":"begin"}', '{"op":"commit"'))),
    failure(t, () => parseTrace(traceOf('{"op":"begin"}', '', '{"op":"commit"}'))),
    failure(t, () => parseTrace(traceOf('{"op":"begin"}{"op":"commit"}'))),
    failure(t, () => new TraceDecoder().decode(notUtf8)),
  ]);
});

test('what does not begin as a trace is none', (t) => {
  const headers = [
    '',
    '\n',
    'ELF',
    '[]',
    '{"op":"begin"}',
    '{"membacking":"trace"}',
    '{"membacking":"trace","version":2}',
    '{"membacking":"trace","version":"1"}',
    '{"membacking":"trace","version":1,"policy":"strict"}',
    '{"membacking":"trace","version":1,"limits":{}}',
  ];
  t.snapshot(headers.map((header) => failure(t, () => parseTrace(header))));
});

test('a line that never ends is given up early', async (t) => {
  const long = `{"op":"space","id":1,"name":"${'x'.repeat(MAX_LINE_BYTES)}","root":1}`;
  t.snapshot(failure(t, () => parseTrace(traceOf('{"op":"begin"}', long, '{"op":"commit"}'))));
  let read = 0;
  async function* endless(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(`${HEADER}\n`);
    for (;;) yield Buffer.alloc(++read && 65536, 'x');
  }
  t.regex(await failureOf(t, operationsOf(endless())), /^TRACE_LINE_TOO_LONG: line 2 /);
  t.true(read <= MAX_LINE_BYTES / 65536 + 1);
});

test('files may be compressed, and may be damaged', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = (content: string | Uint8Array) => {
    const path = join(folder, 'trace');
    writeFileSync(path, content);
    return path;
  };
  const text = traceOf(...EVERY_LINE);
  const packed = gzipSync(text);
  const broken = Buffer.from(packed);
  broken.fill(0xaa, 40, 60);
  const { operations } = parseTrace(text);
  t.deepEqual(await operationsOf(readChunks(file(text))), operations);
  t.deepEqual(await operationsOf(readChunks(file(packed))), operations);
  t.is(await readText(file(packed)), text);

  const failures: string[] = [];
  for (const content of [packed.subarray(0, 100), packed.subarray(0, 2), broken, '', '{']) {
    failures.push(await failureOf(t, operationsOf(readChunks(file(content)))));
  }
  failures.push(await failureOf(t, readText(file(Uint8Array.of(0xff, 0xfe)))));
  failures.push(await failureOf(t, readText(folder)));
  failures.push(await failureOf(t, readText(join(folder, 'absent'))));
  t.snapshot(failures.map((message) => message.replaceAll(folder, 'FOLDER')));
});

test('wrong arguments are errors of the package', async (t) => {
  const wrong: Readonly<Record<string, () => unknown>> = {
    'openTrace of a path': () => openTrace('/nope' as never),
    'openTrace of nothing': () => openTrace(undefined as never),
    'openOperations of a number': () => openOperations(7 as never),
    'parseTrace of bytes': () => parseTrace(new Uint8Array() as never),
    'importQemuMaps of text': () => importQemuMaps('{}' as never),
    'importQemuMaps of texts': () => importQemuMaps(['{}'] as never),
    'formatTrace of nothing': () => formatTrace(undefined as never, []),
    'formatTrace of one operation': () => formatTrace({ version: 1, policy: 'layered' }, { op: 'begin' } as never),
    'formatOperation of no operation': () => formatOperation({ op: 'nope' } as never),
    'formatOperation of nothing': () => formatOperation(undefined as never),
    'renderExplanation of an address': () => renderExplanation(0x1000 as never),
    'renderExplanation of nothing': () => renderExplanation(undefined as never),
    'flatDifference of nothing': () => flatDifference(undefined as never, []),
    'flatDifference of operations': () => flatDifference([], [{ op: 'begin' }] as never),
    'renderFlatDifference of views': () => renderFlatDifference([{ name: 'guest', ranges: [] }] as never),
  };
  for (const [title, call] of Object.entries(wrong)) {
    await t.throwsAsync(async () => call(), { name: 'MembackingError', code: 'INVALID_ARGUMENT' }, title);
  }
});
