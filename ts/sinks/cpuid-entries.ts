// Entries of CPUID: as objects, and as the structs kvm_cpuid_entry2 that the addon passes on.

import * as validate from '../core/validate.ts';

const CPUID_FIELDS = ['function', 'index', 'flags', 'eax', 'ebx', 'ecx', 'edx'] as const;

/** One answer of CPUID: `function` is EAX and `index` ECX of the question, where KVM_CPUID_FLAG_SIGNIFICANT_INDEX (1)
 *  in `flags` says that ECX matters. All are 32 bits wide. */
export type CpuidEntry = Record<(typeof CPUID_FIELDS)[number], number>;

const CPUID_ENTRY_WORDS = 10;

export function decodeCpuid(bytes: Uint8Array): CpuidEntry[] {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / Uint32Array.BYTES_PER_ELEMENT);
  return Array.from({ length: words.length / CPUID_ENTRY_WORDS }, (_, entry) => {
    const fields = CPUID_FIELDS.map((field, index) => [field, words[entry * CPUID_ENTRY_WORDS + index]]);
    return Object.fromEntries(fields) as CpuidEntry;
  });
}

export function encodeCpuid(entries: readonly Readonly<CpuidEntry>[]): Uint8Array {
  const words = new Uint32Array(entries.length * CPUID_ENTRY_WORDS);
  for (const [index, entry] of entries.entries()) {
    words.set(
      CPUID_FIELDS.map((field) => entry[field]),
      index * CPUID_ENTRY_WORDS,
    );
  }
  return new Uint8Array(words.buffer);
}

/** Checks that `given` is a list of entries, whole ones. Throws INVALID_ARGUMENT. */
export function checkedCpuid(given: readonly Readonly<CpuidEntry>[]): readonly Readonly<CpuidEntry>[] {
  if (!Array.isArray(given)) throw validate.invalid('cpuid must be an array of entries, as of supportedCpuid');
  return given.map((entry, index) => {
    const fields = validate.options<CpuidEntry>(entry ?? null, CPUID_FIELDS, `cpuid[${index}]`);
    const checked = CPUID_FIELDS.map((field) => [
      field,
      validate.integer(fields[field], `cpuid[${index}].${field}`, 0, 0xffffffff),
    ]);
    return Object.fromEntries(checked) as CpuidEntry;
  });
}
