// Templates: a snapshot that is kept in memory, to make guests from.

import type { SharedMemory } from '../asked/object.ts';
import type { Address } from '../core/address.ts';
import { Handle } from '../core/handle.ts';
import * as validate from '../core/validate.ts';
import type { Link } from '../snapshot/chain.ts';
import type { GuestLayout } from '../snapshot/layout.ts';
import { checkWork, type SnapshotWork } from '../snapshot/write.ts';
import type { TraceOutput } from '../trace/recorder.ts';
import { openMemory } from './memory-file.ts';

/** Options of a guest that is made from a snapshot or a template. */
export interface GuestOptions {
  /** Takes a trace of everything that happens. */
  readonly record?: TraceOutput;
  /** Checks every invariant around every step: slow, for tests. */
  readonly debug?: boolean;
}

/** Options of `Template.builder`. */
export interface ForkOptions extends GuestOptions {
  /** Folder of a snapshot that is a diff of this template, from which the guest goes on. Default: none. */
  readonly diff?: string;
}

/** Memory of a template, and the guest that it is of. */
interface TemplateSource {
  /** Template itself, whose memory may be closed. */
  readonly template: Openable;
  readonly layout: GuestLayout;
  readonly memory: SharedMemory;
}

/** Something that opens a template as a snapshot. */
export interface Openable {
  /** @internal */
  openLink(): Promise<Link>;
}

/** Makers of guests on a template. */
export interface ForkMaker<Guest> {
  fork(source: TemplateSource, options: GuestOptions): Guest;
  resume(source: TemplateSource, options: GuestOptions & { readonly diff: string }, work: SnapshotWork): Promise<Guest>;
}

/** A guest's memory with its layout as it was at one moment, kept in memory, to make guests (`RestoredGuest`) of, which
 *  share all pages that they do not write. Closing it leaves them as they are. */
export class Template<Guest> extends Handle {
  /** Identity: another one for each template and snapshot. */
  readonly id: string;
  readonly #memory: SharedMemory;
  readonly #layout: GuestLayout;
  readonly #maker: ForkMaker<Guest>;

  /** @internal Made by GuestMemoryManager.freeze. */
  constructor(memory: SharedMemory, layout: GuestLayout, maker: ForkMaker<Guest>) {
    super();
    validate.madeBy('GuestMemoryManager.freeze', memory);
    this.id = layout.id;
    this.#memory = memory;
    this.#layout = layout;
    this.#maker = maker;
  }

  protected override get what(): string {
    return 'the template';
  }

  /** Bytes of memory in use, those of pages included that were zeroes and that a guest of it has touched. */
  get allocatedBytes(): Address {
    this.checkOpen();
    return this.#memory.allocatedBytes!;
  }

  /** Builder of a guest as the frozen one was, or as the one that `diff` was taken of: with an ordinary manager, whose
   *  RAM is the template's, copied page by page where it is written. Throws CLOSED, INVALID_ARGUMENT. */
  builder(options?: ForkOptions): ForkBuilder<Guest> {
    this.checkOpen();
    const given = validate.options(options, ['record', 'debug', 'diff'], 'builder');
    if (given.diff !== undefined) validate.text(given.diff, 'diff');
    return new ForkBuilder(() => this.#source(), given, this.#maker);
  }

  #source(): TemplateSource {
    this.checkOpen();
    return { template: this, layout: this.#layout, memory: this.#memory };
  }

  /** Opens it as the last snapshot of a chain. Rejects with CLOSED. @internal */
  async openLink(): Promise<Link> {
    this.checkOpen();
    const memory = await openMemory(this.#memory, 'r');
    const place = { file: 'memory', size: Number(this.#memory.size) };
    return { folder: this.what, layout: { ...this.#layout, base: undefined, memory: place }, memory };
  }

  protected override release(): void {
    this.#memory.close();
  }
}

/** Builder of a guest on a template: built as often as one likes. */
export class ForkBuilder<Guest> {
  readonly #source: () => TemplateSource;
  readonly #options: ForkOptions;
  readonly #maker: ForkMaker<Guest>;

  /** @internal Made by Template.builder. */
  constructor(source: () => TemplateSource, options: ForkOptions, maker: ForkMaker<Guest>) {
    validate.madeBy('Template.builder', source);
    this.#source = source;
    this.#options = options;
    this.#maker = maker;
  }

  /** A guest, at once. Throws CLOSED where the template is; INVALID_ARGUMENT where there is a diff, which takes
   *  `buildAsync`; SYSTEM, and what `GuestMemoryBuilder.build` throws. Nothing is left then. */
  build(): Guest {
    const { diff, ...options } = this.#options;
    if (diff !== undefined) throw validate.invalid('a diff is read in the background: use buildAsync');
    return this.#maker.fork(this.#source(), options);
  }

  /** A guest, when the pages of the diff are read. Rejects as `build` does, and with SNAPSHOT_LAYOUT, SNAPSHOT_VERSION,
   *  SNAPSHOT_DAMAGED, SNAPSHOT_BASE and ABORTED. */
  async buildAsync(work?: SnapshotWork): Promise<Guest> {
    const given = validate.options(work, ['signal', 'progress'], 'buildAsync');
    checkWork(given);
    const { diff, ...options } = this.#options;
    const source = this.#source();
    return diff === undefined
      ? this.#maker.fork(source, options)
      : this.#maker.resume(source, { ...options, diff }, given);
  }
}
