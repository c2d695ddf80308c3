// Growth of cost in the systems that this one is compared with: measured once, natively compiled, without the work of
// the operating system, on a machine like those that this is developed on.

import type { Curve } from './rows.ts';

export const OPENVMM_MAPPINGS: Curve = {
  name: 'OpenVMM (native)',
  points: [
    { size: 1000, ns: 6500 },
    { size: 4096, ns: 31_000 },
    { size: 32_768, ns: 275_000 },
    { size: 100_000, ns: 1_100_000 },
  ],
};

export const OPENVMM_REGIONS: Curve = {
  name: 'OpenVMM (native)',
  points: [
    { size: 10, ns: 100 },
    { size: 1000, ns: 6400 },
    { size: 10_000, ns: 58_000 },
    { size: 50_000, ns: 474_000 },
  ],
};

export const OPENVMM_OVERLAY: Curve = { name: 'OpenVMM (native)', points: [{ size: 10_000, ns: 81_000 }] };

export const QEMU_COMMIT: Curve = {
  name: 'QEMU 7.2, one commit',
  points: [
    { size: 10, ns: 16_000 },
    { size: 100, ns: 31_000 },
    { size: 1000, ns: 425_000 },
    { size: 4000, ns: 9_060_000 },
    { size: 10_000, ns: 57_000_000 },
  ],
};

export const VM_MEMORY_U32: Curve = {
  name: 'rust-vmm vm-memory (native)',
  points: [
    { size: 1, ns: 5 },
    { size: 4, ns: 9 },
    { size: 64, ns: 13 },
  ],
};
