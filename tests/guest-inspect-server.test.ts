// A running guest's memory, looked at from outside: by a page, which follows it, and by `membacking top`.

import { existsSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { topLines } from '../ts/cli/top-text.ts';
import { type StateJson, stateFromJson } from '../ts/core-index.ts';
import {
  GuestMemoryBuilder,
  type GuestMemoryFacts,
  type GuestMemoryManager,
  inspectSocket,
  type Partition,
  parseTrace,
  TraceReplay,
} from '../ts/index.ts';
import { launch, MISSING } from './support/browser.ts';
import { membackingAsync } from './support/cli.ts';
import { PATIENCE } from './support/patience.ts';

const NOBODY: Partition = { name: 'vm', slotLimit: 32, addSlot() {}, deleteSlot() {} };

function guest(t: ExecutionContext, options = {}): GuestMemoryManager {
  const manager = new GuestMemoryBuilder({ x86LegacySupport: true, ...options })
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: 0x80_0000 }] })
    .build();
  t.teardown(() => manager.close());
  manager.attachPartition(NOBODY);
  return manager;
}

interface Answer {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
}

function ask(place: { socketPath: string; path: string } | string, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { pathname: path, hostname, port } = typeof place === 'string' ? new URL(place) : ({} as Partial<URL>);
    const where = typeof place === 'string' ? { path, hostname, port } : place;
    const sent = request({ ...where, method, agent: false }, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, text }));
    });
    sent.on('error', reject).end();
  });
}

test.serial('on a port: the loopback address, and only for who knows the token', async (t) => {
  const server = await guest(t).inspectServer({ port: 0 });
  const [, port, token] = /^http:\/\/127\.0\.0\.1:(\d+)\/([0-9a-f]{32})\/$/.exec(server.url!)!;
  const origin = `http://127.0.0.1:${port}`;
  const page = await ask(server.url!);
  t.is(page.status, 200);
  t.regex(page.text, /<title>process \d+, live<\/title>/);
  t.regex(page.text, /connect-src 'self'/);
  t.is(page.headers['referrer-policy'], 'no-referrer');
  for (const path of [
    '/',
    '/facts',
    '/live',
    `/${token!.replace(/./, 'x')}/facts`,
    `/${token}`,
    `/${token}/../facts`,
  ]) {
    t.is((await ask(`${origin}${path}`)).status, 404, path);
  }
  t.is((await ask(`${server.url}facts`, 'POST')).status, 404);
  t.deepEqual(String(server).includes('closed'), false);
  server.close();
  await t.throwsAsync(ask(server.url!), { code: 'ECONNREFUSED' });
});

test.serial('on a socket that only its user can open, where top looks for it', async (t) => {
  const manager = guest(t);
  const server = await manager.inspectServer();
  t.is(server.socket, inspectSocket(process.pid));
  t.is(statSync(server.socket!).mode & 0o777, 0o600);
  const { status, text } = await ask({ socketPath: server.socket!, path: '/facts' });
  t.is(status, 200);
  t.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify({ pid: process.pid, ...manager.inspect() })));
  const top = await membackingAsync(['top', String(process.pid), '--once']);
  t.deepEqual({ code: top.code, err: top.err }, { code: 0, err: '' });
  t.regex(top.out, /^process \d+: \d+ regions, 0 devices, \d+ slots, 0 leases\nplans so far: none \d+/);
  t.deepEqual(JSON.parse((await membackingAsync(['top', server.socket!, '--json'])).out), JSON.parse(text));
  manager.close();
  t.true(server.closed);
  t.false(existsSync(server.socket!));
  const gone = await membackingAsync(['top', server.socket!, '--once']);
  t.is(gone.code, 1);
  t.regex(gone.err, /no guest is inspected there .*: its monitor calls manager\.inspectServer\(\), or gives a URL/);
});

test.serial('a still of who holds which lease', async (t) => {
  const manager = guest(t);
  const server = await manager.inspectServer({ socket: join(tmpdir(), `membacking-still-${process.pid}.sock`) });
  const still = async () => {
    const { code, out, err } = await membackingAsync(['top', server.socket!, '--svg']);
    t.deepEqual({ code, err }, { code: 0, err: '' });
    return out.replaceAll(String(process.pid), 'PID');
  };
  const textsOf = (svg: string) => [...svg.matchAll(/<text [^>]*>(.*?)<\/text>/g)].map(([, text]) => text);
  t.regex(await still(), /no lease is held/);
  const leases = [
    manager.guestMemory.lock({ gpa: 0x1000, length: 0x200 }, 'write', { holder: 'disk <0>' }),
    manager.guestMemory.lock({ gpa: 0x40_0000, length: 0x10_0000 }, 'read', { holder: 'net' }),
    manager.guestMemory.lock({ gpa: 0x60_0000, length: 0x1000 }, 'write', { holder: 'net' }),
  ];
  const svg = await still();
  t.regex(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" width="960" [\s\S]*<\/svg>\n$/);
  t.is(svg.match(/class="(none|changed)"\/>/g)?.length, leases.length + 2, 'and two of the legend');
  t.snapshot(textsOf(svg));
  for (const lease of leases) lease.release();
});

test.serial('what cannot be served is refused, and nothing is left open', async (t) => {
  const manager = guest(t);
  const refused = (options: object) => t.throwsAsync(manager.inspectServer(options));
  t.regex((await refused({ port: 1.5 }))!.message, /port must be a whole number/);
  t.regex((await refused({ port: 0, socket: 'x' }))!.message, /a port or a socket, not both/);
  t.regex((await refused({ socket: '/none/such' }))!.message, /cannot listen on \/none\/such: /);
  const debug = guest(t, { debug: true });
  await t.throwsAsync(debug.inspectServer({ port: 0 }), { message: /debug: true cannot be inspected live/ });
  const closed = guest(t);
  closed.close();
  await t.throwsAsync(closed.inspectServer({ port: 0 }), { code: 'CLOSED' });
});

/** Text that the live stream has sent so far, as it comes. */
function followed(url: string): { text(): string; end(): void } {
  let text = '';
  const sent = request(`${url}live`, (response) => {
    response.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    response.on('error', () => {});
  });
  sent.on('error', () => {}).end();
  return { text: () => text, end: () => sent.destroy() };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

test.serial('a replay goes on from the state of a running map, and makes the same slots', async (t) => {
  const manager = guest(t);
  const { guestMemory, map, ramVisibility } = manager;
  ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'read-only');
  const server = await manager.inspectServer({ port: 0 });
  const stream = followed(server.url!);
  await until(() => stream.text().includes('"membacking":"trace"'));
  ramVisibility.set({ gpa: 0xc4000, length: 0x4000 }, 'read-only');
  t.throws(() =>
    map.transaction(
      () => (ramVisibility.set({ gpa: 0xc8000, length: 0x4000 }, 'unmapped') as never) || Promise.resolve(),
    ),
  );
  ramVisibility.set({ gpa: 0xcc000, length: 0x4000 }, 'unmapped');
  guestMemory.writeU32(0, 1);
  await until(() => stream.text().trimEnd().endsWith('}') && stream.text().split('\n').length >= 5);
  const [first, ...rest] = stream.text().split('\n');
  const { memory, ...json } = JSON.parse(first!) as StateJson & { memory: string };
  const { header, operations } = parseTrace(rest.join('\n'));
  const replay = new TraceReplay({ policy: header.policy });
  replay.restore(stateFromJson(json, new Uint8Array(gunzipSync(Buffer.from(memory, 'base64')))));
  for (const operation of operations) replay.apply(operation);
  t.deepEqual(replay.renderFlatViews(), manager.space.text());
  const slots = [...map.context.sinks].flatMap((sink) => ('slots' in sink ? (sink.slots as () => object[])() : []));
  t.deepEqual(
    replay.slots(manager.space.id).map(({ slot, gpa, length }) => ({ slot, gpa, length })),
    slots
      .map((each) => each as { slot: number; gpa: number; length: number })
      .map(({ slot, gpa, length }) => ({ slot, gpa, length })),
  );
  stream.end();
  t.throws(() => stateFromJson(json, new Uint8Array(3)), { code: 'INVALID_ARGUMENT' });
});

test.serial('facts as top prints them: at once, and what has happened since the sample before', (t) => {
  const facts = (plans: number): GuestMemoryFacts & { pid: number } => ({
    ...{
      pid: 4711,
      regions: 12,
      maxAddress: 0xffffffff,
      stretches: [],
      maxStretches: 256,
      maxStretchBytes: 2 ** 44,
      vtl0AliasMap: undefined,
    },
    ram: [
      { name: 'ram', backing: 'shared', size: 0x800_0000, allocatedBytes: 0x123_4000 },
      { name: 'more', backing: 'shared', size: 0x4000_0000, allocatedBytes: 0x1000 },
      { name: 'own\x1b', backing: 'private', size: 0x1000, allocatedBytes: undefined },
    ].map((ram) => ({ ...ram, transparentHugePages: false, pieces: [] })),
    writableRam: [],
    devices: [],
    partitions: [
      { name: 'vm', vtl: 0, slots: 9, slotSplits: 2, events: 0, isShutDown: false, zapsAllSlots: false },
      { name: 'old', vtl: 2, slots: 0, slotSplits: 0, events: 0, isShutDown: true, zapsAllSlots: undefined },
    ],
    ...{ events: [], protections: [], trappingPages: [], lost: [] },
    leases: ['disk', 'net', 'disk'].map((holder) => ({ holder, mode: 'read' as const, gpa: 0, length: 4096 })),
    plans: {
      ...{ plans, commands: plans, failed: 1, disturbing: 0 },
      classes: { none: plans, changed: 2 * plans, 'unchanged-bytes': 0 },
    },
  });
  const [before, now] = [
    { facts: facts(10), time: 1000 },
    { facts: facts(13), time: 3000 },
  ];
  t.snapshot(topLines(before, undefined));
  t.is(topLines(now, before)[1], 'plans a second: none 1.5, changed 3.0, unchanged-bytes 0.0; 1 failed');
});

const browserTest = MISSING === undefined ? test.serial : test.serial.skip;
browserTest(`the page follows the map${MISSING === undefined ? '' : `: ${MISSING}`}`, async (t) => {
  const manager = guest(t);
  const { url } = await manager.inspectServer({ port: 0 });
  const browser = await launch();
  t.teardown(() => browser.close());
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.setDefaultTimeout(PATIENCE);
  page.on('pageerror', (error) => t.fail(error.stack ?? error.message));
  page.on('console', (message) => t.fail(message.text()));
  await page.goto(url!);
  const says = (text: string) =>
    page.waitForFunction((wanted) => document.body.textContent!.includes(wanted), text).then(() => t.pass());
  await says('step 0 of 0');
  manager.ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'read-only');
  await says('step 1 of 1');
  await page.keyboard.press('ArrowLeft');
  manager.ramVisibility.set({ gpa: 0xc4000, length: 0x4000 }, 'unmapped');
  await says('step 0 of 2');
  page.removeAllListeners('console'); // the browser says that the stream broke off
  manager.close();
  await says('the monitor has ended');
});
