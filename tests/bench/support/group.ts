// The child's side of a run: each group of benchmarks has a process of its own, so that none pays for what another one
// taught the compiler.

import type { GroupResult, Plot, Row } from './rows.ts';

export type Message = { readonly doing: string } | { readonly result: GroupResult };

export class Group {
  readonly rows: Row[] = [];
  readonly plots: Plot[] = [];

  /** Says what is being measured now. */
  doing(what: string): void {
    process.send!({ doing: what } satisfies Message);
  }

  async add(row: Row | Promise<Row>): Promise<Row> {
    const done = await row;
    this.rows.push(done);
    return done;
  }
}

/** Runs a group and hands its results to the parent. */
export async function runGroup(body: (group: Group) => Promise<void>): Promise<void> {
  const group = new Group();
  await body(group);
  process.send!({ result: { rows: group.rows, plots: group.plots } } satisfies Message, () => process.disconnect());
}
