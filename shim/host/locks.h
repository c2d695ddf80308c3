// Locks on ranges of a VA space, of native code and of JavaScript in any thread, and the changes that keep new ones
// away.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/use.h"

namespace membacking {

/// Locks of one VA space. Any thread takes and releases them; the one that carries out plans bars ranges before it
/// looks who has locked them, so that nobody comes in between.
class Locks {
 public:
  /// Stretch [start, end) of GPAs.
  struct Range {
    uint64_t start;
    uint64_t end;
  };
  /// Ranges that somebody has locked.
  struct Lock {
    std::vector<Range> ranges;
    bool isWrite = false;
    std::string holder;
    /// Somebody whose end is the lock's; null for none.
    const void* owner = nullptr;
    /// Asks the thread that has addresses of it to let it go: nobody takes it from that one. Null where none has.
    std::function<void()> ask = nullptr;
    /// Whether that thread was asked.
    bool isAskedFor = false;
  };
  /// A part of a lock that a change would break.
  struct Broken {
    uint64_t id;
    Range range;
    bool isWrite;
    std::string holder;
  };

  /// Words that JavaScript writes and reads with Atomics, because every change of the map does. Each side writes its
  /// own word before it reads the other's: of a lock and a change that begin together, one sees the other.
  struct Gate {
    /// Not 0 while ranges change that nobody has barred: no lock is taken. The changer writes it.
    std::atomic<int32_t> isShut{0};
    /// Number of those who have opened the VA space, and of locks: without any, the changer bars no ranges.
    std::atomic<int32_t> users{0};
  };
  static_assert(std::atomic<int32_t>::is_always_lock_free && sizeof(Gate) == 8, "JavaScript reads two words");

  /// Somebody outside of the process who is shown every lock, and bars ranges too.
  class Witness {
   public:
    virtual ~Witness() = default;
    /// Shows a lock before it is held. False: there is no room for it.
    virtual bool show(uint64_t id, const Lock& lock) = 0;
    /// A lock has ended, or was not taken.
    virtual void forget(uint64_t id) = 0;
    virtual bool isBarred(Range range, bool isWrite) const = 0;
  };

  const std::shared_ptr<Gate>& gate() const { return gate_; }
  /// Has somebody watch, who has another gate. Before anybody takes a lock.
  void setWitness(std::shared_ptr<Witness> witness, std::shared_ptr<Gate> gate);

  void addUser() { gate_->users++; }
  void removeUser() { gate_->users--; }

  /// Takes a lock; 0 where a bar is in the way.
  uint64_t add(Lock lock);
  /// Waits for the end of a plan that is carried out just now, but not long.
  void awaitOpenGate() const;
  void remove(uint64_t id);
  /// Takes a lock from its owner, or asks the thread that has addresses of it to let it go. Nothing happens to one that
  /// has no owner.
  void revoke(uint64_t id);
  /// Keeps a lock for a thread that is to have addresses of it. Returns whether it is held. `ask` is called by any
  /// thread, and calls nobody who takes locks.
  bool show(uint64_t id, std::function<void()> ask);
  /// Whether the thread that has addresses of a lock was asked to let it go.
  bool isAskedFor(uint64_t id) const;
  void removeAllOf(const void* owner);
  bool isHeld(uint64_t id) const;

  /// Keeps new locks from a range that is about to have no more than `left`, until unbar().
  uint64_t bar(Range range, Use left);
  void unbar(uint64_t id);
  /// Parts of locks that need more than `left` of the range.
  std::vector<Broken> brokenBy(Range range, Use left) const;

 private:
  struct Bar {
    Range range;
    Use left;
  };

  bool isBarred(const Lock& lock) const;
  void end(uint64_t id);

  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  /// Null but in a client of another process.
  std::shared_ptr<Witness> witness_;
  mutable std::mutex mutex_;
  uint64_t lastId_ = 0;
  std::unordered_map<uint64_t, Lock> locks_;
  std::unordered_map<uint64_t, Bar> bars_;
};

inline bool overlap(const Locks::Range& one, const Locks::Range& other) {
  return one.start < other.end && other.start < one.end;
}

/// Whether a lock goes on with the use that is left.
inline bool isEnough(Use left, bool isWrite) { return left == Use::kAll || (left == Use::kRead && !isWrite); }

}  // namespace membacking
