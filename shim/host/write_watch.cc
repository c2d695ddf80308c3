// Watches of writes: which class is behind which method.

#include "host/write_watch.h"

#include <utility>

#include "host/fault_watch.h"
#include "host/scan_watch.h"

namespace membacking {

Failure WriteWatch::open(WatchMethod method, std::shared_ptr<Pager> pager, std::unique_ptr<WriteWatch>& result) {
  if (method == WatchMethod::kScans) return ScanWatch::open(std::move(pager), result);
  if (pager != nullptr) return {EOPNOTSUPP, "UFFDIO_API", nullptr};
  return FaultWatch::open(result);
}

}  // namespace membacking
