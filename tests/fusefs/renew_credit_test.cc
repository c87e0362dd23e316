#include "fusefs/renew_credit.h"

#include <catch2/catch.hpp>
#include <chrono>

using fusefs::RenewCredit;
using std::chrono::milliseconds;

TEST_CASE("lookups that waited for the remote pay for a part of the listing") {
  RenewCredit credit;
  CHECK(credit.arrays() == 0);
  SECTION("10 ms away: after two") {
    credit.note_asked(milliseconds(10));
    CHECK(credit.arrays() == 0);
    credit.note_asked(milliseconds(10));
    CHECK(credit.arrays() == 9);
    credit.spend();
    CHECK(credit.arrays() == 0);
  }
  SECTION("next door: after many") {
    int lookups = 0;
    for (; credit.arrays() == 0; ++lookups) credit.note_asked(std::chrono::microseconds(200));
    CHECK(lookups == 81);
    CHECK(credit.arrays() == RenewCredit::kLeastArrays);
  }
  SECTION("far away: after one, and no more than can be used") {
    credit.note_asked(std::chrono::seconds(60));
    CHECK(credit.arrays() == RenewCredit::kMostArrays);
    credit.note_asked(std::chrono::seconds(60));
    CHECK(credit.arrays() == RenewCredit::kMostArrays);
  }
  SECTION("a clock that went back pays nothing") {
    credit.note_asked(milliseconds(-10));
    CHECK(credit.arrays() == 0);
  }
}

TEST_CASE("what was fetched and used pays for more of it") {
  RenewCredit credit;
  for (uint32_t i = 0; i < RenewCredit::kLeastArrays * cache::kEntriesPerArray; ++i) {
    credit.note_found();
  }
  CHECK(credit.arrays() == 4 * RenewCredit::kLeastArrays);
}
