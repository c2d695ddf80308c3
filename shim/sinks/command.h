// Commands: the records that a plan is made of.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi.h"
#include "host/failure.h"
#include "host/host_range.h"
#include "host/use.h"

namespace membacking {

/// Record of a plan, as assembly/abi.ts draws it. `region`, its offset, and an event's `offset` are for people.
struct Command {
  uint32_t op;
  uint32_t sink;
  uint64_t gpa;
  uint64_t length;
  uint64_t offset;
  /// Object whose bytes the command is about, VA space that it shows a part of, or event: the kind of sink says which.
  union {
    uint32_t object;
    uint32_t va;
    uint32_t event;
  };
  uint32_t access;
  /// Number of a slot, or EVENT_*.
  uint32_t slot;
  uint32_t region;
  uint64_t offsetInRegion;
  uint64_t match;
};

static_assert(sizeof(Command) == abi::COMMAND_SIZE && offsetof(Command, op) == abi::COMMAND_OP &&
              offsetof(Command, sink) == abi::COMMAND_SINK && offsetof(Command, gpa) == abi::COMMAND_GPA &&
              offsetof(Command, length) == abi::COMMAND_LENGTH && offsetof(Command, offset) == abi::COMMAND_OFFSET &&
              offsetof(Command, object) == abi::COMMAND_OBJECT && offsetof(Command, va) == abi::COMMAND_VA &&
              offsetof(Command, event) == abi::COMMAND_EVENT && offsetof(Command, match) == abi::COMMAND_MATCH &&
              offsetof(Command, access) == abi::COMMAND_ACCESS && offsetof(Command, slot) == abi::COMMAND_SLOT &&
              offsetof(Command, region) == abi::COMMAND_REGION &&
              offsetof(Command, offsetInRegion) == abi::COMMAND_OFFSET_IN_REGION);

/// Whether the range of a command is whole pages.
inline bool isWholePages(const Command& command) { return (command.gpa | command.length) % kPageSize == 0; }

/// Use of memory that an access (ACCESS_*) comes to.
constexpr Use useOf(uint32_t access) {
  if (access & abi::ACCESS_WRITE) return Use::kAll;
  return access & abi::ACCESS_READ ? Use::kRead : Use::kNothing;
}

/// Refusal of a command before any of it is carried out.
constexpr Failure invalid(const char* reason) { return {EINVAL, "plan", reason}; }

/// Refusal of a command for another kind of sink.
inline constexpr Failure kNoSuchOperation = invalid("the sink has no such operation");

}  // namespace membacking
