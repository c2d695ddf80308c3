// Mappers: VA spaces of other processes as sinks. Commands are sent there as they are, with the descriptors of what
// they map, and have been carried out when the other process has said so.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "host/channel.h"
#include "host/event_fd.h"
#include "host/process.h"
#include "sinks/client_locks.h"
#include "sinks/message.h"
#include "sinks/shown_pieces.h"
#include "sinks/sink.h"

namespace membacking {

/// Mapper thread of a client, as its manager has it: what was sent, what was confirmed, and how it has ended. A client
/// that breaks the rules is cut off: nothing waits for it any more.
class Mapper {
 public:
  /// End of a mapper.
  enum class End : uint32_t {
    kNone,
    /// Death of its process.
    kDead,
    /// Cut off, and its process killed.
    kKilled,
    /// Cut off; its process may still see what it has mapped.
    kCutOff,
  };

  struct Options {
    std::string name;
    bool isReadOnly;
    /// Milliseconds in which it is to confirm a change.
    int deadline;
    /// Whether it is cut off where it does not; else the change fails.
    bool isCutOff;
  };

  static Failure create(Options options, std::shared_ptr<Mapper>& result);

  const std::string& name() const { return options_.name; }
  /// The client's end of the channel, and the table of its locks, to be sent to it.
  int clientEnd() const { return clientEnd_.fd(); }
  int lockTable() const { return table_ == nullptr ? -1 : table_->fd.get(); }
  /// Says that the process has both, which are given up here. ESRCH, ENOSYS.
  Failure begin(pid_t pid);

  /// Takes a command for the next run. `object`: what it maps; null where it maps nothing.
  void add(const Command& command, const std::shared_ptr<MemoryObject>& object);
  /// Sends what was added since the last time, as far as there is room. `isTakingBack`: what was added takes back what
  /// may not be confirmed.
  void send(bool isTakingBack);
  /// Waits until all that was sent is confirmed, the client is dead, or the deadline after send() has come: ETIMEDOUT.
  /// Fails besides as the client's commands have. What takes a change back does not fail: the client is cut off.
  Failure confirm(bool isTakingBack);

  /// Notes at its object each page that the client may have written.
  void noteWritten() { noteWritten(0, UINT64_MAX); }

  /// Locks of the client's process, of which none is held after its end.
  ClientLocks& locks() { return locks_; }
  /// Asks the client to end a lock. One that does not answer anyway need not be told.
  void revoke(uint64_t lock) const;

  End end() const { return end_; }
  /// Descriptor that is readable once the mapper has ended.
  int endFd() const { return watch_.get(); }
  /// Finds out whether its process has died.
  void checkEnd();
  /// Ends the use of memory by the client, as far as that is possible.
  void cutOff();

 private:
  using Clock = std::chrono::steady_clock;

  struct Added {
    Command command;
    std::shared_ptr<MemoryObject> object;
  };
  /// A run of commands, to be sent as one message.
  struct Run {
    Message header;
    std::vector<SharedObject> objects;
    std::vector<Command> commands;
    std::vector<int> descriptors;
    /// Descriptors of the above that are the run's own, and objects that have the others.
    std::vector<FileDescriptor> reopened;
    std::vector<std::shared_ptr<MemoryObject>> kept;
  };
  /// An object that the client has a descriptor of.
  struct Known {
    uint32_t id;
    std::shared_ptr<MemoryObject> object;
    /// Bytes of it that are mapped, wherever.
    uint64_t mapped;
  };
  /// A run that is not confirmed.
  struct Unconfirmed {
    uint32_t commands;
    bool isTakingBack;
  };

  Mapper(Options options, std::shared_ptr<MemoryObject> memory, std::shared_ptr<LockTable> table)
      : options_(std::move(options)), table_(std::move(memory)), locks_(std::move(table)) {}
  Failure watchFor(int fd) const;
  Failure introduce(const Added& added, Run& run);
  void account(const Added& added);
  void forgetPieces(uint64_t gpa, uint64_t length);
  void forgetIdle();
  void post(Run& run, bool isTakingBack);
  void sendRuns();
  void takeConfirmations();
  bool takeConfirmation(const Received& received);
  bool awaitProgress();
  void noteWritten(uint64_t gpa, uint64_t end);
  void hungUp();
  int millisecondsLeft() const;
  void finish(End end);

  const Options options_;
  Channel channel_;
  Channel clientEnd_;
  /// Memory of the table of locks, until the client has it.
  std::shared_ptr<MemoryObject> table_;
  ClientLocks locks_;
  Process process_;
  std::shared_ptr<EventFd> ended_;
  /// Epoll descriptor that watches for the end: by `ended_`, or of the process.
  FileDescriptor watch_;
  End end_ = End::kNone;

  std::vector<Added> added_;
  std::deque<Run> unsent_;
  std::deque<Unconfirmed> unconfirmed_;
  /// Number of the last run, of the last that was confirmed, and of the first of this change.
  uint64_t last_ = 0;
  uint64_t confirmed_ = 0;
  uint64_t first_ = 1;
  Clock::time_point deadline_;
  /// Whether this change is to be confirmed, and its first failure.
  bool isConcerned_ = false;
  Failure failure_;
  /// Whether the change that is taken back was not confirmed in time.
  bool isLate_ = false;

  ShownPieces pieces_;
  std::unordered_map<const MemoryObject*, Known> known_;
  /// Objects of which nothing may be mapped any more.
  std::vector<std::shared_ptr<MemoryObject>> idle_;
};

/// A mapper as sink.
class MapperSink : public Sink {
 public:
  explicit MapperSink(std::shared_ptr<Mapper> mapper) : Sink(abi::SINK_VA), mapper_(std::move(mapper)) {}

  Failure execute(const Command& command, const Targets& targets) override;
  uint32_t secure(const Command& command, bool mayReplace) override;
  void send(bool isTakingBack) override { mapper_->send(isTakingBack); }
  Failure confirm(bool isTakingBack, std::string& who) override;
  void noteWritten() override { mapper_->noteWritten(); }

 private:
  std::shared_ptr<Mapper> mapper_;
};

}  // namespace membacking
