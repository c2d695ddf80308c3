// AML, the bytecode in which ACPI describes devices: only what declares, nothing that runs.

const NAME = 0x08;
const BYTE = 0x0a;
const WORD = 0x0b;
const DWORD = 0x0c;
const SCOPE = 0x10;
const BUFFER = 0x11;
const PACKAGE = 0x12;
const DEVICE = [0x5b, 0x82];

export type Aml = readonly number[];

export function integer(value: number): Aml {
  if (value <= 1) return [value];
  if (value <= 0xff) return [BYTE, value];
  if (value <= 0xffff) return [WORD, ...bytes(value, 2)];
  return [DWORD, ...bytes(value, 4)];
}

/** An identifier such as `PNP0A03`, as the number that drivers look for. */
export function pnpId(id: string): Aml {
  const [a, b, c] = [...id.slice(0, 3)].map((letter) => letter.charCodeAt(0) - 0x40) as [number, number, number];
  const product = Number.parseInt(id.slice(3), 16);
  const letters = (a << 10) | (b << 5) | c;
  return [DWORD, letters >> 8, letters & 0xff, product >> 8, product & 0xff];
}

export function name(path: string, value: Aml): Aml {
  return [NAME, ...nameString(path), ...value];
}

export function scope(path: string, ...terms: readonly Aml[]): Aml {
  return [SCOPE, ...withLength([...nameString(path), ...terms.flat()])];
}

export function device(path: string, ...terms: readonly Aml[]): Aml {
  return [...DEVICE, ...withLength([...nameString(path), ...terms.flat()])];
}

export function list(...elements: readonly Aml[]): Aml {
  return [PACKAGE, ...withLength([elements.length, ...elements.flat()])];
}

/** Ranges and interrupts that a device uses, or hands on. */
export function resources(...parts: readonly Aml[]): Aml {
  const content = [...parts.flat(), 0x79, 0];
  return [BUFFER, ...withLength([...integer(content.length), ...content])];
}

/** Ports that a device decodes. */
export function ports(first: number, count: number): Aml {
  return [0x47, 1, ...bytes(first, 2), ...bytes(first, 2), 1, count];
}

export function interrupt(line: number): Aml {
  return [0x22, ...bytes(1 << line, 2)];
}

/** Kinds of ranges that a bus hands on to its devices, with their flags: memory may be written, ports are all there. */
const RANGES = { memory: [0, 1], ports: [1, 3], buses: [2, 0] } as const;

/** [first, last] of `what`, which a bus hands on to its devices. */
export function window(what: keyof typeof RANGES, first: number, last: number): Aml {
  const width = what === 'memory' ? 4 : 2;
  const fixedEnds = 0x0c;
  const numbers = [0, first, last, 0, last - first + 1].flatMap((number) => bytes(number, width));
  return [
    width === 4 ? 0x87 : 0x88,
    ...bytes(3 + numbers.length, 2),
    RANGES[what][0],
    fixedEnds,
    RANGES[what][1],
    ...numbers,
  ];
}

/** Little-endian. */
function bytes(value: number, size: number): number[] {
  return Array.from({ length: size }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 0xff);
}

/** Names of up to four letters, as in `\_SB`. */
function nameString(path: string): number[] {
  const [, root, letters] = /^(\\?)(.*)$/.exec(path)!;
  return [...Buffer.from(root! + letters!.padEnd(4, '_'), 'latin1')];
}

/** The content with its length before it, which counts itself: in 6 bits, or 4 and further bytes. */
function withLength(content: readonly number[]): number[] {
  if (content.length < 0x3f) return [content.length + 1, ...content];
  const more = content.length + 2 < 0x1000 ? 1 : 2;
  const length = content.length + 1 + more;
  return [(more << 6) | (length & 0xf), ...bytes(length >> 4, more), ...content];
}
