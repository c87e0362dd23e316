#include "cache/base/clock.h"

#include <catch2/catch.hpp>

TEST_CASE("the fake clock stands still until it is told to move") {
  cache::FakeClock clock;
  const auto before = clock.now();
  CHECK(clock.now() == before);
  clock.advance(std::chrono::milliseconds(250));
  CHECK(clock.now() - before == std::chrono::milliseconds(250));
}

TEST_CASE("the real clock does not go back") {
  const cache::RealClock clock;
  const auto before = clock.now();
  CHECK(clock.now() >= before);
}
