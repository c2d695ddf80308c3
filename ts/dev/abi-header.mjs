// assembly/abi.ts as a C++ header. The comments come along: both are read by the same people.

import { StepError } from './steps.mjs';

const CONSTANT = /^export const ([A-Z][A-Z0-9_]*) = (-?(?:0x[0-9a-fA-F]+|\d+));$/;

/** The header's text. Anything but comments and `export const NAME = integer;` is an error. */
export function abiHeader(source) {
  const lines = [
    '// Generated from assembly/abi.ts by the build.',
    '#pragma once',
    '#include <cstdint>',
    '',
    'namespace abi {',
    '',
  ];
  let inComment = false;
  for (const [index, line] of source.split('\n').entries()) {
    const text = line.trim();
    const constant = CONSTANT.exec(text);
    if (inComment || text === '' || text.startsWith('//') || text.startsWith('/*')) {
      inComment = (inComment || text.startsWith('/*')) && !text.endsWith('*/');
      lines.push(line);
    } else if (constant) {
      const [, name, digits] = constant;
      lines.push(`inline constexpr ${typeOf(Number(digits), index)} ${name} = ${digits};`);
    } else {
      throw new StepError(
        `assembly/abi.ts:${index + 1}: only comments and "export const NAME = integer;" may stand here: ${text}`,
      );
    }
  }
  return [...lines, '}  // namespace abi', ''].join('\n');
}

function typeOf(value, index) {
  if (value < 0 && value >= -(2 ** 31)) return 'std::int32_t';
  if (value >= 0 && value < 2 ** 32) return 'std::uint32_t';
  throw new StepError(`assembly/abi.ts:${index + 1}: ${value} does not fit in 32 bits`);
}
