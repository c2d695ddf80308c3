// Channels: the calls, and the control messages around descriptors and credentials.

#include "host/channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

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

/// Address of a path; whether it is short enough.
bool toAddress(const std::string& path, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return false;
  path.copy(address.sun_path, path.size());
  return true;
}

/// Calls the system with an address as it wants it.
template <typename Call>
Failure addressed(Call call, const char* name, int fd, const sockaddr_un& address) {
  // SAFETY: the kernel reads as many bytes as the address has.
  const auto* bytes = reinterpret_cast<const sockaddr*>(&address);
  return call(fd, bytes, sizeof address) == 0 ? kDone : failedCall(name);
}

Failure connectTo(int fd, const sockaddr_un& address) { return addressed(::connect, "connect", fd, address); }

/// Facts about what stands at a path, be it a link; false where there is nothing. By its number: glibc has had a symbol
/// for it since 2.33 alone.
bool findAt(const char* path, struct stat& facts) {
  // SAFETY: on 64-bit machines the kernel fills the structure that the libraries have.
  return ::syscall(SYS_newfstatat, AT_FDCWD, path, &facts, AT_SYMLINK_NOFOLLOW) == 0;
}

/// Whether nobody listens at a socket that is there.
bool isForsaken(const sockaddr_un& address) {
  struct stat facts;
  if (!findAt(address.sun_path, facts) || !S_ISSOCK(facts.st_mode)) return false;
  const FileDescriptor fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return fd.isOpen() && connectTo(fd.get(), address).error == ECONNREFUSED;
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
      received.sender = {sender.pid, sender.uid};
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

Failure Channel::connect(const std::string& path, int milliseconds, Channel& result) {
  sockaddr_un address;
  if (!toAddress(path, address)) return {ENAMETOOLONG, "connect", nullptr};
  Channel channel(FileDescriptor(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)));
  if (!channel.isOpen()) return failedCall("socket");
  const timeval most = {milliseconds / 1000, milliseconds % 1000 * 1000};
  if (::setsockopt(channel.fd(), SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most) != 0) return failedCall("setsockopt");
  if (Failure failure = connectTo(channel.fd(), address)) {
    // The other side has as many waiting as it may.
    if (failure.error == EAGAIN) failure.error = ETIMEDOUT;
    return failure;
  }
  result = std::move(channel);
  return kDone;
}

uint64_t Channel::number() const {
  struct stat facts;
  INVARIANT(readFacts(fd(), facts) == 0);
  return facts.st_ino;
}

Failure Channel::readPeer(Credentials& peer) const {
  ucred found;
  socklen_t size = sizeof found;
  if (::getsockopt(fd(), SOL_SOCKET, SO_PEERCRED, &found, &size) != 0) return failedCall("getsockopt");
  peer = {found.pid, found.uid};
  return kDone;
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
  alignas(cmsghdr) char control[kControlBytes];
  if (!descriptors.empty()) {
    const size_t size = descriptors.size() * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(size);
    // SAFETY: the buffer has room for as many as a message may have (above).
    std::memset(control, 0, message.msg_controllen);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(size);
    // SAFETY: the buffer has room for as many as a message may have (above).
    std::memcpy(CMSG_DATA(header), descriptors.data(), size);
  }
  return ::sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ? kDone : failedCall("sendmsg");
}

Failure Channel::receive(Received& received) const { return receive(received, MSG_DONTWAIT); }
Failure Channel::awaitMessage(Received& received) const { return receive(received, 0); }

Failure Channel::receive(Received& received, int flags) const {
  received = {};
  uint8_t bytes[kMostMessageBytes];
  iovec part = {bytes, sizeof bytes};
  alignas(cmsghdr) char control[kControlBytes];
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t length = ::recvmsg(fd(), &message, flags | MSG_CMSG_CLOEXEC);
  if (length < 0) return failedCall("recvmsg");
  received.bytes.assign(bytes, bytes + length);
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

// ---- Listening ----------------------------------------------------------------------------------------------------

Failure Listener::listen(const std::string& path, bool isForAll, std::shared_ptr<Listener>& result) {
  constexpr int kMostWaiting = 64;
  sockaddr_un address;
  if (!toAddress(path, address)) return {ENAMETOOLONG, "bind", nullptr};
  FileDescriptor fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.isOpen()) return failedCall("socket");
  // The file gets the socket's mode, and is nobody else's for no moment. Accepted sockets inherit the other.
  const int yes = 1;
  if (::fchmod(fd.get(), isForAll ? 0666 : 0600) != 0) return failedCall("fchmod");
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) != 0) return failedCall("setsockopt");
  Failure failure = addressed(::bind, "bind", fd.get(), address);
  if (failure.error == EADDRINUSE && isForsaken(address)) {
    ::unlink(address.sun_path);
    failure = addressed(::bind, "bind", fd.get(), address);
  }
  if (failure) return failure;
  auto listener = std::make_shared<Listener>();
  struct stat facts;
  if (findAt(address.sun_path, facts)) listener->inode_ = facts.st_ino;
  listener->path_ = path;
  listener->fd_ = std::move(fd);
  // The mode of a new file is what the process's umask leaves of it.
  if (isForAll && ::chmod(address.sun_path, 0666) != 0) return failedCall("chmod");
  if (::listen(listener->fd(), kMostWaiting) != 0) return failedCall("listen");
  result = std::move(listener);
  return kDone;
}

Listener::~Listener() {
  struct stat facts;
  if (findAt(path_.c_str(), facts) && facts.st_ino == inode_) ::unlink(path_.c_str());
}

Failure Listener::accept(Channel& result) const {
  FileDescriptor fd(::accept4(this->fd(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd.isOpen()) return failedCall("accept");
  result = Channel(std::move(fd));
  return kDone;
}

}  // namespace membacking
