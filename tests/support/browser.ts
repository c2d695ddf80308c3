// A headless Chromium for pages from files, where one is installed.

import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const PATH = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((path) => existsSync(path));

/** Reason why there is no browser; undefined if there is one. */
export const MISSING = PATH === undefined ? 'no Chromium (Debian: apt-get install chromium)' : undefined;

const QUIET = [
  ...['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync'],
];

/** Arguments with which frames follow one another as fast as they are drawn. */
export const UNPACED = ['--disable-frame-rate-limit', '--disable-gpu-vsync'];

/** Playwright gives it an empty folder for its data. */
export function launch(args: readonly string[] = []): Promise<Browser> {
  return chromium.launch({ executablePath: PATH!, headless: true, args: [...QUIET, ...args] });
}
