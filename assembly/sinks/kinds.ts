// The table of kinds: the one place that knows which kinds of sinks there are. A new one is its files beside this one,
// a row here, and its numbers in abi.ts.

import { OP_KIND_SHIFT, SINK_EVENTS, SINK_KINDS, SINK_PARTITION, SINK_VA, SINK_VIEW } from '../abi';
import { sinkOf } from '../asked/records';
import { EVENTS, MAPPINGS, WRITABILITY } from '../asked/touch';
import { ANY, DISJOINT } from '../tree/tree-verify';
import { admitEvents, compareEvents, loseEvents, readEventSink, verifyEvents } from './events';
import { beginEmpty, KIND_BYTES, Kind, planNoMore, takeBackInverse, takeBackNothing } from './kind';
import { loseVa } from './lost';
import { admitSlots, beginSlots, compareSlots, loseSlots, planSlots, readSlots } from './slots';
import { verifySlots } from './slots-verify';
import { admitVa, beginVa, compareVa, planVa } from './va';
import { takeHalfVaBack, takeVaBack } from './va-back';
import { fillParts, fillPieces } from './va-rows';
import { verifyVa } from './va-verify';
import { admitView, compareView, loseView, readView, takeHalfViewBack, takeViewBack, verifyView } from './view';

const table: usize = memory.data(<i32>(KIND_BYTES * SINK_KINDS), 8);

/** Fills the table. Once, before anything is attached. */
export function defineKinds(): void {
  defineVa();
  defineSlots();
  defineView();
  defineEvents();
}

function defineVa(): void {
  const va = kindAt(SINK_VA);
  va.heeds = MAPPINGS;
  va.promise = DISJOINT;
  va.admit = admitVa;
  va.begin = beginVa;
  va.compare = compareVa;
  va.plan = planVa;
  va.takeBack = takeVaBack;
  va.takeHalfBack = takeHalfVaBack;
  va.holdsPages = true;
  va.lose = loseVa;
  va.read = fillPieces;
  va.readParts = fillParts;
  va.verify = verifyVa;
}

function defineSlots(): void {
  const slots = kindAt(SINK_PARTITION);
  slots.heeds = WRITABILITY;
  slots.promise = DISJOINT;
  slots.admit = admitSlots;
  slots.begin = beginSlots;
  slots.compare = compareSlots;
  slots.plan = planSlots;
  slots.takeBack = takeBackInverse;
  slots.takeHalfBack = takeBackNothing;
  slots.holdsPages = false;
  slots.lose = loseSlots;
  slots.read = readSlots;
  slots.readParts = fillParts;
  slots.verify = verifySlots;
}

function defineView(): void {
  const view = kindAt(SINK_VIEW);
  view.heeds = 0;
  view.promise = DISJOINT;
  view.admit = admitView;
  view.begin = beginEmpty;
  view.compare = compareView;
  view.plan = planNoMore;
  view.takeBack = takeViewBack;
  view.takeHalfBack = takeHalfViewBack;
  view.holdsPages = false;
  view.lose = loseView;
  view.read = readView;
  view.readParts = readView;
  view.verify = verifyView;
}

function defineEvents(): void {
  const events = kindAt(SINK_EVENTS);
  events.heeds = EVENTS;
  events.promise = ANY;
  events.admit = admitEvents;
  events.begin = beginEmpty;
  events.compare = compareEvents;
  events.plan = planNoMore;
  events.takeBack = takeBackInverse;
  events.takeHalfBack = takeBackNothing;
  events.holdsPages = false;
  events.lose = loseEvents;
  events.read = readEventSink;
  events.readParts = readEventSink;
  events.verify = verifyEvents;
}

/** The kind of this number (SINK_*). */
export function kindAt(number: u32): Kind {
  assert(number != 0 && number <= <u32>SINK_KINDS);
  return changetype<Kind>(table + (number - 1) * KIND_BYTES);
}

/** The kind of a sink. Precondition: alive. */
export function kindOfSink(id: u32): Kind {
  return kindAt(sinkOf(id).kind);
}

/** The kind of sink that an operation (OP_*) is done to. */
export function kindOfOp(op: u32): Kind {
  return kindAt(op >> OP_KIND_SHIFT);
}
