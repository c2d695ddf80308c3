// Guest memory as an ArrayBuffer: no call and no copy for an access, and no guard either. Whoever opens a view sees to
// it that what it shows stays mapped until it is detached.
//
// Any number of views may show the same memory, in any number of threads: each is a buffer of its own for V8, and to
// detach one does nothing to the others.
#pragma once

#include <napi.h>

#include <memory>

#include "host/reservation.h"

namespace membacking {

/// A view keeps the reservation as long as it is attached. Throws unless the range is inside it, and at most 4 GiB,
/// where Node-API's buffers end; ERR_NO_VIEWS where the runtime has none.
Napi::ArrayBuffer openView(Napi::Env env, const std::shared_ptr<Reservation>& reservation, uint64_t gpa,
                           uint64_t length);

/// From now on JavaScript finds an empty buffer. Throws unless `view` is an attached view of `mapping`.
void detachView(const Napi::Value& view, const Mapping& mapping);

}  // namespace membacking
