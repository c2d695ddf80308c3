// The addon that copies guest memory by membacking.h: see native/native-copy.cc.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { artefact } from '../../../ts/core/artefact.ts';

interface NativeCopy {
  /** One copy of all bytes for each GPA, by the table and the token of a VA space. */
  copy(nativeInterface: bigint, token: bigint, bytes: Uint8Array, gpas: Float64Array, isWrite: boolean): void;
}

export const nativeCopy: NativeCopy = createRequire(import.meta.url)(fileURLToPath(artefact('obj/native-copy.node')));
