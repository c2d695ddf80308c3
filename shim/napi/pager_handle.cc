// Pagers as JavaScript calls them, and how their news reaches it.

#include "napi/pager_handle.h"

#include <limits>
#include <utility>
#include <vector>

namespace membacking {

void PagerHandle::define(Napi::Env env, Napi::Object exports) {
  Handle::define(env, exports,
                 {
                     StaticMethod<&PagerHandle::create>("create"),
                     InstanceMethod<&PagerHandle::listen>("listen"),
                     InstanceMethod<&PagerHandle::beginSource>("beginSource"),
                     InstanceMethod<&PagerHandle::takeLosses>("takeLosses"),
                     InstanceMethod<&PagerHandle::takeAsked>("takeAsked"),
                     InstanceMethod<&PagerHandle::supply>("supply"),
                     InstanceMethod<&PagerHandle::expect>("expect"),
                     InstanceMethod<&PagerHandle::refuse>("refuse"),
                     InstanceMethod<&PagerHandle::bringAhead>("bringAhead"),
                     InstanceMethod<&PagerHandle::wanted>("wanted"),
                     InstanceMethod<&PagerHandle::close>("close"),
                 });
}

Napi::Value PagerHandle::create(const Napi::CallbackInfo& info) {
  std::shared_ptr<Pager> pager;
  check(info.Env(), Pager::open(pager));
  return wrap(info.Env(), std::move(pager));
}

void PagerHandle::listen(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Pager>& pager = shared(info.Env());
  if (!info[0].IsFunction()) throwType(info.Env(), "listener", "a function");
  news_.reset();
  news_ = std::make_unique<Notice>(info.Env(), info[0].As<Napi::Function>(), [pager] {
    pager->endSource();
    pager->setListener(nullptr);
  });
  pager->setListener([news = news_.get()] { news->give(); });
}

Napi::Value PagerHandle::takeLosses(const Napi::CallbackInfo& info) {
  const std::vector<Pager::Loss> losses = core(info).takeLosses();
  Napi::Array result = Napi::Array::New(info.Env(), losses.size());
  for (uint32_t i = 0; i < losses.size(); i++) {
    const auto& [page, why] = losses[i];
    Napi::Object loss = Napi::Object::New(info.Env());
    loss.Set("block", Napi::Number::New(info.Env(), page.block));
    loss.Set("offset", Napi::Number::New(info.Env(), static_cast<double>(page.pages.offset)));
    loss.Set("error", systemError(info.Env(), why).Value());
    result.Set(i, loss);
  }
  return result;
}

void PagerHandle::beginSource(const Napi::CallbackInfo& info) { core(info).beginSource(toU32(info[0], "patience")); }

/// Block and offset of each page, one after the other.
static Napi::Value pairsOf(Napi::Env env, const std::vector<BlockStretch>& pages) {
  Napi::Float64Array pairs = Napi::Float64Array::New(env, 2 * pages.size());
  double* next = pairs.Data();
  for (const auto& [block, page] : pages) {
    *next++ = block;
    *next++ = static_cast<double>(page.offset);
  }
  return pairs;
}

Napi::Value PagerHandle::takeAsked(const Napi::CallbackInfo& info) {
  return pairsOf(info.Env(), core(info).takeAsked());
}

Napi::Value PagerHandle::wanted(const Napi::CallbackInfo& info) { return pairsOf(info.Env(), core(info).wanted()); }

/// Offset of a page of a block.
static uint64_t toPage(const Napi::Value& value) {
  const uint64_t offset = toU64(value, "offset");
  if (offset % kPageSize != 0 || offset > std::numeric_limits<int64_t>::max()) {
    throwRange(value.Env(), "offset", "whole pages, below 2^63");
  }
  return offset;
}

void PagerHandle::supply(const Napi::CallbackInfo& info) {
  Pager& pager = core(info);
  const uint32_t block = toU32(info[0], "block");
  const uint64_t offset = toPage(info[1]);
  Napi::Uint8Array bytes = toBytes(info[2], "bytes");
  const size_t length = bytes.ByteLength();
  if (length == 0 || length % kPageSize != 0) throwRange(info.Env(), "bytes", "whole pages, at least one");
  check(info.Env(), pager.supply(block, offset, bytes.Data(), length));
}

void PagerHandle::expect(const Napi::CallbackInfo& info) {
  check(info.Env(), core(info).expect(toU32(info[0], "block"), toPage(info[1]), toPage(info[2])));
}

void PagerHandle::refuse(const Napi::CallbackInfo& info) {
  core(info).refuse(toU32(info[0], "block"), toPage(info[1]));
}

void PagerHandle::bringAhead(const Napi::CallbackInfo& info) {
  Pager& pager = core(info);
  const uint32_t block = toU32(info[0], "block");
  const Napi::Float64Array pairs = toNumbers(info[1], "ranges");
  std::vector<Stretch> ranges;
  for (size_t i = 0; i + 1 < pairs.ElementLength(); i += 2) {
    const uint64_t offset = toPage(Napi::Number::New(info.Env(), pairs[i]));
    const uint64_t length = toPage(Napi::Number::New(info.Env(), pairs[i + 1]));
    if (length == 0) throwRange(info.Env(), "ranges", "not empty");
    ranges.push_back({offset, length});
  }
  pager.bringAhead(block, std::move(ranges));
}

void PagerHandle::close(const Napi::CallbackInfo&) {
  news_.reset();
  release();
}

}  // namespace membacking
