// Server of what a running guest's memory is: the viewer's page, fed as the map changes, and facts for
// `membacking top`.

import { chmodSync, lstatSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { artefact } from '../core/artefact.ts';
import { MembackingError } from '../core/errors.ts';
import { Handle } from '../core/handle.ts';
import { wrapped } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import type { Context } from '../map/context.ts';
import { stateOf } from '../map/state.ts';
import { stateJson } from '../trace/state-json.ts';
import type { GuestMemoryFacts } from './inspect.ts';

/** Options of `GuestMemoryManager.inspectServer`: a port or a socket. */
export interface InspectServerOptions {
  /** TCP port of the loopback address, 0 for a free one: for the page. */
  readonly port?: number;
  /** Path of a Unix socket: for `membacking top`. Default, where no port is given: where `membacking top PID` looks. */
  readonly socket?: string;
}

const LOOPBACK = '127.0.0.1';
/** Bytes that a page may be behind before it is let go. */
const MOST_BEHIND = 64 * 2 ** 20;

/** Path of the socket on which a process is inspected where it names none. Only its user may enter the folder. Throws
 *  SYSTEM where the folder is somebody else's. */
export function inspectSocket(pid: number): string {
  const user = process.getuid?.() ?? 0;
  const folder = join(tmpdir(), `membacking-${user}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { uid, mode } = lstatSync(folder);
  if (uid !== user || (mode & 0o170077) !== 0o040000) {
    throw new MembackingError('SYSTEM', `${folder} must be a folder of this user's alone: name another socket`);
  }
  return join(folder, `${pid}.sock`);
}

/** Server of one guest's memory, on the loopback address or a Unix socket alone. It does not keep the process from
 *  ending, and ends with its manager. */
export class InspectServer extends Handle {
  /** Address of the page; undefined on a socket. Who knows it sees the map and all names, and can change nothing. */
  readonly url: string | undefined;
  /** Path of the socket; undefined on a port. */
  readonly socket: string | undefined;
  readonly #server: Server;

  /** @internal Made by GuestMemoryManager. */
  constructor(server: Server, place: { readonly url?: string; readonly socket?: string }) {
    super();
    validate.madeBy('GuestMemoryManager.inspectServer', server);
    this.#server = server;
    this.url = place.url;
    this.socket = place.socket;
  }

  protected override get what(): string {
    return `inspection server on ${this.url ?? this.socket}`;
  }

  protected override release(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** Source of what a server shows. */
interface Inspected {
  readonly context: Context;
  facts(): GuestMemoryFacts;
}

/** Rejects with SYSTEM where the port or the socket cannot be had. */
export async function inspectServer(
  inspected: Inspected,
  options: InspectServerOptions | undefined,
): Promise<InspectServer> {
  const { port, socket } = validate.options(options, ['port', 'socket'], 'inspectServer');
  if (port !== undefined && socket !== undefined) throw validate.invalid('give a port or a socket, not both');
  if (inspected.context.isDebug) throw validate.invalid('a map made with debug: true cannot be inspected live');
  if (port !== undefined) {
    const checked = validate.integer(port, 'port', 0, 65535);
    const token = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex');
    const server = await serverOf(inspected, `/${token}`);
    await listening(server, { port: checked, host: LOOPBACK });
    const { port: found } = server.address() as AddressInfo;
    return new InspectServer(server, { url: `http://${LOOPBACK}:${found}/${token}/` });
  }
  const path = socket === undefined ? inspectSocket(process.pid) : validate.text(socket, 'socket');
  const server = await serverOf(inspected, '');
  if (socket === undefined) rmSync(path, { force: true }); // of an earlier process of this number
  await listening(server, { path });
  chmodSync(path, 0o600);
  return new InspectServer(server, { socket: path });
}

function listening(server: Server, place: { port: number; host: string } | { path: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    const where = 'path' in place ? place.path : `port ${place.port}`;
    server.once('error', (error) => reject(wrapped(`an inspection server cannot listen on ${where}`, error)));
    server.listen(place, () => {
      server.unref();
      resolve();
    });
  });
}

type Answer = (inspected: Inspected, response: ServerResponse) => void;

const ANSWERS: Readonly<Record<string, Answer>> = { '/': page, '/live': live, '/facts': facts };

/** `prefix`: what every path begins with, which nobody guesses. */
async function serverOf(inspected: Inspected, prefix: string): Promise<Server> {
  // With the first server: a process has less time and fewer addresses once it has such modules.
  const { createServer } = await import('node:http');
  const isPrefix = await comparison(prefix);
  return createServer((request, response) => {
    response.setHeader('Cache-Control', 'no-store');
    response.setHeader('Referrer-Policy', 'no-referrer');
    const answer = answerTo(request, prefix, isPrefix);
    if (answer === undefined || inspected.context.closed) response.writeHead(404).end();
    else answer(inspected, response);
  });
}

function answerTo(
  { method, url = '' }: IncomingMessage,
  prefix: string,
  isPrefix: (text: string) => boolean,
): Answer | undefined {
  const path = url.slice(prefix.length);
  const isAllowed = method === 'GET' && isPrefix(url.slice(0, prefix.length));
  return isAllowed && Object.hasOwn(ANSWERS, path) ? ANSWERS[path] : undefined;
}

/** Comparison with a secret, which takes as long whatever the difference is. */
async function comparison(secret: string): Promise<(given: string) => boolean> {
  const { createHash, timingSafeEqual } = await import('node:crypto');
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const expected = digest(secret);
  return (given) => timingSafeEqual(digest(given), expected);
}

function page(_: Inspected, response: ServerResponse): void {
  const parts: Readonly<Record<string, string>> = { title: `process ${process.pid}, live`, trace: 'live' };
  const html = readFileSync(artefact('viewer.html'), 'utf8')
    .replace(/\{\{(title|trace)\}\}/g, (_whole, name: string) => parts[name]!)
    .replace("default-src 'none';", "default-src 'none'; connect-src 'self';");
  response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' }).end(html);
}

/** The state as it is, on one line; then a trace of what happens. */
async function live({ context }: Inspected, response: ServerResponse): Promise<void> {
  while (context.isInTurns) await context.settled();
  response.writeHead(200, { 'Content-Type': 'application/x-ndjson; charset=utf-8' });
  const state = stateOf(context);
  const memory = gzipSync(state.core.memory).toString('base64');
  response.write(`${JSON.stringify({ ...stateJson(state), memory })}\n`);
  const stop = context.record({
    write(text) {
      response.write(text);
      if (response.writableLength > MOST_BEHIND) response.destroy();
    },
  });
  response.on('close', stop);
}

function facts({ facts: all }: Inspected, response: ServerResponse): void {
  response.writeHead(200, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify({ pid: process.pid, ...all() }));
}
