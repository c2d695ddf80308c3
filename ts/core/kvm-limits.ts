// Limits of KVM's virtual machines on x86.

import * as abi from '../../assembly/abi.ts';

/** Memory slots, of current kernels. */
export const KVM_SLOTS = 32764;
/** Bytes of the largest memory slot. */
export const KVM_LARGEST_SLOT = (2 ** 31 - 1) * abi.PAGE_SIZE;
