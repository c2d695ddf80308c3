// Facts about the machine that this process runs on: what a monitor can have there, as plain data that JSON can hold.

import { getSystemErrorName } from 'node:util';
import { KVM_CAP } from '../core/kvm-numbers.ts';
import type { MachineAnswers } from '../core/native.ts';
import { HUGE_PAGE_POOLS, type MachineSource, thisMachine } from './source.ts';

/** Facts about a machine. Sizes are bytes; an error is the system's code, such as `ENOENT`, or
 *  `UNKNOWN` where nobody could be asked; undefined where there is none. */
export interface MachineFacts {
  /** Versions of Node.js, Linux and the C library (undefined: it is not glibc); the processor as Node.js calls it. */
  readonly runtime: { readonly node: string; readonly arch: string; readonly kernel: string; readonly glibc?: string };
  /** Reason why the addon does not load; undefined: it does. */
  readonly addonError?: string;
  /** KVM: whether it opens, and its capabilities. */
  readonly kvm: KvmFacts;
  /** Pools of huge pages, one for each size. */
  readonly hugePages: readonly HugePagePool[];
  /** Policy for transparent huge pages: `always`, `madvise` or `never` for private memory; for shared memory also
   *  `advise`, `within_size`, `deny` or `force`. Undefined: the kernel has none. */
  readonly transparentHugePages: { readonly anonymous?: string; readonly shared?: string };
  /** Numbers of the NUMA nodes. */
  readonly numaNodes: readonly number[];
  /** Whether userfaultfd can be used, and its features. */
  readonly userfaultfd: UserfaultfdFacts;
  /** Whether ioctl(PAGEMAP_SCAN) can be used, which finds dirty pages. */
  readonly pagemapScan: { readonly error?: string };
  /** Whether pkey_alloc(2) gives memory protection keys. */
  readonly protectionKeys: { readonly error?: string };
  /** Whether VFIO opens, whether there is an IOMMU, and how many groups there are to open. */
  readonly vfio: { readonly error?: string; readonly hasIommu: boolean; readonly groups: number };
  /** Whether /dev/iommu opens. */
  readonly iommufd: { readonly error?: string };
  /** Mappings of this process. */
  readonly mappings: Used;
  /** Bytes that this process may lock; `limit` undefined: without end. */
  readonly lockedMemory: Used;
  /** Descriptors of this process. */
  readonly descriptors: Used & { readonly hardLimit?: number };
}

/** Use of something that the system limits. */
export interface Used {
  /** Number or bytes that are in use now. */
  readonly used: number;
  /** Most that may be used; undefined: any number. */
  readonly limit?: number;
}

/** Facts about KVM. */
export interface KvmFacts {
  /** Reason why /dev/kvm does not open. */
  readonly error?: string;
  /** Reason why no virtual machine can be made although it opens. */
  readonly vmError?: string;
  /** The module that runs guests, such as `kvm_amd`. */
  readonly module?: string;
  /** Whether the processor walks the guest's page tables itself. */
  readonly hasNestedPaging?: boolean;
  /** The processor's way to run guests: `vmx` or `svm`. */
  readonly extension?: string;
  /** Numbers that KVM_CHECK_EXTENSION answers, by the names of KVM_CAP; empty where KVM cannot be opened. */
  readonly capabilities: Readonly<Partial<Record<keyof typeof KVM_CAP, number>>>;
}

/** A pool of huge pages; counts are of pages. */
export interface HugePagePool {
  /** Bytes of a page. */
  readonly pageSize: number;
  /** Pages that the pool has. */
  readonly total: number;
  /** Pages that are not in use. */
  readonly free: number;
  /** Pages promised to mappings that have not touched them yet. */
  readonly reserved: number;
  /** Pages that may still be taken from ordinary memory on demand. */
  readonly overcommit: number;
}

/** Facts about userfaultfd. */
export interface UserfaultfdFacts {
  /** Reason why it cannot be had. */
  readonly error?: string;
  /** Whether it gets the faults of this process's own code alone, not those of a guest. */
  readonly isUserModeOnly: boolean;
  /** Names of UFFD_FEATURE_ bits. */
  readonly features: readonly string[];
}

/** Facts about this machine, found by asking it: a few milliseconds. Changes nothing. */
export function inspectMachine(): MachineFacts {
  return factsFrom(thisMachine());
}

export function factsFrom(source: MachineSource): MachineFacts {
  const answers = answersOf(source);
  return {
    runtime: source.runtime as MachineFacts['runtime'],
    ...(answers instanceof Error && { addonError: answers.message }),
    kvm: kvmFacts(source),
    hugePages: pools(source),
    transparentHugePages: transparentHugePages(source),
    numaNodes: numbered(source.list('/sys/devices/system/node'), /^node(\d+)$/),
    ...askedFacts(answers),
    vfio: {
      ...refused(source, '/dev/vfio/vfio'),
      hasIommu: source.list('/sys/class/iommu').length > 0,
      groups: numbered(source.list('/dev/vfio'), /^(?:noiommu-)?(\d+)$/).length,
    },
    iommufd: refused(source, '/dev/iommu'),
    ...limits(source),
  };
}

function answersOf(source: MachineSource): MachineAnswers | Error {
  try {
    return source.ask();
  } catch (error) {
    return error as Error;
  }
}

// ---- What calls show ---------------------------------------------------------------------------

/** Features by bit, as linux/userfaultfd.h has them. */
const UFFD_FEATURES = [
  ...['PAGEFAULT_FLAG_WP', 'EVENT_FORK', 'EVENT_REMAP', 'EVENT_REMOVE', 'MISSING_HUGETLBFS', 'MISSING_SHMEM'],
  ...['EVENT_UNMAP', 'SIGBUS', 'THREAD_ID', 'MINOR_HUGETLBFS', 'MINOR_SHMEM', 'EXACT_ADDRESS'],
  ...['WP_HUGETLBFS_SHMEM', 'WP_UNPOPULATED', 'POISON', 'WP_ASYNC', 'MOVE'],
];

function askedFacts(
  answers: MachineAnswers | Error,
): Pick<MachineFacts, 'userfaultfd' | 'pagemapScan' | 'protectionKeys'> {
  if (answers instanceof Error) {
    const unknown = { error: 'UNKNOWN' };
    return {
      userfaultfd: { ...unknown, isUserModeOnly: false, features: [] },
      pagemapScan: unknown,
      protectionKeys: unknown,
    };
  }
  const { userfaultfdError, userfaultfdFeatures, isUserModeOnly } = answers;
  return {
    userfaultfd: {
      ...named(userfaultfdError),
      isUserModeOnly,
      features: UFFD_FEATURES.filter((_, bit) => (userfaultfdFeatures >> BigInt(bit)) & 1n),
    },
    pagemapScan: named(answers.pagemapScanError),
    protectionKeys: named(answers.protectionKeysError),
  };
}

function named(errno: number): { error?: string } {
  return errno === 0 ? {} : { error: getSystemErrorName(-errno) };
}

// ---- KVM ---------------------------------------------------------------------------------------

function kvmFacts(source: MachineSource): KvmFacts {
  const module = source.list('/sys/module').find((name) => /^kvm_\w+$/.test(name));
  const nested = ['ept', 'npt'].map((name) => source.read(`/sys/module/${module}/parameters/${name}`));
  const says = nested.find((text) => text !== undefined)?.trim();
  const extension = /^flags\s*:.*?\b(vmx|svm)\b/m.exec(source.read('/proc/cpuinfo') ?? '')?.[1];
  return {
    ...(module !== undefined && { module }),
    ...(says !== undefined && { hasNestedPaging: says === 'Y' || says === '1' }),
    ...(extension !== undefined && { extension }),
    ...openedKvm(source),
  };
}

function openedKvm(source: MachineSource): Pick<KvmFacts, 'error' | 'vmError' | 'capabilities'> {
  let kvm: ReturnType<MachineSource['openKvm']>;
  try {
    kvm = source.openKvm();
  } catch (error) {
    return { error: codeOf(error), capabilities: {} };
  }
  try {
    const names = Object.keys(KVM_CAP) as (keyof typeof KVM_CAP)[];
    const capabilities = Object.fromEntries(names.map((name) => [name, kvm.checkExtension(KVM_CAP[name])]));
    return { ...vmRefusal(kvm), capabilities };
  } finally {
    kvm.close();
  }
}

function vmRefusal(kvm: ReturnType<MachineSource['openKvm']>): { vmError?: string } {
  try {
    kvm.createVm().close();
    return {};
  } catch (error) {
    return { vmError: codeOf(error) };
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'UNKNOWN';
}

// ---- What files say ----------------------------------------------------------------------------

function pools(source: MachineSource): HugePagePool[] {
  return numbered(source.list(HUGE_PAGE_POOLS), /^hugepages-(\d+)kB$/).map((kib) => {
    const count = (name: string) => Number(source.read(`${HUGE_PAGE_POOLS}/hugepages-${kib}kB/${name}`) ?? 0);
    return {
      pageSize: kib * 1024,
      total: count('nr_hugepages'),
      free: count('free_hugepages'),
      reserved: count('resv_hugepages'),
      overcommit: count('nr_overcommit_hugepages'),
    };
  });
}

/** The choice in brackets of `always [madvise] never`. */
function transparentHugePages(source: MachineSource): MachineFacts['transparentHugePages'] {
  const folder = '/sys/kernel/mm/transparent_hugepage';
  const chosen = (name: string) => /\[(\w+)\]/.exec(source.read(`${folder}/${name}`) ?? '')?.[1];
  const [anonymous, shared] = [chosen('enabled'), chosen('shmem_enabled')];
  return { ...(anonymous !== undefined && { anonymous }), ...(shared !== undefined && { shared }) };
}

function limits(source: MachineSource): Pick<MachineFacts, 'mappings' | 'lockedMemory' | 'descriptors'> {
  const table = source.read('/proc/self/limits') ?? '';
  const locked = limitOf(table, 'Max locked memory');
  const files = limitOf(table, 'Max open files');
  const maxMappings = Number(source.read('/proc/sys/vm/max_map_count'));
  const lockedKib = Number(/^VmLck:\s*(\d+)/m.exec(source.read('/proc/self/status') ?? '')?.[1] ?? 0);
  return {
    mappings: { used: (source.read('/proc/self/maps') ?? '').split('\n').length - 1, ...limited(maxMappings) },
    lockedMemory: { used: lockedKib * 1024, ...limited(locked.soft) },
    descriptors: {
      used: source.list('/proc/self/fd').length,
      ...limited(files.soft),
      ...(Number.isFinite(files.hard) && { hardLimit: files.hard }),
    },
  };
}

function limited(limit: number): { limit?: number } {
  return Number.isFinite(limit) ? { limit } : {};
}

/** Both limits of a row of /proc/self/limits; NaN: unlimited. */
function limitOf(table: string, name: string): { soft: number; hard: number } {
  const [, soft, hard] = new RegExp(`^${name} +(\\S+) +(\\S+)`, 'm').exec(table) ?? [];
  return { soft: Number(soft), hard: Number(hard) };
}

function numbered(names: readonly string[], pattern: RegExp): number[] {
  return names
    .flatMap((name) => pattern.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

function refused(source: MachineSource, device: string): { error?: string } {
  const error = source.refusal(device);
  return error === undefined ? {} : { error };
}
