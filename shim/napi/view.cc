// Views of guest memory: external ArrayBuffers, with a tag by which they are known again.

#include "napi/view.h"

#include <utility>

#include "napi/args.h"
#include "napi/sys_error.h"
#include "napi/uncounted_buffer.h"

namespace membacking {
namespace {

constexpr napi_type_tag kTag{0x6d656d6261636b69, 0x7669657720766965};
constexpr uint64_t kLongest = uint64_t{1} << 32;

/// Share of a stretch that a view has, and the VA space's first one, by which that is known.
struct ViewShare {
  Reservation::Share stretch;
  const HostRange* first;
  /// Whether the buffer keeps nothing, so that its wrap does.
  bool isWrapped;
};

void deleteShare(napi_env, void* share, void*) { delete static_cast<ViewShare*>(share); }

/// Makes a buffer whose end deletes `share`.
napi_value newBuffer(Napi::Env env, void* data, uint64_t length, ViewShare* share) {
  if (share->isWrapped) return newUncountedBuffer(data, length);
  napi_value buffer = nullptr;
  const auto finalize = [](napi_env given, void*, void* owned) { deleteShare(given, owned, nullptr); };
  const napi_status status = napi_create_external_arraybuffer(env, data, length, finalize, share, &buffer);
  if (status == napi_ok) return buffer;
  delete share;
  if (status != napi_no_external_buffers_allowed) throw Napi::Error::New(env);
  throwCoded(env, "ERR_NO_VIEWS", "This runtime does not let ArrayBuffers show memory that is not its own");
}

}  // namespace

Napi::ArrayBuffer openView(Napi::Env env, const std::shared_ptr<Reservation>& reservation, uint64_t gpa,
                           uint64_t length, bool isLasting) {
  const Reservation::Share stretch = reservation->find(gpa, length);
  if (stretch == nullptr) throwRange(env, "length", "inside a stretch of the VA space, and not 0");
  if (length > kLongest) throwRange(env, "length", "at most 4 GiB");
  auto* share = new ViewShare{stretch, &reservation->first(), !isLasting && hasUncountedBuffers(env)};
  // SAFETY: the range is inside the stretch (above), which the buffer has a share of. That it is mapped is the
  // caller's to see to.
  napi_value view = newBuffer(env, reinterpret_cast<void*>(stretch->addressOf(gpa)), length, share);
  Napi::ArrayBuffer buffer(env, view);
  buffer.TypeTag(&kTag);
  // detachView finds the share by this.
  const napi_finalize finalize = share->isWrapped ? deleteShare : nullptr;
  if (napi_wrap(env, view, share, finalize, nullptr, nullptr) != napi_ok) throw Napi::Error::New(env);
  if (isLasting) {
    auto* lasting = new Reservation::Share(stretch);
    buffer.AddFinalizer([](Napi::BasicEnv, Reservation::Share* owned) { delete owned; }, lasting);
  }
  return buffer;
}

/// An attached buffer.
static Napi::ArrayBuffer toAttached(const Napi::Value& value) {
  if (!value.IsArrayBuffer()) throwType(value.Env(), "view", "an ArrayBuffer");
  Napi::ArrayBuffer buffer = value.As<Napi::ArrayBuffer>();
  if (!buffer.IsDetached()) return buffer;
  throwCoded(value.Env(), "ERR_DETACHED", "This view is detached already: by detachView, or because it was transferred");
}

Napi::ArrayBuffer moveView(const Napi::Value& view, const Reservation& reservation) {
  Napi::ArrayBuffer buffer = toAttached(view);
  const HostRange& first = reservation.first();
  const auto data = reinterpret_cast<uint64_t>(buffer.Data());
  if (data - first.base() >= first.size()) throwRange(view.Env(), "view", "of the first stretch of this Reservation");
  return moveBuffer(buffer);
}

void detachView(const Napi::Value& value, const Napi::Value& current, const Reservation& reservation) {
  if (!value.IsArrayBuffer() || !value.As<Napi::Object>().CheckTypeTag(&kTag)) {
    throwType(value.Env(), "view", "an ArrayBuffer that view() made");
  }
  Napi::ArrayBuffer buffer = toAttached(current);
  void* wrapped = nullptr;
  if (napi_unwrap(value.Env(), value, &wrapped) != napi_ok) throw Napi::Error::New(value.Env());
  auto* share = static_cast<ViewShare*>(wrapped);
  if (share->first != &reservation.first()) throwRange(value.Env(), "view", "of this Reservation");
  if (napi_remove_wrap(value.Env(), value, &wrapped) != napi_ok) throw Napi::Error::New(value.Env());
  // The share goes now, not when the garbage collector comes by, so that who closes a VA space gets its addresses back.
  // It is taken out first, because the finalizer may run as soon as the buffer is detached.
  const Reservation::Share released = std::move(share->stretch);
  if (share->isWrapped) delete share;
  buffer.Detach();
}

}  // namespace membacking
