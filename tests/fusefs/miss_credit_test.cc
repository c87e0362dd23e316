#include "fusefs/miss_credit.h"

#include <catch2/catch.hpp>
#include <chrono>

using cache::Duration;
using cache::TimePoint;
using fusefs::MissCredit;
using fusefs::MissCredits;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr seconds kMissTtl{3};

// So many lookups that found nothing, one after the other, 10 ms each.
struct Misses {
  bool ask(uint32_t times) {
    for (; times > 0; --times) {
      credit.note_miss(now, milliseconds(10));
      now += milliseconds(10);
    }
    return credit.take().has_value();
  }
  MissCredit credit{kMissTtl};
  TimePoint now{std::chrono::hours(1)};
};

}  // namespace

TEST_CASE("lookups of what is not there pay for the listing when there are a few") {
  Misses rig;
  CHECK(!rig.credit.take());
  CHECK(!rig.ask(MissCredit::kLeast - 1));
  rig.credit.note_miss(rig.now, milliseconds(10));
  CHECK(rig.credit.take() == Duration(MissCredit::kPays * MissCredit::kLeast * milliseconds(10)));
  // It is spent.
  CHECK(!rig.credit.take());
}

TEST_CASE("those that are ttl apart pay for nothing") {
  Misses rig;
  for (int i = 0; i < 100; ++i) {
    CHECK(!rig.ask(1));
    rig.now += kMissTtl;
  }
  CHECK(!rig.ask(MissCredit::kLeast - 1));
  CHECK(rig.ask(1));
}

TEST_CASE("a listing that is too long for what was paid must be earned by twice as many") {
  Misses rig;
  uint32_t needed = MissCredit::kLeast;
  for (int i = 0; i < 6; ++i, needed *= 2) {
    CHECK(!rig.ask(needed - 1));
    CHECK(rig.ask(1));
    rig.credit.note_read(false);
  }
  CHECK(rig.ask(needed));
  rig.credit.note_read(true);
  CHECK(rig.ask(MissCredit::kLeast));
  // There is an end to that.
  for (int i = 0; i < 40; ++i) rig.credit.note_read(false);
  CHECK(!rig.ask(MissCredit::kMost - 1));
  CHECK(rig.ask(1));
}

TEST_CASE("nobody waits for a listing for long, and a clock that went back pays nothing") {
  MissCredit credit{kMissTtl};
  for (uint32_t i = 0; i < 1000; ++i) credit.note_miss(TimePoint(seconds(1)), seconds(60));
  CHECK(credit.take() == Duration(MissCredit::kLongest));
  for (uint32_t i = 0; i < 1000; ++i) credit.note_miss(TimePoint(seconds(1)), seconds(-60));
  CHECK(credit.take() == Duration::zero());
}

TEST_CASE("each directory has credit of its own, as long as there are not too many") {
  MissCredits credits{kMissTtl};
  const TimePoint now(std::chrono::hours(1));
  const auto ask = [&](uint64_t nodeid, uint32_t times) {
    for (; times > 0; --times) credits.note_miss(nodeid, now, milliseconds(10));
    return credits.take(nodeid).has_value();
  };
  CHECK(!credits.take(1));
  CHECK(!ask(1, MissCredit::kLeast - 1));
  CHECK(!ask(2, 1));
  CHECK(ask(1, 1));
  CHECK(!ask(1, 1));
  credits.note_read(1, false);
  CHECK(!ask(1, MissCredit::kLeast));
  CHECK(ask(1, MissCredit::kLeast));
  credits.note_read(1, true);
  CHECK(ask(1, MissCredit::kLeast));
  credits.note_read(77, true);  // nothing is known of it
  CHECK(!credits.take(77));
  // Those of a walk have a miss each.
  for (uint64_t nodeid = 0; nodeid < 100 * MissCredits::kDirectories; ++nodeid) {
    CHECK(!ask(nodeid, 1));
  }
}
