// A process may have a certain number of mappings (vm.max_map_count, 65 530 unless told otherwise). At that limit Linux
// refuses even what would make them fewer, and V8 ends the process when it needs one. So plans stop short of it, and what is
// left is V8's for good. For taking back what failed there all the same, some mappings are held that serve nothing, and are
// given up meanwhile.
#pragma once

#include <cstdint>

#include "host/failure.h"

namespace membacking {

/// While one exists, the process has room for a few hundred mappings more than it had before.
class Headroom {
 public:
  Headroom();
  ~Headroom();
  Headroom(const Headroom&) = delete;

  /// Once, before the first command; again has no effect.
  static void prepare();
};

struct MappingCount {
  uint64_t now;
  /// The largest number where the system does not say.
  uint64_t limit;
};

MappingCount countMappings();

/// Before each command that changes mappings, for the few that it may add. ENOMEM: they are V8's. Not asked of what takes
/// something back, while there is a Headroom. What `unmaps` may go a little further, as it mostly leaves fewer.
Failure spendMappings(bool unmaps);

}  // namespace membacking
