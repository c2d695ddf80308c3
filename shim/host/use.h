// Uses of memory: what may be done with it.
#pragma once

namespace membacking {

/// Most that may be done with memory; `kAll` is to read and write.
enum class Use { kNothing, kRead, kAll };

}  // namespace membacking
