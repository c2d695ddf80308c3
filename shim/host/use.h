// Use that may be made of memory.
#pragma once

namespace membacking {

enum class Use { kNothing, kRead, kAll };

}  // namespace membacking
