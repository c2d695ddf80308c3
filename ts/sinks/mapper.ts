// Mappers: VA spaces of other processes, whose mapper threads are told of every change of what they follow.

import type { LeaseContext } from '../access/local-lease.ts';
import { nativeOf } from '../apply/native-executor.ts';
import { STRETCHES } from '../core/core.ts';
import type { Mapper as AddonMapper } from '../core/native-clients.ts';
import { renderPieces } from '../text/render.ts';
import { Sink, type SinkContext } from './sink.ts';
import { enterVa, reachOf, type VaSpace } from './va-space.ts';

/** Client that a mapper is of. */
interface MapperClient {
  /** Name for people: in messages. */
  readonly name: string;
  readonly addon: AddonMapper;
  /** Whether it is cut off where it does not let go of what is revoked. */
  readonly isCutOff: boolean;
  /** Guest memory of the manager that it sees too: its leases heed changes of that. */
  readonly memory: object;
  /** VA space of the manager that shows the same. */
  readonly mirrored: number;
}

/** The VA space of another process, which is given what it follows: see `follow` in scope.ts. */
export class Mapper extends Sink {
  /** @internal */
  declare readonly context: SinkContext & LeaseContext;
  readonly #addon: AddonMapper;

  private constructor(context: SinkContext & LeaseContext, id: number, client: MapperClient) {
    const { name, addon, isCutOff, memory, mirrored } = client;
    super(context, id, name);
    this.#addon = addon;
    context.hold(addon);
    const native = nativeOf(context);
    this.connect(native);
    native.setMapper(id, addon);
    const cutOff = isCutOff ? () => addon.cutOff() : undefined;
    context.leases.natively.watchMapper(addon, { sink: id, mirrored, memory, cutOff });
  }

  /** Gives another process a VA space like `va`, in which nothing is followed yet. Inside a transaction. */
  static attach(va: VaSpace, client: Omit<MapperClient, 'mirrored'>): Mapper {
    const { context, space, size, maxStretches, maxStretchBytes } = va;
    const limits = { count: maxStretches, bytes: maxStretchBytes, unit: STRETCHES.unit };
    const mapper = new Mapper(context, enterVa(context, space.id, size, limits), { ...client, mirrored: va.id });
    mapper.withholdRange(0, reachOf(va), 'none');
    return mapper;
  }

  protected override get what(): string {
    return `client "${this.name}"`;
  }

  /** @internal */
  override text(most?: number): string[] {
    return renderPieces(this.context.core, this.id, this.context.names, most);
  }

  /** @internal */
  override discard(): void {
    super.discard();
    this.context.leases.natively.forget(this.#addon);
    this.context.letGo(this.#addon);
    this.#addon.close();
  }
}
