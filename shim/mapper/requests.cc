// Requests of a client: messages that go out and their answers, checked field by field.

#include "mapper/requests.h"

#include <algorithm>
#include <cstring>

namespace membacking {

Failure Requests::exchange(Message& message, uint32_t kind, int milliseconds,
                           std::vector<FileDescriptor>& descriptors) {
  const std::lock_guard turn(turn_);
  return exchangeInTurn(message, kind, milliseconds, descriptors);
}

/// Does exchange(). With `turn_`.
Failure Requests::exchangeInTurn(Message& message, uint32_t kind, int milliseconds,
                                 std::vector<FileDescriptor>& descriptors) {
  message.sequence = ++last_;
  if (const Failure failure = channel_.send(&message, sizeof message)) return failure;
  return receive(message, kind, milliseconds, descriptors);
}

Failure Requests::receive(Message& message, uint32_t kind, int milliseconds,
                          std::vector<FileDescriptor>& descriptors) const {
  Received received;
  Failure failure = {EAGAIN};
  while (failure.error == EAGAIN) {
    if ((failure = channel_.awaitReadable(milliseconds))) return failure;
    failure = channel_.receive(received);
  }
  if (failure && failure.error != ECONNRESET) return failure;
  if (received.bytes.empty()) return {ECONNRESET, "recvmsg", "the manager has ended the memory, or itself"};
  Message answer;
  if (received.bytes.size() != sizeof answer) return garbled("the manager's answer has another size");
  // SAFETY: there are as many bytes (above).
  std::memcpy(&answer, received.bytes.data(), sizeof answer);
  if (answer.version != abi::ABI_VERSION) {
    return {EPROTONOSUPPORT, "recvmsg", "the manager's package has another version of the protocol"};
  }
  if (answer.kind != kind || answer.sequence != message.sequence) return garbled("the manager answers something else");
  if (answer.error != 0) return {static_cast<int>(answer.error), "recvmsg", "the manager has refused"};
  message = answer;
  descriptors = std::move(received.descriptors);
  return kDone;
}

void Requests::sendEnd() {
  Message message;
  message.kind = abi::MESSAGE_END;
  const std::lock_guard turn(turn_);
  message.sequence = ++last_;
  // A manager that has gone need not be told.
  static_cast<void>(channel_.send(&message, sizeof message));
}

void Requests::follow(uint64_t start, uint64_t length) {
  if (length == 0) return;
  const std::lock_guard lock(mutex_);
  followed_.set(start, start + std::min(length, UINT64_MAX - start), Use::kAll);
}

/// First byte in [start, end) that is not followed; `end` if there is none.
uint64_t Requests::firstNotFollowed(uint64_t start, uint64_t end) const {
  const std::shared_lock lock(mutex_);
  Use found = Use::kNothing;
  return followed_.firstBelow(start, end, Use::kAll, found);
}

bool Requests::bring(uint64_t gpa, uint64_t length) {
  const uint64_t end = gpa + std::min(length, UINT64_MAX - gpa);
  if (firstNotFollowed(gpa, end) == end) return false;
  const std::lock_guard turn(turn_);
  const uint64_t start = firstNotFollowed(gpa, end);
  // Another thread may have asked meanwhile.
  if (start == end) return true;
  Message message;
  message.kind = abi::MESSAGE_ASK;
  message.start = start;
  message.length = end - start;
  std::vector<FileDescriptor> descriptors;
  if (exchangeInTurn(message, abi::MESSAGE_ANSWER, -1, descriptors)) return false;
  follow(message.start, message.length);
  return firstNotFollowed(start, end) > start;
}

}  // namespace membacking
