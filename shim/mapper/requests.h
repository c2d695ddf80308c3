// Requests of a client to its manager: one at a time, by whatever thread, which waits for the answer.
#pragma once

#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "host/channel.h"
#include "host/reservation.h"
#include "host/use_map.h"
#include "sinks/message.h"

namespace membacking {

/// Channel of a client's requests, and the ranges that its mapper follows: what is shown there is mapped, now and after
/// every change. Others are asked for when they are used for the first time.
class Requests : public Bringer {
 public:
  explicit Requests(Channel channel) : channel_(std::move(channel)) {}

  /// Sends a message, which becomes the answer: one of `kind`, within `milliseconds` (-1: however long it takes).
  /// `descriptors`: those that come along. ETIMEDOUT; ECONNRESET: the manager has gone; EPROTO; and what the answer
  /// says.
  Failure exchange(Message& message, uint32_t kind, int milliseconds, std::vector<FileDescriptor>& descriptors);
  /// Says that the client uses the memory no more.
  void sendEnd();
  /// Ends all requests, also those that are waited for.
  void shutDown() const { channel_.shutDown(); }

  /// Enters that a range is followed.
  void follow(uint64_t start, uint64_t length);
  bool bring(uint64_t gpa, uint64_t length) override;

 private:
  Failure exchangeInTurn(Message& message, uint32_t kind, int milliseconds, std::vector<FileDescriptor>& descriptors);
  Failure receive(Message& message, uint32_t kind, int milliseconds, std::vector<FileDescriptor>& descriptors) const;
  uint64_t firstNotFollowed(uint64_t start, uint64_t end) const;

  const Channel channel_;
  /// Held from a request to its answer.
  std::mutex turn_;
  uint64_t last_ = 0;
  mutable std::shared_mutex mutex_;
  /// Uses of what is followed: all of them, and none of the rest.
  UseMap followed_{Use::kNothing};
};

}  // namespace membacking
