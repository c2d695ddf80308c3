// `membacking top`: a running guest's memory in a terminal, as its manager's inspection server says it.

import { request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { type GuestMemoryFacts, inspectSocket, MembackingError } from '../index.ts';
import { stillOfLeases } from '../viewer/lease-still.ts';
import { spanOf } from '../viewer/scale.ts';
import { type Command, EXIT, UsageError } from './command.ts';
import { jsonLine } from './json.ts';
import { print, printLines } from './output.ts';
import { type Sample, topLines } from './top-text.ts';

const HELP = `usage: membacking top PID|SOCKET|URL [--once | --json | --svg]

Shows a running guest's memory, and what happens to it, once a second: regions, memory slots, plans a second by class,
leases by holder, resident bytes by backing. The monitor has called manager.inspectServer().

  PID        of the monitor, where it named neither socket nor port
  SOCKET     the path that it named
  URL        the address of its page, where it named a port
  --once     print it once, as plain text; so it is where standard output is no terminal
  --json     print once what manager.inspect() says, on one line
  --svg      print once a picture of who holds which lease, for an issue or a paper
  --help     print this

Examples:
  membacking top 4711
  membacking top /run/vm/inspect.sock --once
  membacking top 4711 --svg > leases.svg
`;

const PERIOD = 1000;
const CLEAR = '\x1b[H\x1b[2J';

export const topCommand: Command = {
  help: HELP,
  options: { once: { type: 'boolean' }, json: { type: 'boolean' }, svg: { type: 'boolean' } },
  async run({ options: { once, json, svg }, operands: [target, ...more] }) {
    if (target === undefined || more.length > 0) throw new UsageError('name one PID, SOCKET or URL');
    if ([once, json, svg].filter((each) => each).length > 1)
      throw new UsageError('give one of --once, --json and --svg');
    const place = placeOf(target);
    const first = await sampled(place);
    if (json) {
      await print(jsonLine(first.facts));
      return EXIT.done;
    }
    if (svg) {
      await print(leaseStill(first.facts));
      return EXIT.done;
    }
    if (once || !process.stdout.isTTY) {
      await printLines(topLines(first, undefined));
      return EXIT.done;
    }
    await watch(place, first);
    return EXIT.done;
  },
};

function leaseStill({ pid, ram, leases }: Sample['facts']): string {
  const memory = ram.flatMap(({ name, pieces }) =>
    pieces.map(({ gpa, length }) => ({ name, span: spanOf(BigInt(gpa), BigInt(length)) })),
  );
  memory.sort((a, b) => a.span.start - b.span.start);
  return stillOfLeases(`Leases of process ${pid}`, memory, leases);
}

/** Prints sample after sample, until the monitor ends. */
async function watch(place: Place, first: Sample): Promise<void> {
  let before: Sample | undefined;
  for (let now: Sample | undefined = first; now !== undefined; ) {
    await print(`${CLEAR}${topLines(now, before).join('\n')}\n`);
    before = now;
    await pause(PERIOD);
    now = await sampled(place).catch(() => undefined);
  }
  await printLines(['', 'The monitor has ended, or is inspected no more.']);
}

type Place = { readonly socketPath: string; readonly path: string } | URL;

function placeOf(target: string): Place {
  if (/^\d{1,10}$/.test(target)) return { socketPath: inspectSocket(Number(target)), path: '/facts' };
  if (!/^https?:/.test(target)) return { socketPath: target, path: '/facts' };
  const address = `${target.replace(/\/$/, '')}/facts`;
  if (URL.canParse(address)) return new URL(address);
  throw new UsageError(`"${target}" is no address of a page`);
}

async function sampled(place: Place): Promise<Sample> {
  const text = await new Promise<string>((resolve, reject) => {
    const sent = request(place, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () => (response.statusCode === 200 ? resolve(body) : reject(new Error('it gives no facts'))));
      response.on('error', reject);
    });
    sent.on('error', reject).end();
  }).catch((cause: Error) => {
    const where = place instanceof URL ? place.origin : place.socketPath;
    const message = `${where}: no guest is inspected there (${cause.message}): its monitor calls manager.inspectServer(), or gives a URL where it names a port`;
    throw new MembackingError('SYSTEM', message, { cause });
  });
  return { facts: JSON.parse(text) as GuestMemoryFacts & { pid: number }, time: performance.now() };
}
