// Sinks: who is told of what an address space shows. A VA space, or a partition's attachment.

import type { Executor, Pausable } from '../apply/runner.ts';
import type { Address } from '../core/address.ts';
import { ACCESSES, type Access, accessNumber } from '../core/kinds.ts';
import * as validate from '../core/validate.ts';
import type { Context } from '../map/context.ts';
import { MapHandle } from '../map/map-handle.ts';

export interface ProtectOptions {
  /** First GPA of the address space; a multiple of the page size. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
  /** What may still be done; `rwx` takes the protection away. */
  readonly access: Access;
}

const PROTECT_OPTIONS = ['gpa', 'length', 'access'] as const;

export abstract class Sink extends MapHandle {
  readonly name: string;

  /** @internal Made by MemoryMap, in a transaction. */
  constructor(context: Context, id: number, name: string) {
    super(context, id);
    this.name = name;
    context.enter(context.names.sinks, id, name);
  }

  /** Gets its commands from now on. @internal */
  connect(executor: Executor, pausable?: Pausable): void {
    this.context.runner.connect(this.id, executor, pausable);
    this.context.sinks.add(this);
    this.context.onUndo(() => this.discard());
  }

  /** Leaves of the access to a range only what `access` says; `rwx` takes that back. Throws UNALIGNED, BAD_RANGE,
   *  NO_SLOTS. */
  protect(options: ProtectOptions): void {
    this.checkOpen();
    const { gpa, length, access } = validate.options(options, PROTECT_OPTIONS, 'protect');
    const start = validate.address(gpa, 'gpa');
    const bytes = validate.length(length, 'length');
    const left = validate.oneOf(ACCESSES, access, 'access');
    this.context.perform(() => this.setAccess(start, bytes, left));
  }

  /** Inside a transaction. */
  protected setAccess(start: Address, length: Address, access: Access): void {
    this.context.core.protect(this.id, start, length, accessNumber(access));
    this.context.recorder?.record({ op: 'protect', sink: this.id, start, length, access });
  }

  /** Takes everything away that it was given. */
  protected override release(): void {
    const { context, id } = this;
    context.perform(() => {
      context.core.detach(id);
      context.recorder?.record({ op: 'detach', id });
      this.end();
      context.onDone(() => this.detached());
    });
  }

  /** The core has let go of it. */
  protected detached(): void {
    this.discard();
    this.context.names.sinks.delete(this.id);
  }

  /** It gets no more commands: it was detached, or never came, or the map accepts no change any more. @internal */
  discard(): void {
    this.context.runner.disconnect(this.id);
    this.context.native.clearSink(this.id);
    this.context.sinks.delete(this);
  }
}
