// Pictures on a canvas, as sharp as the screen is.

import type { Ink, Palette } from './palette.ts';
import { type Box, FONT, type Surface } from './surface.ts';

export class CanvasSurface implements Surface {
  readonly #context: CanvasRenderingContext2D;
  readonly #palette: Palette;

  /** Clears the canvas and gives it this size, in pixels of the page. */
  constructor(canvas: HTMLCanvasElement, width: number, height: number, palette: Palette) {
    const scale = window.devicePixelRatio;
    const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== across) canvas.width = across;
    if (canvas.height !== down) canvas.height = down;
    canvas.style.height = `${height}px`;
    this.#context = canvas.getContext('2d')!;
    this.#context.setTransform(scale, 0, 0, scale, 0, 0);
    this.#palette = palette;
    this.fill({ x: 0, y: 0, width, height }, 'paper');
  }

  fill({ x, y, width, height }: Box, ink: Ink): void {
    this.#context.fillStyle = this.#palette[ink];
    this.#context.fillRect(x, y, width, height);
  }

  hatch({ x, y, width, height }: Box, ink: Ink): void {
    const context = this.#context;
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.beginPath();
    for (let at = x - height - ((x - height) % 8); at < x + width; at += 8) {
      context.moveTo(at, y + height);
      context.lineTo(at + height, y);
    }
    context.strokeStyle = this.#palette[ink];
    context.lineWidth = 2.5;
    context.stroke();
    context.restore();
  }

  outline({ x, y, width, height }: Box, ink: Ink): void {
    this.#context.strokeStyle = this.#palette[ink];
    this.#context.lineWidth = 1;
    this.#context.strokeRect(x + 0.5, y + 0.5, Math.max(0, width - 1), height - 1);
  }

  shade(box: Box, ink: Ink): void {
    this.#context.globalAlpha = 0.1;
    this.fill(box, ink);
    this.#context.globalAlpha = 1;
  }

  text(x: number, y: number, text: string, ink: Ink, size: number): void {
    this.#context.font = `${size}px ${FONT}`;
    this.#context.fillStyle = this.#palette[ink];
    this.#context.fillText(text, x, y);
  }
}
