// Maps of ranges: disjoint ranges of numbers, each with a value that counts along with them.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

namespace membacking {

/// Map of ranges [start, end) to values. `Value` has a `Value behind(uint64_t count) const`: of the number that lies so
/// far behind the one that a value is of.
template <typename Value>
class RangeMap {
 public:
  /// A range, and the value of its start.
  struct Range {
    uint64_t start;
    uint64_t end;
    Value value;
  };

  bool isEmpty() const { return ranges_.empty(); }

  /// Sets the values of a range that is not empty.
  void set(uint64_t start, uint64_t end, Value value) {
    erase(start, end);
    ranges_.insert({start, {end, std::move(value)}});
  }
  void erase(uint64_t start, uint64_t end) {
    cut(start);
    cut(end);
    ranges_.erase(ranges_.lower_bound(start), ranges_.lower_bound(end));
  }

  /// Finds the whole range that a number is in.
  std::optional<Range> around(uint64_t number) const {
    const auto next = ranges_.upper_bound(number);
    if (next == ranges_.begin() || std::prev(next)->second.end <= number) return std::nullopt;
    const auto& [start, stay] = *std::prev(next);
    return Range{start, stay.end, stay.value};
  }
  /// Finds what has a value in [start, end), up to where another range begins.
  std::optional<Range> first(uint64_t start, uint64_t end) const {
    auto at = ranges_.upper_bound(start);
    if (at != ranges_.begin() && std::prev(at)->second.end > start) --at;
    if (start >= end || at == ranges_.end() || at->first >= end) return std::nullopt;
    return clipped(*at, start, end);
  }
  /// Finds what has a value in [start, end), down from its end to where another range ends.
  std::optional<Range> last(uint64_t start, uint64_t end) const {
    const auto next = ranges_.lower_bound(end);
    if (start >= end || next == ranges_.begin() || std::prev(next)->second.end <= start) return std::nullopt;
    return clipped(*std::prev(next), start, end);
  }
  /// Calls `what(range)` for all that have values in [start, end), upwards.
  template <typename Do>
  void each(uint64_t start, uint64_t end, Do what) const {
    while (const auto range = first(start, end)) {
      what(*range);
      start = range->end;
    }
  }

 private:
  struct Stay {
    uint64_t end;
    Value value;
  };

  /// The part of a range in [start, end). Precondition: there is one.
  static Range clipped(const std::pair<const uint64_t, Stay>& range, uint64_t start, uint64_t end) {
    const auto& [rangeStart, stay] = range;
    const uint64_t from = rangeStart < start ? start : rangeStart;
    return {from, stay.end < end ? stay.end : end, stay.value.behind(from - rangeStart)};
  }

  /// Makes two ranges of one that `at` is inside of.
  void cut(uint64_t at) {
    const auto next = ranges_.lower_bound(at);
    if (next == ranges_.begin()) return;
    auto& [start, stay] = *std::prev(next);
    if (stay.end <= at) return;
    ranges_.insert(next, {at, {stay.end, stay.value.behind(at - start)}});
    stay.end = at;
  }

  /// Ranges by their start.
  std::map<uint64_t, Stay> ranges_;
};

}  // namespace membacking
