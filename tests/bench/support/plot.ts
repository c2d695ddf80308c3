// A curve as SVG: both axes logarithmic, every curve named at its end.

import type { Curve, Plot, Point } from './rows.ts';

const [WIDTH, HEIGHT] = [720, 400];
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 200, 40, 48];
const COLORS = ['#0b62d6', '#888888', '#c2410c', '#7c3aed'];

export function plotSvg({ title, sizeTitle, curves }: Plot): string {
  const points = curves.flatMap((curve) => curve.points);
  const sizes = scale(
    points.map(({ size }) => size),
    LEFT,
    WIDTH - RIGHT,
  );
  const times = scale(
    points.map(({ ns }) => ns),
    HEIGHT - BOTTOM,
    TOP,
  );
  const grid = [
    ...powers(points.map(({ size }) => size)).map((size) => vertical(sizes(size), short(size))),
    ...powers(points.map(({ ns }) => ns)).map((ns) => horizontal(times(ns), duration(ns))),
  ];
  const lines = curves.map((curve, index) => line(curve, COLORS[index]!, ({ size, ns }) => [sizes(size), times(ns)]));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>
${text(LEFT, 22, title, 'font-size="15"')}
${text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, sizeTitle, 'text-anchor="middle"')}
${[...grid, ...lines].join('\n')}
</svg>
`;
}

/** Logarithmic, from the values' lowest to their highest power of ten. */
function scale(values: readonly number[], from: number, to: number): (value: number) => number {
  const all = powers(values);
  const [least, most] = [Math.log10(all[0]!), Math.log10(all.at(-1)!)];
  return (value) => round(from + ((Math.log10(value) - least) / (most - least)) * (to - from));
}

/** The powers of ten around the values. At least two. */
function powers(values: readonly number[]): number[] {
  const least = Math.floor(Math.log10(Math.min(...values)));
  const most = Math.max(least + 1, Math.ceil(Math.log10(Math.max(...values))));
  return Array.from({ length: most - least + 1 }, (_, index) => 10 ** (least + index));
}

function line({ name, points }: Curve, color: string, at: (point: Point) => [number, number]): string {
  const places = points.map(at);
  const [x, y] = places.at(-1)!;
  const dots = places.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3" fill="${color}"/>`).join('');
  const path = `<polyline points="${places.join(' ')}" fill="none" stroke="${color}" stroke-width="2"/>`;
  return `${path}${dots}${text(x + 8, y + 4, name, `fill="${color}"`)}`;
}

function vertical(x: number, label: string): string {
  const rule = `<line x1="${x}" y1="${TOP}" x2="${x}" y2="${HEIGHT - BOTTOM}" stroke="#dddddd"/>`;
  return `${rule}${text(x, HEIGHT - BOTTOM + 16, label, 'text-anchor="middle"')}`;
}

function horizontal(y: number, label: string): string {
  const rule = `<line x1="${LEFT}" y1="${y}" x2="${WIDTH - RIGHT}" y2="${y}" stroke="#dddddd"/>`;
  return `${rule}${text(LEFT - 6, y + 4, label, 'text-anchor="end"')}`;
}

function text(x: number, y: number, value: string, attributes: string): string {
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${value}</text>`;
}

function duration(ns: number): string {
  if (ns < 1000) return `${ns} ns`;
  return ns < 1e6 ? `${ns / 1000} µs` : `${ns / 1e6} ms`;
}

function short(size: number): string {
  return size < 1000 ? String(size) : `${size / 1000} 000`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
