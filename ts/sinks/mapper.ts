// Mappers: VA spaces of other processes, whose mapper threads are told of every change of what they follow.

import { nativeOf } from '../apply/native-executor.ts';
import { STRETCHES } from '../core/core.ts';
import type { Mapper as AddonMapper } from '../core/native-clients.ts';
import { renderPieces } from '../text/render.ts';
import { Sink, type SinkContext } from './sink.ts';
import { enterVa, reachOf, type VaSpace } from './va-space.ts';

/** The VA space of another process, which is given what it follows: see `follow` in scope.ts. */
export class Mapper extends Sink {
  readonly #addon: AddonMapper;

  private constructor(context: SinkContext, id: number, name: string, addon: AddonMapper) {
    super(context, id, name);
    this.#addon = addon;
    context.hold(addon);
    const native = nativeOf(context);
    this.connect(native);
    native.setMapper(id, addon);
  }

  /** Gives another process a VA space like `va`, in which nothing is followed yet. Inside a transaction. */
  static attach(context: SinkContext, va: VaSpace, name: string, addon: AddonMapper): Mapper {
    const limits = { count: va.maxStretches, bytes: va.maxStretchBytes, unit: STRETCHES.unit };
    const id = enterVa(context, va.space.id, va.size, limits);
    const mapper = new Mapper(context, id, name, addon);
    mapper.withholdRange(0, reachOf(va), 'none');
    return mapper;
  }

  protected override get what(): string {
    return `client "${this.name}"`;
  }

  /** @internal */
  override text(): string[] {
    return renderPieces(this.context.core, this.id, this.context.names);
  }

  /** @internal */
  override discard(): void {
    super.discard();
    this.context.letGo(this.#addon);
    this.#addon.close();
  }
}
