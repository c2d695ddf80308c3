// The subcommand `replay`: the plans of a trace, as the core alone makes them.

import { createHash } from 'node:crypto';
import type { TracePlan } from '../index.ts';
import { type Command, checkFiles, EXIT, UsageError } from './command.ts';
import { jsonLine, planJson } from './json.ts';
import { print, printLines } from './output.ts';
import { replayFile } from './source.ts';
import { ReplayStatistics } from './statistics.ts';
import { ALL_HELP, ALL_OPTION, checkViews, printViewsJson } from './views.ts';

const HELP = `usage: membacking replay TRACE [--plan] [--stats] [--plan-hash] [--all] [--json]

Carries out a trace in the core alone: no privileges, no memory of the machine. Prints what each address
space shows at the end; or, if any of the following is given, that instead:

  --plan       every plan, as it is made: command, sink, address range, length, access, memory, region
  --stats      counts of operations, plans and commands, disturbance classes, slots, memory of the core
  --plan-hash  one SHA-256 over the bytes of all plans; the same trace has the same hash everywhere

  TRACE        a trace (or a memory map), plain or gzipped; - for standard input
  --all        ${ALL_HELP}
  --json       a line for each plan; a last line with everything else
  --help       print this

Examples:
  membacking replay pc.jsonl                 the flat views at the end
  membacking replay pc.jsonl --plan --stats  every plan, then the counts
  membacking replay pc.jsonl --plan-hash     the same here as wherever it was recorded
`;

export const replayCommand: Command = {
  help: HELP,
  options: {
    plan: { type: 'boolean' },
    stats: { type: 'boolean' },
    'plan-hash': { type: 'boolean' },
    json: { type: 'boolean' },
    ...ALL_OPTION,
  },
  async run({ options: { plan: plans, stats, 'plan-hash': hashed, json, all }, operands: files }) {
    checkFiles(files);
    const [file, another] = files;
    if (file === undefined || another !== undefined) throw new UsageError('name one TRACE');
    const hash = createHash('sha256');
    const statistics = new ReplayStatistics();
    let pending: string[] = [];
    const onPlan = (plan: TracePlan) => {
      if (hashed) hash.update(plan.bytes);
      statistics.addPlan(plan, stats === true);
      if (!plans) return;
      if (json) pending.push(jsonLine(planJson(plan, statistics.plans)));
      else pending.push(`${statistics.plans}: ${plan.render().join('\n')}\n`);
    };
    const replay = await replayFile(file, {
      ...((plans || stats || hashed) && { onPlan }),
      onBatch: async (operations) => {
        if (stats) statistics.addOperations(operations);
        const text = pending.join('');
        pending = [];
        await print(text);
      },
    });
    if (!(plans || stats || hashed)) {
      if (!all) checkViews(file, replay);
      await (json ? printViewsJson(file, replay) : printLines(replay.renderFlatViews(Infinity)));
      return EXIT.done;
    }
    if (json) {
      const facts = {
        ...(stats && { stats: statistics.json(replay.coreMemory) }),
        ...(hashed && { planHash: hash.digest('hex') }),
      };
      if (Object.keys(facts).length > 0) await print(jsonLine({ file, ...facts }));
      return EXIT.done;
    }
    if (stats) await printLines(statistics.lines(replay.coreMemory));
    if (hashed) await printLines([hash.digest('hex')]);
    return EXIT.done;
  },
};
