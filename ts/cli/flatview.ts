import type { TraceOperation } from '../index.ts';
import { type Command, checkFiles, EXIT } from './command.ts';
import { flatViewsJson, jsonLine } from './json.ts';
import { complain, print, printLines, styled } from './output.ts';
import { isUserError, replayFile } from './source.ts';

const HELP = `usage: membacking flatview FILE... [--json]

Prints what each address space shows, at the end of a trace or in a map of QEMU: address range, kind, access,
region and offset in it. One file after the other; one that is wrong does not stop the others.

  FILE       a trace or a map, plain or gzipped; - for standard input
  --json     one line per file: {"file","addressSpaces":[{"name","ranges":[{"start","end","name","kind",
             "offsetInRegion","readonly"}]}]}; ends are included, kinds are those of the regions: ram, rom,
             device and mmio, read-only or not
  --help     print this
`;

export const flatviewCommand: Command = {
  help: HELP,
  options: { json: { type: 'boolean' } },
  async run({ options, operands: files }) {
    checkFiles(files);
    let code: number = EXIT.done;
    for (const file of files) {
      try {
        const replay = await replayFile(file, { wanted: isVisible });
        if (options.json) {
          await print(jsonLine({ file, ...flatViewsJson(replay.flatViews()) }));
          continue;
        }
        if (files.length > 1) await printLines([`${file === files[0] ? '' : '\n'}${styled('bold', `${file}:`)}`]);
        await printLines(replay.renderFlatViews());
      } catch (error) {
        if (!isUserError(error)) throw error;
        complain('error', error.message);
        code = EXIT.wrongInput;
      }
    }
    return code;
  },
};

/** Sinks follow the view; they do not change it. */
function isVisible({ op }: TraceOperation): boolean {
  return !(
    op === 'va' ||
    op === 'partition' ||
    op === 'partition-close' ||
    op === 'attach' ||
    op === 'detach' ||
    op === 'protect'
  );
}
