#include "fusefs/backends/sim/sim_cookies.h"

#include <algorithm>
#include <limits>

#include "cache/base/check.h"
#include "cache/base/hash.h"

namespace fusefs {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kHashMask = (uint64_t{1} << 62) - 1;

// Newton's iteration: every round doubles the number of right low bits, starting from 3.
uint64_t inverse_of(uint64_t odd) {
  uint64_t inverse = odd;
  for (int round = 0; round < 5; ++round) inverse *= 2 - odd * inverse;
  return inverse;
}

// The distance between two neighbours of a `huge` directory: the last is at 2^64-1.
uint64_t huge_step(const SimPlaces& places) { return kMax / (places.last + 1); }

}  // namespace

uint64_t SimPlaces::count_up_to(uint64_t position) const {
  if (position < first) return 0;
  return std::min(count, (position - first) / stride + 1);
}

namespace {

// Small cookies of `descending`: under 2^36 up to a billion entries.
uint64_t sim_stride(uint64_t count, SimCookies style) {
  if (style != SimCookies::kDescending) return uint64_t{1} << 20;
  return std::clamp<uint64_t>((uint64_t{1} << 36) / (count + 1), 64, 1 << 16);
}

}  // namespace

SimPlaces sim_fixed_places(uint64_t count, SimCookies style) {
  if (count == 0) return sim_empty_places(style);
  SimPlaces places = sim_changing_places(count, style);
  // Spread over all of 64 bits, the last entry's cookie is the largest there is.
  if (style == SimCookies::kHuge) places.last = places.position(count - 1);
  return places;
}

SimPlaces sim_changing_places(uint64_t count, SimCookies style) {
  const uint64_t stride = sim_stride(count, style);
  SimPlaces places{.count = count, .first = stride, .stride = stride, .last = 0};
  places.last = places.position(count) - 1;
  return places;
}

SimPlaces sim_empty_places(SimCookies style) {
  SimPlaces places = sim_changing_places(0, style);
  places.last = style == SimCookies::kDescending ? uint64_t{1} << 28 : uint64_t{1} << 40;
  return places;
}

SimCookieCodec::SimCookieCodec(SimCookies style, uint64_t seed)
    : style_(style),
      factor_(cache::mix64(seed ^ 0x5bd1e9955bd1e995ULL) | 1),
      inverse_(inverse_of(factor_)) {}

// A bijection on 62 bits that leaves 0 where it is. A shift by half the width undoes itself.
uint64_t SimCookieCodec::scramble(uint64_t position) const {
  uint64_t x = position & kHashMask;
  for (int round = 0; round < 2; ++round) {
    x ^= x >> 31;
    x = (x * factor_) & kHashMask;
  }
  return x ^ (x >> 31);
}

uint64_t SimCookieCodec::unscramble(uint64_t cookie) const {
  uint64_t x = cookie ^ (cookie >> 31);
  for (int round = 0; round < 2; ++round) {
    x = (x * inverse_) & kHashMask;
    x ^= x >> 31;
  }
  return x;
}

uint64_t SimCookieCodec::encode(const SimPlaces& places, uint64_t position) const {
  CACHE_DCHECK(position >= 1 && position <= places.last);
  switch (style_) {
    case SimCookies::kHashed:
      return scramble(position);
    case SimCookies::kDescending:
      return places.last + 1 - position;
    case SimCookies::kHuge:
      return kMax - (places.last - position) * huge_step(places);
    default:
      return position;
  }
}

std::optional<uint64_t> SimCookieCodec::decode(const SimPlaces& places, uint64_t cookie) const {
  switch (style_) {
    case SimCookies::kHashed: {
      if (cookie > kHashMask) return std::nullopt;
      const uint64_t position = unscramble(cookie);
      if (position == 0 || position > places.last) return std::nullopt;
      return position;
    }
    case SimCookies::kDescending:
      if (cookie == 0 || cookie > places.last) return std::nullopt;
      return places.last + 1 - cookie;
    case SimCookies::kHuge: {
      const uint64_t step = huge_step(places);
      const uint64_t below = (kMax - cookie) / step + ((kMax - cookie) % step != 0 ? 1 : 0);
      return places.last - std::min(below, places.last);
    }
    default:
      return cookie;  // beyond the last one: the end
  }
}

uint64_t SimCookieCodec::sentinel() const { return style_ == SimCookies::kHuge ? kMax : kMax >> 1; }

}  // namespace fusefs
