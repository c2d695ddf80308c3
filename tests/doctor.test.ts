// The doctor: facts from a machine's files and calls, and what is said of them.

import { spawnSync } from 'node:child_process';
import test from 'ava';
import { canRunGuests, diagnose, renderFindings } from '../ts/cli/diagnosis.ts';
import { KVM_CAP } from '../ts/core/kvm-numbers.ts';
import { native } from '../ts/core/native.ts';
import { inspectMachine } from '../ts/index.ts';
import { factsFrom } from '../ts/machine/facts.ts';
import type { MachineSource } from '../ts/machine/source.ts';
import { lines, membacking } from './support/cli.ts';
import { FAULTY_ENV } from './support/faulty-system.ts';

type Capability = keyof typeof KVM_CAP;

/** Texts by path, with the refusals of devices that are there. */
interface Machine {
  files?: Readonly<Record<string, string>>;
  folders?: Readonly<Record<string, readonly string[]>>;
  /** Codes of devices by path; '' for one that opens. Others are ENOENT. */
  devices?: Readonly<Record<string, string>>;
  answers?: Partial<ReturnType<MachineSource['ask']>>;
  addonError?: string;
  vmError?: string;
  capabilities?: Partial<Record<Capability, number>>;
  /** Version of Linux; default 6.12.1. */
  kernel?: string;
}

function fails(code: string): never {
  throw Object.assign(new Error(code), { code });
}

function sourceOf(machine: Machine): MachineSource {
  const device = (path: string) => machine.devices?.[path] ?? 'ENOENT';
  return {
    read: (path) => machine.files?.[path],
    list: (path) => [...(machine.folders?.[path] ?? [])],
    refusal: (path) => device(path) || undefined,
    ask() {
      if (machine.addonError !== undefined) throw new Error(machine.addonError);
      return { ...ALL_ANSWERS, ...machine.answers };
    },
    openKvm() {
      if (device('/dev/kvm')) fails(device('/dev/kvm'));
      const byNumber = new Map(Object.entries(KVM_CAP).map(([name, number]) => [number, name as Capability]));
      return {
        checkExtension: (number) => machine.capabilities?.[byNumber.get(number as never)!] ?? 0,
        createVm: () => (machine.vmError === undefined ? { close() {} } : fails(machine.vmError)),
        close() {},
      };
    },
    runtime: { node: '20.16.0', arch: 'x64', kernel: machine.kernel ?? '6.12.1', glibc: '2.36' },
  };
}

const ALL_ANSWERS = {
  userfaultfdError: 0,
  isUserModeOnly: false,
  userfaultfdFeatures: 0x1ffffn,
  pagemapScanError: 0,
  protectionKeysError: 0,
};

const LIMITS = (locked: string, files: string) =>
  `Limit                     Soft Limit           Hard Limit           Units
Max open files            ${files.padEnd(20)} 524288               files
Max locked memory         ${locked.padEnd(20)} unlimited            bytes
`;

const POOL = '/sys/kernel/mm/hugepages/hugepages-2048kB';
const THP = '/sys/kernel/mm/transparent_hugepage';

/** A machine that has everything. */
const WELL: Machine = {
  files: {
    '/proc/cpuinfo': 'processor\t: 0\nflags\t\t: fpu svm pku\n',
    '/sys/module/kvm_amd/parameters/npt': 'Y\n',
    [`${POOL}/nr_hugepages`]: '512\n',
    [`${POOL}/free_hugepages`]: '500\n',
    [`${POOL}/resv_hugepages`]: '100\n',
    [`${POOL}/nr_overcommit_hugepages`]: '0\n',
    [`${THP}/enabled`]: 'always [madvise] never\n',
    [`${THP}/shmem_enabled`]: 'always within_size [advise] never deny force\n',
    '/proc/self/limits': LIMITS('unlimited', '20000'),
    '/proc/self/status': 'VmLck:\t     128 kB\n',
    '/proc/self/maps': 'a\nb\nc\n',
    '/proc/sys/vm/max_map_count': '1048576\n',
  },
  folders: {
    '/sys/module': ['kvm', 'kvm_amd'],
    '/sys/kernel/mm/hugepages': ['hugepages-2048kB'],
    '/sys/devices/system/node': ['has_cpu', 'node0', 'node1'],
    '/sys/class/iommu': ['ivhd0'],
    '/dev/vfio': ['vfio', '7', '12'],
    '/proc/self/fd': ['0', '1', '2'],
  },
  devices: { '/dev/kvm': '', '/dev/vfio/vfio': '', '/dev/iommu': '' },
  capabilities: {
    ...Object.fromEntries(Object.keys(KVM_CAP).map((name) => [name, 1])),
    ...{ NR_MEMSLOTS: 32764, NR_VCPUS: 64, MAX_VCPUS: 4096, DISABLE_QUIRKS2: 0x3ff, VM_TYPES: 3 },
  },
};

/** The good machine, changed. */
function but(changes: Machine): Machine {
  return {
    ...WELL,
    ...changes,
    files: { ...WELL.files, ...changes.files },
    folders: { ...WELL.folders, ...changes.folders },
    devices: { ...WELL.devices, ...changes.devices },
  };
}

function findings(machine: Machine) {
  return diagnose(factsFrom(sourceOf(machine)));
}

test('a machine that has everything', (t) => {
  const facts = factsFrom(sourceOf(WELL));
  t.snapshot(facts);
  t.snapshot(renderFindings(diagnose(facts)));
  t.deepEqual(
    findings(WELL).filter(({ state, mend }) => state !== 'yes' || mend !== undefined),
    [],
  );
  t.true(canRunGuests(facts));
});

const NO_KVM = { devices: { '/dev/kvm': 'ENOENT' } };

/** Machines that lack something. */
const LACKING: Readonly<Record<string, Machine>> = {
  'no addon': but({ addonError: 'Build it with "npm run build".' }),
  'no module of KVM, AMD': but({ ...NO_KVM, folders: { '/sys/module': [] } }),
  'no module of KVM, Intel': but({
    ...NO_KVM,
    folders: { '/sys/module': [] },
    files: { '/proc/cpuinfo': 'flags : vmx\n' },
  }),
  'no virtualisation': but({ ...NO_KVM, folders: { '/sys/module': [] }, files: { '/proc/cpuinfo': 'flags : fpu\n' } }),
  'a container': but(NO_KVM),
  'another user': but({ devices: { '/dev/kvm': 'EACCES', '/dev/vfio/vfio': 'EACCES', '/dev/iommu': 'EACCES' } }),
  'a KVM that is broken': but({ devices: { '/dev/kvm': 'EIO' } }),
  'another hypervisor': but({ vmError: 'EBUSY' }),
  'no nested paging': but({ files: { '/sys/module/kvm_amd/parameters/npt': 'N' } }),
  'an old kernel': but({
    kernel: '5.9.17-generic',
    answers: { pagemapScanError: 25, protectionKeysError: 38, userfaultfdFeatures: 0xfffn },
    capabilities: { READONLY_MEM: 1, IMMEDIATE_EXIT: 1 },
    devices: { '/dev/iommu': 'ENOENT' },
  }),
  "Debian 12's kernel": but({
    kernel: '6.1.0-56-amd64',
    answers: { pagemapScanError: 25, userfaultfdFeatures: 0x1fffn },
  }),
  'a new kernel that is built without': but({
    answers: { pagemapScanError: 25, userfaultfdFeatures: 0xfffn },
    capabilities: { READONLY_MEM: 1, IMMEDIATE_EXIT: 1 },
  }),
  'no huge pages': but({
    files: {
      [`${POOL}/nr_hugepages`]: '100',
      [`${POOL}/free_hugepages`]: '0',
      [`${POOL}/resv_hugepages`]: '0',
      [`${THP}/enabled`]: 'always madvise [never]',
      [`${THP}/shmem_enabled`]: 'always within_size advise never [deny] force',
    },
  }),
  'a kernel without huge pages': but({
    folders: { '/sys/kernel/mm/hugepages': [] },
    files: { [`${THP}/enabled`]: '', [`${THP}/shmem_enabled`]: '' },
  }),
  'one node': but({ folders: { '/sys/devices/system/node': ['node0'] } }),
  'a kernel without nodes': but({ folders: { '/sys/devices/system/node': [] } }),
  'userfaultfd for itself': but({ answers: { isUserModeOnly: true } }),
  'userfaultfd refused': but({ answers: { userfaultfdError: 1 } }),
  'userfaultfd not built': but({ answers: { userfaultfdError: 38 } }),
  'no IOMMU': but({ folders: { '/sys/class/iommu': [] } }),
  'no VFIO': but({ devices: { '/dev/vfio/vfio': 'ENOENT' } }),
  'no device for VFIO': but({ folders: { '/dev/vfio': ['vfio'] } }),
  'narrow limits': but({
    files: { '/proc/self/limits': LIMITS('8388608', '1024'), '/proc/sys/vm/max_map_count': '65530' },
  }),
  'nothing to be read': {},
};

test('what a machine lacks, and what mends it', (t) => {
  const well = findings(WELL);
  const isNew = (line: string) => !renderFindings(well).includes(line);
  t.snapshot(
    Object.fromEntries(
      Object.entries(LACKING).map(([what, machine]) => {
        const found = findings(machine);
        const worse = found.filter((each) => !well.some((other) => JSON.stringify(other) === JSON.stringify(each)));
        t.true(worse.length > 0, what);
        return [what, renderFindings(worse).filter(isNew)];
      }),
    ),
  );
});

test('guests run where the addon loads and KVM makes machines', (t) => {
  const run = (name: string) => canRunGuests(factsFrom(sourceOf(LACKING[name]!)));
  for (const name of ['no addon', 'a container', 'another user', 'another hypervisor']) t.false(run(name), name);
  for (const name of ['an old kernel', 'narrow limits', 'no IOMMU']) t.true(run(name), name);
});

test('facts of this machine are what the system says', (t) => {
  const { addonError, kvm, descriptors, runtime, hugePages } = inspectMachine();
  t.is(addonError, undefined);
  t.is(runtime.node, process.versions.node);
  t.true(descriptors.used > 0 && descriptors.used < (descriptors.limit ?? Number.POSITIVE_INFINITY));
  for (const { free, total } of hugePages) t.true(free <= total);
  let isThere = true;
  try {
    const opened = native().Kvm.open();
    t.is(kvm.capabilities.NR_MEMSLOTS, opened.checkExtension(KVM_CAP.NR_MEMSLOTS));
    opened.close();
  } catch {
    isThere = false;
  }
  t.is(kvm.error === undefined, isThere);
});

test('the command says it of this machine, as text and as JSON', (t) => {
  const [text, json] = [membacking(['doctor']), membacking(['doctor', '--json'])];
  const { canRunGuests: isWell, findings: found, facts } = JSON.parse(json.out);
  t.is(isWell, facts.kvm.error === undefined && facts.kvm.vmError === undefined);
  for (const { code, err } of [text, json]) t.deepEqual({ code, err }, { code: isWell ? 0 : 1, err: '' });
  const shown = lines(text.out).filter((line) => /^ {2}(yes|no|low) /.test(line));
  t.is(shown.length, found.length);
  t.deepEqual(
    found.map(({ name }: { name: string }) => name),
    diagnose(inspectMachine()).map(({ name }) => name),
  );
});

test('on a machine whose pages are larger nothing is mapped, and the doctor says why', (t) => {
  const env = { ...FAULTY_ENV, PAGE_BYTES: '65536' };
  const { stdout, status } = spawnSync(process.execPath, ['build/cli.js', 'doctor'], { encoding: 'utf8', env });
  t.is(status, 1);
  t.regex(stdout, /the machine's pages have 65536 bytes, and only 4096 will do/);
});
