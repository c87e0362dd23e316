#include "cache/base/interrupt.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <thread>

#include "tests/support/eventually.h"

using cache::Interrupt;

TEST_CASE("a trigger is kept and wakes the waker, as often as it comes") {
  Interrupt interrupt;
  CHECK_FALSE(interrupt.triggered());
  int woken = 0;
  interrupt.set_waker([&] { ++woken; });
  CHECK(woken == 0);
  interrupt.trigger();
  CHECK(interrupt.triggered());
  CHECK(woken == 1);
  interrupt.trigger();
  CHECK(woken == 2);
  interrupt.set_waker(nullptr);
  interrupt.trigger();
  CHECK(woken == 2);
}

TEST_CASE("a waker that is set after the trigger runs at once") {
  Interrupt interrupt;
  interrupt.trigger();
  bool woken = false;
  interrupt.set_waker([&] { woken = true; });
  CHECK(woken);
}

TEST_CASE("no trigger is lost between a look and the wait") {
  for (int i = 0; i < 200; ++i) {
    Interrupt interrupt;
    auto woken = std::make_shared<std::atomic<bool>>(false);
    std::thread trigger([&] { interrupt.trigger(); });
    interrupt.set_waker([woken] { *woken = true; });
    CHECK(test::eventually([&] { return woken->load(); }));
    trigger.join();
  }
}
