// The core's code, compiled once for all maps and replays. Node.js, Deno and Bun read it from the file beside the
// bundle when it is first wanted; a page has no files, and loads it before.

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

/** Compiled module of a build of the core. Throws CORE_MISSING. @internal */
export function coreModule(build: Build): WebAssembly.Module {
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
