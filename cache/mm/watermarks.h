// Watermarks: when background reclaim starts and where it stops. Pure policy.
//
// Units: bytes. `available` is what could be allocated without reclaim: room under the bound plus
// free objects inside committed spans.
#pragma once

#include <algorithm>
#include <cstdint>

namespace cache {

struct Watermarks {
  uint64_t low = 0;   // below: wake the reclaimer
  uint64_t high = 0;  // at or above: it stops

  // A sixty-fourth and a thirty-second of the bound: enough for a burst of one remote answer
  // without direct reclaim, little enough not to cost hits.
  static Watermarks for_bound(uint64_t bound) {
    const uint64_t low = std::max<uint64_t>(bound / 64, uint64_t{64} << 10);
    return {.low = low, .high = 2 * low};
  }
  [[nodiscard]] bool must_start(uint64_t available) const { return available < low; }
  [[nodiscard]] bool may_stop(uint64_t available) const { return available >= high; }
};

}  // namespace cache
