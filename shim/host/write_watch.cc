// Watches of writes: which class is behind which method.

#include "host/write_watch.h"

#include <utility>

#include "host/fault_watch.h"
#include "host/scan_watch.h"

namespace membacking {

Failure WriteWatch::open(WatchMethod method, std::shared_ptr<Pager> pager, std::unique_ptr<WriteWatch>& result) {
  return method == WatchMethod::kScans ? ScanWatch::open(std::move(pager), result)
                                       : FaultWatch::open(std::move(pager), result);
}

}  // namespace membacking
