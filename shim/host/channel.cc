// Channels: the calls, and the control messages around descriptors and credentials.

#include "host/channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <utility>

#include "host/invariant.h"

namespace membacking {
namespace {

/// Descriptors that one message has at most, as the kernel says (SCM_MAX_FD).
constexpr size_t kMostDescriptors = 253;
constexpr size_t kControlBytes = CMSG_SPACE(kMostDescriptors * sizeof(int)) + CMSG_SPACE(sizeof(ucred));

/// Whether a descriptor is of a Unix socket that keeps messages apart.
bool isOfChannel(int fd) {
  int domain = 0;
  int type = 0;
  socklen_t size = sizeof domain;
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) return false;
  size = sizeof type;
  return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && domain == AF_UNIX && type == SOCK_SEQPACKET;
}

/// Takes descriptors and credentials out of a message's control messages.
void takeControl(msghdr& message, Received& received) {
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each)) {
    if (each->cmsg_level != SOL_SOCKET) continue;
    // SAFETY: the kernel has written what the header says, in the buffer whose length it was given.
    const auto* data = reinterpret_cast<const uint8_t*>(CMSG_DATA(each));
    const size_t length = each->cmsg_len - CMSG_LEN(0);
    if (each->cmsg_type == SCM_RIGHTS) {
      for (size_t at = 0; at + sizeof(int) <= length; at += sizeof(int)) {
        int fd = -1;
        // SAFETY: inside the data (above).
        std::memcpy(&fd, data + at, sizeof fd);
        received.descriptors.emplace_back(fd);
      }
    } else if (each->cmsg_type == SCM_CREDENTIALS && length >= sizeof(ucred)) {
      ucred sender;
      // SAFETY: inside the data (above).
      std::memcpy(&sender, data, sizeof sender);
      received.pid = sender.pid;
      received.uid = sender.uid;
    }
  }
}

}  // namespace

Failure Channel::create(Channel& one, Channel& other) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return failedCall("socketpair");
  one = Channel(FileDescriptor(ends[0]));
  other = Channel(FileDescriptor(ends[1]));
  return kDone;
}

Failure Channel::adopt(int fd, Channel& result) {
  FileDescriptor own = FileDescriptor::duplicate(fd);
  if (!own.isOpen()) return failedCall("fcntl");
  if (!isOfChannel(own.get())) return {EPROTOTYPE, "getsockopt", "the descriptor is of no Unix socket for messages"};
  result = Channel(std::move(own));
  return kDone;
}

bool Channel::isSame(const Channel& other) const {
  struct stat own;
  struct stat others;
  return readFacts(fd(), own) == 0 && readFacts(other.fd(), others) == 0 && own.st_ino == others.st_ino;
}

Failure Channel::wantCredentials() const {
  const int yes = 1;
  return ::setsockopt(fd(), SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) == 0 ? kDone : failedCall("setsockopt");
}

Failure Channel::send(const void* bytes, size_t length, const std::vector<int>& descriptors) const {
  INVARIANT(length != 0 && length <= kMostMessageBytes && descriptors.size() <= kMostDescriptors);
  iovec part = {const_cast<void*>(bytes), length};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[kControlBytes] = {};
  if (!descriptors.empty()) {
    const size_t size = descriptors.size() * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(size);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(size);
    // SAFETY: the buffer has room for as many as a message may have (above).
    std::memcpy(CMSG_DATA(header), descriptors.data(), size);
  }
  return ::sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ? kDone : failedCall("sendmsg");
}

Failure Channel::receive(Received& received) const {
  received = {};
  received.bytes.resize(kMostMessageBytes);
  iovec part = {received.bytes.data(), received.bytes.size()};
  alignas(cmsghdr) char control[kControlBytes];
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t length = ::recvmsg(fd(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (length < 0) return failedCall("recvmsg");
  received.bytes.resize(static_cast<size_t>(length));
  takeControl(message, received);
  return (message.msg_flags & MSG_TRUNC) != 0 ? Failure{EMSGSIZE, "recvmsg", "the message is too large"} : kDone;
}

Failure Channel::awaitReadable(int milliseconds) const { return await(POLLIN, milliseconds); }
Failure Channel::awaitWritable(int milliseconds) const { return await(POLLOUT, milliseconds); }

Failure Channel::await(short events, int milliseconds) const {
  pollfd one = {fd(), events, 0};
  const int count = ::poll(&one, 1, milliseconds);
  if (count < 0 && errno != EINTR) return failedCall("poll");
  return count == 0 ? Failure{ETIMEDOUT, "poll", nullptr} : kDone;
}

void Channel::shutDown() const { ::shutdown(fd(), SHUT_RDWR); }

}  // namespace membacking
