#include "fusefs/renew_credit.h"

#include <catch2/catch.hpp>
#include <chrono>

using fusefs::RenewCredit;
using std::chrono::milliseconds;

TEST_CASE("lookups that waited for the remote pay for a part of the listing") {
  RenewCredit credit;
  CHECK(credit.take() == 0);
  SECTION("10 ms away: after two") {
    credit.note_asked(milliseconds(10));
    CHECK(credit.take() == 0);
    credit.note_asked(milliseconds(10));
    CHECK(credit.take() == 9);
    CHECK(credit.take() == 0);
    credit.give_back(9);
    CHECK(credit.take() == 9);
  }
  SECTION("next door: after many") {
    int lookups = 0;
    uint32_t arrays = 0;
    for (; arrays == 0; arrays = credit.take(), ++lookups)
      credit.note_asked(std::chrono::microseconds(200));
    CHECK(lookups == 81);
    CHECK(arrays == RenewCredit::kLeastArrays);
  }
  SECTION("far away: after one, and no more than can be used") {
    credit.note_asked(std::chrono::seconds(60));
    CHECK(credit.take() == RenewCredit::kMostArrays);
    credit.note_asked(std::chrono::seconds(60));
    CHECK(credit.take() == RenewCredit::kMostArrays);
  }
  SECTION("what took longer than was earned is owed") {
    for (int i = 0; i < 2; ++i) credit.note_asked(milliseconds(10));
    const uint32_t arrays = credit.take();
    credit.note_took(arrays, milliseconds(300));
    for (int i = 0; i < 28; ++i) {
      credit.note_asked(milliseconds(10));
      CHECK(credit.take() == 0);
    }
    for (int i = 0; i < 4; ++i) credit.note_asked(milliseconds(10));
    CHECK(credit.take() > 0);
  }
  SECTION("after a failure: after many more") {
    credit.note_failed();
    for (int i = 0; i < 10; ++i) credit.note_asked(milliseconds(100));
    CHECK(credit.take() == 0);
    for (int i = 0; i < 20; ++i) credit.note_asked(milliseconds(100));
    CHECK(credit.take() > 0);
  }
  SECTION("a clock that went back pays nothing") {
    credit.note_asked(milliseconds(-10));
    CHECK(credit.take() == 0);
  }
}

TEST_CASE("what was fetched and used pays for more of it") {
  RenewCredit credit;
  for (uint32_t i = 0; i < RenewCredit::kLeastArrays * cache::kEntriesPerArray; ++i) {
    credit.note_found();
  }
  CHECK(credit.take() == 4 * RenewCredit::kLeastArrays);
}
