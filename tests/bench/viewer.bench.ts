// The viewer's page in a browser: how long until a long trace is there, and how long a step takes to be drawn.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Page } from 'playwright-core';
import { artefact } from '../../ts/core/artefact.ts';
import { formatTrace } from '../../ts/index.ts';
import { pageOf } from '../../ts/viewer/page.ts';
import { launch, MISSING, UNPACED } from '../support/browser.ts';
import { type Group, runGroup } from './support/group.ts';
import { operations } from './support/history.ts';
import { median } from './support/measure.ts';

const OPERATIONS = 100_000;
const LOADS = 5;
const STEPS = 120;
const FRAME_MS = 1000 / 60;

/** Milliseconds of work for one step by key, until what it shows has been handed to the screen. */
function stepTimes(page: Page, key: string): Promise<number[]> {
  return page.evaluate(
    async ([key, steps]) => {
      const times: number[] = [];
      for (let i = 0; i < steps; i++) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
        const started = performance.now();
        dispatchEvent(new KeyboardEvent('keydown', { key }));
        await new Promise((resolve) => requestAnimationFrame(() => queueMicrotask(() => resolve(undefined))));
        const drawn = new MessageChannel();
        await new Promise((resolve) => {
          drawn.port1.onmessage = resolve;
          drawn.port2.postMessage(0);
        });
        times.push(performance.now() - started);
      }
      return times;
    },
    [key, STEPS] as const,
  );
}

async function measure(group: Group, folder: string): Promise<void> {
  const path = join(folder, 'page.html');
  const trace = formatTrace({ version: 1, policy: 'layered' }, operations(OPERATIONS));
  writeFileSync(path, pageOf(readFileSync(artefact('viewer.html'), 'utf8'), 'benchmark', trace));
  const browser = await launch(UNPACED);
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    const loads: number[] = [];
    for (let round = 0; round < LOADS; round++) {
      group.doing('loading');
      await page.goto(pathToFileURL(path).href);
      const ready = () => performance.getEntriesByName('membacking-ready')[0]?.startTime;
      loads.push((await (await page.waitForFunction(ready)).jsonValue())!);
    }
    const goals = [{ of: 'ours', atMost: 2000 }] as const;
    await group.add({ what: 'page of 100 000 operations, until it is there', unit: 'ms', ours: median(loads), goals });
    for (const [what, key] of [
      ['a step back, near the end', 'ArrowLeft'],
      ['a step forward', 'ArrowRight'],
    ] as const) {
      group.doing(what);
      const ours = median(await stepTimes(page, key));
      await group.add({ what: `page: ${what}, drawn`, unit: 'ms', ours, goals: [{ of: 'ours', atMost: FRAME_MS }] });
    }
  } finally {
    await browser.close();
  }
}

await runGroup(async (group) => {
  if (MISSING !== undefined) {
    group.doing(MISSING);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  try {
    await measure(group, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
