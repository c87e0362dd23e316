// 64-bit mixing and string hashing: fast, well spread, not for adversaries.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace cache {

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection on 64 bits.
inline uint64_t mix64(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ULL;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

inline uint64_t hash_bytes(std::string_view bytes, uint64_t seed = 0x9e3779b97f4a7c15ULL) {
  uint64_t h = seed ^ (bytes.size() * 0xff51afd7ed558ccdULL);
  while (bytes.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    h = mix64(h ^ word);
    bytes.remove_prefix(8);
  }
  uint64_t tail = 0;
  std::memcpy(&tail, bytes.data(), bytes.size());
  return mix64(h ^ tail ^ (static_cast<uint64_t>(bytes.size()) << 56));
}

}  // namespace cache
