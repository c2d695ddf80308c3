// The subcommand `import`: a trace from memory maps that other programs print.

import { formatHeader, formatOperation, importMaps, type TraceOperation } from '../index.ts';
import { type Command, checkFiles, EXIT } from './command.ts';
import { jsonLine } from './json.ts';
import { complain, print } from './output.ts';
import { readMap } from './source.ts';

const HELP = `usage: membacking import FILE... [--json]

Prints a trace made from memory maps. Several files of one machine, in the order in which they were taken, become
one trace: the first in full, then what changed. What a file is, it shows itself:

  QEMU       the text of "info mtree" and "info mtree -f", alone or together, as copied from a monitor; or the JSON
             that the guide's page on maps describes
  Linux      /proc/iomem as root sees it; the e820 or EFI listing of the kernel's log; "lspci -vv", whose BARs are
             laid on top of what is in the same text or in the file before it

What a text leaves open is said on standard error, with what was taken for it.

  FILE       a map, plain or gzipped; - for standard input. The format's name before the first, qemu-map, which
             was needed once, is still taken
  --json     instead of the trace, one line that says what is in it: {"files","moments","operations","notes"}; moments
             is how many there are, each a transaction; operations are counted by name; notes say what was taken for
             what the texts leave open
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
  options: { json: { type: 'boolean' } },
  async run({ options: { json }, operands }) {
    const files = operands[0] === 'qemu-map' ? operands.slice(1) : operands;
    checkFiles(files);
    const maps = [];
    for (const name of files) maps.push({ name, text: await readMap(name) });
    const { operations, notes } = importMaps(maps);
    if (json) {
      await print(jsonLine({ files, ...counts(operations), notes }));
      return EXIT.done;
    }
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

/** Counts of a trace: its moments, each of which is a transaction, and its operations by name. */
function counts(operations: readonly TraceOperation[]): { moments: number; operations: Record<string, number> } {
  const by: Record<string, number> = { total: operations.length };
  for (const { op } of operations) by[op] = (by[op] ?? 0) + 1;
  return { moments: by.commit ?? 0, operations: by };
}
