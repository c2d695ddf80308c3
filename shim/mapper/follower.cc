// Followers: how memory is opened, and the thread that carries out runs.

#include "mapper/follower.h"

#include <pthread.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "host/headroom.h"
#include "host/thread_signals.h"
#include "mapper/shown_locks.h"
#include "sinks/va.h"

namespace membacking {
namespace {

/// Followers of this process by their memories, while somebody has them open, and what is being opened. Never
/// destroyed: threads may still use it while the process exits.
struct Followers {
  std::mutex mutex;
  std::map<uint64_t, std::shared_ptr<Follower>> byMemory;
  /// Channels and memories that a thread has its turn with.
  std::set<uint64_t> channels;
  std::set<uint64_t> memories;
  std::condition_variable turnEnded;

  /// A follower that is to be used once more; null where there is none that does.
  template <typename Predicate>
  std::shared_ptr<Follower> use(Predicate isWanted) {
    const std::lock_guard lock(mutex);
    for (const auto& [memory, known] : byMemory) {
      if (known->hasEnded() || !isWanted(memory, *known)) continue;
      known->addUser();
      return known;
    }
    return nullptr;
  }
};

Followers& followers() {
  static Followers* all = new Followers;
  return *all;
}

/// Turn of a thread with something: others wait for its end.
class Turn {
 public:
  Turn(std::set<uint64_t>& taken, uint64_t what) : taken_(taken), what_(what) {
    std::unique_lock lock(followers().mutex);
    followers().turnEnded.wait(lock, [this] { return taken_.count(what_) == 0; });
    taken_.insert(what_);
  }
  ~Turn() {
    const std::lock_guard lock(followers().mutex);
    taken_.erase(what_);
    followers().turnEnded.notify_all();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::set<uint64_t>& taken_;
  const uint64_t what_;
};

/// Whether a run is as long as its header says, and has as many descriptors as it has objects to be known.
bool isWhole(const Message& run, const Received& received) {
  if (run.kind != abi::MESSAGE_RUN || run.version != abi::ABI_VERSION) return false;
  if (run.objects > abi::MAX_RUN_OBJECTS || run.count > abi::MAX_RUN_COMMANDS) return false;
  return received.bytes.size() == sizeof run + run.objects * sizeof(SharedObject) + run.count * sizeof(Command);
}

}  // namespace

// ---- Opening and leaving ------------------------------------------------------------------------------------------

Failure Follower::open(Channel channel, int milliseconds, std::shared_ptr<Follower>& result) {
  const uint64_t number = channel.number();
  const Turn withChannel(followers().channels, number);
  result = followers().use([=](uint64_t, const Follower& known) { return known.channel() == number; });
  if (result != nullptr) return kDone;
  const auto requests = std::make_shared<Requests>(std::move(channel));
  Message message;
  message.kind = abi::MESSAGE_HELLO;
  std::vector<FileDescriptor> descriptors;
  if (const Failure failure = requests->exchange(message, abi::MESSAGE_WELCOME, milliseconds, descriptors)) {
    return failure;
  }
  if (descriptors.size() != 2) return garbled("the manager's welcome has no channel for commands and table of locks");
  // The second to open a memory finds the first.
  const Turn withMemory(followers().memories, message.memory);
  result = followers().use([&](uint64_t memory, const Follower&) { return memory == message.memory; });
  if (result != nullptr) {
    const Failure failure = result->join(*requests, milliseconds);
    if (failure) std::exchange(result, nullptr)->leave();
    return failure;
  }
  std::shared_ptr<Follower> follower(new Follower(requests, number));
  if (const Failure failure = follower->begin(message, descriptors, milliseconds)) {
    requests->sendEnd();
    return failure;
  }
  const std::lock_guard lock(followers().mutex);
  follower->addUser();
  followers().byMemory[message.memory] = follower;
  result = std::move(follower);
  return kDone;
}

/// Has the manager use this mapper for one more client, whose requests these are.
Failure Follower::join(Requests& requests, int milliseconds) {
  Message message;
  message.kind = abi::MESSAGE_READY;
  message.mapper = mapper_;
  std::vector<FileDescriptor> descriptors;
  const Failure failure = requests.exchange(message, abi::MESSAGE_OPENED, milliseconds, descriptors);
  requests.sendEnd();
  if (failure) return failure;
  requests_->follow(message.start, message.length);
  return kDone;
}

/// Makes the VA space and its thread, and has the manager show the memory in it.
Failure Follower::begin(const Message& welcome, const std::vector<FileDescriptor>& ends, int milliseconds) {
  memory_ = welcome.memory;
  mapper_ = welcome.mapper;
  if (welcome.start == 0 || welcome.start % kPageSize != 0 || welcome.length < welcome.start) {
    return garbled("the manager's VA space is not whole pages");
  }
  if (const Failure failure = Channel::adopt(ends[0].get(), commands_)) return failure;
  std::shared_ptr<LockTable> table;
  if (const Failure failure = LockTable::map(ends[1].get(), table)) return failure;
  const char* const name = "membacking:client";
  if (const Failure failure = Reservation::create(welcome.start, welcome.length, name, reservation_)) return failure;
  reservation_->locks().setWitness(std::make_shared<ShownLocks>(table), {table, &table->gate});
  reservation_->setBringer(requests_);
  executor_->setSink(0, std::make_shared<VaSink>(reservation_));
  auto share = std::make_unique<std::shared_ptr<Follower>>(shared_from_this());
  pthread_t thread;
  if (const int error = ::pthread_create(&thread, nullptr, runThread, share.get())) {
    return {error, "pthread_create", nullptr};
  }
  share.release();
  ::pthread_detach(thread);
  Message message;
  message.kind = abi::MESSAGE_READY;
  message.mapper = mapper_;
  std::vector<FileDescriptor> descriptors;
  if (const Failure failure = requests_->exchange(message, abi::MESSAGE_OPENED, milliseconds, descriptors)) {
    return failure;
  }
  requests_->follow(message.start, message.length);
  return kDone;
}

void Follower::leave() {
  const std::lock_guard lock(followers().mutex);
  if (--users_ != 0) return;
  const auto known = followers().byMemory.find(memory_);
  // One that had ended may have been followed by another.
  if (known != followers().byMemory.end() && known->second.get() == this) followers().byMemory.erase(known);
  // The manager takes the memory away, and ends the channel of commands: with that, the thread ends.
  requests_->sendEnd();
}

// ---- The thread ---------------------------------------------------------------------------------------------------

void* Follower::runThread(void* share) {
  leaveSignalsToOthers();
  // SAFETY: who made the thread has given it this share.
  const std::unique_ptr<std::shared_ptr<Follower>> own(static_cast<std::shared_ptr<Follower>*>(share));
  (*own)->follow();
  return nullptr;
}

void Follower::follow() {
  bool isObeying = true;
  while (isObeying) {
    Received received;
    const Failure failure = commands_.awaitMessage(received);
    if (failure.error != EINTR) isObeying = !failure && obey(received);
  }
  end();
}

/// Does what a message says, and confirms a run. False: the manager has ended the channel, or breaks the rules.
bool Follower::obey(Received& received) {
  Message message;
  if (received.bytes.size() < sizeof message) return false;
  // SAFETY: there are as many bytes (above).
  std::memcpy(&message, received.bytes.data(), sizeof message);
  if (message.kind == abi::MESSAGE_REVOKE && message.version == abi::ABI_VERSION) {
    reservation_->locks().revoke(message.start);
    return true;
  }
  if (!isWhole(message, received) || message.sequence != last_ + 1) return false;
  last_ = message.sequence;
  Message confirmation;
  confirmation.kind = abi::MESSAGE_DONE_RUN;
  confirmation.sequence = message.sequence;
  confirmation.error = static_cast<uint32_t>(carryOut(message, received, confirmation.done).error);
  received.descriptors.clear();
  Failure failure;
  while ((failure = commands_.send(&confirmation, sizeof confirmation)).error == EAGAIN) {
    if (commands_.awaitWritable(-1)) return false;
  }
  return !failure;
}

/// Makes a run's objects known or forgets them, then carries out its commands, of which `done` were done.
Failure Follower::carryOut(const Message& run, const Received& received, uint32_t& done) {
  const uint8_t* next = received.bytes.data() + sizeof run;
  size_t descriptor = 0;
  for (uint32_t i = 0; i < run.objects; i++, next += sizeof(SharedObject)) {
    SharedObject shared;
    // SAFETY: the message is as long as its header says.
    std::memcpy(&shared, next, sizeof shared);
    if (shared.id > abi::MAX_OBJECTS) return garbled("there is no such object");
    std::shared_ptr<MemoryObject> object;
    if (shared.flags & abi::SHARED_OBJECT_KNOWN) {
      if (descriptor == received.descriptors.size()) return {EMFILE, "recvmsg", nullptr};
      const int fd = received.descriptors[descriptor++].get();
      if (const Failure failure = MemoryObject::fromFd(
              fd, shared.bytes, (shared.flags & abi::SHARED_OBJECT_WRITABLE) != 0,
              (shared.flags & abi::SHARED_OBJECT_MAY_GROW) != 0, (shared.flags & abi::SHARED_OBJECT_RESERVED) != 0,
              object)) {
        return failure;
      }
    }
    executor_->setObject(shared.id, std::move(object));
  }
  if (run.done != 0) return takeBack(next, run.count, done);
  Failure failure;
  done = executor_->run(next, run.count, failure);
  return failure;
}

/// Carries out commands that take others back, but for what never came, as its addresses could not be reserved.
Failure Follower::takeBack(const uint8_t* records, uint32_t count, uint32_t& done) {
  // Made for the first command that needs it: it costs a count of all mappings of the process.
  std::optional<Headroom> headroom;
  while (done != count) {
    const uint8_t* record = records + done * sizeof(Command);
    Command command;
    // SAFETY: the caller has checked that there are so many records.
    std::memcpy(&command, record, sizeof command);
    const bool isGoing = command.op == abi::OP_VA_UNMAP || command.op == abi::OP_VA_RELEASE;
    Failure failure;
    const bool isThere = !isGoing || reservation_->hasAddresses(command.gpa, command.length);
    if (isThere) executor_->run(record, 1, failure);
    if (failure.error == ENOMEM && !headroom) {
      headroom.emplace();
      continue;
    }
    if (failure) return failure;
    done++;
  }
  return kDone;
}

/// Takes everything out of the VA space, for whoever still has it.
void Follower::end() {
  constexpr auto kPeriod = std::chrono::milliseconds(5);
  hasEnded_ = true;
  requests_->shutDown();
  reservation_->setBringer(nullptr);
  // Whoever has leased memory has addresses of it, perhaps. Nobody gets a new lease.
  Locks& locks = reservation_->locks();
  const Locks::Range all{0, UINT64_MAX};
  locks.bar(all, Use::kNothing);
  while (!locks.brokenBy(all, Use::kNothing).empty()) std::this_thread::sleep_for(kPeriod);
  for (const Reservation::Share& stretch : reservation_->stretches()) {
    Command command = {};
    command.op = abi::OP_VA_UNMAP;
    command.gpa = stretch->start();
    command.length = stretch->size();
    // SAFETY: a record of its own.
    executor_->secure(reinterpret_cast<const uint8_t*>(&command), true);
  }
  executor_.reset();
}

}  // namespace membacking
