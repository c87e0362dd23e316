#include "cache/dir/cookie_map.h"

#include <catch2/catch.hpp>
#include <set>
#include <string>

#include "cache/dir/readdir_array.h"
#include "tests/support/random.h"

namespace cookie_map = cache::cookie_map;

TEST_CASE("trap 12: only cookies in [1, 2^63-1] are shown as they are") {
  CHECK_FALSE(cookie_map::fits(0));
  CHECK(cookie_map::fits(1));
  CHECK(cookie_map::fits(uint64_t{1} << 31));
  CHECK(cookie_map::fits(uint64_t{1} << 32));
  CHECK(cookie_map::fits((uint64_t{1} << 63) - 1));
  CHECK_FALSE(cookie_map::fits(uint64_t{1} << 63));
  CHECK_FALSE(cookie_map::fits(~uint64_t{0}));
}

TEST_CASE("a mapped cookie is visible, and tells its array, its index and its name") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  test::Random random(seed);
  for (int round = 0; round < 3000; ++round) {
    const std::string token = round == 0 ? "" : std::to_string(random.below(~uint64_t{0}));
    const uint64_t key = cookie_map::array_key(token);
    REQUIRE((key == 0) == token.empty());
    REQUIRE(key <= cookie_map::kMaxVisible);
    const auto index = static_cast<uint32_t>(random.below(cache::kEntriesPerArray));
    const std::string name = "name" + std::to_string(random.below(1000000));
    const uint64_t cookie = cookie_map::cookie(key, index, name);
    REQUIRE(cookie_map::fits(cookie));
    REQUIRE(cookie != key);
    REQUIRE(cookie_map::array_of(cookie) == key);
    REQUIRE(cookie_map::index_after(cookie) == index + 1);
    REQUIRE((cookie & cookie_map::kNameMask) == cookie_map::name_bits(name));
  }
}

TEST_CASE("cookies of one array are distinct, even of equal names") {
  std::set<uint64_t> seen;
  for (uint32_t i = 0; i < cache::kEntriesPerArray; ++i) {
    CHECK(seen.insert(cookie_map::cookie(0, i, "same")).second);
  }
}

TEST_CASE("an array's own key stands for its beginning") {
  const uint64_t key = cookie_map::array_key("token");
  CHECK(cookie_map::index_after(key) == 0);
  CHECK(cookie_map::array_of(key) == key);
  CHECK(cookie_map::fits(key));
}

TEST_CASE("after a collision the next key is another, visible and never the beginning") {
  const uint64_t largest = ((uint64_t{1} << 40) - 1) << cookie_map::kArrayShift;
  for (const uint64_t key :
       {cookie_map::array_key("a"), largest, uint64_t{1} << cookie_map::kArrayShift}) {
    const uint64_t next = cookie_map::next_array_key(key);
    CHECK(next != key);
    CHECK(next != 0);
    CHECK(cookie_map::fits(next));
    CHECK(cookie_map::array_of(next) == next);
  }
  CHECK(cookie_map::fits(cookie_map::cookie(largest, cache::kEntriesPerArray - 1, "z")));
}

TEST_CASE("keys are the same in every process: they stay valid across a remount") {
  CHECK(cookie_map::array_key("abc") == cookie_map::array_key(std::string("abc")));
  CHECK(cookie_map::array_key("abc") != cookie_map::array_key("abd"));
}
