// Waits for a back end: answered, late, interrupted, and all at once at the unmount.
#include "fusefs/request.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/eventually.h"

namespace {

using fusefs::Backend;
using fusefs::call_backend;
using fusefs::Patience;
using fusefs::Result;
using fusefs::Status;

// A back end whose getattr is answered when the test says so.
class SilentBackend final : public Backend {
 public:
  Result<fusefs::LookupAnswer> connect(std::string*) override { return Status::error(ENOSYS); }
  RequestId lookup(const fusefs::CallerPtr&, const fusefs::ObjectId&, const std::string&,
                   Done<fusefs::LookupAnswer>) override {
    return 0;
  }
  RequestId getattr(const fusefs::CallerPtr&, const fusefs::ObjectId&,
                    Done<fusefs::Attr> answer) override {
    done = std::move(answer);
    asked = true;
    return 42;
  }
  RequestId readlink(const fusefs::CallerPtr&, const fusefs::ObjectId&,
                     Done<std::string>) override {
    return 0;
  }
  RequestId statfs(const fusefs::CallerPtr&, const fusefs::ObjectId&,
                   Done<fusefs::StatfsAnswer>) override {
    return 0;
  }
  RequestId open(const fusefs::CallerPtr&, const fusefs::ObjectId&, int,
                 Done<FileHandle>) override {
    return 0;
  }
  RequestId read(const fusefs::CallerPtr&, FileHandle, uint64_t, uint32_t,
                 Done<std::string>) override {
    return 0;
  }
  void release(FileHandle) override {}
  RequestId getxattr(const fusefs::CallerPtr&, const fusefs::ObjectId&, const std::string&,
                     Done<std::string>) override {
    return 0;
  }
  RequestId listxattr(const fusefs::CallerPtr&, const fusefs::ObjectId&,
                      Done<std::string>) override {
    return 0;
  }
  RequestId read_dir(const fusefs::CallerPtr&, const fusefs::ObjectId&, cache::DirRequest,
                     cache::DirSource::Completion) override {
    return 0;
  }
  [[nodiscard]] cache::CookieKind cookie_kind() const override {
    return cache::CookieKind::kNative;
  }
  [[nodiscard]] uint32_t max_batch() const override { return 1; }
  [[nodiscard]] fusefs::ObjectId child_id(const fusefs::ObjectId&, std::string_view,
                                          uint64_t) const override {
    return {};
  }
  void cancel(RequestId id) override { cancelled = id; }
  [[nodiscard]] fusefs::BackendCounters counters() const override { return {}; }
  [[nodiscard]] std::string description() const override { return "silent"; }

  Done<fusefs::Attr> done;
  std::atomic<bool> asked{false};
  std::atomic<RequestId> cancelled{0};
};

fusefs::Attr attr_of_size(uint64_t size) {
  fusefs::Attr attr;
  attr.size = size;
  return attr;
}

Result<fusefs::Attr> call(SilentBackend& backend, const Patience& patience,
                          fusefs::PendingCall<fusefs::Attr>::Dispose dispose = nullptr) {
  return call_backend<fusefs::Attr>(
      backend, patience,
      [&](Backend::Done<fusefs::Attr> done) {
        return backend.getattr(nullptr, "x", std::move(done));
      },
      std::move(dispose));
}

cache::TimePoint in(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

}  // namespace

TEST_CASE("an answer that comes before the call returns needs no wait") {
  SilentBackend backend;
  const auto result = call_backend<fusefs::Attr>(backend, {}, [](auto done) {
    done(attr_of_size(3));
    return Backend::RequestId{0};
  });
  REQUIRE(result.ok());
  CHECK(result.value().size == 3);
  CHECK(backend.cancelled == 0);
}

TEST_CASE("an answer from another thread ends the wait, an error as well as a value") {
  for (const int error : {0, EACCES, EINTR, ETIMEDOUT}) {
    SilentBackend backend;
    std::thread remote([&] {
      test::eventually([&] { return backend.asked.load(); });
      backend.done(error == 0 ? Result<fusefs::Attr>(attr_of_size(4)) : Status::error(error));
    });
    const auto result = call(backend, {.deadline = in(test::kDeadline)});
    remote.join();
    CHECK(result.error_number() == error);
    CHECK(backend.cancelled == 0);  // even where the remote's own error looks like giving up
  }
}

TEST_CASE("the deadline gives ETIMEDOUT and cancels; what comes late is disposed of, once") {
  SilentBackend backend;
  uint64_t disposed = 0;
  const auto result = call(backend, {.deadline = in(std::chrono::milliseconds(5))},
                           [&](fusefs::Attr&& late) { disposed += late.size; });
  CHECK(result.error_number() == ETIMEDOUT);
  CHECK(backend.cancelled == 42);
  SECTION("a late value") {
    backend.done(attr_of_size(9));
    CHECK(disposed == 9);
  }
  SECTION("a late error brings nothing to dispose of") {
    backend.done(Status::error(EIO));
    CHECK(disposed == 0);
  }
}

TEST_CASE("an interrupt gives EINTR at once, also when it came first") {
  SilentBackend backend;
  cache::Interrupt interrupt;
  SECTION("first") {
    interrupt.trigger();
    CHECK(call(backend, {.interrupt = &interrupt}).error_number() == EINTR);
  }
  SECTION("while waiting") {
    std::thread signal([&] {
      test::eventually([&] { return backend.asked.load(); });
      interrupt.trigger();
    });
    CHECK(call(backend, {.interrupt = &interrupt}).error_number() == EINTR);
    signal.join();
  }
  CHECK(backend.cancelled == 42);
  backend.done(attr_of_size(1));  // late and harmless
  interrupt.trigger();            // after the wait, and harmless
}

TEST_CASE("an answer and an interrupt at the same moment: one of them, and nothing is lost") {
  for (int round = 0; round < 300; ++round) {
    SilentBackend backend;
    cache::Interrupt interrupt;
    std::atomic<int> disposed{0};
    std::atomic<bool> go{false};
    std::thread remote([&] {
      test::eventually([&] { return backend.asked.load(); });
      go = true;
      backend.done(attr_of_size(1));
    });
    std::thread signal([&] {
      test::eventually([&] { return go.load(); });
      interrupt.trigger();
    });
    const auto result =
        call(backend, {.interrupt = &interrupt}, [&](fusefs::Attr&&) { ++disposed; });
    remote.join();
    signal.join();
    REQUIRE((result.ok() ? 1 : 0) + disposed == 1);
    REQUIRE((result.ok() || result.error_number() == EINTR));
  }
}

TEST_CASE("the unmount ends every wait, and those that begin after it") {
  fusefs::ActiveCalls calls;
  constexpr int kWaiters = 8;
  std::vector<SilentBackend> backends(kWaiters);
  std::vector<std::thread> waiters;
  waiters.reserve(kWaiters);
  std::atomic<int> interrupted{0};
  for (SilentBackend& backend : backends) {
    waiters.emplace_back([&] {
      fusefs::ActiveCalls::Member member(calls);
      if (call(backend, {.interrupt = &member.interrupt()}).error_number() == EINTR) ++interrupted;
    });
  }
  for (SilentBackend& backend : backends) {
    REQUIRE(test::eventually([&] { return backend.asked.load(); }));
  }
  CHECK(calls.count() == kWaiters);
  calls.stop();
  for (std::thread& waiter : waiters) waiter.join();
  CHECK(interrupted == kWaiters);
  CHECK(calls.count() == 0);

  fusefs::ActiveCalls::Member late(calls);
  CHECK(late.interrupt().triggered());
}
