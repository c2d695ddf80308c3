// Pagers: each a thread that brings pages of private memory when somebody touches them first, from files that have
// them. Whoever touches one waits until it is there: an instruction, a system call, a guest.
//
// The kernel tells of each touch (userfaultfd, MISSING), and of each move of pages (EVENT_REMAP): a range stays
// registered when it is moved. So that what it copies is always where it belongs, the pager's thread alone keeps the
// account of which page is where, by these messages, and alone copies. Others ask it, and wait.
//
// Pages that no file has, a source gives, which is code of another thread: it is told which are asked for. That thread
// itself must not touch them, as nobody would answer; a page that is not given in time is lost.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "host/fault_thread.h"
#include "host/fd.h"
#include "host/host_range.h"
#include "host/range_map.h"
#include "host/stretch.h"

namespace membacking {

/// Bytes that a file has, or the source.
struct FilePart {
  static constexpr uint32_t kSource = UINT32_MAX;

  /// Number of the file, or kSource.
  uint32_t file;
  uint64_t fileOffset;

  FilePart behind(uint64_t bytes) const { return {file, fileOffset + bytes}; }
};

/// Bytes of a number of blocks: a stretch of one.
struct BlockStretch {
  uint32_t block;
  Stretch pages;
};

/// A pager with its blocks: private memory, by the numbers that it gives them. It does not keep their memory.
class Pager {
 public:
  /// Page that could not be brought.
  struct Loss {
    BlockStretch page;
    Failure why;
  };

  /// EINVAL: this kernel cannot (it needs Linux 6.6); EPERM, ENOSYS: it does not let this process.
  static Failure open(std::shared_ptr<Pager>& result);
  Pager() = default;
  Pager(const Pager&) = delete;

  /// Descriptor of the userfaultfd: there is one at most for each range of addresses.
  int fd() const { return fd_.get(); }
  /// Whether the kernel takes notes of writes, for which it can be asked (Linux 6.7). Else whoever writes to a page
  /// that is protected waits for the pager's thread.
  bool canScan() const { return canScan_; }
  /// Begins to watch writes: what is brought counts as not written. `letWrite(address)`: lets a write through to a page
  /// that is protected; 0 or an errno, EAGAIN to be called again. Null where nobody waits.
  void beginWatch(std::function<int(uint64_t)> letWrite);
  /// Ends watching writes: nothing is protected any more.
  void endWatch();
  /// Lets writes through to a range at which nobody watches.
  void letWrites(uint64_t hva, uint64_t length) const;
  /// Sets who is told, on any thread, that there is news; null: nobody, from when this returns.
  void setListener(std::function<void()> listener);
  /// Makes the calling thread the source's, until it says endSource(), with the milliseconds that it has for a page.
  void beginSource(uint32_t patience);
  void endSource();
  /// Bytes from an address on, at most `length`, that the calling thread may touch: if it is a source's, it would wait
  /// for itself at the next one.
  static uint64_t bytesWithoutWait(uint64_t hva, uint64_t length) {
    return sourcesOfThread == 0 ? length : bytesBeforeOwn(hva, length);
  }

  // Any thread may call these, and waits for the pager's.

  /// Begins to page: the pages of `home` that `absent` says are in these files, others are zeroes.
  Failure add(const HostRange& home, RangeMap<FilePart> absent, std::vector<FileDescriptor> files, uint32_t& block);
  /// Forgets a block, whose memory is going.
  void remove(uint32_t block);
  /// Brings all of a range. A failure is of the first page that cannot be brought; those before are there.
  Failure fetch(uint32_t block, uint64_t offset, uint64_t length);
  /// Forgets what files have for a range: it is zeroes where it was not brought.
  void drop(uint32_t block, uint64_t offset, uint64_t length);
  /// Says that pages which were moved to `taken` were taken away: those of the block are where they were, at `hva`.
  void noteTaken(uint64_t taken, uint64_t hva, uint64_t length);
  /// Brings ranges when nobody waits for anything, in this order. What cannot be brought is left.
  void bringAhead(uint32_t block, std::vector<Stretch> ranges);
  /// Gives pages that the source has: those of the range that are not there yet become these.
  Failure supply(uint32_t block, uint64_t offset, const uint8_t* bytes, uint64_t length);
  /// Makes pages absent, and the source's: what is there, or a file has, is forgotten. Nobody uses them meanwhile.
  Failure expect(uint32_t block, uint64_t offset, uint64_t length);
  /// Says that the source will not give a page.
  void refuse(uint32_t block, uint64_t offset);
  /// Takes the pages that are asked of the source since this was called last.
  std::vector<BlockStretch> takeAsked();
  /// Pages that somebody waited for, in order, and that were brought.
  std::vector<BlockStretch> wanted();
  /// Pages that files or the source have, and that are not there, upwards.
  std::vector<Stretch> absent(uint32_t block);
  /// Reason why a page could not be brought; kDone where nothing failed.
  Failure whyLost(uint32_t block, uint64_t offset);
  /// Takes the losses since this was called last.
  std::vector<Loss> takeLosses();

 private:
  struct Block {
    uint64_t homeStart;
    uint64_t homeEnd;
    RangeMap<FilePart> absent;
    std::vector<FileDescriptor> files;
    /// Host addresses by offset.
    struct Address {
      uint64_t value;
      Address behind(uint64_t bytes) const { return {value + bytes}; }
    };
    RangeMap<Address> addresses;
    std::map<uint64_t, Failure> losses;

    /// Notes that the pages of a range are there.
    void arrived(uint64_t start, uint64_t end) {
      absent.erase(start, end);
      losses.erase(losses.lower_bound(start), losses.lower_bound(end));
    }
  };
  /// Place in a block.
  struct Place {
    uint32_t block;
    uint64_t offset;
    Place behind(uint64_t bytes) const { return {block, offset + bytes}; }
  };
  using Work = std::function<void()>;
  using Clock = FaultThread::Clock;

  /// Number of pagers whose source is code of this thread.
  static thread_local uint32_t sourcesOfThread;
  static uint64_t bytesBeforeOwn(uint64_t hva, uint64_t length);

  void call(const Work& work);
  bool runOne();

  // On the pager's thread.

  FaultThread::Patience takeTurn();
  void readMessages();
  void noteMove(uint64_t from, uint64_t to, uint64_t length);
  void answer(uint64_t address);
  void letWrite(uint64_t address);
  void ask(const Place& place);
  void loseLate();
  void lose(const Place& place, const Failure& why);
  void tellNews();
  bool stepAhead();
  Failure bring(Block& block, uint64_t offset, uint64_t length);
  Failure put(Block& block, uint64_t offset, const uint8_t* bytes, uint64_t length);
  int copy(uint64_t address, const uint8_t* bytes, uint64_t length, uint64_t& done);
  bool poison(uint64_t address);
  void wake(uint64_t address, uint64_t length);

  FileDescriptor fd_;
  bool canScan_ = false;
  std::atomic<bool> isWatched_ = false;
  std::atomic<uint32_t> patience_ = 30'000;

  std::mutex mutex_;
  std::condition_variable done_;
  /// Work that others wait for. With the mutex.
  std::deque<Work> works_;
  std::mutex listenerMutex_;
  std::function<void()> listener_;

  // Of the pager's thread.

  std::map<uint32_t, Block> blocks_;
  uint32_t lastBlock_ = 0;
  RangeMap<Place> places_;
  /// Addresses that somebody waits at: because a page is absent, and because it is protected.
  std::deque<uint64_t> faults_;
  std::deque<uint64_t> writes_;
  std::function<int(uint64_t)> letWrite_;
  std::vector<Loss> losses_;
  std::deque<BlockStretch> ahead_;
  std::vector<BlockStretch> wanted_;
  /// Pages that somebody waits for the source to give, and until when.
  std::map<std::pair<uint32_t, uint64_t>, Clock::time_point> waiting_;
  std::vector<BlockStretch> asked_;
  std::unique_ptr<uint8_t[]> buffer_;
  /// The last member: it ends before what it uses goes.
  FaultThread thread_;
};

/// A block of a pager, which forgets it with the end of this.
struct PagerBlock {
  PagerBlock(std::shared_ptr<Pager> pager, uint32_t number) : pager(std::move(pager)), number(number) {}
  ~PagerBlock() { pager->remove(number); }
  PagerBlock(const PagerBlock&) = delete;

  const std::shared_ptr<Pager> pager;
  const uint32_t number;
};

}  // namespace membacking
