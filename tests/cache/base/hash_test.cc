#include "cache/base/hash.h"

#include <array>
#include <catch2/catch.hpp>
#include <set>
#include <string>

TEST_CASE("mix64 spreads small and regular keys over few buckets evenly") {
  constexpr int kBuckets = 64;
  for (const uint64_t stride : {uint64_t{1}, uint64_t{4096}, uint64_t{1} << 32}) {
    std::array<int, kBuckets> count{};
    for (uint64_t i = 0; i < 64 * 1000; ++i) ++count[cache::mix64(i * stride) % kBuckets];
    for (const int n : count) CHECK((n > 800 && n < 1200));
  }
}

TEST_CASE("hash_bytes depends on every byte and on the length") {
  std::set<uint64_t> seen;
  std::string text;
  for (int length = 0; length < 40; ++length, text.push_back('\0')) {
    CHECK(seen.insert(cache::hash_bytes(text)).second);
  }
  const std::string base(33, 'a');
  for (size_t at = 0; at < base.size(); ++at) {
    std::string other = base;
    other[at] = 'b';
    CHECK(seen.insert(cache::hash_bytes(other)).second);
  }
  CHECK(cache::hash_bytes("abc") == cache::hash_bytes("abc"));
  CHECK(cache::hash_bytes("abc", 1) != cache::hash_bytes("abc", 2));
}
