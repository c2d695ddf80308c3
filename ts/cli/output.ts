// What is printed: results to standard output, messages for people to standard error.

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

/** `membacking: message`. Control characters of what came from outside are not obeyed. */
export function complain(kind: 'error' | 'note' | 'bug', message: string): void {
  const heading = styled(
    kind === 'note' ? 'yellow' : 'red',
    `membacking: ${kind === 'error' ? '' : `${kind}: `}`,
    process.stderr,
  );
  const text = message.replace(/(?!\n)\p{Cc}/gu, (each) => `\\x${each.charCodeAt(0).toString(16).padStart(2, '0')}`);
  process.stderr.write(`${heading}${text}\n`);
}
