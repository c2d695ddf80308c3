// Copies of pages from file to file, in the background: `copyPages` of ts/core/native.ts.
#pragma once

#include <napi.h>

namespace membacking {

Napi::Value copyPages(const Napi::CallbackInfo& info);

}  // namespace membacking
