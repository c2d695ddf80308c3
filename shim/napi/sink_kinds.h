// Kinds of sinks in JavaScript: a sink is made of its kind's number and the handle of what is behind it.
#pragma once

#include <napi.h>

#include <memory>

#include "sinks/sink.h"

namespace membacking {

/// Makes a sink of a kind (SINK_*) of the handle of what is behind it: a reservation, a virtual machine. Throws what
/// is no such number, and no such handle.
std::shared_ptr<Sink> makeSink(const Napi::Value& kind, const Napi::Value& target);

}  // namespace membacking
