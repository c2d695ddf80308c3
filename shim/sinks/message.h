// Messages between a manager and its clients, as assembly/abi.ts draws them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi.h"
#include "host/channel.h"
#include "sinks/command.h"

namespace membacking {

/// Header of every message.
struct Message {
  uint32_t kind = 0;
  uint32_t version = abi::ABI_VERSION;
  uint64_t sequence = 0;
  uint64_t start = 0;
  uint64_t length = 0;
  uint32_t error = 0;
  uint32_t done = 0;
  uint32_t objects = 0;
  uint32_t count = 0;
  uint64_t memory = 0;
  uint64_t mapper = 0;
};

static_assert(sizeof(Message) == abi::MESSAGE_SIZE && offsetof(Message, kind) == abi::MESSAGE_KIND &&
              offsetof(Message, version) == abi::MESSAGE_VERSION &&
              offsetof(Message, sequence) == abi::MESSAGE_SEQUENCE && offsetof(Message, start) == abi::MESSAGE_START &&
              offsetof(Message, length) == abi::MESSAGE_LENGTH && offsetof(Message, error) == abi::MESSAGE_ERROR &&
              offsetof(Message, done) == abi::MESSAGE_DONE && offsetof(Message, objects) == abi::MESSAGE_OBJECTS &&
              offsetof(Message, count) == abi::MESSAGE_COUNT && offsetof(Message, memory) == abi::MESSAGE_MEMORY &&
              offsetof(Message, mapper) == abi::MESSAGE_MAPPER);

/// Object in a run.
struct SharedObject {
  uint32_t id;
  uint32_t flags;
  uint64_t bytes;
};

static_assert(sizeof(SharedObject) == abi::SHARED_OBJECT_SIZE &&
              offsetof(SharedObject, id) == abi::SHARED_OBJECT_ID &&
              offsetof(SharedObject, flags) == abi::SHARED_OBJECT_FLAGS &&
              offsetof(SharedObject, bytes) == abi::SHARED_OBJECT_BYTES);

static_assert(sizeof(Message) + abi::MAX_RUN_OBJECTS * sizeof(SharedObject) +
                  abi::MAX_RUN_COMMANDS * sizeof(Command) <=
              kMostMessageBytes);

/// Refusal of a message that is not as it must be.
constexpr Failure garbled(const char* reason) { return {EPROTO, "recvmsg", reason}; }

}  // namespace membacking
