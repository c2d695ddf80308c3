// The protocols between those who use guest memory and the thread that changes it, in every order of their steps:
// windows (shim/host/windows.h), with processors that keep stores back, and locks (shim/host/locks.h).

import test from 'ava';
import { explore, type Step, stepsOf, type World } from './support/explore.ts';
import { type ChangerState, LOCK_PROMISES, lockChangerSteps, UNCHANGED } from './support/lock-changer.ts';

// ---- Windows -----------------------------------------------------------------------------------

/** Version of what is mapped while it is exchanged. */
const CHANGING = -1;

/** A thread that reads guest memory by a window. */
interface Reader {
  /** Next step of its access. */
  at: 'out' | 'entered' | 'inside' | 'leaving';
  accesses: number;
  /** Store of `isInUse` that its processor keeps back. */
  kept: number[];
  /** Words that all threads see. */
  isInUse: number;
  isOpen: number;
}

interface WindowState {
  readers: Reader[];
  /** Next step of the thread that changes what is mapped. */
  at: 'idle' | 'locked' | 'shut' | 'fenced' | 'changing';
  changes: number;
  mapped: number;
  /** Change that a reader has met, in words. */
  wrong: string | null;
}

/** Variants: what the protocol is, and what it would be without one of its parts. */
interface WindowRules {
  readonly readers: number;
  readonly hasFence: boolean;
  readonly waits: boolean;
  /** Whether a reader says that the window is in use before it looks whether it is open. */
  readonly entersFirst: boolean;
}

function windows({ readers, hasFence, waits, entersFirst }: WindowRules): World<WindowState> {
  const ACCESSES = 2;
  const CHANGES = 2;
  function* readerSteps(state: WindowState, index: number): Iterable<Step<WindowState>> {
    const step = (name: string, change: (reader: Reader, after: WindowState) => void): Step<WindowState> => {
      const after = structuredClone(state);
      change(after.readers[index]!, after);
      return [`reader ${index} ${name}`, after];
    };
    const { at, kept, isOpen, accesses } = state.readers[index]!;
    const say = (reader: Reader, value: number) => reader.kept.push(value);
    if (kept.length > 0)
      yield step('has its store seen', (reader) => {
        reader.isInUse = reader.kept.shift()!;
      });
    if (at === 'out' && accesses < ACCESSES && entersFirst)
      yield step('enters', (reader) => {
        say(reader, 1);
        reader.at = 'entered';
      });
    if (at === 'out' && accesses < ACCESSES && !entersFirst)
      yield step('looks', (reader) => {
        reader.at = isOpen === 1 ? 'entered' : 'leaving';
      });
    if (at === 'entered')
      yield step(entersFirst ? 'looks' : 'enters', (reader) => {
        if (!entersFirst) say(reader, 1);
        reader.at = !entersFirst || isOpen === 1 ? 'inside' : 'leaving';
      });
    if (at === 'inside')
      yield step('reads', (reader, after) => {
        if (after.mapped === CHANGING || after.at === 'changing') after.wrong = `reader ${index} met a change`;
        reader.at = 'leaving';
      });
    if (at === 'leaving')
      yield step('leaves', (reader) => {
        say(reader, 0);
        reader.accesses++;
        reader.at = 'out';
      });
    // The mutex of windows is held from 'locked' on.
    if (at === 'out' && isOpen === 0 && state.at === 'idle')
      yield step('opens the window', (reader) => {
        reader.kept.splice(0).forEach((value) => {
          reader.isInUse = value;
        });
        reader.isOpen = 1;
      });
  }
  function* changerSteps(state: WindowState): Iterable<Step<WindowState>> {
    const step = (name: string, at: WindowState['at'], change?: (after: WindowState) => void): Step<WindowState> => {
      const after = structuredClone(state);
      after.at = at;
      change?.(after);
      return [`the changer ${name}`, after];
    };
    if (state.at === 'idle' && state.changes < CHANGES) yield step('locks', 'locked');
    if (state.at === 'locked')
      yield step('shuts the windows', 'shut', (after) => {
        for (const reader of after.readers) reader.isOpen = 0;
      });
    if (state.at === 'shut')
      yield step('makes a fence', 'fenced', (after) => {
        if (!hasFence) return;
        for (const reader of after.readers) reader.isInUse = reader.kept.splice(0).at(-1) ?? reader.isInUse;
      });
    if (state.at === 'fenced' && (!waits || state.readers.every(({ isInUse }) => isInUse === 0)))
      yield step('begins to change', 'changing', (after) => {
        after.mapped = CHANGING;
      });
    if (state.at === 'changing')
      yield step('has changed', 'idle', (after) => {
        after.mapped = ++after.changes;
      });
  }
  return {
    first: {
      readers: Array.from({ length: readers }, () => ({
        ...{ at: 'out' as const, accesses: 0, kept: [], isInUse: 0, isOpen: 0 },
      })),
      ...{ at: 'idle', changes: 0, mapped: 0, wrong: null },
    },
    *steps(state) {
      for (const index of state.readers.keys()) yield* readerSteps(state, index);
      yield* changerSteps(state);
    },
    broken: ({ wrong }) => wrong ?? undefined,
    isEnd: ({ readers: all, changes, at }) =>
      changes === CHANGES && at === 'idle' && all.every((reader) => reader.accesses === ACCESSES),
  };
}

const RULES: WindowRules = { readers: 2, hasFence: true, waits: true, entersFirst: true };

test('no access by a window meets a change, and every change and access comes to its end', (t) => {
  const { states, broken, stuck } = explore(windows(RULES));
  t.log(`${states} states`);
  t.true(states > 10_000);
  t.deepEqual([broken, stuck], [[], []]);
});

for (const [what, rules] of [
  ['a fence', { hasFence: false }],
  ['a wait', { waits: false }],
  ['saying so before looking', { entersFirst: false }],
] as const) {
  test(`without ${what} an access would meet a change`, (t) => {
    const { broken } = explore(windows({ ...RULES, readers: 1, ...rules }));
    t.regex(broken.at(-1) ?? '', /met a change/);
  });
}

// ---- Locks -------------------------------------------------------------------------------------

interface LockState extends ChangerState {
  holders: { at: 'out' | 'counted' | 'holding' | 'leaving' | 'done'; turns: number }[];
}

/** `countsFirst`: whether a holder counts as a user before it looks at the gate. */
function locks(holders: number, countsFirst: boolean): World<LockState> {
  const TURNS = 2;
  // Each step of a holder but the two that touch the gate's words is made under the mutex, and so is one step.
  function* holderSteps(state: LockState, index: number): Iterable<Step<LockState>> {
    const step = (name: string, change: (holder: LockState['holders'][0], after: LockState) => void) =>
      stepsOf(state, `holder ${index}`)(name, (after) => change(after.holders[index]!, after));
    const holder = state.holders[index]!;
    // While one is between its two steps it has the mutex, of which others wait for the end.
    const isMine = state.holders.every(({ at }, other) => at !== 'counted' || other === index);
    if (!isMine) return;
    const admit = (own: typeof holder, after: LockState) => {
      const isRefused = after.isShut || after.bars > 0;
      if (isRefused && countsFirst) after.users--;
      if (!isRefused && !countsFirst) own.at = 'counted';
      else own.at = isRefused ? 'out' : 'holding';
    };
    if (holder.at === 'out')
      yield countsFirst
        ? step('counts', (own, after) => {
            after.users++;
            own.at = 'counted';
          })
        : step('looks', admit);
    if (holder.at === 'counted')
      yield countsFirst
        ? step('looks', admit)
        : step('counts', (own, after) => {
            after.users++;
            own.at = 'holding';
          });
    if (holder.at === 'holding')
      yield step('lets go, or ends', (own, after) => {
        after.users--;
        own.turns++;
        own.at = own.turns === TURNS ? 'done' : 'out';
      });
  }
  return {
    first: {
      holders: Array.from({ length: holders }, () => ({ at: 'out' as const, turns: 0 })),
      ...UNCHANGED,
    },
    *steps(state) {
      for (const index of state.holders.keys()) yield* holderSteps(state, index);
      const isLocked = state.holders.some(({ at }) => at === 'holding');
      yield* lockChangerSteps(state, { isLocked, hasMutex: state.holders.every(({ at }) => at !== 'counted') });
    },
    ...LOCK_PROMISES,
  };
}

test('no change takes what is locked; every change and every holder comes to its end', (t) => {
  const { states, broken, stuck } = explore(locks(3, true));
  t.log(`${states} states`);
  t.deepEqual([broken, stuck], [[], []]);
});

test('a holder that looked at the gate before it counts would be overlooked', (t) => {
  t.is(explore(locks(1, false)).broken.at(-1), 'a change takes what is locked');
});
