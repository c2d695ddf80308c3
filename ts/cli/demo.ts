// `membacking demo`: a recorded memory map, replayed on real memory under a real guest.

import { formatHex } from '../index.ts';
import { type Command, EXIT, UsageError } from './command.ts';
import { LOOK_AT, type Look, type Performed, perform } from './demo/perform.ts';
import { jsonLine, spacesJson } from './json.ts';
import { print, printLines, styled } from './output.ts';

const HELP = `usage: membacking demo [--json]

Puts the recorded memory map of a PC on real memory, lets a small guest read and write through a ROM that is
put over its RAM and taken off again, and prints what the guest saw beside what the flat view said; then the
whole map. Where /dev/kvm cannot be opened there is no guest; everything else is done.

  --json     all of that as one line
  --help     print this

Examples:
  membacking demo
`;

export const demoCommand: Command = {
  help: HELP,
  options: { json: { type: 'boolean' } },
  async run({ options: { json }, operands }) {
    if (operands.length > 0) throw new UsageError('the demo takes no arguments');
    const performed = await perform();
    await (json ? print(jsonLine(toJson(performed))) : printLines(toLines(performed)));
    return EXIT.done;
  },
};

function toJson({ statistics, coreMemory, pieces, slots, missing, looks, replay }: Performed): object {
  return {
    ...{ recorded: statistics.json(coreMemory), pieces, slots },
    guest: missing === undefined ? { isThere: true } : { isThere: false, missing },
    looks: looks.map(({ moment, read, value, written, visible }) => ({
      ...{ moment, gpa: formatHex(LOOK_AT), read: formatHex(read), value: formatHex(value), written },
      visible: { ...visible, offsetInRegion: formatHex(visible.offsetInRegion) },
    })),
    addressSpaces: spacesJson(replay),
  };
}

function toLines({ statistics, coreMemory, base, pieces, slots, missing, looks, replay }: Performed): string[] {
  const hasGuest = missing === undefined;
  return [
    ...heading('A recorded PC: its memory map while it booted, replayed through the core'),
    ...statistics.lines(coreMemory).map((line) => `  ${line}`),
    ...heading('The same on real memory'),
    `  VA space      ${pieces} pieces of memory, from ${formatHex(base)} on in this process`,
    `  partition     ${slots} memory slots ${hasGuest ? 'of a KVM guest' : 'for nobody'}`,
    ...(hasGuest
      ? []
      : [`  no guest      KVM cannot be used here (${missing}): the monitor does what the guest would`]),
    ...heading(`A ROM is put over RAM at ${formatHex(LOOK_AT)}, and taken off again`),
    ...table(looks, hasGuest ? 'guest' : 'monitor'),
    ...heading('The map now, as a replay of the recording of all this shows it'),
    ...replay.renderFlatViews().map((line) => `  ${line}`),
  ];
}

function table(looks: readonly Look[], who: 'guest' | 'monitor'): string[] {
  const rows = looks.map(({ moment, read, value, written, visible: { name, offsetInRegion, readonly } }) => [
    moment,
    word(read),
    `${word(value)} ${written ? 'done' : 'trapped'}`,
    `${name} + ${offsetInRegion.toString(16)}, ${readonly ? 'read-only' : 'writable'}`,
  ]);
  rows.unshift(['', `${who} reads`, `${who} writes`, 'flat view says']);
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column]!)).join('   ')}`.trimEnd());
}

function word(value: number): string {
  return value.toString(16).padStart(8, '0');
}

function heading(text: string): string[] {
  return ['', styled('bold', text), ''];
}
