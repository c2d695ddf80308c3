// The colours of pictures, by what they stand for, on light and on dark paper. One list for the page and for stills.

import type { RegionKind } from '../core-index.ts';

export const INKS = [
  ...(['paper', 'text', 'faint', 'line', 'hidden', 'touched', 'selected'] as const),
  ...(['ram', 'rom', 'device', 'mmio'] as const),
  ...(['object0', 'object1', 'object2', 'object3', 'object4', 'object5', 'slot'] as const),
  ...(['quiet', 'none', 'changed', 'unchanged-bytes'] as const),
] as const;

export type Ink = (typeof INKS)[number];
export type Palette = Readonly<Record<Ink, string>>;

export const OBJECT_INKS = ['object0', 'object1', 'object2', 'object3', 'object4', 'object5'] as const satisfies Ink[];

/** Containers are never seen themselves. */
export function kindInk(kind: RegionKind): Ink {
  return kind === 'container' ? 'hidden' : kind;
}

export const LIGHT: Palette = {
  paper: '#ffffff',
  text: '#1b1f24',
  faint: '#59636e',
  line: '#c6ccd3',
  hidden: '#aeb6bf',
  touched: '#0b7285',
  selected: '#b0127b',
  ram: '#a8d5a2',
  rom: '#f0c987',
  device: '#a9c7f0',
  mmio: '#d6c1ea',
  object0: '#b7dcd6',
  object1: '#f3d3b0',
  object2: '#cfd3f2',
  object3: '#efc7d0',
  object4: '#dde3a8',
  object5: '#cdd7de',
  slot: '#e3e8ee',
  quiet: '#c6ccd3',
  none: '#4c9a5b',
  changed: '#3b78c3',
  'unchanged-bytes': '#d9480f',
};

export const DARK: Palette = {
  paper: '#15181c',
  text: '#e8ebee',
  faint: '#a2abb5',
  line: '#414952',
  hidden: '#5b646e',
  touched: '#3bc9db',
  selected: '#ff7ac6',
  ram: '#2f6a3a',
  rom: '#7a5617',
  device: '#2c5590',
  mmio: '#5d4180',
  object0: '#235f58',
  object1: '#74501f',
  object2: '#414a8c',
  object3: '#76384a',
  object4: '#585f1d',
  object5: '#44525c',
  slot: '#333b44',
  quiet: '#414952',
  none: '#5fb871',
  changed: '#6aa5ef',
  'unchanged-bytes': '#ff8f57',
};
