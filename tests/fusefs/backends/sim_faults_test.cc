#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "tests/fusefs/backends/sim_harness.h"

namespace fusefs {
namespace {

using namespace sim_test;
using namespace std::chrono_literals;

std::vector<int> errors_of(const std::string& url, int requests) {
  const auto sim = make_sim(url);
  const ObjectId root = sim->id_of("/");
  std::vector<int> errors;
  errors.reserve(static_cast<size_t>(requests));
  for (int i = 0; i < requests; ++i) errors.push_back(getattr(*sim, root).error_number());
  return errors;
}

TEST_CASE("faults come at their rate, decided by the seed alone") {
  const auto errors = errors_of("big=1,faults=error:0.1", 1000);
  const auto failed = std::count(errors.begin(), errors.end(), EIO);
  CHECK(failed > 60);
  CHECK(failed < 140);
  CHECK(failed + std::count(errors.begin(), errors.end(), 0) == 1000);
  CHECK(errors_of("big=1,faults=error:0.1", 1000) == errors);
  CHECK(errors_of("big=1,faults=error:0.1,seed=2", 1000) != errors);
  const auto none = errors_of("big=1,faults=error:0+repeat:1+empty:1+badname:1", 100);
  CHECK(std::count(none.begin(), none.end(), 0) == 100);
}

TEST_CASE("an error is EIO after a round trip, and is counted") {
  const auto sim = make_sim("big=5,rtt=10ms,faults=error:1");
  CHECK(getattr(*sim, sim->id_of("/")).error_number() == EIO);
  CHECK(sim->scheduler().elapsed() == 10ms);
  const Listing listing = list_after(*sim, sim->id_of("big"), 10);
  CHECK(listing.error == EIO);
  CHECK(listing.entries.empty());
  CHECK(sim->counters().errors == 2);
}

TEST_CASE("a time-out never answers and holds its place until it is cancelled") {
  const auto sim = make_sim("big=5,rtt=10ms,inflight=1,faults=timeout:1");
  Backend::RequestId id = 0;
  auto first = start_listing(*sim, sim->id_of("big"), {{}, 0, 10, false}, &id);
  auto second = start_listing(*sim, sim->id_of("big"), {{}, 0, 10, false});
  REQUIRE(sim->scheduler().wait_until(24h));
  CHECK_FALSE(first.arrived());
  CHECK_FALSE(second.arrived());
  CHECK(sim->counters().inflight == 1);
  CHECK(sim->counters().requests == 1);
  sim->cancel(id);
  CHECK(sim->counters().requests == 2);
}

TEST_CASE("a disconnect takes down all that is in flight, then the link is back") {
  const auto sim = make_sim("big=5,rtt=10ms,faults=disconnect:0.3");
  int broken = 0;
  int served = 0;
  for (int round = 0; round < 100; ++round) {
    std::vector<Pending<Result<Attr>>> answers;
    {
      const SimScheduler::Hold hold(sim->scheduler());
      for (int i = 0; i < 3; ++i) answers.push_back(start_getattr(*sim, sim->id_of("/")));
    }
    std::set<int> errors;
    for (auto& answer : answers) errors.insert(answer.get().error_number());
    CHECK(errors.size() == 1);
    broken += errors.contains(ENOTCONN) ? 1 : 0;
    served += errors.contains(0) ? 1 : 0;
  }
  CHECK(broken > 30);
  CHECK(served > 10);
  CHECK(broken + served == 100);
  CHECK(sim->counters().inflight == 0);
}

TEST_CASE("repeat: an answer gives earlier entries again, or its own resume place") {
  for (const char* style : kStyles) {
    CAPTURE(style);
    const auto sim = make_sim(std::string("big=40,cookies=").append(style));
    const auto faulty = make_sim(std::string("big=40,faults=repeat:1,cookies=").append(style));
    const ObjectId big = sim->id_of("big");
    const Listing whole = list_after(*sim, big, 100);
    const auto names = whole.names();
    bool again = false;
    bool stuck = false;
    for (size_t i = 0; i < 40; ++i) {
      const DirAnswer answer = ask(*faulty, big, {whole.entries[i].behind, 0, 10, false});
      REQUIRE(answer.error == 0);
      REQUIRE(answer.well_formed());
      CHECK(answer.entries.size() <= 10);
      std::vector<std::string> listed;
      for (const auto& entry : answer.entries) listed.emplace_back(answer.name(entry));
      CHECK(std::search(names.begin(), names.end(), listed.begin(), listed.end()) <= names.end());
      const bool earlier = !listed.empty() && listed.front() <= names[i];
      const bool same_place =
          !listed.empty() &&
          place_behind(*faulty, answer, answer.entries.back()) == whole.entries[i].behind;
      if (!listed.empty()) CHECK((earlier || same_place));
      again = again || earlier;
      stuck = stuck || (same_place && !earlier);
    }
    CHECK(again);
    CHECK(stuck);
    CHECK(ask(*faulty, big, {{}, 0, 10, false}).entries.size() == 10);
  }
}

TEST_CASE("empty: an answer has no entries and does not end") {
  const auto sim = make_sim("big=40,faults=empty:1");
  const DirAnswer answer = ask(*sim, sim->id_of("big"), {{}, 0, 10, true});
  CHECK(answer.error == 0);
  CHECK(answer.entries.empty());
  CHECK_FALSE(answer.eof);
  CHECK(answer.change != 0);
  const auto sometimes = make_sim("big=400,faults=empty:30%");
  CHECK(list_after(*sometimes, sometimes->id_of("big"), 10).entries.size() == 400);
}

bool is_bad(std::string_view name) {
  return name.empty() || name.size() > 255 || name.find('/') != std::string_view::npos ||
         name.find('\0') != std::string_view::npos;
}

TEST_CASE("badname: names no file can have stand between the true ones") {
  for (const char* style : kStyles) {
    CAPTURE(style);
    const auto sim =
        make_sim(std::string("big=400,tree=1x9,faults=badname:1,cookies=").append(style));
    for (const char* path : {"big", "tree/dir-0", "tree"}) {
      const Listing listing = list_after(*sim, sim->id_of(path), 10);
      CHECK(listing.error == 0);
      std::set<std::string> bad;
      std::vector<std::string> good;
      for (const Listed& entry : listing.entries) {
        if (is_bad(entry.name)) {
          bad.insert(entry.name);
        } else {
          good.push_back(entry.name);
        }
      }
      CHECK(good == names_of(sim->contents(sim->id_of(path))));
      if (std::string(path) == "big") CHECK(bad.size() == 4);
    }
    // The place behind a bad name is as good as any.
    const Listing listing = list_after(*sim, sim->id_of("big"), 10);
    for (size_t i = 0; i < 50; ++i) {
      const Listing rest = list_after(*sim, sim->id_of("big"), 10, listing.entries[i].behind);
      const auto goods = [](const Listing& list, size_t first) {
        const auto names = list.names();
        return std::count_if(names.begin() + static_cast<std::ptrdiff_t>(first), names.end(),
                             [](const std::string& name) { return !is_bad(name); });
      };
      CHECK(goods(rest, 0) == goods(listing, i + 1));
    }
  }
}

TEST_CASE("bad names carry attributes where the others do") {
  const auto sim = make_sim("big=40,faults=badname:1");
  const DirAnswer answer = ask(*sim, sim->id_of("big"), {{}, 0, 10, true});
  REQUIRE(answer.well_formed());
  CHECK(answer.entries.size() == 10);
  for (size_t i = 0; i < answer.entries.size(); ++i) {
    CHECK(answer.attrs[i].ino == answer.entries[i].ino);
  }
}

TEST_CASE("churn brings entries that come and go; the others stay put") {
  for (const char* style : kStyles) {
    CAPTURE(style);
    const auto sim = make_sim(std::string("big=200,churn=100,cookies=").append(style));
    const ObjectId big = sim->id_of("big");
    std::vector<std::string> originals;
    std::set<std::string> seen;
    uint64_t change = getattr(*sim, big).value().change;
    for (int second = 1; second <= 10; ++second) {
      REQUIRE(sim->scheduler().wait_until(std::chrono::seconds(second)));
      const auto contents = names_of(sim->contents(big));
      std::vector<std::string> stayed;
      for (const std::string& name : contents) {
        if (name.rfind("churn-", 0) == 0) {
          CHECK(seen.insert(name).second);  // a second apart, none is left; none comes back
        } else {
          stayed.push_back(name);
        }
      }
      CHECK(contents.size() == 200 + 50);
      CHECK(stayed.size() == 200);
      if (originals.empty()) originals = stayed;
      CHECK(stayed == originals);
      const uint64_t now = getattr(*sim, big).value().change;
      CHECK(now > change);
      change = now;
    }
  }
}

TEST_CASE("listings under churn have every entry that stays, and none twice") {
  for (const char* style : kStyles) {
    if (std::string(style) == "index") continue;  // there, a change is a bad cookie
    CAPTURE(style);
    const auto sim = make_sim(std::string("big=500,churn=200,rtt=20ms,cookies=").append(style));
    const Listing listing = list_after(*sim, sim->id_of("big"), 17);
    CHECK(listing.error == 0);
    const auto names = listing.names();
    const std::set<std::string> unique(names.begin(), names.end());
    CHECK(unique.size() == names.size());
    CHECK(std::count_if(names.begin(), names.end(), [](const std::string& name) {
            return name.rfind("file-", 0) == 0;
          }) == 500);
    CHECK(names.size() > 500);
  }
}

TEST_CASE("churn follows the clock, not the number of requests, also after a long silence") {
  const auto contents_at = [](std::chrono::seconds step) {
    const auto sim = make_sim("big=50,churn=1000");
    for (auto time = step; time <= 3600s; time += step) {
      REQUIRE(sim->scheduler().wait_until(time));
      if (step > 1s || time > 3590s) static_cast<void>(sim->contents(sim->id_of("big")));
    }
    return std::set<std::string>([&] {
      const auto names = names_of(sim->contents(sim->id_of("big")));
      return std::set<std::string>(names.begin(), names.end());
    }());
  };
  const auto often = contents_at(1s);
  CHECK(often.size() == 50 + 500);
  CHECK(contents_at(3600s) == often);
  const auto most = make_sim("big=0,churn=1M,cookies=descending");
  REQUIRE(most->scheduler().wait_until(1s));
  CHECK(most->contents(most->id_of("big")).size() <= kSimChurnAlive);
}

}  // namespace
}  // namespace fusefs
