// Channels: Unix sockets that keep messages apart (SOCK_SEQPACKET), with descriptors and the sender's credentials.
// Nothing here waits but awaitReadable().
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "host/failure.h"
#include "host/fd.h"

namespace membacking {

/// Bytes that a message has at most.
inline constexpr size_t kMostMessageBytes = 8192;

/// A message as it came.
struct Received {
  /// Empty where the peer has closed the channel.
  std::vector<uint8_t> bytes;
  std::vector<FileDescriptor> descriptors;
  /// Credentials of the sender, by the kernel; 0 and -1 where it did not say.
  pid_t pid = 0;
  uid_t uid = static_cast<uid_t>(-1);
};

/// One end of a channel, or none.
class Channel {
 public:
  Channel() = default;
  /// Makes both ends of a new channel.
  static Failure create(Channel& one, Channel& other);
  /// Makes an end of a duplicate of the caller's descriptor. EPROTOTYPE: it is no such socket's.
  static Failure adopt(int fd, Channel& result);

  int fd() const { return fd_.get(); }
  bool isOpen() const { return fd_.isOpen(); }

  /// Whether both are the same end of the same channel.
  bool isSame(const Channel& other) const;
  /// Asks the kernel for the credentials of who sends.
  Failure wantCredentials() const;
  /// Sends a message at once. EAGAIN: there is no room for it; EPIPE, ECONNRESET: the peer has closed the channel.
  Failure send(const void* bytes, size_t length, const std::vector<int>& descriptors = {}) const;
  /// Takes the next message; without descriptors for which this process has no room. EAGAIN: there is none; EMSGSIZE:
  /// it is too large, and gone.
  Failure receive(Received& received) const;
  /// Waits until something can be received, or the peer has closed the channel. ETIMEDOUT.
  Failure awaitReadable(int milliseconds) const;
  /// Waits until there is room for a message. ETIMEDOUT.
  Failure awaitWritable(int milliseconds) const;
  /// Ends the channel for both sides.
  void shutDown() const;

 private:
  Failure await(short events, int milliseconds) const;
  explicit Channel(FileDescriptor fd) : fd_(std::move(fd)) {}

  FileDescriptor fd_;
};

}  // namespace membacking
