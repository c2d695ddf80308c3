// Numbers of KVM on x86: what linux/kvm.h and asm/kvm.h name, and limits of its virtual machines.

import * as abi from '../../assembly/abi.ts';

/** Memory slots, of current kernels. */
export const KVM_SLOTS = 32764;
/** Bytes of the largest memory slot. */
export const KVM_LARGEST_SLOT = (2 ** 31 - 1) * abi.PAGE_SIZE;

/** Quirks of KVM that can be switched off, as bits of what `checkExtension(KVM_CAP.DISABLE_QUIRKS2)` says:
 *  KVM_X86_QUIRK_ of asm/kvm.h. */
export const KVM_QUIRK = {
  /** Page tables of all slots are forgotten when one goes. It can be left off since Linux 6.12. */
  SLOT_ZAP_ALL: 1 << 7,
} as const;

/** Capabilities of KVM by name, for `checkExtension`: KVM_CAP_ of linux/kvm.h. */
export const KVM_CAP = {
  IRQCHIP: 0,
  NR_VCPUS: 9,
  NR_MEMSLOTS: 10,
  COALESCED_MMIO: 15,
  IRQFD: 32,
  PIT2: 33,
  IOEVENTFD: 36,
  TSC_CONTROL: 60,
  MAX_VCPUS: 66,
  TSC_DEADLINE_TIMER: 72,
  SIGNAL_MSI: 77,
  READONLY_MEM: 81,
  MULTI_ADDRESS_SPACE: 118,
  IOEVENTFD_ANY_LENGTH: 122,
  MAX_VCPU_ID: 128,
  IMMEDIATE_EXIT: 136,
  MANUAL_DIRTY_LOG_PROTECT2: 168,
  DIRTY_LOG_RING: 192,
  XSAVE2: 208,
  DISABLE_QUIRKS2: 213,
  MEMORY_FAULT_INFO: 232,
  MEMORY_ATTRIBUTES: 233,
  GUEST_MEMFD: 234,
  VM_TYPES: 235,
} as const;

/** Reasons why a run ended, by name: KVM_EXIT_ of linux/kvm.h. */
export const KVM_EXIT = {
  UNKNOWN: 0,
  IO: 2,
  HLT: 5,
  MMIO: 6,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
  MEMORY_FAULT: 39,
} as const;
