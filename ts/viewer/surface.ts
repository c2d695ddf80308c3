// Surfaces that pictures are drawn on: a canvas in the page, SVG text for stills. Letters are all equally wide, so that
// both agree on what fits.

import type { Ink } from './palette.ts';

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Surface {
  fill(box: Box, ink: Ink): void;
  /** Stripes: what is there and cannot be seen, or cannot be written. */
  hatch(box: Box, ink: Ink): void;
  outline(box: Box, ink: Ink): void;
  /** A thin cover, through which everything can be seen. */
  shade(box: Box, ink: Ink): void;
  /** `y` is where the letters stand; `size` their height in pixels. */
  text(x: number, y: number, text: string, ink: Ink, size: number): void;
}

export const FONT = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace';

/** Width of a letter, as a part of its height. */
const LETTER = 0.61;

export function textWidth(text: string, size: number): number {
  return text.length * size * LETTER;
}

/** The text, or its beginning with `…` where all of it does not fit; empty where two letters do not. */
export function fitting(text: string, width: number, size: number): string {
  const letters = Math.floor(width / (size * LETTER));
  if (text.length <= letters) return text;
  return letters < 2 ? '' : `${text.slice(0, letters - 1)}…`;
}
