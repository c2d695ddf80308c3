// The subcommand `flatview`: what each address space shows at the end of a trace, or how two traces differ.

import { flatDifference, renderFlatDifference, type TraceOperation, type TraceReplay } from '../index.ts';
import { type Command, checkFiles, EXIT, UsageError } from './command.ts';
import { differencesJson, jsonLine } from './json.ts';
import { complain, print, printLines, styled } from './output.ts';
import { isUserError, replayFile } from './source.ts';
import { ALL_HELP, ALL_OPTION, checkViews, printViewsJson } from './views.ts';

const HELP = `usage: membacking flatview FILE... [--all] [--json]
       membacking flatview BEFORE AFTER --diff [--all] [--json]

Prints what each address space shows, at the end of a trace or in a map: address range, kind, access, region and
offset in it. One file after the other; one that is wrong does not stop the others.

  FILE       a trace or a map (membacking import --help says which), plain or gzipped; - for standard input
  --diff     only what is shown differently in the second of two files: - what was, + what is
  --all      ${ALL_HELP}
  --json     one line per file: {"file","addressSpaces":[{"name","ranges":[{"start","end","name","kind",
             "offsetInRegion","readonly"}]}]}; ends are included, kinds are those of the regions: ram, rom,
             device and mmio, read-only or not; where there are events, "events":[{"start","end","kind","length",
             "match","region","offsetInRegion"}] of each;
             with --diff {"files","addressSpaces":[{"name","change","removed":[…],"added":[…]}]}
  --help     print this

Examples:
  membacking flatview pc.jsonl mtree.txt.gz
  membacking flatview before.txt after.txt --diff
  membacking flatview pc.jsonl --json | jq '.addressSpaces[0].ranges[].name'
`;

export const flatviewCommand: Command = {
  help: HELP,
  options: { json: { type: 'boolean' }, diff: { type: 'boolean' }, ...ALL_OPTION },
  async run({ options, operands: files }) {
    checkFiles(files);
    const replayed = async (file: string) => {
      const replay = await replayFile(file, { wanted: isVisible });
      if (!options.all) checkViews(file, replay);
      return replay;
    };
    if (options.diff) return printDifference(files, replayed, options.json === true);
    let code: number = EXIT.done;
    for (const file of files) {
      try {
        const replay = await replayed(file);
        if (options.json) {
          await printViewsJson(file, replay);
          continue;
        }
        if (files.length > 1) await printLines([`${file === files[0] ? '' : '\n'}${styled('bold', `${file}:`)}`]);
        await printLines(replay.renderFlatViews(Infinity));
      } catch (error) {
        if (!isUserError(error)) throw error;
        complain('error', error.message);
        code = EXIT.wrongInput;
      }
    }
    return code;
  },
};

async function printDifference(
  files: readonly string[],
  replayed: (file: string) => Promise<TraceReplay>,
  json: boolean,
): Promise<number> {
  const [before, after, ...more] = files;
  if (before === undefined || after === undefined || more.length > 0)
    throw new UsageError('--diff takes two FILEs: before and after');
  const was = (await replayed(before)).flatViews(Infinity);
  const is = (await replayed(after)).flatViews(Infinity);
  const differences = flatDifference(was, is);
  if (json) await print(jsonLine({ files, addressSpaces: differencesJson(differences) }));
  else await printLines(differences.length === 0 ? ['nothing changed'] : renderFlatDifference(differences));
  return EXIT.done;
}

/** Sinks follow the view; they do not change it. */
function isVisible({ op }: TraceOperation): boolean {
  return !(
    op === 'va' ||
    op === 'view' ||
    op === 'events' ||
    op === 'partition' ||
    op === 'partition-close' ||
    op === 'attach' ||
    op === 'detach' ||
    op === 'protect' ||
    op === 'withhold' ||
    op === 'give-back'
  );
}
