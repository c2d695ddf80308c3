// The machine: features of its kernel and processor that nothing but a call shows.
#pragma once

#include <cstdint>

namespace membacking {

/// Errors are those of the calls that try a feature; 0 where there is it.
struct MachineAnswers {
  int userfaultfdError = 0;
  /// A userfaultfd gets the faults of this process's own code alone, not those of KVM for a guest.
  bool isUserModeOnly = false;
  /// UFFD_FEATURE_* bits that the kernel has.
  uint64_t userfaultfdFeatures = 0;
  int pagemapScanError = 0;
  int protectionKeysError = 0;
};

/// Tries each feature, and gives back what that took.
MachineAnswers askMachine();

}  // namespace membacking
