#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <set>

#include "tests/fusefs/backends/sim_harness.h"

namespace fusefs {
namespace {

using namespace sim_test;
using namespace std::chrono_literals;

TEST_CASE("a sim URL makes a back end that knows its name; a bad one does not") {
  std::string error;
  const auto backend = make_sim_backend("big=3,rtt=0ms", &error);
  REQUIRE(backend);
  CHECK(backend->description() == "sim:big=3,rtt=0ms");
  const auto root = backend->connect(&error);
  REQUIRE(root.ok());
  CHECK(root.value().attr.ino == 1);
  CHECK(S_ISDIR(root.value().attr.mode));
  CHECK(backend->counters().requests == 1);
  CHECK_FALSE(make_sim_backend("bgi=3", &error));
  CHECK_FALSE(error.empty());
}

TEST_CASE("requests in a row take a round trip each") {
  const auto sim = make_sim("big=100000,rtt=10ms");
  const Listing listing = list_after(*sim, sim->id_of("big"), 10000);
  CHECK(listing.entries.size() == 100000);
  CHECK(listing.requests == 10);
  CHECK(sim->scheduler().elapsed() == 100ms);
  CHECK(getattr(*sim, sim->id_of("/")).ok());
  CHECK(sim->scheduler().elapsed() == 110ms);
  CHECK(sim->counters().requests == 11);
  CHECK(sim->counters().inflight == 0);
  CHECK(sim->counters().inflight_peak == 1);
  CHECK(sim->requests(SimRequestKind::kReadDir) == 10);
  CHECK(sim->requests(SimRequestKind::kGetattr) == 1);
  CHECK(sim->requests(SimRequestKind::kLookup) == 0);
}

// Runs `count` requests that are started at one moment; what they took together.
SimScheduler::Duration side_by_side(SimBackend& sim, int count) {
  const auto start = sim.scheduler().elapsed();
  std::vector<Pending<Result<Attr>>> answers;
  {
    const SimScheduler::Hold hold(sim.scheduler());
    for (int i = 0; i < count; ++i) answers.push_back(start_getattr(sim, sim.id_of("/")));
  }
  for (auto& answer : answers) CHECK(answer.get().ok());
  return sim.scheduler().elapsed() - start;
}

TEST_CASE("requests side by side share a round trip, unless inflight= forbids") {
  const auto free = make_sim("big=1,rtt=10ms");
  CHECK(side_by_side(*free, 100) == 10ms);
  CHECK(free->counters().inflight_peak == 100);
  const auto limited = make_sim("big=1,rtt=10ms,inflight=4");
  CHECK(side_by_side(*limited, 10) == 30ms);
  CHECK(limited->counters().inflight_peak == 4);
  CHECK(limited->counters().requests == 10);
}

TEST_CASE("jitter adds up to its size, by the seed") {
  const auto times = [](const std::string& url) {
    const auto sim = make_sim(url);
    std::vector<SimScheduler::Duration> list;
    list.reserve(50);
    for (int i = 0; i < 50; ++i) list.push_back(side_by_side(*sim, 1));
    return list;
  };
  const auto some = times("big=1,rtt=10ms,jitter=2ms");
  CHECK(*std::min_element(some.begin(), some.end()) >= 10ms);
  CHECK(*std::max_element(some.begin(), some.end()) < 12ms);
  CHECK(*std::max_element(some.begin(), some.end()) > 11ms);
  CHECK(times("big=1,rtt=10ms,jitter=2ms") == some);
  CHECK(times("big=1,rtt=10ms,jitter=2ms,seed=2") != some);
}

TEST_CASE("bandwidth is shared by all answers") {
  const auto sim = make_sim("big=100000,rtt=10ms,bandwidth=1M");
  const ObjectId big = sim->id_of("big");
  const DirAnswer answer = ask(*sim, big, {{}, 0, 10000, false});
  const auto bytes = 10000 * 48.0;  // 24 of the name, 24 of the entry
  const auto alone = sim->scheduler().elapsed();
  CHECK(std::chrono::duration<double>(alone - 10ms).count() ==
        Approx(bytes / (1 << 20)).epsilon(0.05));
  {
    const SimScheduler::Hold hold(sim->scheduler());
    for (int i = 0; i < 2; ++i) start_listing(*sim, big, {{}, 0, 10000, false});
  }
  ask(*sim, big, {{}, 0, 10000, false});
  CHECK(sim->scheduler().elapsed() - alone > 3 * (alone - 10ms));
}

TEST_CASE("content is sampled when the request arrives, the change token after it") {
  const auto sim = make_sim("big=3,rtt=10ms");
  const ObjectId big = sim->id_of("big");
  const auto has = [](const DirAnswer& answer, std::string_view name) {
    return std::any_of(answer.entries.begin(), answer.entries.end(),
                       [&](const auto& entry) { return answer.name(entry) == name; });
  };
  sim->set_hooks(
      {.before_content =
           [&](const ObjectId& directory, const DirRequest& request) {
             CHECK(directory == big);
             CHECK(request.max_entries == 100);
             CHECK(sim->scheduler().elapsed() == 5ms);
             CHECK(sim->add_entry("before").ok());
           },
       .after_content = [&](const ObjectId&,
                            const DirRequest&) { CHECK(sim->add_entry("after").ok()); }});
  const DirAnswer answer = ask(*sim, big, {{}, 0, 100, false});
  CHECK(has(answer, "before"));
  CHECK_FALSE(has(answer, "after"));
  CHECK(answer.change == getattr(*sim, big).value().change);
  sim->set_hooks({});
  const DirAnswer again = ask(*sim, big, {{}, 0, 100, false});
  CHECK(has(again, "after"));
  CHECK(again.change == answer.change);
}

TEST_CASE("a cut remote answers nothing, and all of it once it is back") {
  const auto sim = make_sim("big=3,rtt=10ms");
  const ObjectId big = sim->id_of("big");
  sim->cut();
  auto listing = start_listing(*sim, big, {{}, 0, 10, false});
  auto attr = start_getattr(*sim, big);
  REQUIRE(sim->scheduler().wait_until(1h));
  CHECK_FALSE(listing.arrived());
  CHECK_FALSE(attr.arrived());
  CHECK(sim->counters().inflight == 2);
  REQUIRE(sim->add_entry("meanwhile").ok());
  sim->restore();
  CHECK(listing.get().entries.size() == 4);
  CHECK(attr.get().ok());
  CHECK(sim->counters().inflight == 0);
}

TEST_CASE("an answer that is on its way when the remote is cut comes later, as it was") {
  const auto sim = make_sim("big=3,rtt=10ms");
  sim->set_hooks({.before_content = {},
                  .after_content = [&](const ObjectId&, const DirRequest&) { sim->cut(); }});
  auto listing = start_listing(*sim, sim->id_of("big"), {{}, 0, 10, false});
  REQUIRE(sim->scheduler().wait_until(1h));
  CHECK_FALSE(listing.arrived());
  REQUIRE(sim->add_entry("meanwhile").ok());
  sim->restore();
  CHECK(listing.get().entries.size() == 3);
}

TEST_CASE("a disconnect fails what is in flight; what follows waits and is served") {
  const auto sim = make_sim("big=3,rtt=10ms,inflight=2");
  const ObjectId big = sim->id_of("big");
  std::vector<Pending<Result<Attr>>> answers;
  {
    const SimScheduler::Hold hold(sim->scheduler());
    for (int i = 0; i < 4; ++i) answers.push_back(start_getattr(*sim, big));
    sim->disconnect();
  }
  CHECK(answers[0].get().error_number() == ENOTCONN);
  CHECK(answers[1].get().error_number() == ENOTCONN);
  CHECK(answers[2].get().ok());
  CHECK(answers[3].get().ok());
  CHECK(sim->scheduler().elapsed() == 31ms);
  CHECK(sim->counters().errors == 2);
}

TEST_CASE("cancelled requests free their place and what they captured") {
  const auto sim = make_sim("big=3,rtt=10ms,inflight=1");
  const ObjectId big = sim->id_of("big");
  const auto captured = std::make_shared<int>(0);
  std::atomic<int> completed{0};
  std::vector<Backend::RequestId> ids;
  {
    const SimScheduler::Hold hold(sim->scheduler());
    for (int i = 0; i < 3; ++i) {
      ids.push_back(sim->read_dir(nullptr, big, {{}, 0, 10, false},
                                  [captured, &completed](DirAnswer&&) { ++completed; }));
    }
    CHECK(sim->counters().requests == 1);
    sim->cancel(ids[1]);
    sim->cancel(ids[0]);
    sim->cancel(ids[0]);
    sim->cancel(0);
    sim->cancel(999);
    CHECK(captured.use_count() == 2);
    CHECK(sim->counters().requests == 2);
    CHECK(sim->counters().inflight == 1);
  }
  CHECK(getattr(*sim, big).ok());
  CHECK(completed == 1);
  CHECK(captured.use_count() == 1);
}

TEST_CASE("a back end that goes drops what is under way") {
  const auto captured = std::make_shared<int>(0);
  for (const Mode mode : {Mode::kReal, Mode::kVirtual}) {
    SimBackend sim(config_of("big=3,rtt=1h,inflight=2"), mode);
    const SimScheduler::Hold hold(sim.scheduler());
    for (int i = 0; i < 5; ++i) {
      sim.read_dir(nullptr, sim.id_of("big"), {{}, 0, 10, false}, [captured](DirAnswer&&) {});
    }
    CHECK(captured.use_count() == 6);
  }
  CHECK(captured.use_count() == 1);
}

TEST_CASE("completions run on one thread of the back end's, with no lock held") {
  const auto sim = make_sim("big=30,rtt=1ms");
  const ObjectId big = sim->id_of("big");
  Pending<int> finished;
  const auto done = finished.completion();
  const auto caller = std::this_thread::get_id();
  sim->read_dir(nullptr, big, {{}, 0, 10, false}, [&, done](DirAnswer&&) {
    CHECK(std::this_thread::get_id() != caller);
    CHECK(sim->add_entry("x").ok());
    CHECK(sim->counters().requests == 1);
    sim->getattr(nullptr, big, [&, done](Result<Attr> attr) {
      CHECK(sim->requests(SimRequestKind::kGetattr) == 1);
      done(attr.error_number());
    });
  });
  CHECK(finished.get() == 0);
}

TEST_CASE("many threads ask at once") {
  const auto sim = make_sim("big=1000,rtt=1ms,inflight=3,churn=1000");
  const ObjectId big = sim->id_of("big");
  std::atomic<int> complete{0};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 10; ++round) {
        const Listing listing = list_after(*sim, big, static_cast<uint32_t>(50 + i));
        size_t originals = 0;
        for (const Listed& entry : listing.entries) {
          originals += entry.name.rfind("file-", 0) == 0 ? 1 : 0;
        }
        if (listing.error == 0 && originals == 1000) ++complete;
        if (!getattr(*sim, big).ok()) --complete;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(complete == 40);
  CHECK(sim->counters().inflight_peak <= 3);
}

TEST_CASE("connect meets no random faults, and says so when the link breaks") {
  const auto sim = make_sim("big=1,rtt=10ms,faults=error:1");
  std::string error;
  REQUIRE(sim->connect(&error).ok());
  std::thread connecting;
  int result = 0;
  {
    const SimScheduler::Hold hold(sim->scheduler());
    connecting = std::thread([&] { result = sim->connect(&error).error_number(); });
    while (sim->counters().requests < 2) std::this_thread::yield();
    sim->disconnect();
  }
  connecting.join();
  CHECK(result == ENOTCONN);
  CHECK(error.find("broke the connection") != std::string::npos);
  CHECK(sim->connect(&error).ok());
}

}  // namespace
}  // namespace fusefs
