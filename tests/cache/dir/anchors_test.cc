#include "cache/dir/anchors.h"

#include <catch2/catch.hpp>
#include <map>
#include <string>

#include "tests/support/array_rig.h"
#include "tests/support/random.h"

using cache::Anchor;
using cache::Anchors;
using test::ArrayRig;

TEST_CASE("an anchor is found by its key, or as a neighbour of a cookie") {
  ArrayRig rig;
  {
    Anchors anchors(rig.pages);
    CHECK(anchors.at_or_below(5) == nullptr);
    CHECK(anchors.at_or_above(5) == nullptr);
    CHECK(anchors.add(10, 0, "ten"));
    CHECK(anchors.add(uint64_t{1} << 63, 202, ""));
    CHECK(anchors.add(~uint64_t{0}, 404, std::string(320, 't')));
    CHECK(anchors.size() == 3);
    CHECK(anchors.find(10)->token == "ten");
    CHECK(anchors.find(11) == nullptr);
    CHECK(anchors.at_or_below(9) == nullptr);
    CHECK(anchors.at_or_below(10)->key == 10);
    CHECK(anchors.at_or_below((uint64_t{1} << 63) - 1)->key == 10);
    CHECK(anchors.at_or_below(~uint64_t{0})->position == 404);
    CHECK(anchors.at_or_above(0)->key == 10);
    CHECK(anchors.at_or_above(11)->key == uint64_t{1} << 63);
    CHECK(anchors.find(~uint64_t{0})->token.size() == 320);
  }
  CHECK(rig.all_zero());
}

TEST_CASE("an anchor added again takes the new place and token") {
  ArrayRig rig;
  const uint64_t before = rig.pages.bytes();
  {
    Anchors anchors(rig.pages);
    CHECK(anchors.add(10, 1, "short"));
    const uint64_t one = rig.pages.bytes() - before;
    CHECK(one >= sizeof(Anchor));
    CHECK(anchors.add(10, 2, "short"));
    CHECK(anchors.find(10)->position == 2);
    CHECK(rig.pages.bytes() - before == one);
    CHECK(anchors.add(10, 3, std::string(100, 'x')));
    CHECK(anchors.find(10)->token.size() == 100);
    CHECK(rig.pages.bytes() - before >= one + 100);  // what the heap holds is counted
    CHECK(anchors.size() == 1);
    CHECK(rig.pages.stats().anchors.get() == 1);
    anchors.clear();
    CHECK(rig.pages.bytes() == before);
    CHECK(anchors.size() == 0);
  }
  CHECK(rig.all_zero());
}

TEST_CASE("anchors are inside the budget: without room there is none") {
  ArrayRig rig(uint64_t{1} << 20);
  {
    Anchors anchors(rig.pages);
    uint64_t key = 1;
    while (anchors.add(key, 0, "")) ++key;
    CHECK(rig.pages.bytes() <= rig.pages.limit_bytes());
    CHECK(anchors.size() == key - 1);
    CHECK(anchors.find(key) == nullptr);
    CHECK(anchors.find(key - 1) != nullptr);
  }
  CHECK(rig.all_zero());
}

TEST_CASE("anchors tell whether a key was ever forgotten") {
  ArrayRig rig(uint64_t{1} << 20);
  {
    Anchors anchors(rig.pages);
    REQUIRE(anchors.add(1, 0, "a"));
    REQUIRE(anchors.add(1, 5, "a"));
    for (int i = 0; i < 20; ++i) anchors.begin_generation();  // nothing was added in them
    CHECK(anchors.knows_all());
    SECTION("to another token of the same key") { REQUIRE(anchors.add(1, 0, "b")); }
    SECTION("with its generation") {
      for (uint64_t i = 2; i < 20; ++i) {
        anchors.begin_generation();
        REQUIRE(anchors.add(i, 0, ""));
      }
      CHECK(anchors.find(1) == nullptr);
    }
    SECTION("for want of room") {
      for (uint64_t key = 2; anchors.add(key, 0, "");) ++key;
    }
    CHECK_FALSE(anchors.knows_all());
    anchors.clear();
    CHECK(anchors.knows_all());
  }
  CHECK(rig.all_zero());
}

TEST_CASE("random anchors agree with a map, and every byte is given back") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  test::Random random(seed);
  ArrayRig rig;
  const uint64_t before = rig.pages.bytes();
  {
    Anchors anchors(rig.pages);
    std::map<uint64_t, std::string> model;
    for (uint64_t step = 0; step < test::scaled(5000); ++step) {
      const uint64_t key = random.below(500) << 40;
      const std::string token(random.below(40), 'a');
      REQUIRE(anchors.add(key, 1, token));
      model[key] = token;
      const uint64_t probe = random.below(501) << 40 | random.below(2);
      const auto above = model.lower_bound(probe);
      const Anchor* found = anchors.at_or_above(probe);
      REQUIRE((found == nullptr) == (above == model.end()));
      if (found != nullptr) REQUIRE(found->key == above->first);
      if (found != nullptr) REQUIRE(found->token == above->second);
    }
    REQUIRE(anchors.size() == model.size());
  }
  CHECK(rig.pages.bytes() == before);
  CHECK(rig.all_zero());
}
