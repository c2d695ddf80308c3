// News of plans, for who wants it: counters always, and the channel `membacking:plan` of node:diagnostics_channel while
// somebody listens to it.

import { channel } from 'node:diagnostics_channel';
import type { Command, PlanFacts } from '../core/core.ts';
import { DISTURBANCES, type Disturbance } from '../core/kinds.ts';
import type { LossOperation } from './losses.ts';
import type { Outcome, PlanRunner } from './runner.ts';

/** Counts of plans since the map was made. */
export interface PlanCounters {
  /** Plans that were carried out and had commands. */
  plans: number;
  /** Commands of those plans. */
  commands: number;
  /** Plans that failed or were refused, and came to nothing. */
  failed: number;
  /** Plans around which vCPUs were held. */
  disturbing: number;
  /** Plans that were carried out, by class. */
  readonly classes: Record<Disturbance, number>;
}

/** A message of the channel `membacking:plan`: after each plan that had commands. */
export interface PlanMessage {
  /** Commands in the order in which they are carried out. */
  readonly commands: readonly Command[];
  /** Disturbance class of the plan. */
  readonly disturbance: Disturbance;
  /** Milliseconds from the plan's making to its end. */
  readonly duration: number;
  /** Reason why the plan came to nothing; undefined for one that was carried out. */
  readonly error: unknown;
}

/** A message of the channel `membacking:lost`: after a plan of which not all could be put back. */
export interface LostMessage {
  /** Losses, as `details.lost` of the error. */
  readonly lost: readonly LossOperation[];
  /** Reason why the plan came to nothing. */
  readonly error: unknown;
}

const CHANNEL = channel('membacking:plan');
const LOST_CHANNEL = channel('membacking:lost');

export class PlanEvents {
  readonly counters: PlanCounters = {
    ...{ plans: 0, commands: 0, failed: 0, disturbing: 0 },
    classes: { none: 0, changed: 0, 'unchanged-bytes': 0 },
  };
  #started = 0;
  #commands: readonly Command[] | undefined;

  constructor(runner: PlanRunner) {
    runner.observe((core, plan) => {
      this.#commands = undefined;
      if (plan.commands === 0 || !CHANNEL.hasSubscribers) return;
      this.#started = performance.now();
      this.#commands = Array.from({ length: plan.commands }, (_, index) => core.command(index));
    });
  }

  /** Counts what became of a plan, and tells who listens. */
  tell({ plan, hasHappened, error, lost }: Outcome): void {
    if (plan.commands === 0) return;
    this.#count(plan, hasHappened);
    if (lost.length > 0) LOST_CHANNEL.publish({ lost: lost.flat(), error } satisfies LostMessage);
    const commands = this.#commands;
    if (commands !== undefined) this.#publish(commands, plan, error);
  }

  #count(plan: PlanFacts, hasHappened: boolean): void {
    const { counters } = this;
    if (!hasHappened) {
      counters.failed++;
      return;
    }
    counters.plans++;
    counters.commands += plan.commands;
    const disturbance = DISTURBANCES[plan.disturbance]!;
    counters.classes[disturbance]++;
    if (disturbance === 'unchanged-bytes') counters.disturbing++;
  }

  #publish(commands: readonly Command[], plan: PlanFacts, error: unknown): void {
    this.#commands = undefined;
    const disturbance = DISTURBANCES[plan.disturbance]!;
    const message: PlanMessage = { commands, disturbance, duration: performance.now() - this.#started, error };
    CHANNEL.publish(message);
  }
}
