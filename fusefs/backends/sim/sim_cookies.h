// Positions of entries in a directory, and the cookies that stand for them.
//
// Purpose:        every entry has a position, ascending in listing order and kept for its life. A
//                 cookie is a position in other clothes: each style is a bijection, so no cookie
//                 is ever stored, and the cookie of an entry that is gone still names its place.
// Thread-safety:  immutable after construction.
//
//   positions   0       first           +stride         +stride           last
//               |-------|---------------|---------------|--- ... ---------|
//               start   entry 0  (gap)  entry 1  (gap)  entry 2     (gap)
//
// Gaps hold entries that come and go, and the places of names that a faulty remote invents.
#pragma once

#include <cstdint>
#include <optional>

#include "fusefs/backends/sim/sim_url.h"

namespace fusefs {

struct SimPlaces {
  uint64_t count = 0;  // of the entries that stay: numbered 0 to count-1
  uint64_t first = 1;  // position of entry 0
  uint64_t stride = 2;
  uint64_t last = 0;  // the highest position any entry may have

  [[nodiscard]] uint64_t position(uint64_t number) const { return first + number * stride; }
  // How many of the numbered entries stand at `position` or before it.
  [[nodiscard]] uint64_t count_up_to(uint64_t position) const;
};

// A directory that rarely changes: the last of its entries, or of the entries added behind it where
// cookies are not `huge`, has the last position; one in which entries come and go; an empty one.
SimPlaces sim_fixed_places(uint64_t count, SimCookies style);
SimPlaces sim_empty_places(SimCookies style);
SimPlaces sim_changing_places(uint64_t count, SimCookies style);

// Cookies of the styles that have them (not kIndex, not kName).
class SimCookieCodec {
 public:
  SimCookieCodec(SimCookies style, uint64_t seed);

  // Never 0 for a position in [1, places.last].
  [[nodiscard]] uint64_t encode(const SimPlaces& places, uint64_t position) const;
  // The position to continue after; nothing for a cookie that no entry can have had.
  [[nodiscard]] std::optional<uint64_t> decode(const SimPlaces& places, uint64_t cookie) const;
  // What `eofcookie=sentinel` puts in place of the last entry's cookie.
  [[nodiscard]] uint64_t sentinel() const;

 private:
  [[nodiscard]] uint64_t scramble(uint64_t position) const;
  [[nodiscard]] uint64_t unscramble(uint64_t cookie) const;

  const SimCookies style_;
  const uint64_t factor_;   // odd
  const uint64_t inverse_;  // of factor_, modulo 2^62
};

}  // namespace fusefs
