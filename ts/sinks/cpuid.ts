// CPUID as a monitor must give it: KVM says what this machine can, and knows nothing of the guest's processors, of
// which its answers describe those of the host.

import type { CpuidEntry } from './cpuid-entries.ts';

/** Options of `KvmPartition.supportedCpuid`. */
export interface CpuidOptions {
  /** vCPUs that are cores of one package, 1 to 256: vCPU 0 and those after it, then as many more. Default 1: each vCPU
   *  is a package. */
  readonly cores?: number;
}

/** Most cores that a package can be said to have. */
export const MOST_CORES = 256;

// Leaves and bits of them.
const FEATURES = 0x1;
const HYPERVISOR = 2 ** 31; // ECX
const TSC_DEADLINE = 2 ** 24; // ECX
const SEVERAL_THREADS = 2 ** 28; // EDX
const INTEL_CACHES = 0x4;
const TOPOLOGIES = [0xb, 0x1f];
const AMD_FEATURES = 0x8000_0001;
const AMD_IS_LEGACY = 2; // ECX: several cores, as AMD counted them first
const AMD_SIZES = 0x8000_0008;
const AMD_CACHES = 0x8000_001d;
const AMD_TOPOLOGY = 0x8000_001e;
const AMD_TOPOLOGY_2 = 0x8000_0026;

const ECX_MATTERS = 1;
const THREAD_LEVEL = 0x100;
const CORE_LEVEL = 0x200;

/** `supported`, as KVM says it, made that of a guest's processor: there is a hypervisor, and `cores` a package. APIC
 *  IDs are 0: see `withApicId`. `hasDeadlineTimer`: the local APIC is KVM's, and has one. */
export function guestCpuid(
  supported: readonly CpuidEntry[],
  { cores, hasDeadlineTimer }: { cores: number; hasDeadlineTimer: boolean },
): CpuidEntry[] {
  const isAmd = /^(Authentic|Hygon)/.test(vendor(supported));
  const bits = apicBits(cores);
  const entries = supported
    .filter((entry) => !TOPOLOGIES.includes(entry.function) && entry.function !== AMD_TOPOLOGY_2)
    .map((entry) => ({ ...entry }));
  for (const entry of entries) {
    switch (entry.function) {
      case FEATURES:
        entry.ecx = withBit(entry.ecx, HYPERVISOR, true);
        entry.ecx = withBit(entry.ecx, TSC_DEADLINE, hasDeadlineTimer);
        entry.edx = withBit(entry.edx, SEVERAL_THREADS, cores > 1);
        entry.ebx = withField(entry.ebx, 16, 8, Math.min(2 ** bits, 255));
        break;
      case INTEL_CACHES:
        if (hasCache(entry)) entry.eax = withField(withSharers(entry, bits), 26, 6, Math.min(2 ** bits, 64) - 1);
        break;
      case AMD_CACHES:
        if (hasCache(entry)) entry.eax = withSharers(entry, bits);
        break;
      case AMD_FEATURES:
        if (isAmd) entry.ecx = withBit(entry.ecx, AMD_IS_LEGACY, cores > 1);
        break;
      case AMD_SIZES:
        if (isAmd) entry.ecx = withField(withField(entry.ecx, 0, 8, cores - 1), 12, 4, bits);
        break;
      case AMD_TOPOLOGY:
        entry.ebx = 0;
        entry.ecx = 0;
        break;
    }
  }
  const known = TOPOLOGIES.filter((leaf) => supported.some((entry) => entry.function === leaf));
  return [...entries, ...known.flatMap((leaf) => topology(leaf, cores, bits))];
}

/** The list with a vCPU's own APIC ID, wherever CPUID tells it. */
export function withApicId(entries: readonly Readonly<CpuidEntry>[], id: number): CpuidEntry[] {
  const sizes = entries.find((entry) => TOPOLOGIES.includes(entry.function) && entry.index === 1);
  const bits = (sizes?.eax ?? 0) & 0x1f;
  return entries.map((entry) => {
    if (entry.function === FEATURES) return { ...entry, ebx: withField(entry.ebx, 24, 8, id & 0xff) };
    if (TOPOLOGIES.includes(entry.function)) return { ...entry, edx: id };
    if (entry.function !== AMD_TOPOLOGY) return { ...entry };
    return { ...entry, eax: id, ebx: withField(entry.ebx, 0, 8, id & (2 ** bits - 1)) };
  });
}

function vendor(entries: readonly CpuidEntry[]): string {
  const { ebx = 0, edx = 0, ecx = 0 } = entries.find((entry) => entry.function === 0) ?? {};
  return [ebx, edx, ecx]
    .map((word) => String.fromCharCode(...[0, 8, 16, 24].map((at) => (word >>> at) & 0xff)))
    .join('');
}

/** Bits of an APIC ID that say which core of its package it is. */
function apicBits(cores: number): number {
  return Math.ceil(Math.log2(cores));
}

/** A thread a core, `cores` a package, and nothing above. */
function topology(leaf: number, cores: number, bits: number): CpuidEntry[] {
  const level = (index: number, eax: number, ebx: number, type: number): CpuidEntry => ({
    ...{ function: leaf, index, flags: ECX_MATTERS, eax, ebx, ecx: index | type, edx: 0 },
  });
  return [level(0, 0, 1, THREAD_LEVEL), level(1, bits, cores, CORE_LEVEL), level(2, 0, 0, 0)];
}

function hasCache({ eax }: CpuidEntry): boolean {
  return (eax & 0x1f) !== 0;
}

/** EAX of a cache: a package shares what is of the third level or higher, a core has the rest for itself. */
function withSharers({ eax }: CpuidEntry, bits: number): number {
  const level = (eax >>> 5) & 7;
  return withField(eax, 14, 12, level >= 3 ? 2 ** bits - 1 : 0);
}

function withBit(word: number, bit: number, isSet: boolean): number {
  return (isSet ? word | bit : word & ~bit) >>> 0;
}

/** `width` bits of `word` from bit `at` on. */
function withField(word: number, at: number, width: number, value: number): number {
  const mask = 2 ** width - 1;
  return ((word & ~(mask << at)) | ((value & mask) << at)) >>> 0;
}
