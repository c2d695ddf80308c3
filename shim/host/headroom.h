// A process may have about 65 000 mappings (vm.max_map_count), and at that limit Linux refuses even what would make
// them fewer. So that a command which fails there can be taken back, some mappings are held that serve nothing, and
// are given up while something is taken back.
#pragma once

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

}  // namespace membacking
