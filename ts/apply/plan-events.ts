// Who wants to know of plans: counters always, and the channel `membacking:plan` of node:diagnostics_channel while
// somebody listens to it.

import { channel } from 'node:diagnostics_channel';
import type { Command } from '../core/core.ts';
import { DISTURBANCES, type Disturbance } from '../core/kinds.ts';
import type { PlanFacts, PlanRunner } from './runner.ts';

/** What was done so far. */
export interface PlanCounters {
  /** Plans that were carried out and had commands. */
  plans: number;
  commands: number;
  /** Plans that failed or were refused, and came to nothing. */
  failed: number;
  /** Plans around which vCPUs were held. */
  disturbing: number;
}

/** A message of the channel `membacking:plan`: after each plan that had commands. */
export interface PlanMessage {
  readonly commands: readonly Command[];
  readonly disturbance: Disturbance;
  /** Milliseconds from the plan's making to its end. */
  readonly duration: number;
  /** Why it came to nothing; undefined for a plan that was carried out. */
  readonly error: unknown;
}

const CHANNEL = channel('membacking:plan');

export class PlanEvents {
  readonly counters: PlanCounters = { plans: 0, commands: 0, failed: 0, disturbing: 0 };
  readonly #runner: PlanRunner;
  #started = 0;
  #plan: PlanFacts | undefined;
  #commands: readonly Command[] | undefined;

  constructor(runner: PlanRunner) {
    this.#runner = runner;
    runner.observer = (core, plan) => {
      this.#plan = plan;
      if (plan.commands === 0 || !CHANNEL.hasSubscribers) return;
      this.#started = performance.now();
      this.#commands = Array.from({ length: plan.commands }, (_, index) => core.command(index));
    };
  }

  /** Ends the transaction as the runner does. */
  commit(): void {
    this.#plan = undefined;
    this.#commands = undefined;
    try {
      this.#runner.commit();
    } catch (error) {
      this.#tell(error);
      throw error;
    }
    this.#tell(undefined);
  }

  #tell(error: unknown): void {
    const plan = this.#plan;
    if (plan === undefined || plan.commands === 0) return;
    const { counters } = this;
    if (error === undefined) {
      counters.plans++;
      counters.commands += plan.commands;
      if (DISTURBANCES[plan.disturbance] === 'unchanged-bytes') counters.disturbing++;
    } else {
      counters.failed++;
    }
    const commands = this.#commands;
    if (commands === undefined) return;
    const disturbance = DISTURBANCES[plan.disturbance]!;
    const message: PlanMessage = { commands, disturbance, duration: performance.now() - this.#started, error };
    CHANNEL.publish(message);
  }
}
