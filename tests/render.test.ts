// The text form of flat views, region trees and plans.

import test from 'ava';
import { PlanRunner } from '../ts/apply/runner.ts';
import { Core } from '../ts/core/core.ts';
import { Names } from '../ts/core/names.ts';
import { renderFlatView, renderPieces, renderPlan, renderSlots, renderTrees } from '../ts/text/render.ts';
import { parseTrace } from '../ts/trace/read.ts';
import { Replayer } from '../ts/trace/replay.ts';
import { SMALL_TRACE, traceOf } from './support/cli.ts';

/** A core after a trace, with the text of every plan. */
function replayed(trace: string) {
  const names = new Names();
  const core = new Core({ explain: names.explain });
  const runner = new PlanRunner(core);
  const plans: string[][] = [];
  runner.observe((_, plan) => {
    if (plan.commands > 0) plans.push(renderPlan(core, plan, names));
  });
  const replayer = new Replayer(core, runner, names);
  for (const operation of parseTrace(trace).operations) replayer.apply(operation);
  return { core, names, plans, id: replayer.id.bind(replayer) };
}

test('one text form for everything', (t) => {
  const { core, names, plans, id } = replayed(SMALL_TRACE);
  t.snapshot({
    'flat view': renderFlatView(core, id('space', 0), names),
    tree: renderTrees(core, [id('region', 0)], names),
    plans,
    slots: renderSlots(core, id('sink', 1), names),
    pieces: renderPieces(core, id('sink', 0), names),
  });
});

test('a tree shows what is invisible, and then what its aliases show', (t) => {
  const { core, names, id } = replayed(
    traceOf(
      '{"op":"region","id":0,"name":"root","kind":"container","size":"0x10000"}',
      '{"op":"region","id":1,"name":"bus","kind":"container","size":"0x8000","readonly":true}',
      '{"op":"region","id":2,"name":"off","kind":"ram","size":"0x1000","enabled":false,"nonvolatile":true}',
      '{"op":"region","id":3,"name":"elsewhere","kind":"container","size":"0x4000"}',
      '{"op":"region","id":4,"name":"vram","kind":"device","size":"0x2000"}',
      '{"op":"alias","id":5,"name":"window","target":4,"offset":"0x1000","size":"0x1000"}',
      '{"op":"alias","id":6,"name":"mirror","target":0,"offset":"0x0","size":"0x1000"}',
      '{"op":"place","id":4,"parent":3,"offset":"0x1000"}',
      '{"op":"place","id":1,"parent":0,"offset":"0x4000","priority":-10}',
      '{"op":"place","id":2,"parent":1,"offset":"0x2000"}',
      '{"op":"place","id":5,"parent":1,"offset":"0x7000","priority":100}',
      '{"op":"place","id":6,"parent":0,"offset":"0x2000"}',
    ),
  );
  t.snapshot([renderTrees(core, [id('region', 0)], names), renderTrees(core, [id('region', 1)], names)]);
});

test('what there is nothing of says so', (t) => {
  const { core, names, id } = replayed(
    traceOf(
      '{"op":"region","id":0,"name":"root","kind":"container","size":"0x0"}',
      '{"op":"space","id":0,"name":"memory","root":0}',
      '{"op":"va","id":0,"space":0,"size":"0x1000"}',
    ),
  );
  t.snapshot([
    renderFlatView(core, id('space', 0), names),
    renderTrees(core, [id('region', 0)], names),
    renderPieces(core, id('sink', 0), names),
  ]);
});
