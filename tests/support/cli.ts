// The built command, run as a user runs it.

import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PATIENCE } from './patience.ts';

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

const MAX_OUTPUT = 256 * 1024 * 1024;

/** `system`: code that changes what node:fs is for the command, as `fs`. One that hangs is ended: its code is null. */
export function membacking(
  args: readonly string[],
  { input = '' as string | Uint8Array, cwd = '.', system = '' } = {},
): Ended {
  const cli = join(process.cwd(), 'build/cli.js'); // ava runs in the project root
  const module = `import fs from 'node:fs'; import { syncBuiltinESMExports } from 'node:module'; ${system}; syncBuiltinESMExports();`;
  const before = system === '' ? [] : ['--import', `data:text/javascript,${encodeURIComponent(module)}`];
  const options = { input, cwd, maxBuffer: MAX_OUTPUT, timeout: PATIENCE };
  const { status, stdout, stderr } = spawnSync(process.execPath, [...before, cli, ...args], options);
  return { code: status, out: stdout.toString(), err: stderr.toString() };
}

/** `membacking`, while this process goes on: for commands that talk to it. */
export function membackingAsync(args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, ['build/cli.js', ...args], { timeout: PATIENCE }, (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code), out, err });
    });
  });
}

/** Lines, for snapshots. */
export function lines(text: string): string[] {
  return text.split('\n');
}

/** A folder with these files, while `body` runs. */
export function withFiles<Result>(
  files: Readonly<Record<string, string | Uint8Array>>,
  body: (folder: string) => Result,
): Result {
  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  try {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
    return body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export const HEADER = '{"membacking":"trace","version":1,"policy":"layered"}';

export function traceOf(...operations: string[]): string {
  return [HEADER, ...operations].map((line) => `${line}\n`).join('');
}

/** RAM with a ROM over it and a device beside it. */
export const SMALL_TRACE = traceOf(
  '{"op":"begin"}',
  '{"op":"region","id":0,"name":"system","kind":"container","size":"0x10000000000000000"}',
  '{"op":"region","id":1,"name":"ram","kind":"ram","size":"0x100000"}',
  '{"op":"region","id":2,"name":"bios","kind":"rom","size":"0x10000","readonly":true}',
  '{"op":"region","id":3,"name":"uart","kind":"mmio","size":"0x8"}',
  '{"op":"alias","id":4,"name":"high ram","target":1,"offset":"0x80000","size":"0x80000","readonly":true}',
  '{"op":"object","id":0,"name":"ram.mem","kind":"shared","size":"0x100000","writable":true}',
  '{"op":"object","id":1,"name":"bios.mem","kind":"shared","size":"0x10000","writable":false}',
  '{"op":"map","region":1,"offset":"0x0","length":"0x100000","object":0,"objectOffset":"0x0","writable":true}',
  '{"op":"map","region":2,"offset":"0x0","length":"0x10000","object":1,"objectOffset":"0x0","writable":false}',
  '{"op":"place","id":1,"parent":0,"offset":"0x0"}',
  '{"op":"place","id":3,"parent":0,"offset":"0x200000"}',
  '{"op":"place","id":4,"parent":0,"offset":"0xffffffff80000000"}',
  '{"op":"space","id":0,"name":"memory","root":0}',
  '{"op":"space","id":1,"name":"dma","root":0}',
  '{"op":"va","id":0,"space":0,"size":"0xffffffffc0000000"}',
  '{"op":"partition","id":0,"slots":8}',
  '{"op":"attach","id":1,"partition":0,"space":0,"va":0}',
  '{"op":"commit"}',
  '{"op":"place","id":2,"parent":0,"offset":"0xf0000","priority":1}',
);
