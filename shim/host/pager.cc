// Pagers: the thread, the messages that it reads, and the pages that it puts where they belong.

#include "host/pager.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "host/invariant.h"
#include "host/pages.h"
#include "host/userfaultfd.h"

// Newer than some of the system headers this builds with.
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
struct uffdio_poison {
  uffdio_range range;
  __u64 mode;
  __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

namespace membacking {
namespace {

/// Bytes that are read and copied at once: whoever touches a page meanwhile waits for no more.
constexpr uint64_t kStep = uint64_t{1} << 20;

constexpr uint64_t kFeatures = UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_POISON;

/// Pagers whose source is code of this thread.
thread_local std::set<Pager*> pagersOfThread;

constexpr Failure kNotGiven{EAGAIN, "read", "the source of its pages has yet to give it: load it before"};

/// Reads all of a part of a file.
Failure readPart(int fd, uint64_t fileOffset, uint8_t* into, uint64_t length) {
  for (uint64_t done = 0; done != length;) {
    const ssize_t read = ::pread(fd, into + done, length - done, static_cast<off_t>(fileOffset + done));
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) return {errno, "pread", "the file of its pages cannot be read"};
    if (read == 0) return {ENODATA, "pread", "the file of its pages ends before"};
    done += static_cast<uint64_t>(read);
  }
  return kDone;
}

}  // namespace

thread_local uint32_t Pager::sourcesOfThread = 0;

Failure Pager::open(std::shared_ptr<Pager>& result) {
  auto pager = std::make_shared<Pager>();
  Userfaultfd opened;
  if (const Failure failure = openUserfaultfd(opened)) return failure;
  if (opened.isUserModeOnly) {
    return {EPERM, "userfaultfd", "this process may not serve the faults of guests (see vm.unprivileged_userfaultfd)"};
  }
  pager->fd_ = std::move(opened.fd);
  if (::fcntl(pager->fd(), F_SETFL, O_NONBLOCK) != 0) return failedCall("fcntl");
  pager->canScan_ = !enableUserfaultfd(pager->fd(), kFeatures | kScanFeatures);
  if (!pager->canScan_) {
    const Failure failure = enableUserfaultfd(pager->fd(), kFeatures | kWaitFeatures);
    if (failure) return failure.error != EINVAL ? failure : Failure{EINVAL, "UFFDIO_API", "it needs Linux 6.6"};
  }
  // Left as it is: most of it is never used.
  pager->buffer_.reset(new uint8_t[kStep]);
  const auto turn = [pager = pager.get()] { return pager->takeTurn(); };
  if (const Failure failure = pager->thread_.start("membacking-page", pager->fd(), turn)) return failure;
  result = std::move(pager);
  return kDone;
}

void Pager::setListener(std::function<void()> listener) {
  const std::lock_guard lock(listenerMutex_);
  listener_ = std::move(listener);
}

void Pager::beginWatch(std::function<int(uint64_t)> letWrite) {
  call([&] { letWrite_ = std::move(letWrite); });
  isWatched_ = true;
}

void Pager::endWatch() {
  isWatched_ = false;
  call([&] {
    letWrite_ = nullptr;
    if (canScan_) return;
    // What stays protected, whoever writes to it is let through.
    places_.each(0, UINT64_MAX, [&](const auto& range) {
      static_cast<void>(writeProtect(fd(), range.start, range.end - range.start, false));
    });
  });
}

void Pager::letWrites(uint64_t hva, uint64_t length) const {
  // Where it takes notes, the kernel lets every write through.
  if (canScan_) return;
  const uint64_t end = hva + length;
  for (uint64_t page = pageStart(hva); page < end; page += kPageSize) {
    static_cast<void>(writeProtect(fd(), page, kPageSize, false));
  }
}

void Pager::beginSource(uint32_t patience) {
  patience_ = patience;
  if (pagersOfThread.insert(this).second) sourcesOfThread++;
}

void Pager::endSource() {
  if (pagersOfThread.erase(this) != 0) sourcesOfThread--;
}

uint64_t Pager::bytesBeforeOwn(uint64_t hva, uint64_t length) {
  uint64_t end = hva + length;
  for (Pager* pager : pagersOfThread) {
    pager->call([&] {
      pager->places_.each(pageStart(hva), end, [&](const auto& range) {
        const auto [block, offset] = range.value;
        pager->blocks_.at(block).absent.each(offset, offset + (range.end - range.start), [&](const auto& part) {
          if (part.value.file == FilePart::kSource) end = std::min(end, range.start + (part.start - offset));
        });
      });
    });
  }
  return std::max(end, hva) - hva;
}

// ---- Other threads -------------------------------------------------------------------------------------------------

/// Has `work` done on the pager's thread, and waits for that.
void Pager::call(const Work& work) {
  bool isDone = false;
  std::unique_lock lock(mutex_);
  works_.emplace_back([&] {
    work();
    const std::lock_guard again(mutex_);
    isDone = true;
    done_.notify_all();
  });
  thread_.ring();
  done_.wait(lock, [&] { return isDone; });
}

Failure Pager::add(const HostRange& home, RangeMap<FilePart> absent, std::vector<FileDescriptor> files,
                   uint32_t& block) {
  const uint64_t start = home.base();
  call([&] {
    block = ++lastBlock_;
    Block& added = blocks_[block];
    added.homeStart = start;
    added.homeEnd = start + home.size();
    added.absent = std::move(absent);
    added.files = std::move(files);
    added.addresses.set(0, home.size(), {start});
    places_.set(start, added.homeEnd, {block, 0});
  });
  uffdio_register registration = {};
  registration.range = {start, home.size()};
  registration.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (::ioctl(fd(), UFFDIO_REGISTER, &registration) == 0) return kDone;
  const Failure failure = failedCall("UFFDIO_REGISTER");
  remove(block);
  return failure;
}

void Pager::remove(uint32_t block) {
  call([&] {
    const Block& going = blocks_.at(block);
    going.addresses.each(0, UINT64_MAX, [&](const auto& range) {
      const uint64_t address = range.value.value;
      places_.erase(address, address + (range.end - range.start));
      // Pages that are not at home may outlive their object: what is absent there shall not read as zeroes.
      if (address >= going.homeStart && address < going.homeEnd) return;
      going.absent.each(range.start, range.end, [&](const auto& part) {
        const uint64_t end = address + (part.end - range.start);
        for (uint64_t page = address + (part.start - range.start); page != end; page += kPageSize) poison(page);
      });
    });
    blocks_.erase(block);
    const auto isOfBlock = [&](const BlockStretch& stretch) { return stretch.block == block; };
    ahead_.erase(std::remove_if(ahead_.begin(), ahead_.end(), isOfBlock), ahead_.end());
    wanted_.erase(std::remove_if(wanted_.begin(), wanted_.end(), isOfBlock), wanted_.end());
    asked_.erase(std::remove_if(asked_.begin(), asked_.end(), isOfBlock), asked_.end());
    waiting_.erase(waiting_.lower_bound({block, 0}), waiting_.lower_bound({block + 1, 0}));
  });
}

Failure Pager::fetch(uint32_t block, uint64_t offset, uint64_t length) {
  const uint64_t end = offset + length;
  while (offset != end) {
    // A step at a time, so that those who wait at an address come first.
    const uint64_t stepEnd = std::min(end, offset + kStep);
    Failure failure;
    call([&] {
      Block& fetched = blocks_.at(block);
      while (!failure && offset != stepEnd) {
        const auto part = fetched.absent.first(offset, stepEnd);
        const uint64_t partStart = part ? part->start : stepEnd;
        // Between what files have are zeroes, which the kernel brings by itself.
        failure = partStart != offset ? put(fetched, offset, nullptr, partStart - offset)
                                      : bring(fetched, offset, part->end - offset);
        if (!failure) offset = partStart != offset ? partStart : part->end;
      }
      if (failure) fetched.losses.insert_or_assign(offset, failure);
    });
    if (failure) return failure;
  }
  return kDone;
}

void Pager::drop(uint32_t block, uint64_t offset, uint64_t length) {
  call([&] {
    const auto found = blocks_.find(block);
    if (found == blocks_.end()) return;
    Block& dropped = found->second;
    dropped.arrived(offset, offset + length);
    // Whoever waits for a page of it gets zeroes.
    const auto end = waiting_.lower_bound({block, offset + length});
    for (auto at = waiting_.lower_bound({block, offset}); at != end; at = waiting_.erase(at)) {
      static_cast<void>(put(dropped, at->first.second, nullptr, kPageSize));
    }
  });
}

void Pager::noteTaken(uint64_t taken, uint64_t hva, uint64_t length) {
  // Whoever touches one before this is woken, and touches it again.
  call([&] { noteMove(taken, hva, length); });
}

void Pager::bringAhead(uint32_t block, std::vector<Stretch> ranges) {
  call([&] {
    if (blocks_.count(block) == 0) return;
    for (const Stretch& range : ranges) ahead_.push_back({block, range});
  });
}

Failure Pager::supply(uint32_t block, uint64_t offset, const uint8_t* bytes, uint64_t length) {
  Failure failure;
  call([&] {
    // It may have gone meanwhile, as what was asked for may have been dropped.
    const auto found = blocks_.find(block);
    if (found == blocks_.end()) return;
    Block& supplied = found->second;
    while (const auto part = supplied.absent.first(offset, offset + length)) {
      failure = put(supplied, part->start, bytes + (part->start - offset), part->end - part->start);
      if (failure) return;
      supplied.arrived(part->start, part->end);
    }
    const auto first = waiting_.lower_bound({block, offset});
    const auto end = waiting_.lower_bound({block, offset + length});
    for (auto at = first; at != end; ++at) wanted_.push_back({block, {at->first.second, kPageSize}});
    waiting_.erase(first, end);
  });
  return failure;
}

Failure Pager::expect(uint32_t block, uint64_t offset, uint64_t length) {
  Failure failure;
  call([&] {
    const auto found = blocks_.find(block);
    if (found == blocks_.end()) return;
    Block& expecting = found->second;
    expecting.addresses.each(offset, offset + length, [&](const auto& range) {
      expecting.absent.set(range.start, range.end, {FilePart::kSource, 0});
      // SAFETY: the addresses are the block's, whose memory nobody uses.
      if (!failure) failure = dropPages(reinterpret_cast<void*>(range.value.value), range.end - range.start);
    });
  });
  return failure;
}

void Pager::refuse(uint32_t block, uint64_t offset) {
  call([&] {
    if (waiting_.erase({block, offset}) == 0) return;
    lose({block, offset}, {EIO, "read", "the source of its pages has not given it"});
  });
}

std::vector<BlockStretch> Pager::takeAsked() {
  std::vector<BlockStretch> taken;
  call([&] { taken.swap(asked_); });
  return taken;
}

std::vector<BlockStretch> Pager::wanted() {
  std::vector<BlockStretch> wanted;
  call([&] { wanted = wanted_; });
  return wanted;
}

std::vector<Stretch> Pager::absent(uint32_t block) {
  std::vector<Stretch> stretches;
  call([&] {
    blocks_.at(block).absent.each(0, UINT64_MAX, [&](const auto& part) {
      appendStretch(stretches, part.start, part.end - part.start);
    });
  });
  return stretches;
}

Failure Pager::whyLost(uint32_t block, uint64_t offset) {
  Failure why;
  call([&] {
    const auto& losses = blocks_.at(block).losses;
    const auto found = losses.find(pageStart(offset));
    const auto part = blocks_.at(block).absent.first(offset, offset + 1);
    if (found != losses.end()) {
      why = found->second;
    } else if (part && part->value.file == FilePart::kSource) {
      why = kNotGiven;
    }
  });
  return why;
}

std::vector<Pager::Loss> Pager::takeLosses() {
  std::vector<Loss> taken;
  call([&] { taken.swap(losses_); });
  return taken;
}

// ---- The pager's thread --------------------------------------------------------------------------------------------

FaultThread::Patience Pager::takeTurn() {
  loseLate();
  do {
    readMessages();
    while (!faults_.empty()) {
      const uint64_t address = faults_.front();
      faults_.pop_front();
      answer(address);
      thread_.stayAwake();
    }
    while (!writes_.empty()) {
      const uint64_t address = writes_.front();
      writes_.pop_front();
      letWrite(address);
      thread_.stayAwake();
    }
  } while (runOne() || stepAhead());
  constexpr FaultThread::Patience kBetweenLooks = 50;
  return waiting_.empty() ? -1 : kBetweenLooks;
}

/// Does the oldest work that others wait for. Returns whether there was any.
bool Pager::runOne() {
  Work work;
  {
    const std::lock_guard lock(mutex_);
    if (works_.empty()) return false;
    work = std::move(works_.front());
    works_.pop_front();
  }
  work();
  return true;
}

/// Reads what the kernel has told: moves are noted, faults are kept to be answered.
void Pager::readMessages() {
  readUserfaults(fd(), [this](const uffd_msg& message) {
    if (message.event == UFFD_EVENT_REMAP) {
      noteMove(message.arg.remap.from, message.arg.remap.to, message.arg.remap.len);
    } else {
      INVARIANT(message.event == UFFD_EVENT_PAGEFAULT);
      const bool isProtected = (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0;
      (isProtected ? writes_ : faults_).push_back(pageStart(message.arg.pagefault.address));
    }
  });
}

void Pager::noteMove(uint64_t from, uint64_t to, uint64_t length) {
  RangeMap<Place> moved;
  places_.each(from, from + length, [&](const auto& range) {
    moved.set(range.start - from + to, range.end - from + to, range.value);
  });
  places_.erase(from, from + length);
  moved.each(0, UINT64_MAX, [&](const auto& range) {
    const auto [block, offset] = range.value;
    places_.set(range.start, range.end, range.value);
    blocks_.at(block).addresses.set(offset, offset + (range.end - range.start), {range.start});
  });
  // Whoever waits there finds what is there now.
  wake(from, length);
}

/// Answers the fault of somebody who waits at an address.
void Pager::answer(uint64_t address) {
  const auto place = places_.first(address, address + kPageSize);
  // It was moved away meanwhile.
  if (!place) return wake(address, kPageSize);
  const auto [number, offset] = place->value;
  Block& block = blocks_.at(number);
  const auto part = block.absent.first(offset, offset + kPageSize);
  if (part && part->value.file == FilePart::kSource) return ask(place->value);
  const Failure failure = part ? bring(block, offset, kPageSize) : put(block, offset, nullptr, kPageSize);
  if (failure) return lose(place->value, failure);
  if (part) wanted_.push_back({number, {offset, kPageSize}});
}

/// Answers somebody who waits to write to a page that is protected.
void Pager::letWrite(uint64_t address) {
  const auto let = [&] { return letWrite_ ? letWrite_(address) : writeProtect(fd(), address, kPageSize, false); };
  int error = let();
  for (; error == EAGAIN; error = let()) {
    readMessages();
    ::sched_yield();
  }
  // It was moved away meanwhile.
  if (error != 0) wake(address, kPageSize);
}

/// Asks the source for a page, once.
void Pager::ask(const Place& place) {
  const auto late = Clock::now() + std::chrono::milliseconds(patience_);
  if (!waiting_.insert({{place.block, place.offset}, late}).second) return;
  asked_.push_back({place.block, {place.offset, kPageSize}});
  tellNews();
}

/// Loses pages that the source has not given in time.
void Pager::loseLate() {
  const auto now = Clock::now();
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    const auto [page, late] = *at;
    at = late > now ? std::next(at) : waiting_.erase(at);
    if (late <= now) {
      lose({page.first, page.second}, {ETIMEDOUT, "read", "the source of its pages has not given it in time"});
    }
  }
}

/// Brings a part of what nobody waits for yet. Returns whether there was any.
bool Pager::stepAhead() {
  if (ahead_.empty()) return false;
  auto& [number, range] = ahead_.front();
  Block& block = blocks_.at(number);
  const auto part = block.absent.first(range.offset, range.offset + range.length);
  const uint64_t length = part ? std::min(part->end - part->start, kStep) : 0;
  const bool isBrought = part && part->value.file != FilePart::kSource && !bring(block, part->start, length);
  const uint64_t end = range.offset + range.length;
  range.offset = isBrought ? part->start + length : end;
  range.length = end - range.offset;
  if (range.length == 0) ahead_.pop_front();
  return true;
}

/// Notes that a page cannot be brought: whoever touches it gets a bus error.
void Pager::lose(const Place& place, const Failure& why) {
  Block& block = blocks_.at(place.block);
  while (!poison(block.addresses.first(place.offset, place.offset + 1)->value.value)) {
    readMessages();
    ::sched_yield();
  }
  if (!block.losses.insert_or_assign(place.offset, why).second) return;
  losses_.push_back({{place.block, {place.offset, kPageSize}}, why});
  tellNews();
}

void Pager::tellNews() {
  const std::lock_guard lock(listenerMutex_);
  if (listener_) listener_();
}

/// Brings a stretch of at most a step, all of which one file has.
Failure Pager::bring(Block& block, uint64_t offset, uint64_t length) {
  const auto [file, fileOffset] = block.absent.first(offset, offset + length)->value;
  if (file == FilePart::kSource) return kNotGiven;
  if (const Failure failure = readPart(block.files[file].get(), fileOffset, buffer_.get(), length)) return failure;
  if (const Failure failure = put(block, offset, buffer_.get(), length)) return failure;
  block.arrived(offset, offset + length);
  return kDone;
}

/// Puts bytes where nothing is yet, or zeroes (null): wherever the pages are now.
Failure Pager::put(Block& block, uint64_t offset, const uint8_t* bytes, uint64_t length) {
  uint64_t most = length;
  for (const uint64_t end = offset + length; offset != end;) {
    const auto range = block.addresses.first(offset, end);
    INVARIANT(range && range->start == offset);
    const uint64_t address = range->value.value;
    const uint64_t tried = std::min(range->end - offset, most);
    uint64_t done = 0;
    const int error = copy(address, bytes, tried, done);
    most = length;
    if (error == EAGAIN && done == 0) {
      // Pages are being moved: the kernel says where to, and waits until that is read.
      readMessages();
      ::sched_yield();
    } else if (error == EEXIST && done == 0 && block.losses.erase(offset) != 0) {
      // It was lost, and touches of it are bus errors until the note of that goes.
      // SAFETY: nothing is there but that note, in memory of the block.
      if (const Failure failure = dropPages(reinterpret_cast<void*>(address), kPageSize)) return failure;
    } else if (error == EEXIST && done == 0) {
      done = kPageSize;
      wake(address, done);
    } else if (error == ENOENT && done == 0 && tried != kPageSize) {
      // The kernel copies into one piece (VMA) at a time, and protections cut it into several.
      most = tried / 2 / kPageSize * kPageSize;
    } else if (error == ENOENT && done == 0) {
      // Nobody can come by there any more.
      wake(address, kPageSize);
      return {ENOENT, "UFFDIO_COPY", "the memory has gone"};
    } else if (error != 0 && done == 0) {
      return {error, "UFFDIO_COPY", nullptr};
    }
    offset += done;
    if (bytes != nullptr) bytes += done;
  }
  return kDone;
}

/// Copies bytes, or zeroes, to an address: `done` of them. Returns 0 or the errno of the next one.
int Pager::copy(uint64_t address, const uint8_t* bytes, uint64_t length, uint64_t& done) {
  if (bytes == nullptr && !isWatched_) {
    uffdio_zeropage zero = {};
    zero.range = {address, length};
    const int error = ::ioctl(fd(), UFFDIO_ZEROPAGE, &zero) == 0 ? 0 : errno;
    done = zero.zeropage > 0 ? static_cast<uint64_t>(zero.zeropage) : 0;
    // A note that the page was watched is in the way.
    if (error != EEXIST || done != 0) return error;
  }
  if (bytes == nullptr) length = kPageSize;
  uffdio_copy copied = {};
  copied.dst = address;
  // SAFETY: the kernel reads that many bytes: the caller's, or those of a page of zeroes.
  copied.src = reinterpret_cast<uint64_t>(bytes != nullptr ? bytes : kZeroes);
  copied.len = length;
  copied.mode = isWatched_ ? UFFDIO_COPY_MODE_WP : 0;
  int error = ::ioctl(fd(), UFFDIO_COPY, &copied) == 0 ? 0 : errno;
  if (error == EINVAL && copied.mode != 0) {
    // Nobody watches there.
    copied.mode = 0;
    error = ::ioctl(fd(), UFFDIO_COPY, &copied) == 0 ? 0 : errno;
  }
  done = copied.copy > 0 ? static_cast<uint64_t>(copied.copy) : 0;
  return error;
}

/// Makes touches of a page, where nothing is, bus errors. Returns whether they are, or nobody can come by there; else
/// pages are being moved.
bool Pager::poison(uint64_t address) {
  uffdio_poison poisoned = {};
  poisoned.range = {address, kPageSize};
  if (::ioctl(fd(), UFFDIO_POISON, &poisoned) == 0) return true;
  if (errno == EEXIST) {
    // A note that the page is watched is in the way.
    uffdio_writeprotect unwatched = {};
    unwatched.range = {address, kPageSize};
    unwatched.mode = UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
    ::ioctl(fd(), UFFDIO_WRITEPROTECT, &unwatched);
    if (::ioctl(fd(), UFFDIO_POISON, &poisoned) == 0) return true;
  }
  if (errno == EAGAIN) return false;
  wake(address, kPageSize);
  return true;
}

void Pager::wake(uint64_t address, uint64_t length) {
  uffdio_range range = {address, length};
  ::ioctl(fd(), UFFDIO_WAKE, &range);
}

}  // namespace membacking
