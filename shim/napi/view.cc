// Views of guest memory: external ArrayBuffers, with a tag by which they are known again.

#include "napi/view.h"

#include <utility>

#include "napi/args.h"
#include "napi/sys_error.h"

namespace membacking {
namespace {

constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x7669657720766965};
constexpr uint64_t kLongest = uint64_t{1} << 32;

/// Share of a stretch that a view has, and the VA space's first one, by which that is known.
struct ViewShare {
  Reservation::Share stretch;
  const Mapping* first;
};

}  // namespace

Napi::ArrayBuffer openView(Napi::Env env, const std::shared_ptr<Reservation>& reservation, uint64_t gpa,
                           uint64_t length, bool isLasting) {
  const Reservation::Share stretch = reservation->find(gpa, length);
  if (stretch == nullptr) throwRange(env, "length", "inside a stretch of the VA space, and not 0");
  if (length > kLongest) throwRange(env, "length", "at most 4 GiB");
  auto* share = new ViewShare{stretch, &reservation->first()};
  napi_value view = nullptr;
  // SAFETY: the range is inside the stretch (above), which the buffer has a share of. That it is mapped is the
  // caller's to see to.
  const napi_status status = napi_create_external_arraybuffer(
      env, reinterpret_cast<void*>(stretch->addressOf(gpa)), length,
      [](napi_env, void*, void* owned) { delete static_cast<ViewShare*>(owned); }, share, &view);
  if (status != napi_ok) {
    delete share;
    if (status != napi_no_external_buffers_allowed) throw Napi::Error::New(env);
    throwCoded(env, "ERR_NO_VIEWS", "This runtime does not let ArrayBuffers show memory that is not its own");
  }
  Napi::ArrayBuffer buffer(env, view);
  buffer.TypeTag(&kTag);
  // detachView finds the share by this. The finalizer of the buffer deletes it.
  if (napi_wrap(env, view, share, nullptr, nullptr, nullptr) != napi_ok) throw Napi::Error::New(env);
  if (isLasting) {
    auto* lasting = new Reservation::Share(stretch);
    buffer.AddFinalizer([](Napi::BasicEnv, Reservation::Share* owned) { delete owned; }, lasting);
  }
  return buffer;
}

void detachView(const Napi::Value& value, const Reservation& reservation) {
  if (!value.IsArrayBuffer() || !value.As<Napi::Object>().CheckTypeTag(&kTag)) {
    throwType(value.Env(), "view", "an ArrayBuffer that view() made");
  }
  Napi::ArrayBuffer buffer = value.As<Napi::ArrayBuffer>();
  if (buffer.IsDetached()) {
    throwCoded(value.Env(), "ERR_DETACHED",
               "This view is detached already: by detachView, or because it was transferred");
  }
  void* share = nullptr;
  if (napi_unwrap(value.Env(), value, &share) != napi_ok) throw Napi::Error::New(value.Env());
  if (static_cast<ViewShare*>(share)->first != &reservation.first()) {
    throwRange(value.Env(), "view", "of this Reservation");
  }
  if (napi_remove_wrap(value.Env(), value, &share) != napi_ok) throw Napi::Error::New(value.Env());
  // The share goes now, not when the garbage collector comes by, so that who closes a VA space gets its addresses back.
  // It is taken out first, because the finalizer may run as soon as the buffer is detached.
  const Reservation::Share released = std::move(static_cast<ViewShare*>(share)->stretch);
  buffer.Detach();
}

}  // namespace membacking
