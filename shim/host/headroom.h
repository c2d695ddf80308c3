// Headroom below the number of mappings that a process may have (vm.max_map_count, 65 530 unless told otherwise). At
// that limit Linux refuses even what would make them fewer, and V8 ends the process when it needs one. So plans stop
// short of it, and the rest is V8's for good. Some mappings are held that serve nothing; they are given up while
// something that failed for want of mappings is taken back.
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
};

/// Number of mappings that this process has, and that it may have.
struct MappingCount {
  uint64_t now;
  /// UINT64_MAX where the system does not say.
  uint64_t limit;
};

MappingCount countMappings();

/// Allows a command the few mappings, `most`, that it may add, or refuses it with ENOMEM: they are V8's. A command that
/// `unmaps` may go a little further, as it mostly leaves fewer. While there is a Headroom, everything is allowed; else
/// the mappings that are held are taken, where they are not and there is room.
Failure spendMappings(uint64_t most, bool unmaps);
/// Allows a command, likewise, the mappings that it adds by changing what is from HVA `start` to `end`: one at each of
/// them, unless a command was allowed one there already.
Failure spendMappingsAt(uint64_t start, uint64_t end, bool unmaps);

}  // namespace membacking
