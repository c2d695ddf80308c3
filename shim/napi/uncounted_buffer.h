// ArrayBuffers as Node-API cannot make them: over memory that V8 does not count as its own (for others, V8 collects
// garbage whenever one of some size is made), or over the memory of another one, which is detached.
#pragma once

#include <napi.h>

namespace membacking {

/// Whether this runtime has such buffers.
bool hasUncountedBuffers(Napi::Env env);

/// Makes one, which keeps nothing. Precondition: there are such.
napi_value newUncountedBuffer(void* data, size_t length);

/// Moves the memory of an attached buffer, with what it keeps, to a new one. Precondition: there are uncounted buffers.
Napi::ArrayBuffer moveBuffer(Napi::ArrayBuffer buffer);

}  // namespace membacking
