// Faults of JSON: each broken text is said to be broken where it is.

import test from 'ava';
import fc from 'fast-check';
import { jsonFault } from '../ts/trace/json-fault.ts';

/** Each text with a mark before the character at which it stops being JSON; a string is broken as a whole. */
const BROKEN = [
  '^hello',
  '{"op":"remove",^',
  '{"op":"remove"^',
  '{"op":^"rem',
  '{^op:"remove"}',
  '{"op" ^"remove"}',
  '{"id":1,^}',
  '{"id":0^1x}',
  '[1,2^:3]',
  '[1,^]',
  '{"a":[1,{"b":null}^}]',
  '{"a":1} ^{"a":2}',
  '{"a": ^tru}',
  '{"a":^"\n"}',
  '{\n  "tree": {\n    "root": ^x\n  }\n}',
];

test('the first character that no JSON text has there', (t) => {
  for (const marked of BROKEN) {
    const text = marked.replace('^', '');
    t.throws(() => JSON.parse(text), undefined, text);
    const before = text.slice(0, marked.indexOf('^')).split('\n');
    t.deepEqual(jsonFault(text), { line: before.length, column: before.at(-1)!.length + 1 }, marked);
  }
});

test('a text that is cut off is right up to its last token', (t) => {
  const property = fc.property(fc.json(), fc.nat(), (text, cut) => {
    const { line, column } = jsonFault(text);
    t.is(line, 1);
    t.is(column, text.length + 1);
    const shorter = text.slice(0, cut % (text.length + 1));
    const rest = shorter.slice(jsonFault(shorter).column - 1);
    return rest === '' || /^["\-.etfn\d]/i.test(rest);
  });
  fc.assert(property);
  t.pass();
});
