// Links to a step: what stands behind the # of the page's address.

import { formatHex } from '../core-index.ts';
import { addressFrom } from './address-text.ts';
import type { Place } from './view.ts';

export function placeFrom(hash: string): Place {
  const parts = new URLSearchParams(hash.replace(/^#/, ''));
  const number = (name: string) => (/^\d{1,9}$/.test(parts.get(name) ?? '') ? Number(parts.get(name)) : undefined);
  return {
    step: number('step') ?? Number.POSITIVE_INFINITY,
    space: parts.get('space') ?? undefined,
    gpa: addressFrom(parts.get('gpa') ?? ''),
    scale: parts.get('scale') === 'true' ? 'true' : 'compressed',
    beside: number('beside'),
  };
}

export function hashOf({ step, space, gpa, scale, beside }: Place): string {
  const parts = new URLSearchParams({ step: String(step) });
  if (space !== undefined) parts.set('space', space);
  if (gpa !== undefined) parts.set('gpa', formatHex(gpa));
  if (scale === 'true') parts.set('scale', scale);
  if (beside !== undefined) parts.set('beside', String(beside));
  return `#${parts}`;
}
