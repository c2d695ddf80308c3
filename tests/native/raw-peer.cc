// A peer on sockets that keep messages apart, which says whatever a test wants it to, and keeps the descriptors that it
// is given. Never shipped.

#include <fcntl.h>
#include <napi.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr size_t kMostBytes = 16384;
constexpr size_t kMostDescriptors = 253;

[[noreturn]] void fail(Napi::Env env, const char* call) {
  throw Napi::Error::New(env, std::string(call) + ": " + std::strerror(errno));
}

int toFd(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }

/// connect(path): a descriptor of a new end.
Napi::Value connectTo(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail(info.Env(), "connect");
  return Napi::Number::New(info.Env(), fd);
}

/// duplicate(fd): another descriptor of the same.
Napi::Value duplicate(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), ::fcntl(toFd(info[0]), F_DUPFD_CLOEXEC, 0));
}

/// send(fd, bytes, descriptors): whether there was room.
Napi::Value send(const Napi::CallbackInfo& info) {
  auto bytes = info[1].As<Napi::Uint8Array>();
  const auto descriptors = info[2].As<Napi::Array>();
  iovec part = {bytes.Data(), bytes.ByteLength()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptors.Length() != 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptors.Length() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.Length() * sizeof(int));
    for (uint32_t i = 0; i != descriptors.Length(); i++) {
      const int fd = toFd(descriptors[i]);
      std::memcpy(CMSG_DATA(header) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  const ssize_t sent = ::sendmsg(toFd(info[0]), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  return Napi::Boolean::New(info.Env(), sent >= 0);
}

/// receive(fd): the next message and its descriptors; null at the end of the channel, undefined where none is there.
Napi::Value receive(const Napi::CallbackInfo& info) {
  std::vector<uint8_t> bytes(kMostBytes);
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int))];
  iovec part = {bytes.data(), bytes.size()};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t length = ::recvmsg(toFd(info[0]), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (length < 0 && errno == EAGAIN) return info.Env().Undefined();
  if (length < 0 && errno != ECONNRESET) fail(info.Env(), "recvmsg");
  if (length <= 0) return info.Env().Null();
  Napi::Array descriptors = Napi::Array::New(info.Env());
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each)) {
    for (size_t at = CMSG_LEN(0); each->cmsg_type == SCM_RIGHTS && at < each->cmsg_len; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, reinterpret_cast<const char*>(each) + at, sizeof fd);
      descriptors[descriptors.Length()] = Napi::Number::New(info.Env(), fd);
    }
  }
  Napi::Object received = Napi::Object::New(info.Env());
  auto array = Napi::Uint8Array::New(info.Env(), static_cast<size_t>(length));
  std::memcpy(array.Data(), bytes.data(), static_cast<size_t>(length));
  received["bytes"] = array;
  received["descriptors"] = descriptors;
  return received;
}

/// write(fd, offset, bytes): puts bytes into memory that a descriptor shows.
void write(const Napi::CallbackInfo& info) {
  const auto offset = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
  const auto bytes = info[2].As<Napi::Uint8Array>();
  const size_t size = offset + bytes.ByteLength();
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, toFd(info[0]), 0);
  if (memory == MAP_FAILED) fail(info.Env(), "mmap");
  std::memcpy(static_cast<uint8_t*>(memory) + offset, bytes.Data(), bytes.ByteLength());
  ::munmap(memory, size);
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports["connect"] = Napi::Function::New(env, connectTo);
  exports["duplicate"] = Napi::Function::New(env, duplicate);
  exports["send"] = Napi::Function::New(env, send);
  exports["receive"] = Napi::Function::New(env, receive);
  exports["write"] = Napi::Function::New(env, write);
  return exports;
}

NODE_API_MODULE(rawPeer, init)

}  // namespace
