// State of vCPUs and virtual machines, in KVM's own structs: one table says which there are, how large they are, and
// which ioctls read and write them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "host/failure.h"

namespace membacking {

/// Owner of a state: whose descriptor its ioctls take.
enum class StateOwner { kKvm, kVm, kVcpu };

/// One struct that KVM reads and writes as a whole, or a list: a head that begins with the number of its entries, and
/// the entries.
struct StateKind {
  const char* name;
  StateOwner owner;
  /// Bytes of the struct, of a list's head.
  size_t size;
  /// Bytes of an entry; 0 for what is no list.
  size_t entrySize;
  /// Requests; 0 for one that there is not.
  unsigned long get;
  unsigned long set;
  const char* getName;
  const char* setName;
  /// Number that the struct begins with for the request; -1 for none.
  int64_t selector = -1;
  /// Whether the request takes and returns a number of 32 bits, and no struct.
  bool isNumber = false;
};

/// Null where nothing has this name.
const StateKind* findState(const std::string& name);

/// Makes the kind what it is on a machine with so many bytes of XSAVE state: more than a page have a request of their
/// own. Other kinds stay as they are.
void enlarge(StateKind& kind, size_t xsaveSize);

/// Whether so many bytes are the struct, or a list of some length.
bool fits(const StateKind& kind, size_t bytes);

/// Reads into `bytes`, of which as many as fit are the question where KVM takes one. `result` is what the request
/// returns. EINVAL: there is no such request.
Failure readState(int fd, const StateKind& kind, uint8_t* bytes, size_t length, int& result);
Failure writeState(int fd, const StateKind& kind, const uint8_t* bytes, size_t length, int& result);

}  // namespace membacking
