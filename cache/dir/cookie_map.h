// Mapped cookies: what the kernel sees where the remote's own places are not numbers below 2^63.
//
// Purpose:        a place in a directory as 63 bits, from which the array that holds it is found
//                 without any table, and the entry in it even after the array was filled again.
// Thread-safety:  pure functions.
//
//   62                              23 22      15 14            0
//   +---------------------------------+----------+---------------+
//   | array: hash of its resume token | entry    | hash of the   |
//   | (all ones: the first array)     | index + 1| entry's name  |
//   +---------------------------------+----------+---------------+
//
// The last entry of a full array has no cookie of this form but the next array's key (index and
// name zero), so that, as with native cookies, an array's key is the last cookie of the one before.
// An entry whose array was refilled after a change is found by its name hash, nearest to its old
// index; one that is gone leaves its index, from where the listing goes on.
// The first array's key is 0, but its cookies are not small: a directory may have shown the
// remote's own cookies before it had to switch, and those are small where they are small. Tokens
// whose hashes collide (one in a thousand directories of 10 M entries) take the next free array
// number; the anchors know which (anchors.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cache/base/hash.h"

namespace cache {

namespace cookie_map {
constexpr int kNameBits = 15;
constexpr int kArrayShift = 23;
constexpr uint64_t kMaxVisible = (uint64_t{1} << 63) - 1;
constexpr uint64_t kNameMask = (uint64_t{1} << kNameBits) - 1;
constexpr uint64_t kInArrayMask = (uint64_t{1} << kArrayShift) - 1;
constexpr uint64_t kFirstNumber = (uint64_t{1} << 40) - 1;

// Whether a remote's cookie may be shown as it is.
inline bool fits(uint64_t cookie) { return cookie >= 1 && cookie <= kMaxVisible; }

// The token of a place that the remote tells by a cookie.
inline std::string token(uint64_t cookie) {
  return {reinterpret_cast<const char*>(&cookie), sizeof(cookie)};
}

// Of an array number: 0 is never used, and the first array's has no key.
inline uint64_t key_of_number(uint64_t number) {
  return (number == 0 || number == kFirstNumber ? 1 : number) << kArrayShift;
}
inline uint64_t array_key(std::string_view token) {
  return token.empty() ? 0 : key_of_number(hash_bytes(token) >> (64 - 40));
}
// The key to try after a collision.
inline uint64_t next_array_key(uint64_t key) {
  return key_of_number(((key >> kArrayShift) + 1) & kFirstNumber);
}
inline uint64_t name_bits(std::string_view name) { return hash_bytes(name) & kNameMask; }
// `name_hash`: hash_bytes() of the entry's name.
inline uint64_t cookie(uint64_t key, uint32_t index, uint64_t name_hash) {
  const uint64_t array = key == 0 ? kFirstNumber << kArrayShift : key;
  return array | uint64_t{index + 1} << kNameBits | (name_hash & kNameMask);
}
inline uint64_t cookie(uint64_t key, uint32_t index, std::string_view name) {
  return cookie(key, index, hash_bytes(name));
}
inline uint64_t array_of(uint64_t cookie) {
  const uint64_t number = cookie >> kArrayShift;
  return number == kFirstNumber ? 0 : number << kArrayShift;
}
// One more than the entry's index when the cookie was made; 0: the array's beginning.
inline uint32_t index_after(uint64_t cookie) {
  return static_cast<uint32_t>((cookie & kInArrayMask) >> kNameBits);
}
}  // namespace cookie_map

}  // namespace cache
