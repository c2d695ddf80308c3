// The table of kinds of sinks: a row each, beside the file in sinks/.

#include "napi/sink_kinds.h"

#include "napi/reservation_handle.h"
#include "napi/vm_handle.h"
#include "sinks/events.h"
#include "sinks/slots.h"
#include "sinks/va.h"
#include "sinks/view.h"

namespace membacking {
namespace {

/// A kind of sink.
struct Row {
  uint32_t kind;
  std::shared_ptr<Sink> (*make)(const Napi::Value& target);
};

template <typename Kind, typename TargetHandle>
constexpr Row row() {
  return {Kind::kKind, [](const Napi::Value& target) -> std::shared_ptr<Sink> {
            return std::make_shared<Kind>(TargetHandle::from(target, "target"));
          }};
}

constexpr Row kRows[] = {
    row<VaSink, ReservationHandle>(),
    row<SlotSink, VmHandle>(),
    row<ViewSink, ReservationHandle>(),
    row<EventSink, VmHandle>(),
};

static_assert(std::size(kRows) == abi::SINK_KINDS);

}  // namespace

std::shared_ptr<Sink> makeSink(const Napi::Value& kind, const Napi::Value& target) {
  const uint32_t number = toU32(kind, "kind", abi::SINK_KINDS);
  for (const Row& row : kRows) {
    if (row.kind == number) return row.make(target);
  }
  throwRange(kind.Env(), "kind", "a kind of sink");
}

}  // namespace membacking
