#include "fusefs/ahead_window.h"

#include <catch2/catch.hpp>

using fusefs::AheadWindow;

TEST_CASE("nothing is fetched ahead before a walk is recognised") {
  AheadWindow window(256);
  CHECK(window.size() == 0);
  window.hit();
  CHECK(window.size() == 0);
  window.miss();
  window.hit();
  CHECK(window.size() == 0);
  window.hit();
  CHECK(window.size() == AheadWindow::kFirst);
}

TEST_CASE("the window doubles with what was right, up to the most, and halves with what was not") {
  AheadWindow window(100);
  for (const uint32_t expected : {0u, 4u, 8u, 16u, 32u, 64u, 100u, 100u}) {
    window.hit();
    CHECK(window.size() == expected);
  }
  window.wasted();
  CHECK(window.size() == 50);
  window.hit();  // a waste ends no walk
  CHECK(window.size() == 100);
  for (const uint32_t expected : {50u, 25u, 12u, 6u, 3u, 1u, 0u, 0u}) {
    window.miss();
    CHECK(window.size() == expected);
  }
  window.hit();
  CHECK(window.size() == 0);
}

TEST_CASE("no room, no window") {
  for (const uint32_t most : {0u, 1u, 3u}) {
    AheadWindow window(most);
    for (int i = 0; i < 10; ++i) window.hit();
    CHECK(window.size() == most);
  }
}
