// The protocols between a manager and the processes of its clients, as small worlds of which every state is visited:
// the table of locks that both have, and changes that are sent, confirmed and taken back.

import test from 'ava';
import { explore, type Step, type World } from './support/explore.ts';

/** Makes steps of one process, from a state that stays as it is. */
function stepsOf<State>(state: State, who: string) {
  return (name: string, change: (after: State) => void): Step<State> => {
    const after = structuredClone(state);
    change(after);
    return [`${who} ${name}`, after];
  };
}

// ---- The table of locks ------------------------------------------------------------------------

interface TableState {
  holders: { at: 'out' | 'counted' | 'shown' | 'looked' | 'holding' | 'done'; turns: number }[];
  /** The table: words of the gate, entries by holder, and bars. */
  isShut: boolean;
  users: number;
  entries: boolean[];
  bars: number;
  changer: 'idle' | 'shut' | 'open' | 'barred' | 'waiting' | 'changing' | 'done';
  /** Whether a bar of one that waits stays between two attempts. */
  isWaiting: boolean;
}

/** No mutex is common to both sides. `showsFirst`: whether an entry is there before the gate and the bars are read. */
function table(holders: number, showsFirst: boolean): World<TableState> {
  const TURNS = 2;
  const order = showsFirst ? (['out', 'counted', 'shown', 'looked'] as const) : (['out', 'looked', 'counted'] as const);
  function* holderSteps(state: TableState, index: number): Iterable<Step<TableState>> {
    const { at } = state.holders[index]!;
    const step = (name: string, change: (own: TableState['holders'][0], after: TableState) => void) =>
      stepsOf(state, `holder ${index}`)(name, (after) => change(after.holders[index]!, after));
    const letGo = (after: TableState) => {
      after.entries[index] = false;
      after.users--;
    };
    const next = order[order.indexOf(at as never) + 1] ?? 'holding';
    // The holders of a process have a mutex from their first step to their last.
    const hasMutex = state.holders.every(
      (other, each) => each === index || ['out', 'holding', 'done'].includes(other.at),
    );
    if (at === 'holding' && hasMutex)
      yield step('lets go, or is revoked, or dies', (own, after) => {
        letGo(after);
        own.turns++;
        own.at = own.turns === TURNS ? 'done' : 'out';
      });
    if (!hasMutex || at === 'holding' || at === 'done') return;
    if (next === 'counted')
      yield step('counts', (own, after) => {
        after.users++;
        own.at = next;
      });
    else if (next === 'shown' || !showsFirst)
      yield at === 'out' && !showsFirst
        ? step('looks at the gate and the bars', (own, after) => {
            if (!after.isShut && after.bars === 0) own.at = 'looked';
          })
        : step('shows its entry', (own, after) => {
            after.entries[index] = true;
            own.at = next;
          });
    else
      yield step(next === 'looked' ? 'looks at the gate' : 'looks at the bars', (own, after) => {
        const isRefused = next === 'looked' ? after.isShut : after.bars > 0;
        if (isRefused) letGo(after);
        own.at = isRefused ? 'out' : next;
      });
  }
  function* changerSteps(state: TableState): Iterable<Step<TableState>> {
    const step = (name: string, changer: TableState['changer'], change: (after: TableState) => void = () => {}) =>
      stepsOf(state, 'the changer')(name, (after) => {
        after.changer = changer;
        change(after);
      });
    const isShown = state.entries.some((each) => each);
    if (state.changer === 'idle')
      yield step('shuts the gate', 'shut', (after) => {
        after.isShut = true;
      });
    if (state.changer === 'shut')
      yield state.users === 0
        ? step('finds nobody', 'changing')
        : step('finds users', 'open', (after) => {
            after.isShut = false;
          });
    if (state.changer === 'open')
      yield step('bars', 'barred', (after) => {
        after.bars++;
      });
    if (state.changer === 'barred')
      yield isShown
        ? step('is refused, and waits behind a bar of its own', 'waiting', (after) => {
            if (after.isWaiting) after.bars--;
            after.isWaiting = true;
          })
        : step('finds nothing locked', 'changing');
    if (state.changer === 'waiting' && !isShown) yield step('tries again', 'idle');
    if (state.changer === 'changing')
      yield step('has changed', 'done', (after) => {
        after.isShut = false;
        after.bars = 0;
      });
  }
  return {
    first: {
      holders: Array.from({ length: holders }, () => ({ at: 'out' as const, turns: 0 })),
      entries: Array.from({ length: holders }, () => false),
      ...{ isShut: false, users: 0, bars: 0, changer: 'idle', isWaiting: false },
    },
    *steps(state) {
      for (const index of state.holders.keys()) yield* holderSteps(state, index);
      yield* changerSteps(state);
    },
    broken: ({ changer, holders: all }) =>
      changer === 'changing' && all.some(({ at }) => at === 'holding') ? 'a change takes what is locked' : undefined,
    isEnd: ({ changer, holders: all }) => changer === 'done' && all.every(({ at }) => at === 'done'),
  };
}

test('no change takes what a client has locked; every change and every holder comes to its end', (t) => {
  const { states, broken, stuck } = explore(table(3, true));
  t.log(`${states} states`);
  t.deepEqual([broken, stuck], [[], []]);
});

test('a client that looked before it shows what it locks would be overlooked', (t) => {
  t.is(explore(table(1, false)).broken.at(-1), 'a change takes what is locked');
});
