// The core's code, compiled once for all maps and replays, and instances of it. Node.js, Deno and Bun read it from the
// file beside the bundle when it is first wanted; a page has no files, and loads it before.

import { instantiateSync } from '@assemblyscript/loader';
import { artefact } from './artefact.ts';
import { MembackingError } from './errors.ts';

type Build = 'core.wasm' | 'core.debug.wasm';

const modules = new Map<Build, WebAssembly.Module>();

/** Source of the core's code: the bytes of `core.wasm`, or a URL that they are fetched from. */
export type CoreSource = Uint8Array | ArrayBuffer | URL;

/**
 * Makes the core ready where it cannot be read from a file: in a page or a worker of one, before the first replay is
 * made. Without a source it is fetched from beside this module. Node.js, Deno and Bun need not call it. Throws
 * CORE_MISSING.
 */
export async function loadCore(source: CoreSource = artefact('core.wasm')): Promise<void> {
  try {
    const bytes = source instanceof URL ? await fetched(source) : source;
    modules.set('core.wasm', await WebAssembly.compile(bytes as BufferSource));
  } catch (cause) {
    const where = source instanceof URL ? ` from ${source.href}` : '';
    throw new MembackingError('CORE_MISSING', `the core cannot be loaded${where}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

async function fetched(url: URL): Promise<ArrayBuffer> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`the server says ${response.status}`);
  return response.arrayBuffer();
}

/** Compiled module of a build of the core. Throws CORE_MISSING. */
function coreModule(build: Build): WebAssembly.Module {
  let module = modules.get(build);
  if (module === undefined) {
    module = new WebAssembly.Module(bytesOf(build));
    modules.set(build, module);
  }
  return module;
}

function bytesOf(build: Build): Uint8Array<ArrayBuffer> {
  // Not an import: a page could not load this file then.
  const files = globalThis.process?.getBuiltinModule?.('node:fs');
  if (files === undefined) {
    throw new MembackingError('CORE_MISSING', 'the core is not loaded: await loadCore() before anything else');
  }
  try {
    return files.readFileSync(artefact(build));
  } catch (cause) {
    const message =
      `there is no ${build} in ${artefact('.').pathname}: a bundle needs the package's build/${build} beside it; ` +
      'in a clone, "npm test" builds it';
    throw new MembackingError('CORE_MISSING', message, { cause });
  }
}

// ---- Instances ---------------------------------------------------------------------------------

/** @internal */
export type Export = (...args: number[]) => number;

/** Exports that take and give u32 and i32; besides there are `memory`, `failedAddress` and the state's globals.
 *  @internal */
export const EXPORTS = [
  ...(['abiVersion', 'init', 'verify', 'heapInUse', 'failedId', 'otherId', 'rowsPointer'] as const),
  ...(['begin', 'abort', 'commit', 'adopt', 'unwind', 'unwound', 'planPointer'] as const),
  ...(['commandTouching', 'allowStretches', 'readStretches'] as const),
  ...(['regionCreate', 'aliasCreate', 'regionDestroy', 'regionPlace', 'regionRemove', 'regionMove'] as const),
  ...(['regionResize', 'regionSetPriority', 'regionSetFlags', 'aliasRetarget', 'spaceCreate', 'spaceDestroy'] as const),
  ...(['objectCreate', 'objectDestroy', 'objectIsMapped', 'objectKind', 'map', 'unmap'] as const),
  ...(['eventCreate', 'eventDestroy', 'readEvents', 'readSinkEvents'] as const),
  ...(['sinkAttach', 'partitionCreate', 'partitionDestroy', 'sinkDetach', 'protect', 'withhold', 'giveBack'] as const),
  ...(['lose', 'shutDown', 'isDown', 'slotSplits', 'repair', 'readLost', 'partitionKeep', 'isKept'] as const),
  ...(['readFlat', 'readMappings', 'readSink', 'readParts', 'readProtections', 'readWithheld'] as const),
  ...(['readRegion', 'readChildren', 'readSpare', 'explain'] as const),
];

/** @internal */
export type Exports = Readonly<Record<(typeof EXPORTS)[number], Export>>;

/** The exports of an instance. @internal */
interface CoreInstance extends Exports {
  readonly memory: WebAssembly.Memory;
  failedAddress(): bigint;
  [name: string]: unknown;
}

/** A new instance. Throws CORE_MISSING; SYSTEM where no addresses are left for its memory. @internal */
export function instantiate(build: Build): CoreInstance {
  const abort = (_message: number, _file: number, line: number, column: number) => {
    throw new WebAssembly.RuntimeError(`assertion failed (line ${line}, column ${column})`);
  };
  try {
    // The loader's own `exports` count arguments at each call, which none of these functions asks for.
    return instantiateSync(coreModule(build), { env: { abort } }).instance.exports as CoreInstance;
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    const message = `a memory map cannot have memory for its core (${cause.message}): V8 reserves 10 GiB of addresses for each, which a limit of the process (ulimit -v) may forbid`;
    throw new MembackingError('SYSTEM', message, { cause });
  }
}
