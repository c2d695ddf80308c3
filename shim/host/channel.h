// Channels: Unix sockets that keep messages apart (SOCK_SEQPACKET), with descriptors and the sender's credentials.
// Nothing here waits but what says so by its name, and connect().
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/failure.h"
#include "host/fd.h"

namespace membacking {

/// Bytes that a message has at most.
inline constexpr size_t kMostMessageBytes = 8192;

/// A process and its user, by the kernel; 0 and -1 where it did not say.
struct Credentials {
  pid_t pid = 0;
  uid_t uid = static_cast<uid_t>(-1);
};

/// A message as it came.
struct Received {
  /// Bytes of it; none where the peer has closed the channel.
  std::vector<uint8_t> bytes;
  std::vector<FileDescriptor> descriptors;
  Credentials sender;
};

/// One end of a channel, or none.
class Channel {
 public:
  Channel() = default;
  explicit Channel(FileDescriptor fd) : fd_(std::move(fd)) {}
  /// Makes both ends of a new channel.
  static Failure create(Channel& one, Channel& other);
  /// Makes an end of a duplicate of the caller's descriptor. EPROTOTYPE: it is no such socket's.
  static Failure adopt(int fd, Channel& result);
  /// Makes an end of a new channel to whoever listens at a path. ECONNREFUSED: nobody does; ETIMEDOUT.
  static Failure connect(const std::string& path, int milliseconds, Channel& result);

  int fd() const { return fd_.get(); }
  bool isOpen() const { return fd_.isOpen(); }

  /// Number of the end, which is the same for all of its descriptors.
  uint64_t number() const;
  /// Reads who has made the other end, or listened for it.
  Failure readPeer(Credentials& peer) const;
  /// Asks the kernel for the credentials of who sends.
  Failure wantCredentials() const;
  /// Sends a message at once. EAGAIN: there is no room for it; EPIPE, ECONNRESET: the peer has closed the channel.
  Failure send(const void* bytes, size_t length, const std::vector<int>& descriptors = {}) const;
  /// Takes the next message; without descriptors for which this process has no room. EAGAIN: there is none; EMSGSIZE:
  /// it is too large, and gone.
  Failure receive(Received& received) const;
  /// Takes the next message, however long it takes to come. EINTR.
  Failure awaitMessage(Received& received) const;
  /// Waits until something can be received, or the peer has closed the channel. ETIMEDOUT.
  Failure awaitReadable(int milliseconds) const;
  /// Waits until there is room for a message. ETIMEDOUT.
  Failure awaitWritable(int milliseconds) const;
  /// Ends the channel for both sides.
  void shutDown() const;

 private:
  Failure receive(Received& received, int flags) const;
  Failure await(short events, int milliseconds) const;

  FileDescriptor fd_;
};

/// Socket at a path of the file system, to which clients come. Its end takes the path away, unless it is another's by
/// then.
class Listener {
 public:
  /// Listens at a path, whose socket only this user may reach, or any. Takes the place of a socket at which nobody
  /// listens any more. EADDRINUSE: something else is there; ENAMETOOLONG.
  static Failure listen(const std::string& path, bool isForAll, std::shared_ptr<Listener>& result);
  ~Listener();

  /// Readable while somebody waits to be accepted.
  int fd() const { return fd_.get(); }
  /// Takes the next client, whose messages have credentials. EAGAIN: there is none; EMFILE.
  Failure accept(Channel& result) const;

 private:
  std::string path_;
  FileDescriptor fd_;
  /// Inode of the socket's file.
  uint64_t inode_ = 0;
};

}  // namespace membacking
