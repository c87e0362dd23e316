// The policy of freshness, line by line.
#include "fusefs/listing_age.h"

#include <catch2/catch.hpp>

namespace {

using fusefs::ListingAge;
using Attributes = ListingAge::Attributes;
using Holds = ListingAge::Holds;
using std::chrono::seconds;

constexpr seconds kTtl{3};
constexpr cache::TimePoint at(int64_t s) {
  return cache::TimePoint(std::chrono::hours(1)) + seconds(s);
}

}  // namespace

TEST_CASE("the token is asked for first, then whenever it is ttl old") {
  ListingAge age(kTtl);
  CHECK(age.token_expired(at(0)));
  age.token_confirmed(at(0));
  CHECK_FALSE(age.token_expired(at(2)));
  CHECK(age.token_expired(at(3)));
  age.token_confirmed(at(5));
  age.token_confirmed(at(4));  // overtaken
  CHECK_FALSE(age.token_expired(at(7)));
  age.forget_token();
  CHECK(age.token_expired(at(7)));
}

TEST_CASE("ttl=0 asks at every listing and never trusts attributes") {
  ListingAge age(seconds(0));
  age.token_confirmed(at(0));
  CHECK(age.token_expired(at(0)));
  CHECK(age.begin_pass(at(0), Holds::kNothing) == Attributes::kOmit);
  CHECK(age.oldest_looked_up(at(0)) == cache::TimePoint::max());
}

TEST_CASE("a first listing offers attributes, and so does one soon after") {
  ListingAge age(kTtl);
  CHECK(age.begin_pass(at(0), Holds::kNothing) == Attributes::kOffered);
  CHECK(age.begin_pass(at(2), Holds::kArrays) == Attributes::kOffered);
}

TEST_CASE("an old listing that nobody looked into is listed by names alone") {
  ListingAge age(kTtl);
  CHECK(age.begin_pass(at(0), Holds::kNothing) == Attributes::kOffered);
  CHECK(age.begin_pass(at(10), Holds::kArrays) == Attributes::kOmit);
  CHECK(age.begin_pass(at(20), Holds::kNothing) == Attributes::kOffered);  // all was reclaimed
}

TEST_CASE("an old listing whose attributes are used is fetched again, once") {
  ListingAge age(kTtl);
  CHECK(age.begin_pass(at(0), Holds::kNothing) == Attributes::kOffered);
  SECTION("told by the kernel") { age.note_wanted(); }
  SECTION("told by many lookups") {
    for (uint32_t i = 0; i < ListingAge::kManyLookups; ++i) age.note_lookup();
  }
  CHECK(age.begin_pass(at(10), Holds::kArrays) == Attributes::kRefetch);
  CHECK(age.begin_pass(at(11), Holds::kArrays) == Attributes::kWanted);
  // The wish is remembered for some passes, because used attributes don't show again.
  CHECK(age.begin_pass(at(20), Holds::kArrays) == Attributes::kRefetch);
  for (uint32_t i = 0; i < ListingAge::kWantedPasses; ++i) {
    age.begin_pass(at(20), Holds::kArrays);
  }
  CHECK(age.begin_pass(at(30), Holds::kArrays) == Attributes::kOmit);
}

TEST_CASE("a few lookups are no reason to fetch a listing again") {
  ListingAge age(kTtl);
  CHECK(age.begin_pass(at(0), Holds::kNothing) == Attributes::kOffered);
  for (uint32_t i = 1; i < ListingAge::kManyLookups; ++i) age.note_lookup();
  CHECK(age.begin_pass(at(10), Holds::kArrays) == Attributes::kOmit);
}

TEST_CASE("where a walk wants attributes, the next old listing is fetched with them") {
  using Walk = ListingAge::Walk;
  ListingAge age(kTtl);
  CHECK(age.begin_pass(at(0), Holds::kNothing) == Attributes::kOffered);
  CHECK(age.begin_pass(at(10), Holds::kArrays, Walk::kWantsAttributes) == Attributes::kRefetch);
  CHECK(age.begin_pass(at(20), Holds::kArrays) == Attributes::kOmit);  // nobody used them here
}

TEST_CASE("many lookups tell at once, and once a pass") {
  ListingAge age(kTtl);
  CHECK(age.begin_pass(at(0), Holds::kArrays) == Attributes::kOmit);
  for (uint32_t i = 1; i < ListingAge::kManyLookups; ++i) CHECK_FALSE(age.note_lookup());
  CHECK_FALSE(age.many_lookups());
  CHECK(age.note_lookup());
  CHECK(age.many_lookups());
  CHECK(age.begin_pass(at(1), Holds::kArrays) == Attributes::kRefetch);
  CHECK_FALSE(age.many_lookups());
}

TEST_CASE("what a walk wanted counts for so many directories") {
  fusefs::WalkHint walk;
  CHECK_FALSE(walk.wanted());
  walk.spend();
  CHECK_FALSE(walk.wanted());
  walk.note_wanted();
  for (uint32_t i = 0; i < fusefs::WalkHint::kPasses; ++i) {
    CHECK(walk.wanted());
    walk.spend();
  }
  CHECK_FALSE(walk.wanted());
}

TEST_CASE("listings link files for so many passes when lookups follow one that did not") {
  fusefs::LinkHint hint;
  CHECK_FALSE(hint.begin_pass());
  for (uint32_t i = 0; i < fusefs::LinkHint::kLookups - 1; ++i) hint.note_lookup();
  SECTION("enough of them") {
    hint.note_lookup();
    for (uint32_t i = 0; i < fusefs::LinkHint::kPasses; ++i) CHECK(hint.begin_pass());
    CHECK_FALSE(hint.begin_pass());  // this one is judged again
    CHECK_FALSE(hint.begin_pass());
  }
  SECTION("a few in each directory, one after the other") {
    CHECK_FALSE(hint.begin_pass());
    for (uint32_t i = 0; i < fusefs::LinkHint::kLookups - 1; ++i) hint.note_lookup();
    CHECK(hint.begin_pass());
  }
  SECTION("one in each directory is not worth it") {
    for (int i = 0; i < 100; ++i) {
      CHECK_FALSE(hint.begin_pass());
      hint.note_lookup();
    }
  }
}

TEST_CASE("what was linked is not linked again for half of the time that the kernel believes it") {
  using Linked = ListingAge::Linked;
  ListingAge age(kTtl);
  for (const Linked what : {Linked::kFirstReply, Linked::kAll}) {
    const auto note = [&](int64_t now, int64_t valid) {
      age.note_linked(what, ListingAge::believed_until(at(now), seconds(valid)));
    };
    CHECK_FALSE(age.still_linked(what, at(0)));
    note(10, 2);
    CHECK(age.still_linked(what, at(10)));
    CHECK_FALSE(age.still_linked(what, at(11)));
    note(20, 0);
    CHECK_FALSE(age.still_linked(what, at(20)));
    note(30, 2);
    age.emptied(at(30));  // what comes next is younger than what the kernel has
    CHECK_FALSE(age.still_linked(what, at(30)));
  }
  CHECK(ListingAge::believed_until(at(0), cache::Duration::max()) > at(0));
}

TEST_CASE("a file that the kernel asks for was dropped by it: the next pass links all again") {
  using Linked = ListingAge::Linked;
  ListingAge age(kTtl);
  age.note_linked(Linked::kFirstReply, at(1));
  age.note_linked(Linked::kAll, at(1));
  age.note_file_looked_up();
  CHECK_FALSE(age.still_linked(Linked::kAll, at(0)));
  // Beyond the first reply lookups come in any case.
  CHECK(age.still_linked(Linked::kFirstReply, at(0)));
}

TEST_CASE("files are known to the kernel once they were linked or looked up, for good") {
  ListingAge age(kTtl);
  CHECK_FALSE(age.files_known());
  SECTION("linked") { age.note_linked(ListingAge::Linked::kFirstReply, at(1)); }
  SECTION("looked up") { age.note_file_looked_up(); }
  CHECK(age.files_known());
  age.emptied(at(5));
  CHECK(age.files_known());
}

TEST_CASE("lookups use attributes as of the pass for as long again as the pass took") {
  ListingAge age(kTtl);
  CHECK(age.oldest_looked_up(at(0)) == at(-3));
  CHECK(age.begin_pass(at(0), Holds::kNothing) == Attributes::kOffered);
  age.pass_continues(at(10));
  CHECK(age.oldest_looked_up(at(10)) == at(-3));
  CHECK(age.oldest_looked_up(at(19)) == at(-3));
  CHECK(age.oldest_looked_up(at(20)) == at(17));
  SECTION("at least ttl") {
    age.begin_pass(at(100), Holds::kNothing);
    CHECK(age.oldest_looked_up(at(102)) == at(97));
    CHECK(age.oldest_looked_up(at(103)) == at(100));
  }
  SECTION("at most kMaxAfterglow") {
    age.begin_pass(at(100), Holds::kNothing);
    age.pass_continues(at(1100));
    CHECK(age.oldest_looked_up(at(1159)) == at(97));
    CHECK(age.oldest_looked_up(at(1160)) == at(1157));
  }
}
