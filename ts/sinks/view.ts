// Views: a VA space as one of its users may use it, by protections that are the view's own. Nothing is mapped for one.

import { SINK_VIEW } from '../../assembly/abi.ts';
import type { LeasedSpace } from '../access/local-lease.ts';
import { OwnWindows } from '../access/own-windows.ts';
import type { Reservation } from '../core/native.ts';
import { renderPieces } from '../text/render.ts';
import { Sink } from './sink.ts';
import { closeSpace, memoryOf, type VaContext, type VaSpace } from './va-space.ts';

/** The memory behind a view. @internal */
export let memoryOfView: (view: GuestView) => LeasedSpace;

/** View of a VA space: accesses through it are checked against its protections, and against those of the VA space. It
 *  is closed before the VA space is. */
export class GuestView extends Sink {
  /** @internal */
  declare readonly context: VaContext;
  readonly #memory: LeasedSpace;

  static {
    memoryOfView = (view) => view.#memory;
  }

  /** @internal Made by MemoryMap. */
  constructor(context: VaContext, id: number, name: string, va: VaSpace, reservation: Reservation) {
    super(context, id, name);
    const windows = new OwnWindows(context, [id, va.id], reservation);
    context.hold(reservation);
    const { whyGone } = memoryOf(va);
    this.#memory = { context, id, va: va.id, reservation, windows, whyGone };
    this.connectToMachine(SINK_VIEW, reservation);
  }

  protected override get what(): string {
    return `view "${this.name}"`;
  }

  /** Token for `WorkerGuestMemory.fromToken` in another thread of this process: whoever has it may do what the view
   *  lets him. */
  get token(): bigint {
    this.checkOpen();
    return this.#memory.reservation.token;
  }

  /** @internal */
  override text(most?: number): string[] {
    return renderPieces(this.context.core, this.id, this.context.names, most);
  }

  /** @internal */
  override discard(): void {
    super.discard();
    closeSpace(this.context, this.#memory);
  }
}
