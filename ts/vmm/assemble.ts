// Machine code by hand: bytes, labels, and the two ways in which instructions name them.

/** A part of a program: bytes, a label, or an instruction that names one. */
export type CodePart =
  /** Bytes of an instruction. */
  | readonly number[]
  /** Text, as it is. */
  | { readonly text: string }
  /** Names the place of the next instruction. */
  | { readonly label: string }
  /** An instruction that ends with the distance to a label, in one byte. */
  | { readonly near: string; readonly code: readonly number[] }
  /** One that ends with the distance in `width` bytes. */
  | { readonly far: string; readonly code: readonly number[]; readonly width: 2 | 4 }
  /** One that ends with the label's address, in `width` bytes. */
  | { readonly address: string; readonly code: readonly number[]; readonly width: 2 | 4 };

/** The code, to be loaded at `origin`. */
export function assemble(origin: number, parts: readonly CodePart[]): Uint8Array {
  const labels = new Map<string, number>();
  const bytes: number[] = [];
  const references: { at: number; width: number; label: string; isRelative: boolean }[] = [];
  for (const part of parts) {
    if ('label' in part) {
      labels.set(part.label, origin + bytes.length);
    } else if ('text' in part) {
      bytes.push(...Buffer.from(part.text, 'latin1'));
    } else if (!('code' in part)) {
      bytes.push(...part);
    } else {
      bytes.push(...part.code);
      const width = 'near' in part ? 1 : part.width;
      const label = 'near' in part ? part.near : 'far' in part ? part.far : part.address;
      references.push({ at: bytes.length, width, label, isRelative: !('address' in part) });
      bytes.push(...new Array(width).fill(0));
    }
  }
  const code = Buffer.from(bytes);
  for (const { at, width, label, isRelative } of references) {
    const target = labels.get(label);
    if (target === undefined) throw new Error(`there is no label "${label}"`);
    if (isRelative) code.writeIntLE(target - (origin + at + width), at, width);
    else code.writeUIntLE(target, at, width);
  }
  return code;
}
