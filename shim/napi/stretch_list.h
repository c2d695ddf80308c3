// Lists of stretches as JavaScript gets them.
#pragma once

#include <napi.h>

#include <vector>

#include "host/stretch.h"

namespace membacking {

/// Offset and length of each stretch, one after the other: multiples of a page, which are exact as far as addresses go.
inline Napi::Float64Array stretchList(Napi::Env env, const std::vector<Stretch>& stretches) {
  Napi::Float64Array list = Napi::Float64Array::New(env, stretches.size() * 2);
  for (size_t i = 0; i < stretches.size(); i++) {
    list[2 * i] = static_cast<double>(stretches[i].offset);
    list[2 * i + 1] = static_cast<double>(stretches[i].length);
  }
  return list;
}

}  // namespace membacking
