// Tables of locks: their memory, which neither side can make shorter.

#include "sinks/lock_table.h"

#include <utility>

#include "sinks/message.h"

namespace membacking {
namespace {

constexpr uint64_t kTableBytes = pageEnd(sizeof(LockTable));

}  // namespace

Failure LockTable::create(std::shared_ptr<MemoryObject>& memory) {
  return MemoryObject::memfd("membacking:locks", kTableBytes, 0, false, memory);
}

Failure LockTable::map(int fd, std::shared_ptr<LockTable>& result) {
  std::shared_ptr<MemoryObject> memory;
  if (MemoryObject::fromFd(fd, kTableBytes, true, false, false, memory) || !memory->isLasting) {
    return garbled("the table of locks is none");
  }
  auto host = std::make_shared<HostRange>();
  if (const Failure failure = HostRange::shareWhole(fd, kTableBytes, *host)) return failure;
  // SAFETY: the range is as long as a table, and stays as long as the result does; any bytes are one.
  auto* table = reinterpret_cast<LockTable*>(host->base());
  result = std::shared_ptr<LockTable>(std::move(host), table);
  return kDone;
}

}  // namespace membacking
