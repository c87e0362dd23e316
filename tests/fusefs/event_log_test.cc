// The log of events: each kind at once, a flood in one line, and what was left out in the next.
#include "fusefs/event_log.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "cache/base/clock.h"
#include "tests/support/sizes.h"

using cache::FakeClock;
using fusefs::EventLog;

namespace {

using test::kMiB;

struct LogRig {
  std::vector<std::string> lines;
  std::vector<EventLog::Level> levels;
  FakeClock clock;
  cache::Stats stats;
  fusefs::BackendCounters remote;
  EventLog log{256 * kMiB, [this](EventLog::Level level, const std::string& line) {
                 lines.push_back(line);
                 levels.push_back(level);
               }};

  // What is said about it now.
  std::vector<std::string> look() {
    lines.clear();
    log.look(clock.now(), stats, remote);
    return lines;
  }
  // Lines while `step` happens ten times a second for so long.
  template <typename Step>
  size_t lines_in(std::chrono::seconds time, const Step& step) {
    lines.clear();
    for (int i = 0; i < time.count() * 10; ++i) {
      step();
      log.look(clock.now(), stats, remote);
      clock.advance(std::chrono::milliseconds(100));
    }
    return lines.size();
  }
};

bool has(const std::string& line, const std::string& words) {
  return line.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("nothing happens, nothing is said") {
  LogRig rig;
  CHECK(rig.lines_in(std::chrono::seconds(60), [] {}) == 0);
}

TEST_CASE("the first of a kind is told at once, a flood once in ten seconds with its count") {
  LogRig rig;
  rig.remote.errors = 1;
  const auto first = rig.look();
  REQUIRE(first.size() == 1);
  CHECK(has(first[0], "failed"));
  CHECK(has(first[0], ": 1"));
  CHECK(rig.levels.back() == EventLog::Level::kWarning);
  CHECK(rig.lines_in(std::chrono::seconds(10), [&] { ++rig.remote.errors; }) == 0);
  const auto next = rig.look();
  REQUIRE(next.size() == 1);
  CHECK(has(next[0], ": 100 more, 101 in all"));
  CHECK(rig.lines_in(std::chrono::seconds(60), [&] { ++rig.remote.errors; }) == 5);
}

TEST_CASE("each kind has lines of its own") {
  LogRig rig;
  rig.stats.bad_names.add(2);
  rig.stats.bad_answers.add(3);
  rig.stats.bad_cookies.add(4);
  rig.stats.allocation_failures.add(5);
  const auto lines = rig.look();
  REQUIRE(lines.size() == 4);
  CHECK(has(lines[0], "names: 2"));
  CHECK(has(lines[1], ": 3"));
  CHECK(has(lines[2], ": 4"));
  CHECK(has(lines[3], "cache_size"));
  CHECK(rig.look().empty());
}

TEST_CASE("memory pressure is told when it begins, at times, and when it is over") {
  LogRig rig;
  rig.log.bound_changed(192 * kMiB);
  const auto begins = rig.look();
  REQUIRE(begins.size() == 1);
  CHECK(has(begins[0], "192 MiB of 256 MiB"));
  uint64_t bound = 190 * kMiB;
  CHECK(rig.lines_in(std::chrono::seconds(10), [&] { rig.log.bound_changed(bound -= kMiB); }) == 0);
  const auto later = rig.look();
  REQUIRE(later.size() == 1);
  CHECK(has(later[0], "90 MiB of 256 MiB (steps: 100)"));
  // It grows, and that is no news before it is done.
  CHECK(rig.lines_in(std::chrono::seconds(16), [&] { rig.log.bound_changed(bound += kMiB); }) == 0);
  rig.log.bound_changed(256 * kMiB);
  const auto over = rig.look();
  REQUIRE(over.size() == 1);
  CHECK(has(over[0], "is over"));
  CHECK(rig.look().empty());
}

TEST_CASE("the end tells what has not been told") {
  LogRig rig;
  rig.remote.errors = 1;
  CHECK(rig.look().size() == 1);
  rig.remote.errors = 7;
  CHECK(rig.look().empty());
  rig.log.finish(rig.stats, rig.remote);
  REQUIRE(rig.lines.size() == 1);
  CHECK(has(rig.lines[0], ": 6 more, 7 in all"));
}
