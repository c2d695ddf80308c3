// Pictures as SVG text that stands alone: light and dark, as whoever shows it prefers.

import { DARK, INKS, type Ink, LIGHT, type Palette } from './palette.ts';
import { type Box, FONT, type Surface } from './surface.ts';

export class SvgSurface implements Surface {
  readonly #parts: string[] = [];
  readonly #width: number;

  constructor(width: number) {
    this.#width = width;
  }

  fill(box: Box, ink: Ink): void {
    this.#parts.push(`<rect ${attributes(box)} class="${ink}"/>`);
  }

  hatch(box: Box, ink: Ink): void {
    this.#parts.push(`<rect ${attributes(box)} fill="url(#hatch-${ink})"/>`);
  }

  outline(box: Box, ink: Ink): void {
    const inside = { x: box.x + 0.5, y: box.y + 0.5, width: Math.max(0, box.width - 1), height: box.height - 1 };
    this.#parts.push(`<rect ${attributes(inside)} class="line-${ink}"/>`);
  }

  shade(box: Box, ink: Ink): void {
    this.#parts.push(`<rect ${attributes(box)} class="${ink}" opacity="0.1"/>`);
  }

  text(x: number, y: number, text: string, ink: Ink, size: number): void {
    this.#parts.push(
      `<text x="${round(x)}" y="${round(y)}" font-size="${size}" class="${ink}" xml:space="preserve">${escaped(text)}</text>`,
    );
  }

  /** The whole picture. `title` is what a screen reader says. */
  finish(height: number, title: string): string {
    const body = this.#parts.join('\n');
    const isUsed = (name: string) => body.includes(name);
    const styles = (palette: Palette) =>
      INKS.flatMap((ink) => [
        ...(isUsed(`class="${ink}"`) ? [`.${ink}{fill:${palette[ink]}}`] : []),
        ...(isUsed(`"line-${ink}"`) ? [`.line-${ink}{fill:none;stroke:${palette[ink]}}`] : []),
        ...(isUsed(`#hatch-${ink})`) ? [`.stripe-${ink}{stroke:${palette[ink]}}`] : []),
      ]).join('');
    const hatches = INKS.filter((ink) => isUsed(`#hatch-${ink})`)).map(
      (ink) =>
        `<pattern id="hatch-${ink}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
        `<path d="M0 0V6" class="stripe-${ink}" stroke-width="3"/></pattern>`,
    );
    const size = `width="${this.#width}" height="${round(height)}" viewBox="0 0 ${this.#width} ${round(height)}"`;
    return [
      `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img" aria-label="${escaped(title)}">`,
      `<title>${escaped(title)}</title>`,
      `<style>text{font-family:${FONT.replaceAll('"', "'")}}.back{fill:${LIGHT.paper}}${styles(LIGHT)}`,
      `@media(prefers-color-scheme:dark){.back{fill:${DARK.paper}}${styles(DARK)}}</style>`,
      ...(hatches.length > 0 ? [`<defs>${hatches.join('')}</defs>`] : []),
      '<rect width="100%" height="100%" class="back"/>',
      body,
      '</svg>',
      '',
    ].join('\n');
  }
}

function attributes({ x, y, width, height }: Box): string {
  return `x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}"`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

/** Text from somebody else, without what XML does not allow or would obey. */
function escaped(text: string): string {
  return text
    .replace(/[^\u0020-\ud7ff\ue000-\ufffd]|\p{Bidi_Control}/gu, '\ufffd')
    .replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
