// Report of `membacking boot`: the memory map before and after, and the counts of the run. Text, or one line of JSON.

import type { TraceReplay } from '../index.ts';
import type { Monitor, Stop } from '../vmm/index.ts';
import type { Arguments } from './command.ts';
import { jsonLine, spacesJson } from './json.ts';
import { print, printLines, styled } from './output.ts';
import { ReplayStatistics } from './statistics.ts';

interface ReportedRun {
  readonly monitor: Monitor;
  /** The history so far. */
  readonly history: { replay(statistics?: ReplayStatistics): TraceReplay };
  /** Options as they were typed: of them, map, quiet and json count here. */
  readonly options: Arguments['options'];
  /** Time of `performance.now()` from which the run counts. */
  readonly started: number;
}

export class Report {
  readonly #run: ReportedRun;
  #atStart: object[] | undefined;

  constructor(run: ReportedRun) {
    this.#run = run;
  }

  /** The guest is about to run. */
  async begin(): Promise<void> {
    const { history, options } = this.#run;
    if (!options.map) return;
    if (options.json) this.#atStart = spacesJson(history.replay());
    else await printMap('The memory map as the guest starts', history.replay());
  }

  /** The guest has run; no `stop`: its user has left. */
  async end(stop: Stop | undefined): Promise<void> {
    const { monitor, history, options, started } = this.#run;
    const milliseconds = performance.now() - started;
    const statistics = new ReplayStatistics();
    const replay = history.replay(statistics);
    const { portExits, mmioExits, resets } = monitor.counts;
    if (options.json) {
      const { kind, ...how } = stop ?? { kind: 'left' };
      const counts = { seconds: milliseconds / 1000, portExits, mmioExits, resets };
      const maps = options.map ? { atStart: this.#atStart, atEnd: spacesJson(replay) } : {};
      await print(jsonLine({ end: kind, ...how, ...counts, map: statistics.json(replay.coreMemory), ...maps }));
      return;
    }
    if (options.map) await printMap('The memory map as the guest ends', replay);
    if (options.quiet) return;
    const time = (milliseconds / 1000).toFixed(1);
    await printLines([
      '',
      `${time} s, ${portExits} port exits, ${mmioExits} MMIO exits, ${resets} resets; the memory map:`,
      ...statistics.lines(replay.coreMemory).map((line) => `  ${line}`),
    ]);
  }
}

async function printMap(title: string, replay: TraceReplay): Promise<void> {
  await printLines(['', styled('bold', title), ...replay.renderFlatViews(), '']);
}
