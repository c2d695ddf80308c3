// Sinks: who is told of what an address space shows. A VA space, a view of one, or a partition's attachment.

import { nativeOf } from '../apply/native-executor.ts';
import type { Attached, Executor, PlanRunner } from '../apply/runner.ts';
import type { MapContext } from '../asked/context.ts';
import { MapHandle } from '../asked/map-handle.ts';
import { type Address, lengthOf } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { ACCESSES, type Access, accessNumber, protectionNumber } from '../core/kinds.ts';
import type { SinkTarget } from '../core/native.ts';
import * as validate from '../core/validate.ts';

/** Options of `protect`. */
export interface ProtectOptions {
  /** First GPA of the address space; a multiple of the page size. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
  /** Access that is left; `rwx` takes the protection away. */
  readonly access: Access;
}

/** A range of an address space. */
export interface GpaStretch {
  /** First GPA. */
  readonly gpa: Address;
  /** Bytes. */
  readonly length: Address;
}

const PROTECT_OPTIONS = ['gpa', 'length', 'access'] as const;

/** The map of a sink. */
export interface SinkContext extends MapContext {
  readonly runner: PlanRunner;
  readonly sinks: Set<Sink>;
}

export abstract class Sink extends MapHandle {
  /** @internal */
  declare readonly context: SinkContext;
  /** Name for people: in messages, plans and traces. */
  readonly name: string;

  /** @internal Made by MemoryMap, in a transaction. */
  constructor(context: SinkContext, id: number, name: string) {
    super(context, id);
    this.name = name;
    context.enter(context.names.sinks, id, name);
  }

  /** Gets its commands from now on. @internal */
  connect(executor: Executor, attached?: Attached): void {
    this.context.onUndo(() => this.discard());
    this.context.runner.connect(this.id, executor, attached);
    this.context.sinks.add(this);
  }

  /** Has this machine carry its commands out from now on: `target` is what is behind a sink of its kind, SINK_* of
   *  abi.ts. @internal */
  protected connectToMachine(kind: number, target: SinkTarget, attached?: Attached): void {
    const executor = nativeOf(this.context);
    this.connect(executor, attached);
    executor.addon.setSink(this.id, kind, target);
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

  /** Leaves of the access to a range only `access`, or what comes nearest to it. Inside a transaction. @internal */
  setAccess(start: Address, length: Address, access: Access, nearest = false): void {
    this.context.core.protect(this.id, start, length, protectionNumber({ access, nearest }));
    const protection = { sink: this.id, start, length, access, ...(nearest && { nearest }) };
    this.context.recorder?.record({ op: 'protect', ...protection });
  }

  /** Leaves of a range at most `access`, whatever is protected, until it is given back. Inside a transaction.
   *  @internal */
  withholdRange(start: Address, length: Address, access: Access): void {
    this.context.core.withhold(this.id, start, length, accessNumber(access));
    this.context.recorder?.record({ op: 'withhold', sink: this.id, start, length, access });
  }

  /** Ends what was withheld in a range. Inside a transaction. @internal */
  giveBackRange(start: Address, length: Address): void {
    this.context.core.giveBack(this.id, start, length);
    this.context.recorder?.record({ op: 'give-back', sink: this.id, start, length });
  }

  /** Ranges that should show something and do not, because what was there could not be put back, in order of GPA. */
  lost(): GpaStretch[] {
    this.checkOpen();
    return this.context.core.lost(this.id).map(({ start, last }) => ({ gpa: start, length: lengthOf(start, last) }));
  }

  /** Tries again what is lost of it, range by range. Returns what still is. */
  repair(): GpaStretch[] {
    for (const { gpa, length } of this.lost()) {
      try {
        this.context.transaction(() => {
          this.context.core.repair(this.id, gpa, length);
          this.context.recorder?.record({ op: 'repair', sink: this.id, start: gpa, length });
        });
      } catch (error) {
        // Whatever refuses it, it stays lost.
        if (!(error instanceof MembackingError) || this.context.isBroken) throw error;
      }
    }
    return this.lost();
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

  /** Ends its commands: it was detached, or never came, or the map accepts no change any more. @internal */
  discard(): void {
    this.context.runner.disconnect(this.id);
    nativeOf(this.context).clearSink(this.id);
    this.context.sinks.delete(this);
  }
}
