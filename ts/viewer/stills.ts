// Stills: pictures for issues and papers, as SVG text. Each stands alone and follows the reader's light or dark.

import { type Explanation, formatHex, renderExplanation } from '../core-index.ts';
import { differences, type Moment, scaleOf } from './moment.ts';
import { type Ink, kindInk } from './palette.ts';
import { drawMoment, EVERYTHING, heightOf, spanText } from './picture.ts';
import { fitting } from './surface.ts';
import { SvgSurface } from './svg.ts';
import type { Timeline } from './timeline.ts';

const WIDTH = 960;
const MARGIN = 8;
const TITLE = 14;
const HEAD = 28;
const SMALL = 11;
const LINE = 18;
const LANE = 16;
/** Slots that are drawn; a picture with more cannot be read. */
const MOST_LANES = 48;

export interface Titled {
  readonly title: string;
  readonly moment: Moment;
}

/** Still picture of an address space at one moment. */
export function stillOf({ title, moment }: Titled, scale: 'compressed' | 'true'): string {
  const surface = new SvgSurface(WIDTH);
  surface.text(MARGIN, 18, fitting(title, WIDTH - 2 * MARGIN, TITLE), 'text', TITLE);
  drawMoment(surface, moment, HEAD, { width: WIDTH, scale: scaleOf(scale, moment), viewport: EVERYTHING });
  return surface.finish(HEAD + heightOf(moment), title);
}

/** Two moments on one scale, with what differs marked. */
export function stillOfChange(before: Titled, after: Titled, scale: 'compressed' | 'true'): string {
  const surface = new SvgSurface(WIDTH);
  const touched = differences(before.moment, after.moment);
  const both = scaleOf(scale, before.moment, after.moment);
  let top = 0;
  for (const { title, moment } of [before, after]) {
    surface.text(MARGIN, top + 18, fitting(title, WIDTH - 2 * MARGIN, TITLE), 'text', TITLE);
    drawMoment(surface, moment, top + HEAD, { width: WIDTH, scale: both, viewport: EVERYTHING, touched });
    top += HEAD + heightOf(moment) + MARGIN;
  }
  return surface.finish(top, `${before.title}; ${after.title}`);
}

/** Still picture of who is seen at a byte, and whom that hides: one sheet above the other. */
export function stillOfExplanation(explanation: Explanation): string {
  const { space, gpa, visible, hidden } = explanation;
  const title = `Why ${formatHex(gpa)} in ${space} is what it is`;
  const surface = new SvgSurface(WIDTH);
  surface.text(MARGIN, 18, fitting(title, WIDTH - 2 * MARGIN, TITLE), 'text', TITLE);
  const sheets = visible === undefined ? [] : [visible, ...hidden];
  let y = HEAD + 4;
  for (const [index, { name, kind, start, last, priority, through }] of sheets.entries()) {
    const box = { x: MARGIN + index * 14, y, width: 330, height: 38 };
    surface.fill(box, index === 0 ? kindInk(kind) : 'paper');
    if (index > 0) surface.hatch({ ...box, width: 10 }, 'hidden');
    surface.outline(box, 'line');
    surface.text(box.x + 16, y + 16, fitting(name, 310, 12), 'text', 12);
    const range = spanText({ start: Number(start), end: Number(BigInt(last) + 1n) });
    surface.text(box.x + 16, y + 31, fitting(`${kind}  ${range}`, 310, SMALL), 'faint', SMALL);
    const how = `${index === 0 ? 'visible' : 'hidden'}, priority ${priority}${through === undefined ? '' : `, through ${through}`}`;
    surface.text(box.x + 346, y + 24, fitting(how, WIDTH - box.x - 360, SMALL), 'faint', SMALL);
    y += 44;
  }
  for (const line of renderExplanation(explanation).slice(1 + sheets.length)) {
    surface.text(MARGIN, y + 14, fitting(line, WIDTH - 2 * MARGIN, SMALL), 'text', SMALL);
    y += LINE;
  }
  return surface.finish(y + MARGIN, title);
}

/** One slot from the step in which it is added to the one in which it is deleted. */
interface Life {
  readonly slot: number;
  readonly from: number;
  to: number;
}

/** The slot operations of a whole history, and the steps around which vCPUs are held. */
export function stillOfSlots(timeline: Timeline, title: string): string {
  const lives = livesOf(timeline);
  const slots = [...new Set(lives.map(({ slot }) => slot))].sort((a, b) => a - b).slice(0, MOST_LANES);
  const surface = new SvgSurface(WIDTH);
  surface.text(MARGIN, 18, fitting(title, WIDTH - 2 * MARGIN, TITLE), 'text', TITLE);
  const left = 64;
  const x = (step: number) => left + ((step - 1) / Math.max(1, timeline.length)) * (WIDTH - left - MARGIN);
  const bottom = HEAD + 20 + slots.length * LANE;
  surface.text(MARGIN, HEAD + 12, 'step', 'faint', SMALL);
  for (let step = 1; step <= timeline.length; step++) {
    const disturbance = timeline.disturbance(step);
    if (disturbance === undefined) continue;
    const box = { x: x(step), y: HEAD + 4, width: Math.max(1, x(step + 1) - x(step) - 1), height: 10 };
    surface.fill(box, disturbance);
    if (disturbance !== 'unchanged-bytes') continue;
    surface.shade({ ...box, height: bottom - box.y }, disturbance);
  }
  for (const { slot, from, to } of lives) {
    const lane = slots.indexOf(slot);
    if (lane < 0) continue;
    const box = { x: x(from), y: HEAD + 20 + lane * LANE, width: Math.max(2, x(to) - x(from)), height: LANE - 3 };
    surface.fill(box, 'ram');
    surface.outline(box, 'text');
  }
  for (const [lane, slot] of slots.entries()) {
    surface.text(MARGIN, HEAD + 31 + lane * LANE, `slot ${slot}`, 'faint', SMALL);
  }
  drawClasses(surface, bottom + 14);
  return surface.finish(bottom + 28, title);
}

function drawClasses(surface: SvgSurface, y: number): void {
  const texts: readonly [Ink, string][] = [
    ['none', 'disturbs nothing'],
    ['changed', 'only what changed was absent'],
    ['unchanged-bytes', 'vCPUs held'],
  ];
  for (const [index, [ink, text]] of texts.entries()) {
    surface.fill({ x: MARGIN + index * 260, y: y - 8, width: 10, height: 10 }, ink);
    surface.text(MARGIN + 16 + index * 260, y + 1, text, 'faint', SMALL);
  }
}

function livesOf(timeline: Timeline): Life[] {
  const lives: Life[] = [];
  const alive = new Map<string, Life>();
  for (let step = 1; step <= timeline.length; step++) {
    timeline.goTo(step);
    for (const { op, sink, slot } of timeline.plan?.commands ?? []) {
      const key = `${sink} ${slot}`;
      if (op === 'slot-delete') {
        const life = alive.get(key);
        if (life !== undefined) life.to = step;
        alive.delete(key);
      } else if (op === 'slot-add') {
        const life = { slot: slot!, from: step, to: timeline.length + 1 };
        lives.push(life);
        alive.set(key, life);
      }
    }
  }
  return lives;
}
