// Views: guest memory as an ArrayBuffer, without a call or a copy for an access, and without a guard. Whoever opens a
// view sees to it that the memory stays mapped until the view is detached.
//
// Any number of views may show the same memory, in any number of threads: each is a buffer of its own for V8, and to
// detach one does nothing to the others.
#pragma once

#include <napi.h>

#include <memory>

#include "host/reservation.h"

namespace membacking {

/// Makes a view, which keeps its stretch as long as it is attached; `isLasting`: until the buffer is collected, whether
/// attached or not. One that is not must not be transferred. Throws unless the range is inside one stretch, and at most
/// 4 GiB, where Node-API's buffers end; ERR_NO_VIEWS where the runtime has none.
Napi::ArrayBuffer openView(Napi::Env env, const std::shared_ptr<Reservation>& reservation, uint64_t gpa,
                           uint64_t length, bool isLasting);

/// Makes JavaScript find an empty buffer from now on. Throws unless `view` is a view of `reservation`, and `current`,
/// which has its memory by now, is attached.
void detachView(const Napi::Value& view, const Napi::Value& current, const Reservation& reservation);

/// Moves memory of the first stretch to a new buffer; the one before is detached. Throws unless that shows such memory.
Napi::ArrayBuffer moveView(const Napi::Value& view, const Reservation& reservation);

}  // namespace membacking
