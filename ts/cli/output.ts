// Output: results to standard output, messages for people to standard error.

import { once } from 'node:events';
import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

/** Waits where the reader is slower than this. Throws the system's error, EPIPE among them. */
export async function print(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

export function printLines(lines: readonly string[]): Promise<void> {
  return print(lines.map((line) => `${line}\n`).join(''));
}

/** Colour, where somebody looks at it. */
export function styled(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return stream.isTTY && stream.hasColors() ? styleText(style, text) : text;
}

/** `membacking: message`. What came from outside gives no orders to the terminal. */
export function complain(kind: 'error' | 'note' | 'bug', message: string): void {
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
