// An explicit-state checker: every state that some processes can come to, in every order of their steps.

/** States that were found wrong, each with the steps that lead there, and how many there are. */
interface Explored {
  readonly states: number;
  /** Steps that lead to the first state that breaks a promise, and which it breaks. */
  readonly broken: readonly string[];
  /** Steps that lead to a state from which no good end can be reached any more. */
  readonly stuck: readonly string[];
}

/** A step that a process can make: its name, and the state behind it. */
export type Step<State> = readonly [name: string, after: State];

/** Makes steps of one process, from a state that stays as it is. */
export function stepsOf<State>(state: State, who: string) {
  return (name: string, change: (after: State) => void): Step<State> => {
    const after = structuredClone(state);
    change(after);
    return [`${who} ${name}`, after];
  };
}

/** Processes that share a state of plain data. */
export interface World<State> {
  readonly first: State;
  /** Every step that some process can make. */
  steps(state: State): Iterable<Step<State>>;
  /** Promise that does not hold, in words. */
  broken(state: State): string | undefined;
  /** Whether all processes have come to their ends. */
  isEnd(state: State): boolean;
}

/** Visits every state of a world, breadth first, so that the way to what is wrong is the shortest. */
export function explore<State>(world: World<State>): Explored {
  const keyOf = (state: State) => JSON.stringify(state);
  const first = keyOf(world.first);
  const ways = new Map<string, readonly [before: string, name: string] | undefined>([[first, undefined]]);
  const before = new Map<string, string[]>();
  const ends: string[] = [];
  const waiting = [world.first];
  for (const state of waiting) {
    const key = keyOf(state);
    const broken = world.broken(state);
    if (broken !== undefined) return { states: ways.size, broken: [...wayTo(ways, key), broken], stuck: [] };
    if (world.isEnd(state)) ends.push(key);
    for (const [name, after] of world.steps(state)) {
      const next = keyOf(after);
      before.set(next, [...(before.get(next) ?? []), key]);
      if (ways.has(next)) continue;
      ways.set(next, [key, name]);
      waiting.push(after);
    }
  }
  const good = new Set(ends);
  for (const key of good) for (const each of before.get(key) ?? []) good.add(each);
  const lost = [...ways.keys()].find((key) => !good.has(key));
  return { states: ways.size, broken: [], stuck: lost === undefined ? [] : wayTo(ways, lost) };
}

function wayTo(ways: ReadonlyMap<string, readonly [before: string, name: string] | undefined>, key: string): string[] {
  const steps: string[] = [];
  for (let at = ways.get(key); at !== undefined; at = ways.get(at[0])) steps.unshift(at[1]);
  return steps;
}
