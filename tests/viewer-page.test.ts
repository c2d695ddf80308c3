// The viewer's page in a browser: from a file, without a network, at the sizes and themes that people have.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { launch, MISSING } from './support/browser.ts';
import { HEADER, membacking, SMALL_TRACE } from './support/cli.ts';
import { PATIENCE } from './support/patience.ts';

// One page at a time: a browser has many processes.
const browserTest = MISSING === undefined ? test.serial : test.serial.skip;
const title = (text: string) => (MISSING === undefined ? text : `${text}: ${MISSING}`);

const SEABIOS = 'tests/fixtures/seabios-boot.trace.jsonl.gz';
const WIDE = { viewport: { width: 1280, height: 800 } };
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

let browser: Browser;
let folder: string;

test.before(async () => {
  if (MISSING !== undefined) return;
  folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  browser = await launch();
});

test.after.always(async () => {
  if (MISSING !== undefined) return;
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** The page of a trace; fails when it asks for anything, or throws. */
async function opened(
  t: ExecutionContext,
  file: string,
  { hash = '', input = '', context = WIDE as BrowserContextOptions } = {},
): Promise<Page> {
  const path = join(folder, `${t.title.replace(/\W+/g, '-')}.html`);
  const made = membacking(['view', file, '--out', path], { input });
  t.deepEqual(made, { code: 0, out: `${path}\n`, err: '' });
  const page = await browser.newPage(context);
  page.setDefaultTimeout(PATIENCE);
  page.on('pageerror', (error) => t.fail(error.stack ?? error.message));
  page.on('console', (message) => t.fail(message.text()));
  page.on('request', (request) => {
    if (!/^(file|data|blob):/.test(request.url())) t.fail(request.url());
  });
  await page.goto(`${pathToFileURL(path)}${hash}`);
  await page.waitForFunction(() => performance.getEntriesByName('membacking-ready').length > 0);
  await settled(page);
  return page;
}

/** Two frames later everything has been drawn. */
function settled(page: Page): Promise<void> {
  return page.evaluate(
    () => new Promise<void>((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve()))),
  );
}

async function texts(page: Page, ...ids: string[]): Promise<string[]> {
  await settled(page);
  return Promise.all(ids.map(async (id) => (await page.locator(`#${id}`).textContent()) ?? ''));
}

async function press(page: Page, ...keys: string[]): Promise<void> {
  for (const key of keys) await page.keyboard.press(key);
  await settled(page);
}

browserTest(title('a firmware’s boot: the last step, what it did, and stepping by keys'), async (t) => {
  const page = await opened(t, SEABIOS);
  t.deepEqual(await texts(page, 'title', 'count'), ['seabios-boot.trace.jsonl.gz', 'step 38 of 38']);
  t.snapshot(await texts(page, 'map-title', 'operations', 'class', 'plan'), 'the last step');
  await press(page, 'ArrowLeft', 'ArrowLeft', 'ArrowRight', 'Shift+ArrowLeft');
  t.snapshot(await texts(page, 'count', 'map-title', 'operations', 'class', 'plan'), 'step 27');
  t.snapshot(await page.locator('#map').getAttribute('aria-label'), 'the picture in words');
  await press(page, 'Home');
  t.deepEqual(await texts(page, 'count', 'operations'), ['step 0 of 38', 'before the first step']);
  await press(page, 'End');
  t.deepEqual(await texts(page, 'count'), ['step 38 of 38']);
  await page.close();
});

browserTest(title('plans are found by GPA and by class, and bytes are explained'), async (t) => {
  const page = await opened(t, SEABIOS, { hash: '#step=0' });
  await page.fill('#gpa', 'feb00000');
  await page.press('#gpa', 'Enter');
  t.snapshot(await texts(page, 'count', 'plan', 'byte'), 'the first plan at feb00000');
  await page.fill('#gpa', '');
  await page.selectOption('#wanted', 'unchanged-bytes');
  await page.click('#previous');
  t.regex((await texts(page, 'class'))[0]!, /unchanged-bytes: vCPUs are held$/);
  await page.fill('#gpa', '0xffffffffffffffff0');
  await page.click('#explain');
  t.regex((await texts(page, 'said'))[0]!, /is no address/);
  await page.fill('#gpa', '7fff0000');
  await page.click('#next');
  t.deepEqual(await texts(page, 'said'), ['no such plan after this step']);
  const box = (await page.locator('#map').boundingBox())!;
  await page.mouse.click(box.x + 12, box.y + box.height - 30);
  t.regex((await texts(page, 'byte'))[0]!, /^0000[0-9a-f]{4} in address space "guest"\n {2}visible/);
  await page.close();
});

browserTest(title('a link leads to a step, an address space, a byte, a scale and a second moment'), async (t) => {
  const hash = '#step=2&space=dma&gpa=0xf0000&scale=true&beside=1';
  const page = await opened(t, '-', { hash, input: SMALL_TRACE });
  t.snapshot(await texts(page, 'count', 'map-title', 'other-title', 'byte', 'scale', 'beside'));
  await page.waitForTimeout(400);
  t.is(new URL(page.url()).hash, hash);
  await press(page, 'c', 's', '1');
  t.deepEqual(await texts(page, 'map-title'), ['Address space memory after step 2']);
  t.true(await page.locator('#other').isHidden());
  await page.waitForTimeout(400);
  t.is(new URL(page.url()).hash, '#step=2&space=memory&gpa=0xf0000');
  const selected = page.locator('[role=tab][aria-selected=true]');
  t.is(await selected.textContent(), 'memory');
  for (const id of ['flat', 'objects', 'slots']) await page.click(`#${id}-details summary`);
  t.snapshot(await texts(page, 'flat', 'objects', 'slots'), 'as text');
  await page.close();
});

browserTest(title('playing goes to the end and stops there'), async (t) => {
  const page = await opened(t, SEABIOS, { hash: '#step=0' });
  await page.selectOption('#speed', '60');
  await page.click('#play');
  await page.waitForFunction(() => document.getElementById('count')?.textContent === 'step 38 of 38');
  t.deepEqual(await texts(page, 'play'), ['Play']);
  await page.close();
});

browserTest(title('a click on the history goes to the step that is drawn there'), async (t) => {
  const page = await opened(t, SEABIOS);
  const { x, y, width } = (await page.locator('#history').boundingBox())!;
  for (const part of [0.02, 0.5, 0.98]) {
    await page.mouse.click(x + ((29 + part) / 38) * width, y + 4);
    t.deepEqual(await texts(page, 'count'), ['step 30 of 38'], `${part}`);
  }
  await page.close();
});

browserTest(title('address spaces of one name have a tab each, and what is not there is said'), async (t) => {
  const space = (id: number, root: number) => `{"op":"space","id":${id},"name":"memory","root":${root}}`;
  const region = (id: number) => `{"op":"region","id":${id},"name":"r${id}","kind":"mmio","size":"0x1000"}`;
  const input = [HEADER, region(0), region(1), space(0, 0), space(1, 1), ''].join('\n');
  const page = await opened(t, '-', { input });
  for (const id of ['flat', 'objects', 'slots']) await page.click(`#${id}-details summary`);
  for (const index of [1, 0]) {
    await page.locator('[role=tab]').nth(index).click();
    t.deepEqual(await texts(page, 'flat', 'objects', 'slots'), [`  0-fff  mmio  traps  r${index}`, 'none', 'none']);
    const selected = page.locator('[role=tab][aria-selected=true]');
    t.is(await selected.count(), 1);
    t.is(await page.locator('[role=tab]').nth(index).getAttribute('aria-selected'), 'true');
  }
  await page.close();
});

browserTest(title('names from a trace are text, and never more'), async (t) => {
  const name = '</script><img src=x onerror=document.title=1>\\u202e';
  const input = [
    HEADER,
    `{"op":"region","id":0,"name":"${name}","kind":"mmio","size":"0x1000"}`,
    `{"op":"space","id":0,"name":"${name}","root":0}`,
    '',
  ].join('\n');
  const page = await opened(t, '-', { input });
  t.is(await page.locator('img').count(), 0);
  t.is(await page.title(), 'membacking');
  t.regex((await texts(page, 'map-title'))[0]!, /^Address space <\/script><img/);
  await page.close();
});

const LOOKS: [string, BrowserContextOptions][] = [
  ['at 1280 by 800, light', { ...WIDE, colorScheme: 'light' }],
  ['at 1280 by 800, dark', { ...WIDE, colorScheme: 'dark' }],
  ['on a phone, light', { ...PHONE, colorScheme: 'light' }],
  ['on a phone, dark', { ...PHONE, colorScheme: 'dark' }],
];

for (const [look, context] of LOOKS) {
  browserTest(title(`nothing is cut off ${look}`), async (t) => {
    const page = await opened(t, SEABIOS, { hash: '#step=30&gpa=0xf0000', context });
    const { scrollWidth, clientWidth } = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      return { scrollWidth, clientWidth };
    });
    t.true(scrollWidth <= clientWidth, `${scrollWidth} in ${clientWidth}`);
    t.is(await page.evaluate(() => document.documentElement.className), look.endsWith('dark') ? 'dark' : 'light');
    for (const id of ['map', 'byte', 'play']) t.true(await page.locator(`#${id}`).isVisible(), id);
    const outside = await page.evaluate(() =>
      [...document.querySelectorAll('button, input, select')]
        .filter((each) => each.getClientRects().length > 0 && each.getBoundingClientRect().right > innerWidth)
        .map((each) => each.id),
    );
    t.deepEqual(outside, []);
    await press(page, 't');
    t.is(await page.evaluate(() => document.documentElement.className), look.endsWith('dark') ? 'light' : 'dark');
    await page.close();
  });
}
