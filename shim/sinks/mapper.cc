// Mappers: runs are built and sent, confirmations are taken, in the thread that carries out plans.

#include "sinks/mapper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cstring>

#include "host/invariant.h"
#include "sinks/watched_space.h"

namespace membacking {
namespace {

/// Milliseconds in which a process that was killed dies.
constexpr int kDeathThroes = 2000;
/// The largest errno.
constexpr uint32_t kLastError = 4095;

/// Appends the bytes of records.
template <typename Record>
void append(std::vector<uint8_t>& bytes, const Record* records, size_t count) {
  // SAFETY: records are plain bytes, as many as the caller says.
  const auto* first = reinterpret_cast<const uint8_t*>(records);
  bytes.insert(bytes.end(), first, first + count * sizeof(Record));
}

uint32_t flagsOf(const MemoryObject& object, bool isWritable) {
  return abi::SHARED_OBJECT_KNOWN | (isWritable ? abi::SHARED_OBJECT_WRITABLE : 0) |
         (object.mayGrow ? abi::SHARED_OBJECT_MAY_GROW : 0) | (object.isReserved ? abi::SHARED_OBJECT_RESERVED : 0);
}

}  // namespace

Failure Mapper::create(Options options, std::shared_ptr<Mapper>& result) {
  std::shared_ptr<MemoryObject> memory;
  std::shared_ptr<LockTable> table;
  if (const Failure failure = LockTable::create(memory)) return failure;
  if (const Failure failure = LockTable::map(memory->fd.get(), table)) return failure;
  std::shared_ptr<Mapper> mapper(new Mapper(std::move(options), std::move(memory), std::move(table)));
  if (const Failure failure = Channel::create(mapper->channel_, mapper->clientEnd_)) return failure;
  if (const Failure failure = EventFd::create(mapper->ended_)) return failure;
  mapper->watch_ = FileDescriptor(::epoll_create1(EPOLL_CLOEXEC));
  if (!mapper->watch_.isOpen()) return failedCall("epoll_create1");
  if (const Failure failure = mapper->watchFor(mapper->ended_->fd())) return failure;
  result = std::move(mapper);
  return kDone;
}

Failure Mapper::watchFor(int fd) const {
  epoll_event event = {};
  event.events = EPOLLIN;
  return ::epoll_ctl(watch_.get(), EPOLL_CTL_ADD, fd, &event) == 0 ? kDone : failedCall("epoll_ctl");
}

Failure Mapper::begin(pid_t pid) {
  clientEnd_ = Channel();
  table_ = nullptr;
  if (const Failure failure = Process::open(pid, process_)) return failure;
  return watchFor(process_.fd());
}

// ---- Sending ------------------------------------------------------------------------------------------------------

void Mapper::add(const Command& command, const std::shared_ptr<MemoryObject>& object) {
  if (end_ != End::kNone) return;
  added_.push_back({command, object});
  // The client has one VA space for all of them.
  added_.back().command.sink = 0;
}

void Mapper::send(bool isTakingBack) {
  if (end_ != End::kNone || added_.empty()) return;
  isConcerned_ = true;
  deadline_ = Clock::now() + std::chrono::milliseconds(options_.deadline);
  if (!isTakingBack) {
    first_ = last_ + 1;
    failure_ = kDone;
    isLate_ = false;
  }
  Run run;
  for (const Added& added : added_) {
    if (run.commands.size() == abi::MAX_RUN_COMMANDS || run.objects.size() == abi::MAX_RUN_OBJECTS) {
      post(run, isTakingBack);
    }
    if (const Failure failure = introduce(added, run)) {
      failure_ = failure;
      if (isTakingBack) return cutOff();
      continue;
    }
    run.commands.push_back(added.command);
    account(added);
  }
  added_.clear();
  post(run, isTakingBack);
  sendRuns();
}

/// Has the run bring the object that a command maps, unless the client knows it.
Failure Mapper::introduce(const Added& added, Run& run) {
  const std::shared_ptr<MemoryObject>& object = added.object;
  if (object == nullptr || known_.count(object.get()) != 0) return kDone;
  const bool isWritable = object->isWritable && !options_.isReadOnly;
  int fd = object->fd.get();
  if (!isWritable) {
    FileDescriptor readOnly = object->fd.reopenReadOnly();
    if (!readOnly.isOpen()) return {errno, "open", "memory cannot be opened to be read only"};
    fd = readOnly.get();
    run.reopened.push_back(std::move(readOnly));
  }
  run.kept.push_back(object);
  run.descriptors.push_back(fd);
  run.objects.push_back({added.command.object, flagsOf(*object, isWritable), object->size});
  known_.emplace(object.get(), Known{added.command.object, object, 0});
  return kDone;
}

/// Enters what the client shows once it has carried a command out.
void Mapper::account(const Added& added) {
  const Command& command = added.command;
  switch (command.op) {
    case abi::OP_VA_MAP:
      known_.at(added.object.get()).mapped += command.length;
      forgetPieces(command.gpa, command.length);
      pieces_.show(command.gpa, {command.gpa + command.length, added.object, command.offset, useOf(command.access)});
      return;
    case abi::OP_VA_UNMAP:
      forgetPieces(command.gpa, command.length);
      return;
    case abi::OP_VA_PROTECT:
      noteWritten(command.gpa, command.gpa + command.length);
      pieces_.setUse(command.gpa, command.length, useOf(command.access));
      return;
    default:
      return;
  }
}

void Mapper::forgetPieces(uint64_t gpa, uint64_t length) {
  noteWritten(gpa, gpa + length);
  pieces_.forget(gpa, length, [this](const std::shared_ptr<MemoryObject>& object, uint64_t bytes) {
    Known& known = known_.at(object.get());
    known.mapped -= bytes;
    if (known.mapped == 0) idle_.push_back(object);
  });
}

/// Has the client close the descriptors of which it maps nothing any more.
void Mapper::forgetIdle() {
  Run run;
  for (const std::shared_ptr<MemoryObject>& object : idle_) {
    const auto known = known_.find(object.get());
    if (known == known_.end() || known->second.mapped != 0) continue;
    if (run.objects.size() == abi::MAX_RUN_OBJECTS) post(run, false);
    run.objects.push_back({known->second.id, 0, 0});
    known_.erase(known);
  }
  idle_.clear();
  post(run, false);
  sendRuns();
}

/// Puts a run behind those that are to be sent, unless it is empty, and begins another one.
void Mapper::post(Run& run, bool isTakingBack) {
  if (run.objects.empty() && run.commands.empty()) return;
  const auto commands = static_cast<uint32_t>(run.commands.size());
  run.header.kind = abi::MESSAGE_RUN;
  run.header.sequence = ++last_;
  run.header.objects = static_cast<uint32_t>(run.objects.size());
  run.header.count = commands;
  run.header.done = isTakingBack ? 1 : 0;
  unsent_.push_back(std::move(run));
  unconfirmed_.push_back({commands, isTakingBack});
  run = {};
}

/// Sends runs as long as there is room.
void Mapper::sendRuns() {
  while (end_ == End::kNone && !unsent_.empty()) {
    const Run& run = unsent_.front();
    std::vector<uint8_t> bytes;
    append(bytes, &run.header, 1);
    append(bytes, run.objects.data(), run.objects.size());
    append(bytes, run.commands.data(), run.commands.size());
    const Failure failure = channel_.send(bytes.data(), bytes.size(), run.descriptors);
    if (failure.error == EAGAIN) return;
    // Whoever has closed the channel is found out where confirmations are taken.
    unsent_.pop_front();
  }
}

// ---- Confirming ---------------------------------------------------------------------------------------------------

Failure Mapper::confirm(bool isTakingBack) {
  if (!isConcerned_) return kDone;
  isConcerned_ = false;
  const bool isWaiting = !(isTakingBack && isLate_);
  for (;;) {
    sendRuns();
    takeConfirmations();
    if (end_ != End::kNone || confirmed_ == last_ || !isWaiting) break;
    if (awaitProgress()) continue;
    if (isTakingBack || options_.isCutOff) {
      cutOff();
    } else {
      isLate_ = true;
      return {ETIMEDOUT, "mapper", "it did not confirm the change in time"};
    }
  }
  // What takes a change back must be on its way at least.
  if (end_ == End::kNone && !unsent_.empty()) cutOff();
  if (end_ != End::kNone) return kDone;
  if (!isTakingBack && failure_) return failure_;
  forgetIdle();
  return kDone;
}

/// Waits until there is room or something to be taken. Returns whether that was before the deadline.
bool Mapper::awaitProgress() {
  const short events = static_cast<short>(POLLIN | (unsent_.empty() ? 0 : POLLOUT));
  pollfd both[] = {{channel_.fd(), events, 0}, {process_.fd(), POLLIN, 0}};
  const int count = ::poll(both, 2, millisecondsLeft());
  if (count > 0 && both[1].revents != 0) finish(End::kDead);
  return count != 0;
}

void Mapper::takeConfirmations() {
  while (end_ == End::kNone && confirmed_ != last_) {
    Received received;
    const Failure failure = channel_.receive(received);
    if (failure.error == EAGAIN) return;
    if (failure.error == ECONNRESET || (!failure && received.bytes.empty())) {
      hungUp();
    } else if (failure || !takeConfirmation(received)) {
      cutOff();
    }
  }
}

/// Takes a message that came. Returns whether it confirms the next run.
bool Mapper::takeConfirmation(const Received& received) {
  Message message;
  if (received.bytes.size() != sizeof message || !received.descriptors.empty()) return false;
  // SAFETY: there are as many bytes (above).
  std::memcpy(&message, received.bytes.data(), sizeof message);
  if (message.kind != abi::MESSAGE_DONE_RUN || message.version != abi::ABI_VERSION) return false;
  if (message.sequence != confirmed_ + 1 || unconfirmed_.size() == unsent_.size()) return false;
  const Unconfirmed run = unconfirmed_.front();
  if (message.done > run.commands || message.error > kLastError) return false;
  if (message.error == 0 && message.done != run.commands) return false;
  unconfirmed_.pop_front();
  confirmed_ = message.sequence;
  if (message.error == 0) return true;
  if (run.isTakingBack) return false;
  if (message.sequence >= first_ && !failure_) failure_ = {static_cast<int>(message.error), "mapper", nullptr};
  return true;
}

/// The client has closed the channel: it is dying, or breaks the rules.
void Mapper::hungUp() {
  pollfd one = {process_.fd(), POLLIN, 0};
  if (::poll(&one, 1, millisecondsLeft()) > 0) {
    finish(End::kDead);
  } else {
    cutOff();
  }
}

int Mapper::millisecondsLeft() const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
  return static_cast<int>(std::max<decltype(left)>(left, 0));
}

// ---- The end ------------------------------------------------------------------------------------------------------

void Mapper::noteWritten(uint64_t gpa, uint64_t end) {
  if (options_.isReadOnly) return;
  for (auto at = pieces_.firstIn(gpa); at != pieces_.end() && at->first < end; ++at) {
    const auto& [start, piece] = *at;
    const uint64_t from = std::max(start, gpa);
    if (piece.use != Use::kAll || !WatchedSpace::canWatch(*piece.object)) continue;
    piece.object->noteWritten(piece.offset + (from - start), std::min(piece.end, end) - from);
  }
}

void Mapper::revoke(uint64_t lock) const {
  Message message;
  message.kind = abi::MESSAGE_REVOKE;
  message.start = lock;
  static_cast<void>(channel_.send(&message, sizeof message));
}

void Mapper::checkEnd() {
  if (process_.isOpen() && process_.isDead()) finish(End::kDead);
}

void Mapper::cutOff() {
  if (end_ != End::kNone) return;
  if (!process_.isOpen() || !process_.killChild()) {
    finish(End::kCutOff);
    return;
  }
  pollfd one = {process_.fd(), POLLIN, 0};
  finish(::poll(&one, 1, kDeathThroes) > 0 ? End::kKilled : End::kCutOff);
}

void Mapper::finish(End end) {
  if (end_ != End::kNone) return;
  end_ = end;
  noteWritten(0, UINT64_MAX);
  channel_.shutDown();
  INVARIANT(!ended_->signal(1));
  added_.clear();
  unsent_.clear();
  unconfirmed_.clear();
  confirmed_ = last_;
  pieces_ = {};
  known_.clear();
  idle_.clear();
}

// ---- The sink -----------------------------------------------------------------------------------------------------

Failure MapperSink::execute(const Command& command, const Targets& targets) {
  switch (command.op) {
    case abi::OP_VA_MAP: {
      const std::shared_ptr<MemoryObject>& object = targets.object(command.object);
      if (object == nullptr) return invalid("there is no such object");
      if (!object->isShared) return invalid("private memory has one mapper");
      mapper_->add(command, object);
      return kDone;
    }
    case abi::OP_VA_UNMAP:
    case abi::OP_VA_PROTECT:
    case abi::OP_VA_LIMIT:
    case abi::OP_VA_RESERVE:
    case abi::OP_VA_RELEASE:
      mapper_->add(command, nullptr);
      return kDone;
    default:
      return kNoSuchOperation;
  }
}

uint32_t MapperSink::secure(const Command&, bool) {
  mapper_->cutOff();
  return abi::SECURED_CLOSED;
}

Failure MapperSink::confirm(bool isTakingBack, std::string& who) {
  const Failure failure = mapper_->confirm(isTakingBack);
  if (failure) who = mapper_->name();
  return failure;
}

}  // namespace membacking
