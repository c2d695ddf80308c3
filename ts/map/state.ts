// State of a map as a replay has it, so that a replay can go on from where a running map is.

import { Names } from '../core/names.ts';
import { Attachment } from '../sinks/attachment.ts';
import { ReplayState } from '../trace/core-replay.ts';
import type { Context } from './context.ts';

/** Copy of all that is asked for and planned, with the map's own numbers for the ids of a trace that goes on from here.
 *  Precondition: no transaction is open. */
export function stateOf({ core, names, regions, spaces, sinks }: Context): ReplayState {
  const copied = new Names();
  copied.copy(names);
  const attached = [...sinks].flatMap((sink) =>
    sink instanceof Attachment ? [[sink.id, sink.space.id] as const] : [],
  );
  return new ReplayState({
    core: core.save(),
    ids: {
      region: identity(regions.keys()),
      space: identity(spaces.keys()),
      object: identity(names.objects.keys()),
      partition: identity(names.partitions.keys()),
      sink: identity([...sinks].map(({ id }) => id)),
      event: identity(names.events.keys()),
    },
    names: copied,
    spaces: new Map(attached),
    roots: new Map([...spaces.values()].map(({ id, root, offset }) => [id, { region: root.id, offset }])),
  });
}

function identity(ids: Iterable<number>): Map<number, number> {
  return new Map([...ids].sort((a, b) => a - b).map((id) => [id, id]));
}
