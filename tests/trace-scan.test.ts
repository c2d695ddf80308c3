// Lines of traces by the scanner, compared with JSON.parse.

import test from 'ava';
import * as fc from 'fast-check';
import { MembackingError } from '../ts/core/errors.ts';
import { parseOperation } from '../ts/trace/format.ts';
import type { TraceOperation } from '../ts/trace/operations.ts';
import { parseTrace } from '../ts/trace/read.ts';
import { OperationScanner } from '../ts/trace/scan.ts';
import { formatOperation } from '../ts/trace/write.ts';

const HEADER = '{"membacking":"trace","version":1}';

const id = fc.oneof(fc.nat({ max: 100 }), fc.nat({ max: 0x7fffffff }));
const address = fc.oneof(fc.nat(), fc.maxSafeNat(), fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }));
const flag = fc.option(fc.boolean(), { nil: undefined });

/** Operations that the scanner knows, and some that it does not. */
const operation: fc.Arbitrary<TraceOperation> = fc.oneof(
  fc.record({
    ...{ op: fc.constant('map' as const), region: id, offset: address, length: address },
    ...{ object: id, objectOffset: address, writable: fc.boolean() },
  }),
  fc.record({ op: fc.constant('unmap' as const), region: id, offset: address, length: address }),
  fc.record({ op: fc.constantFrom('move' as const, 'retarget' as const), id, offset: address }),
  fc
    .record({ id, readonly: flag, nonvolatile: flag, enabled: flag })
    .map((flags) => JSON.parse(JSON.stringify({ op: 'flags', ...flags }))),
  fc.record({ op: fc.constant('place' as const), id, parent: id, offset: address, priority: fc.integer() }),
  fc.record({ op: fc.constantFrom('remove' as const, 'destroy' as const), id }),
  fc.record({ op: fc.constantFrom('begin' as const, 'commit' as const, 'abort' as const) }),
);

/** A line with a few characters replaced, doubled or taken away. */
const mutated = fc
  .tuple(
    operation.map(formatOperation),
    fc.array(fc.tuple(fc.nat(), fc.constantFrom('', '0', '-', '"', ' ', 'x', 'F', '9', '}', 'e1')), { maxLength: 3 }),
    fc.boolean(),
  )
  .map(([line, edits, keep]) =>
    edits.reduce((text, [at, by]) => {
      const i = at % text.length;
      return text.slice(0, i) + by + text.slice(keep ? i : i + 1);
    }, line),
  );

function outcome(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    return (error as MembackingError).code;
  }
}

function slowly(line: string): unknown {
  return outcome(() => {
    try {
      return parseOperation(JSON.parse(line), 2);
    } catch (error) {
      throw error instanceof MembackingError ? error : new MembackingError('TRACE_SYNTAX', '');
    }
  });
}

test('a line read without JSON is the same operation, or the same error', (t) => {
  fc.assert(
    fc.property(fc.oneof(operation.map(formatOperation), mutated), (line) => {
      t.deepEqual(
        outcome(() => parseTrace(`${HEADER}\n${line}\n`).operations[0]),
        slowly(line),
        line,
      );
    }),
    { numRuns: 5000 },
  );
});

test('lines as they are written are read without JSON', (t) => {
  const scanner = new OperationScanner();
  const operations: TraceOperation[] = [
    { op: 'map', region: 1, offset: 0, length: 0x200000, object: 0, objectOffset: 0xfffff000, writable: true },
    { op: 'unmap', region: 2147483647, offset: 2 ** 52 - 1, length: 0x1000 },
    { op: 'move', id: 0, offset: 0xabcdef },
    { op: 'flags', id: 5, readonly: true },
    { op: 'flags', id: 5, nonvolatile: false, enabled: false },
    { op: 'place', id: 1, parent: 0, offset: 0, priority: 0 },
    { op: 'place', id: 1, parent: 0, offset: 0, priority: -7 },
    { op: 'remove', id: 10 },
    { op: 'begin' },
    { op: 'commit' },
  ];
  const text = Buffer.from(operations.map((each) => `${formatOperation(each)}\n`).join(''));
  let at = 0;
  for (const expected of operations) {
    t.deepEqual(scanner.scan(text, at), expected);
    at = scanner.end;
  }
  t.is(at, text.length);
});
