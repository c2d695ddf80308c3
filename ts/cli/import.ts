import { formatHeader, formatOperation, importQemuMaps, readText } from '../index.ts';
import { type Command, checkFiles, EXIT, UsageError } from './command.ts';
import { print } from './output.ts';

const HELP = `usage: membacking import qemu-map FILE...

Prints a trace made from memory maps of QEMU: one JSON object each, with the tree of regions and what
QEMU made of it. Several files of one machine, in the order in which they were taken, become one trace:
the first in full, then what changed.

  FILE       a map, plain or gzipped; - for standard input
  --help     print this
`;

/** Lines that are written together. */
const LINES = 4096;

export const importCommand: Command = {
  help: HELP,
  options: {},
  async run({ operands: [format, ...files] }) {
    if (format === undefined) throw new UsageError('say what is imported: qemu-map');
    if (format !== 'qemu-map') throw new UsageError(`there is no format "${format}"; there is qemu-map`);
    checkFiles(files);
    const maps = [];
    for (const name of files) maps.push({ name, text: await readText(name) });
    const operations = importQemuMaps(maps);
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
