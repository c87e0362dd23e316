#include "fusefs/backends/sim/sim_scheduler.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace fusefs {
namespace {

using namespace std::chrono_literals;
using Mode = SimScheduler::Mode;

TEST_CASE("virtual time jumps to the next event and no further") {
  SimScheduler scheduler(Mode::kVirtual);
  const cache::TimePoint start = scheduler.now();
  CHECK(scheduler.elapsed() == 0s);
  REQUIRE(scheduler.wait_until(48h));
  CHECK(scheduler.elapsed() == 48h);
  CHECK(scheduler.now() - start == 48h);
}

TEST_CASE("events run by time, then in the order in which they were given") {
  SimScheduler scheduler(Mode::kVirtual);
  std::string order;
  {
    const SimScheduler::Hold hold(scheduler);
    scheduler.call_at(2s, [&](SimScheduler::Duration due) {
      CHECK(due == 2s);
      order += 'c';
    });
    scheduler.call_at(1s, [&](SimScheduler::Duration) { order += 'a'; });
    scheduler.call_at(1s, [&](SimScheduler::Duration) { order += 'b'; });
  }
  REQUIRE(scheduler.wait_until(3s));
  CHECK(order == "abc");
}

TEST_CASE("an event may call further events and cancel others") {
  SimScheduler scheduler(Mode::kVirtual);
  std::vector<int> ran;
  {
    const SimScheduler::Hold hold(scheduler);
    const auto dropped = scheduler.call_at(2s, [&](SimScheduler::Duration) { ran.push_back(0); });
    scheduler.call_at(1s, [&, dropped](SimScheduler::Duration) {
      ran.push_back(1);
      scheduler.cancel(dropped);
      scheduler.call_at(3s, [&](SimScheduler::Duration) { ran.push_back(2); });
    });
  }
  REQUIRE(scheduler.wait_until(4s));
  CHECK(ran == std::vector<int>{1, 2});
}

TEST_CASE("a time that has passed means now") {
  SimScheduler scheduler(Mode::kVirtual);
  REQUIRE(scheduler.wait_until(5s));
  REQUIRE(scheduler.wait_until(1s));
  CHECK(scheduler.elapsed() == 5s);
}

TEST_CASE("a held scheduler runs nothing and its time stands still") {
  SimScheduler scheduler(Mode::kVirtual);
  bool ran = false;
  {
    const SimScheduler::Hold hold(scheduler);
    scheduler.call_at(1s, [&](SimScheduler::Duration) { ran = true; });
    CHECK(scheduler.elapsed() == 0s);
    CHECK_FALSE(ran);
  }
  REQUIRE(scheduler.wait_until(1s));
  CHECK(ran);
}

TEST_CASE("stop drops what has not run, and what it captured") {
  const auto captured = std::make_shared<int>(1);
  SimScheduler scheduler(Mode::kReal);
  scheduler.call_at(1h, [captured](SimScheduler::Duration) {});
  CHECK(captured.use_count() == 2);
  scheduler.stop();
  CHECK(captured.use_count() == 1);
  scheduler.call_at(0s, [captured](SimScheduler::Duration) {});
  CHECK(captured.use_count() == 1);
}

TEST_CASE("real time passes by itself") {
  SimScheduler scheduler(Mode::kReal);
  const auto start = std::chrono::steady_clock::now();
  REQUIRE(scheduler.wait_until(scheduler.elapsed() + 2ms));
  CHECK(std::chrono::steady_clock::now() - start >= 2ms);
}

}  // namespace
}  // namespace fusefs
