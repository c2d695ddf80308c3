// VA spaces as JavaScript calls them: checks ranges, and starts long work in the background.

#include "napi/reservation_handle.h"

#include <algorithm>
#include <string>
#include <utility>

#include "abi.h"
#include "host/leavings.h"
#include "host/pages.h"
#include "host/registry.h"
#include "napi/lock_calls.h"
#include "napi/object_handle.h"
#include "napi/pool_work.h"
#include "napi/stretch_list.h"
#include "napi/view.h"

namespace membacking {

ReservationHandle::ReservationHandle(const Napi::CallbackInfo& info) : Handle(info) {
  bind<&ReservationHandle::moveView>(info, "moveView");
  bind<&ReservationHandle::isLocked>(info, "isLocked");
  bind<&ReservationHandle::showLock>(info, "showLock");
  calls_->reservation = shared(info.Env());
  defineGuestCalls(info.This().As<Napi::Object>(), calls_);
}

ReservationHandle::~ReservationHandle() { calls_->end(); }

void ReservationHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&ReservationHandle::create>("create"),
                     StaticMethod<&ReservationHandle::createView>("createView"),
                     StaticMethod<&ReservationHandle::fromToken>("fromToken"),
                     InstanceAccessor<&ReservationHandle::base>("base"),
                     InstanceAccessor<&ReservationHandle::size>("size"),
                     InstanceAccessor<&ReservationHandle::token>("token"),
                     InstanceMethod<&ReservationHandle::addressOf>("addressOf"),
                     InstanceMethod<&ReservationHandle::absentIn>("absentIn"),
                     InstanceMethod<&ReservationHandle::fill>("fill"),
                     InstanceMethod<&ReservationHandle::discardPrivate>("discardPrivate"),
                     InstanceMethod<&ReservationHandle::discardPrivateLater>("discardPrivateLater"),
                     InstanceMethod<&ReservationHandle::view>("view"),
                     InstanceMethod<&ReservationHandle::detachView>("detachView"),
                     InstanceAccessor<&ReservationHandle::windowGates>("windowGates"),
                     InstanceMethod<&ReservationHandle::openWindow>("openWindow"),
                     InstanceAccessor<&ReservationHandle::gate>("gate"),
                     InstanceMethod<&ReservationHandle::bar>("bar"),
                     InstanceMethod<&ReservationHandle::unbar>("unbar"),
                     InstanceMethod<&ReservationHandle::lockedIn>("lockedIn"),
                     InstanceMethod<&ReservationHandle::revoke>("revoke"),
                     InstanceMethod<&ReservationHandle::isAskedFor>("isAskedFor"),
                     InstanceMethod<&ReservationHandle::close>("close"),
                 });
}

Napi::Value ReservationHandle::create(const Napi::CallbackInfo& info) {
  const uint64_t size = toU64(info[0], "size");
  if (size == 0 || size % kPageSize != 0) throwRange(info.Env(), "size", "whole pages, at least one");
  const std::string name = toFullName("membacking:va", info[1]);
  const uint64_t reach = info[2].IsUndefined() ? size : toU64(info[2], "reach");
  if (reach < size) throwRange(info.Env(), "reach", "at least the size");
  std::shared_ptr<Reservation> reservation;
  check(info.Env(), Reservation::create(size, reach, name, reservation));
  return wrap(info.Env(), std::move(reservation));
}

Napi::Value ReservationHandle::createView(const Napi::CallbackInfo& info) {
  std::shared_ptr<Reservation> viewed = from(info[0], "viewed");
  if (viewed->isView()) throwType(info.Env(), "viewed", "a VA space, not a view of one");
  return wrap(info.Env(), Reservation::createView(std::move(viewed)));
}

Napi::Value ReservationHandle::fromToken(const Napi::CallbackInfo& info) {
  auto reservation = Registry<Reservation>::instance().find(toU64(info[0], "token"));
  if (!reservation) throwCoded(info.Env(), "ERR_CLOSED", "no VA space that is open in this process has this token");
  return wrap(info.Env(), std::move(reservation));
}

Napi::Value ReservationHandle::base(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), core(info).first().base());
}

Napi::Value ReservationHandle::size(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), core(info).first().size());
}

Napi::Value ReservationHandle::addressOf(const Napi::CallbackInfo& info) {
  const uint64_t gpa = toU64(info[0], "gpa");
  const Reservation::Share stretch = core(info).find(gpa);
  if (stretch == nullptr) return info.Env().Undefined();
  return Napi::BigInt::New(info.Env(), stretch->addressOf(gpa));
}

Napi::Value ReservationHandle::token(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), core(info).token());
}

/// Range of whole pages in one stretch.
struct PagesOfStretch {
  Reservation::Share stretch;
  uint64_t gpa;
  uint64_t length;
};

/// Range of two arguments, of which `first` is the number of the first.
static PagesOfStretch toPages(const Napi::CallbackInfo& info, Reservation& reservation, size_t first = 0) {
  const uint64_t gpa = toU64(info[first], "gpa");
  const uint64_t length = toU64(info[first + 1], "length");
  Reservation::Share stretch = reservation.find(gpa, length);
  if (stretch == nullptr) throwRange(info.Env(), "length", "inside a stretch of the VA space, and not 0");
  if ((gpa | length) % kPageSize != 0) throwRange(info.Env(), "length", "whole pages, like gpa");
  return {std::move(stretch), gpa, length};
}

Napi::Value ReservationHandle::absentIn(const Napi::CallbackInfo& info) {
  const uint64_t gpa = toU64(info[0], "gpa");
  const uint64_t length = toU64(info[1], "length");
  if ((gpa | length) % kPageSize != 0) throwRange(info.Env(), "length", "whole pages, like gpa");
  const Reservation::Share stretch = core(info).find(gpa, length);
  return stretchList(info.Env(), stretch == nullptr ? std::vector<Stretch>() : findAbsent(*stretch, gpa, length));
}

Napi::Value ReservationHandle::fill(const Napi::CallbackInfo& info) {
  const PagesOfStretch pages = toPages(info, core(info));
  return PoolWork::start(info.Env(), "membacking.fill",
                         [pages] { return populatePages(*pages.stretch, pages.gpa, pages.length, false); });
}

/// Ranges of all arguments from number `first` on.
static std::vector<PagesOfStretch> toRanges(const Napi::CallbackInfo& info, Reservation& reservation,
                                            size_t first = 0) {
  std::vector<PagesOfStretch> ranges;
  for (size_t i = first; i == first || i < info.Length(); i += 2) ranges.push_back(toPages(info, reservation, i));
  return ranges;
}

/// Drops the private pages of ranges. `freed`: grows by the bytes that those alone had.
static Failure discardRanges(const std::vector<PagesOfStretch>& ranges, uint64_t& freed) {
  for (auto first = ranges.begin(), end = first; first != ranges.end(); first = end) {
    const HostRange& stretch = *first->stretch;
    std::vector<Stretch> inside;
    for (; end != ranges.end() && end->stretch.get() == &stretch; end++) inside.push_back({end->gpa, end->length});
    if (const Failure failure = countPrivate(stretch, inside, freed)) return failure;
    for (const auto& [gpa, length] : inside) {
      if (const Failure failure = discardPages(stretch, gpa, length)) return failure;
    }
  }
  return kDone;
}

Napi::Value ReservationHandle::discardPrivate(const Napi::CallbackInfo& info) {
  uint64_t freed = 0;
  check(info.Env(), discardRanges(toRanges(info, core(info)), freed));
  return Napi::BigInt::New(info.Env(), freed);
}

Napi::Value ReservationHandle::discardPrivateLater(const Napi::CallbackInfo& info) {
  const auto leavings = std::make_shared<Leavings>();
  const std::shared_ptr<MemoryObject> object = ObjectHandle::from(info[0], "object");
  std::vector<PagesOfStretch> ranges = toRanges(info, core(info), 1);
  Pager* const pager = object->lazy != nullptr ? object->lazy->pager.get() : nullptr;
  // Taken now: what the addresses show when they are freed is another question.
  const auto isTaken = [&](const PagesOfStretch& each) {
    return leavings->take(*each.stretch, each.gpa, each.length, pager);
  };
  ranges.erase(std::remove_if(ranges.begin(), ranges.end(), isTaken), ranges.end());
  const auto freed = std::make_shared<uint64_t>(0);
  check(info.Env(), discardRanges(ranges, *freed));
  return PoolWork::start(
      info.Env(), "membacking.discard",
      [leavings, freed] {
        const Failure failure = leavings->count(*freed);
        leavings->free();
        return failure;
      },
      [freed](Napi::Env env) { return Napi::BigInt::New(env, *freed); });
}

Napi::Value ReservationHandle::view(const Napi::CallbackInfo& info) {
  const bool isLasting = !info[2].IsUndefined() && toBool(info[2], "isLasting");
  return openView(info.Env(), shared(info.Env()), toU64(info[0], "gpa"), toU64(info[1], "length"), isLasting);
}

void ReservationHandle::detachView(const Napi::CallbackInfo& info) {
  membacking::detachView(info[0], info[1].IsUndefined() ? info[0] : info[1], core(info));
}

Napi::Value ReservationHandle::moveView(const Napi::CallbackInfo& info) {
  return membacking::moveView(info[0], core(info));
}

/// Windows of this handle, which are one thread's.
WindowUser& ReservationHandle::windowUser(const Napi::CallbackInfo& info) {
  Reservation& reservation = core(info);
  if (!windowUser_) windowUser_ = std::make_unique<WindowUser>(reservation.windows(), reservation.limits());
  return *windowUser_;
}

Napi::Value ReservationHandle::windowGates(const Napi::CallbackInfo& info) {
  return exchangeBuffer(info.Env(), windowUser(info).gates());
}

Napi::Value ReservationHandle::openWindow(const Napi::CallbackInfo& info) {
  const uint64_t gpa = toU64(info[0], "gpa");
  const bool isWrite = toBool(info[1], "isWrite");
  const uint64_t longest = toU64(info[2], "longest");
  if (longest == 0) throwRange(info.Env(), "longest", "more than 0");
  const Reservation::Share stretch = core(info).find(gpa);
  if (stretch == nullptr) return info.Env().Undefined();
  const uint64_t partStart = gpa - (gpa - stretch->start()) % longest;
  const uint64_t partEnd = partStart + std::min(longest, stretch->bytesFrom(partStart));
  const Window opened = windowUser(info).open(gpa, isWrite, partStart, partEnd);
  if (opened.number < 0) return info.Env().Undefined();
  Napi::Object window = Napi::Object::New(info.Env());
  window.Set("number", opened.number);
  window.Set("start", exactly(info.Env(), opened.start));
  window.Set("end", exactly(info.Env(), opened.end));
  window.Set("isWritable", opened.isWritable);
  window.Set("partStart", exactly(info.Env(), partStart));
  window.Set("partEnd", exactly(info.Env(), partEnd));
  return window;
}

Napi::Value ReservationHandle::gate(const Napi::CallbackInfo& info) {
  return exchangeBuffer(info.Env(), core(info).locks().gate());
}

Napi::Value ReservationHandle::bar(const Napi::CallbackInfo& info) { return barRange(info, core(info).locks()); }

void ReservationHandle::unbar(const Napi::CallbackInfo& info) {
  if (isOpen()) core(info).locks().unbar(toU64(info[0], "bar"));
}

Napi::Value ReservationHandle::lockedIn(const Napi::CallbackInfo& info) {
  return lockedInRange(info, core(info).locks(), "");
}

Napi::Value ReservationHandle::isLocked(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), isOpen() && core(info).locks().isHeld(toU64(info[0], "id")));
}

void ReservationHandle::revoke(const Napi::CallbackInfo& info) {
  if (isOpen()) core(info).locks().revoke(toU64(info[0], "id"));
}

Napi::Value ReservationHandle::showLock(const Napi::CallbackInfo& info) {
  if (!info[1].IsFunction()) throwType(info.Env(), "asked", "a function");
  if (!notice_) {
    // Without locks nobody is asked for one.
    const auto end = [calls = calls_] { calls->end(); };
    notice_ = std::make_unique<Notice>(info.Env(), info[1].As<Napi::Function>(), end);
  }
  const bool isHeld = core(info).locks().show(toU64(info[0], "id"), [this] { notice_->give(); });
  return Napi::Boolean::New(info.Env(), isHeld);
}

Napi::Value ReservationHandle::isAskedFor(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), core(info).locks().isAskedFor(toU64(info[0], "id")));
}

void ReservationHandle::close(const Napi::CallbackInfo&) {
  calls_->end();
  notice_.reset();
  windowUser_.reset();
  release();
}

}  // namespace membacking
