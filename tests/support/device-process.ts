// A process of its own that has opened guest memory, as a device's is, and does what a test tells it.

import { type ChildProcess, type SpawnOptions, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { artefact } from '../../ts/core/artefact.ts';
import type { GuestMemoryTicket } from '../../ts/index.ts';
import { FAULTS, FAULTY_ENV } from './faulty-system.ts';
import { isStopped } from './threads.ts';

/** Body of the process: does what comes, where `client` is the memory that was opened last, `memory` its memory, and
 *  `loaded` perhaps a system that can fail. What is thrown comes back as its code, and fault. */
const DEVICE = `
const { GuestMemoryClient } = await import(process.argv[1]);
const fs = await import('node:fs');
const loaded = { exports: {} };
let client, memory;
const open = async (end, timeout = 5000) => {
  client = await GuestMemoryClient.open(end, { timeout });
  memory = client.memory;
  return client;
};
const descriptors = (pattern) => fs.readdirSync('/proc/self/fd').filter((fd) => {
  try { return pattern.test(fs.readlinkSync('/proc/self/fd/' + fd)); } catch { return false; }
}).map(Number);
const mappings = (pattern) => fs.readFileSync('/proc/self/maps', 'utf8').split('\\n').filter((line) => pattern.test(line));
process.on('message', async (code) => {
  let answer;
  try {
    const statements = code.split('; ');
    statements.push('return ' + statements.pop());
    answer = { value: await eval('(async () => {' + statements.join(';') + '})()') };
  } catch (error) {
    answer = { value: [error.code ?? error.message, error.details?.fault].filter((each) => each).join(' ') };
  }
  process.send(answer);
});
process.send({ value: 'ready' });
`;

export class DeviceProcess {
  /** Processes that have not ended. */
  static readonly #running = new Set<DeviceProcess>();

  /** Options of a process in which system calls can be made to fail, by `loaded`. */
  static readonly FAULTY = { env: FAULTY_ENV };

  /** Exit code of the process, or the signal that has killed it. */
  readonly ended: Promise<number | string>;
  readonly #child: ChildProcess;
  #last: Promise<unknown>;

  /** A process that has inherited the descriptors of tickets, from 3 on, and has opened none. */
  constructor(tickets: readonly Pick<GuestMemoryTicket, 'fd'>[] = [], options: Pick<SpawnOptions, 'uid' | 'env'> = {}) {
    const args = ['--input-type=module', '-e', DEVICE, artefact('index.js').href, FAULTS];
    const descriptors = tickets.map(({ fd }) => fd);
    const stdio: StdioOptions = ['ignore', 'inherit', 'inherit', ...descriptors, 'ipc'];
    this.#child = spawn(process.execPath, args, { stdio, ...options });
    DeviceProcess.#running.add(this);
    this.ended = once(this.#child, 'exit').then(([code, signal]) => {
      DeviceProcess.#running.delete(this);
      return code ?? signal;
    });
    this.#last = this.#answer();
    this.#last.catch(() => {});
  }

  /** A process that has opened the first of its tickets. */
  static async open(...tickets: Pick<GuestMemoryTicket, 'fd'>[]): Promise<DeviceProcess> {
    const device = new DeviceProcess(tickets);
    await device.run('await open(3); 0');
    return device;
  }

  /** A process that has opened a ticket, and whose mapper thread's calls `system` can have fail. */
  static async openFaulty(ticket: Pick<GuestMemoryTicket, 'fd'>): Promise<DeviceProcess> {
    const device = new DeviceProcess([ticket], DeviceProcess.FAULTY);
    await device.run('await open(3); process.dlopen(loaded, process.argv[2]); 0');
    return device;
  }

  /** Kills those that a test has left, which keep its own process from ending. */
  static async killAll(): Promise<void> {
    const running = [...DeviceProcess.#running];
    for (const device of running) device.kill();
    await Promise.all(running.map(({ ended }) => ended));
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** The value of the last statement in the process, or the code of what it throws. */
  async run(code: string): Promise<unknown> {
    await this.#last;
    this.#last = this.#answer();
    this.#last.catch(() => {});
    // One that has ended says so by its end.
    this.#child.send(code, () => {});
    return this.#last;
  }

  async #answer(): Promise<unknown> {
    const answer = once(this.#child, 'message').then(([message]) => message.value);
    return Promise.race([answer, this.ended.then((end) => Promise.reject(new Error(`the process has ended: ${end}`)))]);
  }

  /** Stops it: none of its threads goes on when this has ended. */
  async stop(): Promise<void> {
    this.#child.kill('SIGSTOP');
    while (!isStopped(this.pid)) await sleep(1);
  }
  /** Kills it. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }
  /** Lets it go on. */
  resume(): void {
    this.#child.kill('SIGCONT');
  }

  /** Ends it in order. */
  async end(): Promise<number | string> {
    this.#child.disconnect();
    return this.ended;
  }
}
