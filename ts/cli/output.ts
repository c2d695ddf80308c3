// Output: results to standard output, messages for people to standard error.

import { once } from 'node:events';
import { styleText } from 'node:util';
import { COLORS } from './arguments.ts';
import { isOutputClosed } from './closed-output.ts';
import { UsageError } from './command.ts';
import { clearProgress } from './progress.ts';

type Style = Parameters<typeof styleText>[0];

let isChecked = false;

/** Waits where the reader is slower than this. Throws the system's error, EPIPE among them; EBADF where a shell has
 *  closed standard output. */
export async function print(text: string | Uint8Array): Promise<void> {
  if (!isChecked && isOutputClosed()) {
    throw Object.assign(new Error('standard output is closed'), { code: 'EBADF', syscall: 'write' });
  }
  isChecked = true;
  clearProgress();
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

export function printLines(lines: readonly string[]): Promise<void> {
  return print(lines.map((line) => `${line}\n`).join(''));
}

/** Writes to standard error what is for people, where standard output is a program's. */
export async function remark(text: string): Promise<void> {
  process.stderr.write(text);
}

let colors: (typeof COLORS)[number] = 'auto';

/** Obeys `--color`. Throws UsageError. */
export function setColors(when: string | boolean | undefined): void {
  const found = COLORS.find((each) => each === (when ?? 'auto'));
  if (found === undefined) throw new UsageError(`--color must be one of ${COLORS.join(', ')}, not "${when}"`);
  colors = found;
}

/** Colour, where somebody looks at it, or wants it. */
export function styled(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  const isWanted = colors === 'auto' ? stream.isTTY && stream.hasColors() : colors === 'always';
  return isWanted ? styleText(style, text, { validateStream: false }) : text;
}

/** `membacking: message`. What came from outside gives no orders to the terminal. */
export function complain(kind: 'error' | 'note' | 'bug', message: string): void {
  clearProgress();
  const heading = styled(
    kind === 'note' ? 'yellow' : 'red',
    `membacking: ${kind === 'error' ? '' : `${kind}: `}`,
    process.stderr,
  );
  const text = message.replace(/(?!\n)[\p{Cc}\p{Bidi_Control}]/gu, escaped);
  process.stderr.write(`${heading}${text}\n`);
}

/** Escapes a character as the text form of names does, whose function is no part of the public API. */
function escaped(character: string): string {
  const code = character.charCodeAt(0).toString(16);
  return code.length > 2 ? `\\u${code.padStart(4, '0')}` : `\\x${code.padStart(2, '0')}`;
}
