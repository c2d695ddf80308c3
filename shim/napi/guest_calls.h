// Access functions of a Reservation handle. Each carries the memory that it works on, because finding it through `this`
// costs more than all the rest of a call.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "host/guest_access.h"

namespace membacking {

class Reservation;

/// State that a handle shares with its functions, which may outlive it.
struct GuestCalls {
  /// Null when the handle is closed.
  std::shared_ptr<Reservation> reservation;
  AccessFacts facts;
  /// Holder of the last lock that was asked for.
  std::string holder;

  /// Closes it, with the locks that were taken.
  void end();
};

/// Puts `read`, `write`, `load`, `store`, `compareExchange`, `lock`, `unlock`, and the `facts` that they leave, on a
/// handle.
void defineGuestCalls(Napi::Object handle, const std::shared_ptr<GuestCalls>& calls);

}  // namespace membacking
