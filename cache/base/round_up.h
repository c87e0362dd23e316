// round_up(): the next multiple of a unit.
#pragma once

#include <cstdint>

namespace cache {

constexpr uint64_t round_up(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace cache
