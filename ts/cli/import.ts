// The subcommand `import`: a trace from memory maps that other programs print.

import { formatHeader, formatOperation, importMaps, readText } from '../index.ts';
import { type Command, checkFiles, EXIT } from './command.ts';
import { complain, print } from './output.ts';

const HELP = `usage: membacking import FILE...

Prints a trace made from memory maps. Several files of one machine, in the order in which they were taken, become
one trace: the first in full, then what changed. What a file is, it shows itself:

  QEMU       the text of "info mtree" and "info mtree -f", alone or together, as copied from a monitor; or the JSON
             that the guide's page on maps describes
  Linux      /proc/iomem as root sees it; the e820 or EFI listing of the kernel's log; "lspci -vv", whose BARs are
             laid on top of what is in the same text or in the file before it

What a text leaves open is said on standard error, with what was taken for it.

  FILE       a map, plain or gzipped; - for standard input. The format's name before the first, qemu-map, which
             was needed once, is still taken
  --help     print this

Examples:
  membacking import mtree.txt > pc.jsonl                  QEMU's "info mtree", copied from its monitor
  membacking import before.json after.json | membacking replay --plan -
  sudo cat /proc/iomem | membacking import - | membacking view - --out iomem.html
`;

/** Lines that are written together. */
const LINES = 4096;

export const importCommand: Command = {
  help: HELP,
  options: {},
  async run({ operands }) {
    const files = operands[0] === 'qemu-map' ? operands.slice(1) : operands;
    checkFiles(files);
    const maps = [];
    for (const name of files) maps.push({ name, text: await readText(name) });
    const { operations, notes } = importMaps(maps);
    for (const note of notes) complain('note', note);
    await print(`${formatHeader({ version: 1, policy: 'layered' })}\n`);
    for (let i = 0; i < operations.length; i += LINES) {
      await print(
        operations
          .slice(i, i + LINES)
          .map((operation) => `${formatOperation(operation)}\n`)
          .join(''),
      );
    }
    return EXIT.done;
  },
};
