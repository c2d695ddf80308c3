// The changer of memory that others lock, in models of that: see ts/access/native-locks.ts. The holders are each
// model's own.

import { type Step, stepsOf, type World } from './explore.ts';

/** State of a model, as far as the changer knows it. */
export interface ChangerState {
  holders: { at: string }[];
  /** Words of the gate. */
  isShut: boolean;
  users: number;
  bars: number;
  changer: 'idle' | 'shut' | 'open' | 'barred' | 'waiting' | 'changing' | 'done';
  /** Whether a bar of one that waits stays between two attempts. */
  isWaiting: boolean;
}

/** State before the changer does anything. */
export const UNCHANGED = { isShut: false, users: 0, bars: 0, changer: 'idle', isWaiting: false } as const;

/** Promise of every model, and its end. */
export const LOCK_PROMISES: Pick<World<ChangerState>, 'broken' | 'isEnd'> = {
  broken: ({ changer, holders }) =>
    changer === 'changing' && holders.some(({ at }) => at === 'holding') ? 'a change takes what is locked' : undefined,
  isEnd: ({ changer, holders }) => changer === 'done' && holders.every(({ at }) => at === 'done'),
};

/** Findings of the changer. */
interface Found {
  /** Whether something is locked. */
  readonly isLocked: boolean;
  /** Whether it has the mutex that is common to both sides, or there is none. */
  readonly hasMutex: boolean;
}

/** Steps that the changer can make. */
export function* lockChangerSteps<State extends ChangerState>(
  state: State,
  { isLocked, hasMutex }: Found,
): Iterable<Step<State>> {
  const step = (name: string, changer: State['changer'], change: (after: State) => void = () => {}) =>
    stepsOf(state, 'the changer')(name, (after) => {
      after.changer = changer;
      change(after);
    });
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
  if (state.changer === 'open' && hasMutex)
    yield step('bars', 'barred', (after) => {
      after.bars++;
    });
  if (state.changer === 'barred' && hasMutex)
    yield isLocked
      ? step('is refused, and waits behind a bar of its own', 'waiting', (after) => {
          // The attempt's bar goes, that of the wait stays.
          if (after.isWaiting) after.bars--;
          after.isWaiting = true;
        })
      : step('finds nothing locked', 'changing');
  if (state.changer === 'waiting' && hasMutex && !isLocked) yield step('tries again', 'idle');
  if (state.changer === 'changing')
    yield step('has changed', 'done', (after) => {
      after.isShut = false;
      after.bars = 0;
    });
}
