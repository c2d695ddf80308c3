// Diagnosis of a machine: each fact that a monitor depends on, judged, and what mends it where it can be mended.

import { formatHex, type HugePagePool, KVM_QUIRK, type KvmFacts, type MachineFacts, type Used } from '../index.ts';

interface Finding {
  readonly subject: string;
  readonly name: string;
  /** `low`: it is there, and will not do for large guests. */
  readonly state: 'yes' | 'no' | 'low';
  readonly says: string;
  /** The command that mends it; where there is none, what else does. */
  readonly mend?: string;
}

type Judged = Omit<Finding, 'subject'>;

/** All findings, in the order in which they are printed. */
export function diagnose(facts: MachineFacts): Finding[] {
  const subjects: Readonly<Record<string, readonly Judged[]>> = {
    addon: [addon(facts)],
    KVM: kvm(facts),
    'huge pages': [...facts.hugePages.map(pool), ...transparent(facts)],
    memory: [numa(facts), userfaultfd(facts), pagemapScan(facts), protectionKeys(facts)],
    'device assignment': [vfio(facts), iommufd(facts)],
    limits: limits(facts),
  };
  return Object.entries(subjects).flatMap(([subject, list]) => list.map((each) => ({ subject, ...each })));
}

/** Whether guests can be run: the addon loads and KVM makes virtual machines. */
export function canRunGuests({ addonError, kvm: { error, vmError } }: MachineFacts): boolean {
  return addonError === undefined && error === undefined && vmError === undefined;
}

/** The text form: a line for each finding, below it what mends it. */
export function renderFindings(findings: readonly Finding[]): string[] {
  const width = Math.max(...findings.map(({ name }) => name.length));
  return findings.flatMap(({ subject, name, state, says, mend }, index) => [
    ...(subject === findings[index - 1]?.subject ? [] : [...(index === 0 ? [] : ['']), subject]),
    `  ${state.padEnd(4)} ${name.padEnd(width)}  ${says}`,
    ...(mend === undefined ? [] : [`       ${' '.repeat(width)}  mend: ${mend}`]),
  ]);
}

function yes(name: string, says: string): Judged {
  return { name, state: 'yes', says };
}

function no(name: string, says: string, mend?: string): Judged {
  return { name, state: 'no', says, ...(mend !== undefined && { mend }) };
}

function low(name: string, says: string, mend?: string): Judged {
  return { name, state: 'low', says, ...(mend !== undefined && { mend }) };
}

/** Remedy for a feature that is missing: a kernel of a version; where this one is as new, one that is `built` so. */
function kernelSince({ runtime: { kernel } }: MachineFacts, since: string, built?: string): string | undefined {
  const isOlder = kernel.localeCompare(since, 'en', { numeric: true }) < 0;
  return isOlder ? `Linux ${since} or later` : built && `a kernel with ${built}`;
}

const NOT_ASKED = 'not asked: there is no addon to ask with';

// ---- The addon and KVM -------------------------------------------------------------------------

function addon({ addonError, runtime: { arch, glibc } }: MachineFacts): Judged {
  return addonError === undefined
    ? yes('Node-API addon', `loads (linux-${arch}, ${glibc === undefined ? 'not glibc' : `glibc ${glibc}`})`)
    : no('Node-API addon', 'does not load: nothing but traces and maps can be looked at', addonError);
}

function kvm(facts: MachineFacts): Judged[] {
  if (facts.addonError !== undefined) return [no('/dev/kvm', NOT_ASKED)];
  const { error, vmError, module, hasNestedPaging } = facts.kvm;
  if (error !== undefined) return [refusedKvm(facts.kvm)];
  if (vmError !== undefined) {
    return [no('/dev/kvm', `makes no virtual machine (${vmError})`, 'end the other hypervisor that has the processor')];
  }
  const paging = hasNestedPaging === undefined ? '' : hasNestedPaging ? ', nested paging' : ', no nested paging: slow';
  return [yes('/dev/kvm', `${module ?? 'KVM'}${paging}`), ...capabilities(facts)];
}

function refusedKvm({ error, module, extension }: KvmFacts): Judged {
  const name = '/dev/kvm';
  if (error === 'EACCES' || error === 'EPERM') {
    return no(name, `this user may not open it (${error})`, 'sudo usermod -aG kvm "$USER", then log in again');
  }
  if (error === 'EOPNOTSUPP') return no(name, 'this package runs guests on x86-64 alone');
  if (error !== 'ENOENT') return no(name, `cannot be opened (${error})`, 'sudo dmesg | grep -i kvm says why');
  if (module !== undefined) {
    return no(name, `is not shown here, though ${module} is loaded`, 'start the container with --device /dev/kvm');
  }
  if (extension === undefined) {
    const mend = 'switch virtualisation on in the firmware; in a virtual machine, nested virtualisation in its host';
    return no(name, 'is not there, and the processor shows neither vmx nor svm', mend);
  }
  return no(name, 'is not there', `sudo modprobe ${extension === 'vmx' ? 'kvm_intel' : 'kvm_amd'}`);
}

/** Option of the kernel for machines that are protected by software. */
const PROTECTED = 'CONFIG_KVM_SW_PROTECTED_VM';

/** Capabilities that are there or not: the name that is printed, what it is for, and the kernel that brings it. */
const CAPABILITIES: readonly [
  name: keyof KvmFacts['capabilities'],
  shown: string,
  use: string,
  since?: string,
  built?: string,
][] = [
  ['READONLY_MEM', 'read-only slots', 'ROM that is read at full speed, and whose writes trap'],
  ['IMMEDIATE_EXIT', 'immediate exit', 'vCPUs are held without a race'],
  ['MEMORY_FAULT_INFO', 'memory fault info', 'a failed access names its address', '6.8'],
  ['MANUAL_DIRTY_LOG_PROTECT2', 'dirty log, manual', 'the dirty log is armed again piece by piece'],
  ['DIRTY_LOG_RING', 'dirty ring', 'dirty pages as a list', '5.11'],
  ['GUEST_MEMFD', 'guest_memfd', 'memory that the host cannot map', '6.8', PROTECTED],
  ['MEMORY_ATTRIBUTES', 'memory attributes', 'pages turn private and shared', '6.8', PROTECTED],
  ['MULTI_ADDRESS_SPACE', 'SMM address space', 'memory that only system management mode sees'],
  ['IRQCHIP', 'in-kernel irqchip', 'interrupt controllers in the kernel'],
  ['IOEVENTFD', 'ioeventfd', 'doorbells without an exit'],
  ['IRQFD', 'irqfd', 'interrupts from a descriptor'],
  ['COALESCED_MMIO', 'coalesced MMIO', 'writes to devices in batches'],
  ['SIGNAL_MSI', 'MSI', 'message-signalled interrupts'],
];

const SW_PROTECTED_VM = 1 << 1;

function capabilities(facts: MachineFacts): Judged[] {
  const has = facts.kvm.capabilities;
  const most = has.MAX_VCPUS ?? 0;
  const quirks = has.DISABLE_QUIRKS2 ?? 0;
  const canKeepOthers = (quirks & KVM_QUIRK.SLOT_ZAP_ALL) !== 0;
  return [
    yes('memory slots', `${has.NR_MEMSLOTS || 32} of a virtual machine`),
    yes('vCPUs', `${most} at most, ${has.NR_VCPUS ?? most} recommended`),
    yes('dirty log', 'pages that the guest wrote'),
    ...CAPABILITIES.map(([name, shown, use, since, built]) =>
      has[name] ? yes(shown, use) : no(shown, use, since && kernelSince(facts, since, built)),
    ),
    (has.VM_TYPES ?? 0) & SW_PROTECTED_VM
      ? yes('protected machines', 'in software, to test with')
      : no('protected machines', 'none in software, to test with', kernelSince(facts, '6.8', PROTECTED)),
    quirks === 0
      ? no('quirks', 'none can be switched off', kernelSince(facts, '5.19'))
      : yes('quirks', `${formatHex(quirks)} can be switched off`),
    canKeepOthers
      ? yes('slot zap quirk', 'can be switched off: deleting a slot then keeps the page tables of the others')
      : no(
          'slot zap quirk',
          'is always on: deleting a slot drops all page tables of a guest',
          kernelSince(facts, '6.12'),
        ),
  ];
}

// ---- Memory ------------------------------------------------------------------------------------

const UNITS: readonly [size: number, name: string][] = [
  [2 ** 30, 'GiB'],
  [2 ** 20, 'MiB'],
  [2 ** 10, 'KiB'],
];

function sized(bytes: number): string {
  const [size, name] = UNITS.find(([each]) => bytes >= each) ?? [1, 'bytes'];
  return `${Number((bytes / size).toFixed(1))} ${name}`;
}

const GIB = 2 ** 30;

function pool({ pageSize, total, free, reserved, overcommit }: HugePagePool): Judged {
  const name = `pages of ${sized(pageSize)}`;
  const available = free - reserved + overcommit;
  const says = `${total} in the pool, ${Math.max(0, available)} to be had`;
  if (available > 0) return yes(name, says);
  const enough = total + Math.ceil(GIB / pageSize);
  const file = `/sys/kernel/mm/hugepages/hugepages-${pageSize / 1024}kB/nr_hugepages`;
  return no(name, says, `echo ${enough} | sudo tee ${file}`);
}

function transparent({ transparentHugePages: { anonymous, shared } }: MachineFacts): Judged[] {
  const file = (name: string) => `/sys/kernel/mm/transparent_hugepage/${name}`;
  const judged = (name: string, mode: string | undefined, off: readonly string[], mend: string) => {
    if (mode === undefined) return no(name, 'not in this kernel', 'a kernel with CONFIG_TRANSPARENT_HUGEPAGE');
    return off.includes(mode) ? no(name, mode, mend) : yes(name, mode);
  };
  return [
    judged('transparent, private', anonymous, ['never'], `echo madvise | sudo tee ${file('enabled')}`),
    judged('transparent, shared', shared, ['never', 'deny'], `echo advise | sudo tee ${file('shmem_enabled')}`),
  ];
}

function numa({ numaNodes }: MachineFacts): Judged {
  const nodes = numaNodes.join(', ');
  if (numaNodes.length > 1) return yes('NUMA', `nodes ${nodes}`);
  return no('NUMA', numaNodes.length === 1 ? `one node: ${nodes}` : 'the kernel knows no nodes');
}

/** Features of userfaultfd that pages on demand and the tracking of writes are made of. */
const WANTED_FEATURES = ['MISSING_SHMEM', 'MINOR_SHMEM', 'PAGEFAULT_FLAG_WP', 'WP_HUGETLBFS_SHMEM', 'WP_ASYNC', 'MOVE'];

function userfaultfd(facts: MachineFacts): Judged {
  const { error, isUserModeOnly, features } = facts.userfaultfd;
  const name = 'userfaultfd';
  if (error === 'ENOSYS') return no(name, 'not in this kernel', 'a kernel with CONFIG_USERFAULTFD');
  if (error === 'UNKNOWN') return no(name, NOT_ASKED);
  const mend = 'sudo sysctl vm.unprivileged_userfaultfd=1';
  if (isUserModeOnly) return low(name, "for this process's own faults alone, not for a guest's", mend);
  if (error !== undefined) return no(name, `refused (${error})`, mend);
  const missing = WANTED_FEATURES.filter((feature) => !features.includes(feature));
  return missing.length === 0
    ? yes(name, "for a guest's faults too, with all features")
    : low(name, `without ${missing.join(', ')}`, kernelSince(facts, '6.8', 'CONFIG_PTE_MARKER_UFFD_WP'));
}

function pagemapScan(facts: MachineFacts): Judged {
  const { error } = facts.pagemapScan;
  const { features, isUserModeOnly } = facts.userfaultfd;
  const name = 'PAGEMAP_SCAN';
  if (error === 'UNKNOWN') return no(name, NOT_ASKED);
  if (error === undefined) return yes(name, 'dirty pages of every writer at once');
  if (features.includes('WP_HUGETLBFS_SHMEM') && !isUserModeOnly) {
    return low(name, `not here (${error}): dirty pages are found by faults, more slowly`, kernelSince(facts, '6.7'));
  }
  return no(name, `not here (${error})`, kernelSince(facts, '6.7'));
}

function protectionKeys({ protectionKeys: { error } }: MachineFacts): Judged {
  const name = 'protection keys';
  if (error === 'UNKNOWN') return no(name, NOT_ASKED);
  return error === undefined
    ? yes(name, 'V8 protects its code with one')
    : no(name, `not on this machine (${error}); nothing needs them`);
}

// ---- Devices and limits ------------------------------------------------------------------------

function vfio({ vfio: { error, hasIommu, groups } }: MachineFacts): Judged {
  const name = 'VFIO';
  if (!hasIommu) {
    const mend = 'switch the IOMMU on: in the firmware, and on Intel with intel_iommu=on for the kernel';
    return no(name, 'no IOMMU', mend);
  }
  if (error === 'ENOENT') return no(name, 'there is no /dev/vfio/vfio', 'sudo modprobe vfio-pci');
  if (error !== undefined) return no(name, `cannot be opened (${error})`, 'sudo chmod 666 /dev/vfio/vfio');
  if (groups > 0) return yes(name, `${groups} groups of devices`);
  return no(name, 'no device is given to it', 'sudo driverctl set-override 0000:BB:DD.F vfio-pci');
}

function iommufd({ iommufd: { error } }: MachineFacts): Judged {
  const name = 'iommufd';
  if (error === undefined) return yes(name, '/dev/iommu');
  if (error === 'ENOENT') return no(name, 'there is no /dev/iommu', 'sudo modprobe iommufd');
  return no(name, `cannot be opened (${error})`, 'sudo setfacl -m "u:$USER:rw" /dev/iommu');
}

/** Pieces of a map that all lie apart, which an ordinary machine reaches seldom. */
const ENOUGH_MAPPINGS = 100_000;
const ENOUGH_DESCRIPTORS = 4096;

function limits({ mappings, lockedMemory, descriptors }: MachineFacts): Judged[] {
  const few = (used: Used, enough: number) => used.limit !== undefined && used.limit < enough;
  const says = ({ used, limit }: Used) => `${used} of ${limit ?? 'as many as wanted'} in use`;
  const hard = Math.max(ENOUGH_DESCRIPTORS, descriptors.hardLimit ?? 0);
  const locked = `${sized(lockedMemory.limit ?? 0)} may be pinned`;
  return [
    few(mappings, ENOUGH_MAPPINGS)
      ? low('mappings', says(mappings), 'sudo sysctl vm.max_map_count=1048576')
      : yes('mappings', says(mappings)),
    few(lockedMemory, GIB)
      ? low('locked memory', locked, 'sudo prlimit --pid $$ --memlock=unlimited, in the shell that starts it')
      : yes('locked memory', lockedMemory.limit === undefined ? 'as much as wanted may be pinned' : locked),
    few(descriptors, ENOUGH_DESCRIPTORS)
      ? low('descriptors', says(descriptors), `ulimit -n ${hard}`)
      : yes('descriptors', says(descriptors)),
  ];
}
