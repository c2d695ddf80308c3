// Words of the page, beside its pictures. The text forms are the package's own.

import { formatHex } from '../core-index.ts';
import type { Moment } from './moment.ts';
import { accessText, spanText } from './picture.ts';
import type { StepPlan } from './timeline.ts';

const KINDS = ['ram', 'rom', 'device', 'mmio'];
/** Lines of a text that are shown; more would slow the page down. */
const MOST_LINES = 400;
const NOTHING = 'none';

export function shownLines(lines: readonly string[]): string {
  if (lines.length === 0) return NOTHING;
  if (lines.length <= MOST_LINES) return lines.join('\n');
  return [...lines.slice(0, MOST_LINES), `… and ${lines.length - MOST_LINES} more lines`].join('\n');
}

export function planText(plan: StepPlan | undefined): string {
  return plan === undefined ? 'nothing is to be done' : shownLines(plan.lines.slice(1));
}

/** Words for how a plan disturbs the guest. */
export function classText(plan: StepPlan | undefined): string {
  if (plan === undefined) return '';
  const { commands, disturbance } = plan;
  return `${commands.length} command${commands.length === 1 ? '' : 's'}, ${DISTURBANCE_TEXTS[disturbance]}`;
}

export const DISTURBANCE_TEXTS = {
  none: 'class none: nothing that stays was absent',
  changed: 'class changed: only what changed was absent',
  'unchanged-bytes': 'class unchanged-bytes: vCPUs are held',
} as const;

export function flatText({ flat }: Moment): string {
  return shownLines(
    aligned(
      flat.map((range) => [spanText(range), range.kind, accessText(range), plus(range.name, range.offsetInRegion)]),
    ),
  );
}

export function objectsText({ mappings }: Moment): string {
  const objects = [...new Set(mappings.map(({ object }) => object))];
  return shownLines(
    objects.flatMap((object) => [
      object,
      ...aligned(
        mappings
          .filter((part) => part.object === object)
          .map((part) => [spanText(part), part.writable ? 'rw' : 'r-', `+ ${formatHex(part.objectOffset).slice(2)}`]),
      ),
    ]),
  );
}

export function slotsText({ slots }: Moment): string {
  return shownLines(aligned(slots.map((slot) => [slot.sink, `slot ${slot.slot}`, spanText(slot), slot.access])));
}

/** The picture for who does not see it. */
export function pictureText(moment: Moment, space: string, step: number): string {
  const counts = KINDS.map((kind) => `${moment.flat.filter((range) => range.kind === kind).length} ${kind}`).join(', ');
  const hidden = moment.layers.filter(({ visible }) => visible.length === 0).length;
  return `Address space ${space} after step ${step}: ${moment.flat.length} flat ranges (${counts}), ${hidden} regions hidden, ${moment.slots.length} memory slots. As text below.`;
}

function plus(name: string, offset: number | bigint): string {
  return offset === 0 ? name : `${name} + ${formatHex(offset).slice(2)}`;
}

/** Cells in columns, two spaces apart. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows.map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i]!)).join('  ')}`.trimEnd());
}
