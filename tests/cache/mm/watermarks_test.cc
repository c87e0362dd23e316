#include "cache/mm/watermarks.h"

#include <catch2/catch.hpp>

using cache::Watermarks;

TEST_CASE("background reclaim starts below low and stops at high, which lies above") {
  for (const uint64_t bound : {uint64_t{1} << 20, uint64_t{64} << 20, uint64_t{4} << 30}) {
    const Watermarks marks = Watermarks::for_bound(bound);
    CHECK(marks.low > 0);
    CHECK(marks.low < marks.high);
    CHECK(marks.high <= bound / 8);
    CHECK(marks.must_start(marks.low - 1));
    CHECK_FALSE(marks.must_start(marks.low));
    CHECK_FALSE(marks.may_stop(marks.high - 1));
    CHECK(marks.may_stop(marks.high));
  }
}

TEST_CASE("a large cache keeps a small share free, a small one at least a span") {
  CHECK(Watermarks::for_bound(uint64_t{64} << 20).high == uint64_t{2} << 20);
  CHECK(Watermarks::for_bound(uint64_t{1} << 20).low == uint64_t{64} << 10);
}
