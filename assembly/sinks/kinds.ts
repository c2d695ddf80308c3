// The table of kinds: the one place that knows which kinds of sinks there are. A new one is its files beside this one,
// a row here, and its numbers in abi.ts.

import { OP_KIND_SHIFT, SINK_EVENTS, SINK_KINDS, SINK_PARTITION, SINK_VA, SINK_VIEW } from '../abi';
import { sinkOf } from '../asked/records';
import { EVENTS, MAPPINGS, WRITABILITY } from '../asked/touch';
import { ANY, DISJOINT } from '../tree/tree-verify';
import {
  admitEvents,
  beginEvents,
  compareEvents,
  loseEvents,
  planEvents,
  readEventSink,
  takeEventBack,
  takeHalfEventBack,
  verifyEvents,
} from './events';
import { KIND_BYTES, Kind } from './kind';
import { loseVa } from './lost';
import {
  admitSlots,
  beginSlots,
  compareSlots,
  loseSlots,
  planSlots,
  readSlots,
  takeHalfSlotBack,
  takeSlotBack,
} from './slots';
import { verifySlots } from './slots-verify';
import { admitVa, beginVa, compareVa, planVa } from './va';
import { takeHalfVaBack, takeVaBack } from './va-back';
import { fillParts, fillPieces } from './va-rows';
import { verifyVa } from './va-verify';
import {
  admitView,
  beginViews,
  compareView,
  loseView,
  planViews,
  readView,
  takeHalfViewBack,
  takeViewBack,
  verifyView,
} from './view';

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
  slots.takeBack = takeSlotBack;
  slots.takeHalfBack = takeHalfSlotBack;
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
  view.begin = beginViews;
  view.compare = compareView;
  view.plan = planViews;
  view.takeBack = takeViewBack;
  view.takeHalfBack = takeHalfViewBack;
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
  events.begin = beginEvents;
  events.compare = compareEvents;
  events.plan = planEvents;
  events.takeBack = takeEventBack;
  events.takeHalfBack = takeHalfEventBack;
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
