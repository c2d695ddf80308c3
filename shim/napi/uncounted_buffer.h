// ArrayBuffers over memory that V8 does not count as its own. Those of Node-API count as memory in use: V8 collects
// garbage whenever one of some size is made.
#pragma once

#include <napi.h>

namespace membacking {

/// Whether this runtime has such buffers.
bool hasUncountedBuffers(Napi::Env env);

/// Makes one, which keeps nothing. Precondition: there are such.
napi_value newUncountedBuffer(void* data, size_t length);

}  // namespace membacking
