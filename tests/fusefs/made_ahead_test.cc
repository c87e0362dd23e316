// Files that programs take for made: what the remote says of them in the end, and who waits for it.
#include "fusefs/made_ahead.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "tests/support/eventually.h"

namespace {

using fusefs::CreatedAnswer;
using fusefs::MadeAhead;
using fusefs::Result;
using fusefs::Status;

CreatedAnswer with_token(uint64_t token) {
  CreatedAnswer answer;
  answer.parent.after = token;
  return answer;
}

struct Settled {
  MadeAhead::File file;
  int error = 0;
  uint64_t token = 0;
};

// Keeps what is settled, in order.
struct Rig {
  std::vector<Settled> settled;
  MadeAhead ahead{[this](const MadeAhead::File& file, const MadeAhead::Answer& answer) {
    settled.push_back({file, answer.error_number(), answer.ok() ? answer.value().parent.after : 0});
  }};
};

// Whether a waiter has run.
struct Waiter {
  explicit Waiter(MadeAhead& ahead) {
    ahead.when_settled([runs = runs] { ++*runs; });
  }
  [[nodiscard]] int count() const { return *runs; }
  std::shared_ptr<std::atomic<int>> runs = std::make_shared<std::atomic<int>>(0);
};

}  // namespace

TEST_CASE("a file is settled once it has both an inode and an answer, whichever comes first") {
  Rig rig;
  const uint64_t first = rig.ahead.begin(7, "first");
  const uint64_t second = rig.ahead.begin(8, "second");
  REQUIRE(first > 0);
  REQUIRE(second > first);
  rig.ahead.answered(first, with_token(11));
  rig.ahead.introduced(second, 22);
  CHECK(rig.settled.empty());
  rig.ahead.introduced(first, 21);
  REQUIRE(rig.settled.size() == 1);
  CHECK(rig.settled[0].file.parent == 7);
  CHECK(rig.settled[0].file.nodeid == 21);
  CHECK(rig.settled[0].file.name == "first");
  CHECK(rig.settled[0].token == 11);
  rig.ahead.answered(second, Status::error(EEXIST));
  REQUIRE(rig.settled.size() == 2);
  CHECK(rig.settled[1].file.parent == 8);
  CHECK(rig.settled[1].file.nodeid == 22);
  CHECK(rig.settled[1].error == EEXIST);
  CHECK(rig.ahead.close() == 0);
}

TEST_CASE("what nobody was told of concerns nobody, whatever the remote says") {
  Rig rig;
  const uint64_t before = rig.ahead.begin(1, "before");
  rig.ahead.answered(before, with_token(1));
  rig.ahead.introduced(before, 0);
  const uint64_t after = rig.ahead.begin(1, "after");
  rig.ahead.introduced(after, 0);
  const Waiter waiter(rig.ahead);
  CHECK(waiter.count() == 1);  // it is not waited for either
  rig.ahead.answered(after, with_token(2));
  CHECK(rig.settled.empty());
  CHECK(rig.ahead.close() == 0);
}

TEST_CASE("numbers that are not known, or not any more, change nothing") {
  Rig rig;
  const uint64_t number = rig.ahead.begin(1, "file");
  for (const uint64_t unknown : {uint64_t{0}, number + 1, ~uint64_t{0}}) {
    rig.ahead.introduced(unknown, 5);
    rig.ahead.answered(unknown, with_token(5));
  }
  CHECK(rig.settled.empty());
  rig.ahead.introduced(number, 5);
  rig.ahead.answered(number, with_token(5));
  rig.ahead.answered(number, Status::error(EIO));
  rig.ahead.introduced(number, 6);
  CHECK(rig.settled.size() == 1);
  CHECK(rig.ahead.close() == 0);
}

TEST_CASE("who waits does so for all that had begun before, and for nothing later") {
  Rig rig;
  const Waiter at_once(rig.ahead);
  CHECK(at_once.count() == 1);
  const uint64_t first = rig.ahead.begin(1, "first");
  const uint64_t second = rig.ahead.begin(1, "second");
  const Waiter for_two(rig.ahead);
  const uint64_t third = rig.ahead.begin(1, "third");
  const Waiter for_three(rig.ahead);
  for (const uint64_t number : {first, second, third}) rig.ahead.introduced(number, number);
  rig.ahead.answered(second, with_token(2));  // not in their order
  CHECK(for_two.count() == 0);
  rig.ahead.answered(first, with_token(1));
  CHECK(for_two.count() == 1);
  CHECK(for_three.count() == 0);
  const uint64_t fourth = rig.ahead.begin(1, "fourth");
  rig.ahead.answered(third, Status::error(EIO));
  CHECK(for_three.count() == 1);
  rig.ahead.introduced(fourth, 0);
  CHECK(for_two.count() == 1);
}

TEST_CASE("what just settles is still waited for") {
  bool ran_within = false;
  std::vector<Waiter> waiters;
  MadeAhead* ahead = nullptr;
  MadeAhead made([&](const MadeAhead::File&, const MadeAhead::Answer&) {
    waiters.emplace_back(*ahead);
    ran_within = waiters.back().count() > 0;
  });
  ahead = &made;
  const uint64_t number = made.begin(1, "file");
  made.introduced(number, 2);
  made.answered(number, with_token(3));
  REQUIRE(waiters.size() == 1);
  CHECK(!ran_within);
  CHECK(waiters[0].count() == 1);
}

TEST_CASE("closing tells how many are left, and lets those go who wait") {
  Rig rig;
  const uint64_t known = rig.ahead.begin(1, "known");
  const uint64_t told = rig.ahead.begin(1, "told");
  static_cast<void>(rig.ahead.begin(1, "asked for"));
  rig.ahead.introduced(known, 2);
  rig.ahead.answered(told, with_token(1));
  const Waiter waiter(rig.ahead);
  CHECK(rig.ahead.close() == 3);
  CHECK(waiter.count() == 1);
  // What comes now comes too late.
  rig.ahead.answered(known, with_token(1));
  rig.ahead.introduced(told, 3);
  const uint64_t late = rig.ahead.begin(1, "late");
  rig.ahead.introduced(late, 4);
  rig.ahead.answered(late, with_token(1));
  CHECK(rig.settled.empty());
  const Waiter nobody_waits(rig.ahead);
  CHECK(nobody_waits.count() == 1);
  CHECK(rig.ahead.close() <= 1);
}

TEST_CASE("closing waits for what just settles") {
  std::atomic<bool> settling{false}, may_end{false}, ended{false}, closed{false};
  std::atomic<bool> closed_early{false};
  MadeAhead ahead([&](const MadeAhead::File&, const MadeAhead::Answer&) {
    settling = true;
    test::eventually([&] { return may_end.load(); });
    if (closed) closed_early = true;
    ended = true;
  });
  const uint64_t number = ahead.begin(1, "file");
  ahead.introduced(number, 2);
  std::thread answers([&] { ahead.answered(number, with_token(1)); });
  CHECK(test::eventually([&] { return settling.load(); }));
  size_t left = 9;
  std::thread closes([&] {
    left = ahead.close();
    closed = true;
    if (!ended) closed_early = true;
  });
  // It has begun to close once nobody waits any more.
  CHECK(test::eventually([&] { return Waiter(ahead).count() == 1; }));
  CHECK(!closed);
  may_end = true;
  answers.join();
  closes.join();
  CHECK(!closed_early);
  CHECK(left == 0);
}

TEST_CASE("many threads begin, introduce, answer and wait") {
  constexpr size_t kFiles = 2000, kThreads = 3;
  std::atomic<size_t> settled{0}, refused{0}, waited{0};
  MadeAhead ahead([&](const MadeAhead::File& file, const MadeAhead::Answer& answer) {
    ++settled;
    if (!answer.ok()) ++refused;
    if (file.nodeid != file.parent) settled += 1'000'000;
  });
  std::vector<std::atomic<uint64_t>> numbers(kFiles * kThreads);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < numbers.size(); i += kThreads) {
        const uint64_t number = ahead.begin(i + 1, "file");
        numbers[i] = number;
        ahead.introduced(number, i % 8 == 0 ? 0 : i + 1);
        ahead.when_settled([&] { ++waited; });
      }
    });
  }
  std::thread remote([&] {
    for (size_t i = 0; i < numbers.size(); ++i) {
      if (!test::eventually([&] { return numbers[i] != 0; })) return;
      ahead.answered(numbers[i],
                     i % 2 == 0 ? MadeAhead::Answer(Status::error(EIO)) : with_token(1));
    }
  });
  for (std::thread& thread : threads) thread.join();
  remote.join();
  CHECK(ahead.close() == 0);
  CHECK(settled == kFiles * kThreads * 7 / 8);
  CHECK(refused == kFiles * kThreads * 3 / 8);
  CHECK(waited == kFiles * kThreads);
}
