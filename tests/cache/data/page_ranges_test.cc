// PageRanges against a plain set.
#include "cache/data/page_ranges.h"

#include <catch2/catch.hpp>
#include <set>

#include "tests/support/random.h"

namespace cache {
namespace {

TEST_CASE("ranges that touch are one; what is erased splits them") {
  PageRanges ranges;
  CHECK(ranges.insert(5, 10) == 5);
  CHECK(ranges.insert(10, 12) == 2);
  CHECK(ranges.insert(0, 7) == 5);
  CHECK(ranges.ranges().size() == 1);
  CHECK(ranges.insert(3, 3) == 0);
  CHECK(ranges.erase(4, 6) == 2);
  CHECK(ranges.next(0) == PageRange{0, 4});
  CHECK(ranges.next(2) == PageRange{2, 4});
  CHECK(ranges.next(4) == PageRange{6, 12});
  CHECK_FALSE(ranges.next(12).has_value());
  CHECK(ranges.end() == 12);
  CHECK(ranges.clear() == 10);
  CHECK(ranges.empty());
}

TEST_CASE("random ranges") {
  const uint64_t seed = test::seed();
  INFO("COOKIEFS_TEST_SEED=" << seed);
  test::Random random(seed);
  PageRanges ranges;
  std::set<uint64_t> model;
  for (int step = 0; step < 3000; ++step) {
    const uint64_t first = random.below(200);
    const uint64_t end = first + random.below(30);
    const size_t before = model.size();
    uint64_t changed = 0;
    if (random.one_in(2)) {
      for (uint64_t page = first; page < end; ++page) model.insert(page);
      changed = ranges.insert(first, end);
      REQUIRE(changed == model.size() - before);
    } else {
      model.erase(model.lower_bound(first), model.lower_bound(end));
      changed = ranges.erase(first, end);
      REQUIRE(changed == before - model.size());
    }
    ranges.check_invariants();
    REQUIRE(ranges.pages() == model.size());
    const auto next = model.lower_bound(first);
    REQUIRE(ranges.next(first).has_value() == (next != model.end()));
    if (next != model.end()) REQUIRE(ranges.next(first)->first == *next);
    REQUIRE(ranges.contains(end) == (model.count(end) > 0));
  }
}

}  // namespace
}  // namespace cache
