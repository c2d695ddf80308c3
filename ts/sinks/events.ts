// Events of an attachment as a sink of their own: made when the map has its first event, so that who has none pays
// nothing.

import { SINK_EVENTS } from '../../assembly/abi.ts';
import type { EventContext } from '../asked/event.ts';
import type { AddressSpace } from '../asked/space.ts';
import type { Address } from '../core/address.ts';
import { renderSinkEvents } from '../text/render.ts';
import { KvmPartition, vmOf } from './kvm.ts';
import type { Partition } from './partition.ts';
import { PartitionEvents } from './partition-events.ts';
import { Sink, type SinkContext } from './sink.ts';

/** An attachment, as far as its events need it. */
interface EventPlace {
  /** Number of the attachment. */
  readonly id: number;
  readonly partition: KvmPartition | Partition;
  readonly space: AddressSpace;
  readonly gpaOffset: Address;
  /** Last GPA of the partition's own that it can be given. */
  readonly lastGpa: Address;
}

/** Whether a partition can be told of events. */
export function canHaveEvents(partition: KvmPartition | Partition): boolean {
  return partition instanceof KvmPartition || partition.addEvent !== undefined;
}

/** The events of one attachment. @internal */
export class EventSink extends Sink {
  /** @internal */
  declare readonly context: SinkContext & EventContext;

  private constructor(context: SinkContext & EventContext, id: number, { partition }: EventPlace) {
    super(context, id, partition.name);
    if (partition instanceof KvmPartition) {
      this.connectToMachine(SINK_EVENTS, vmOf(partition));
    } else {
      this.connect(new PartitionEvents(partition, (event) => context.regionEvents.get(event)?.fd));
    }
  }

  /** Gives the partition of an attachment the events that it sees, from now on. Inside a transaction. @internal */
  static attach(context: SinkContext & EventContext, place: EventPlace): EventSink {
    const { core, recorder } = context;
    const { id: attachment, gpaOffset, lastGpa } = place;
    const space = place.space.id;
    const id = core.attach(SINK_EVENTS, space, { va: attachment, offset: gpaOffset, last: lastGpa });
    recorder?.record({ op: 'events', id, attachment, space, gpaOffset, lastGpa });
    return new EventSink(context, id, place);
  }

  protected override get what(): string {
    return `events of "${this.name}"`;
  }

  /** @internal */
  override text(most?: number): string[] {
    return renderSinkEvents(this.context.core, this.id, this.context.names, most);
  }
}
