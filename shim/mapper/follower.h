// Followers: the client's side of a mapper. A thread carries out its manager's commands whatever JavaScript does.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "executor.h"
#include "host/channel.h"
#include "host/reservation.h"
#include "mapper/requests.h"
#include "sinks/message.h"

namespace membacking {

/// Guest memory of another process's manager, in a VA space of this one: there is one for each memory, however many
/// clients open it. It ends with the last of them, or with the manager: then nothing is mapped in it.
class Follower : public std::enable_shared_from_this<Follower> {
 public:
  /// Opens the memory at the other end of a channel. Waits for the manager, but not longer than `milliseconds` for each
  /// answer; and for other threads only where they open the same.
  static Failure open(Channel channel, int milliseconds, std::shared_ptr<Follower>& result);

  const std::shared_ptr<Reservation>& reservation() const { return reservation_; }
  bool hasEnded() const { return hasEnded_; }
  /// Takes back one open().
  void leave();
  /// Counts one more open(). With the mutex of all followers.
  void addUser() { users_++; }
  /// Number of the channel that it was opened by.
  uint64_t channel() const { return channel_; }

 private:
  Follower(std::shared_ptr<Requests> requests, uint64_t channel) : requests_(std::move(requests)), channel_(channel) {}
  Failure join(Requests& requests, int milliseconds);
  Failure begin(const Message& welcome, const std::vector<FileDescriptor>& ends, int milliseconds);

  static void* runThread(void* share);
  void follow();
  bool obey(Received& received);
  Failure carryOut(const Message& run, const Received& received, uint32_t& done);
  Failure takeBack(const uint8_t* records, uint32_t count, uint32_t& done);
  void end();

  const std::shared_ptr<Requests> requests_;
  const uint64_t channel_;
  Channel commands_;
  std::shared_ptr<Reservation> reservation_;
  std::unique_ptr<Executor> executor_ = std::make_unique<Executor>();
  uint64_t memory_ = 0;
  uint64_t mapper_ = 0;
  /// Number of the last run.
  uint64_t last_ = 0;
  std::atomic<bool> hasEnded_{false};
  /// Times that it is open. With the mutex of all followers.
  uint32_t users_ = 0;
};

}  // namespace membacking
