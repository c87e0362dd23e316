// The end of a mount in the middle of listings: normal, lazy, by signal; again and again.
//
// COOKIEFS_UNMOUNTS: how many times (default 20).

#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <thread>

#include "tests/support/mount.h"
#include "tests/support/raw_listing.h"

using test::big_names;
using test::Mount;
using test::RawDir;
using test::RawEntry;

namespace {

constexpr size_t kListers = 8;
constexpr uint64_t kFiles = 20'000;

// Threads that list until they are told to stop or the mount is gone; each with its own manner.
class Listers {
 public:
  explicit Listers(const Mount& mount) : mount_(mount) {
    for (size_t i = 0; i < kListers; ++i) threads_.at(i) = std::thread([this, i] { run(i); });
  }
  ~Listers() {
    stop();
    for (std::thread& thread : threads_) thread.join();
  }
  Listers(const Listers&) = delete;
  Listers& operator=(const Listers&) = delete;

  void stop() { stopped_ = true; }
  [[nodiscard]] uint64_t entries() const { return entries_; }
  [[nodiscard]] uint64_t duplicates() const { return duplicates_; }

 private:
  void run(size_t number) {
    constexpr std::array<size_t, 4> kBuffers = {1000, 4096, 50'000, 1 << 20};
    const size_t buffer = kBuffers.at(number % kBuffers.size());
    for (size_t pass = 0; !stopped_; ++pass) {
      RawDir dir;
      if (dir.open(mount_ / (number % 3 == 0 ? "tree/dir-1" : "big")) != 0) return;
      if (!one_pass(dir, buffer)) return;
      if (number % 4 == 1 && pass % 2 == 1) mount_.drop();
    }
  }

  // False: the mount is gone.
  bool one_pass(RawDir& dir, size_t buffer) {
    std::vector<RawEntry> entries;
    int got = 1;
    while (!stopped_ && got > 0) {
      const size_t before = entries.size();
      got = dir.read(buffer, &entries);
      entries_ += entries.size() - before;
    }
    for (const auto& [name, count] : test::count_names(entries)) {
      if (count > 1) ++duplicates_;
    }
    return got >= 0;
  }

  const Mount& mount_;
  std::atomic<bool> stopped_{false};
  std::atomic<uint64_t> entries_{0};
  std::atomic<uint64_t> duplicates_{0};
  std::array<std::thread, kListers> threads_;
};

int rounds() {
  const char* const given = std::getenv("COOKIEFS_UNMOUNTS");
  return given != nullptr ? std::max(1, std::atoi(given)) : 20;
}

void check_end_in_the_middle(const std::string& manners, const std::string& options,
                             Mount::How how) {
  INFO(manners << " -o " << options << ", end " << static_cast<int>(how));
  Mount mount("sim:big=" + std::to_string(kFiles) + ",tree=3x2000" + manners, options);
  std::string problem;
  uint64_t duplicates = 0;
  {
    Listers listers(mount);
    CHECK(test::wait_until([&] { return listers.entries() > kFiles; }));
    // A normal umount waits until nobody has a file open.
    if (how == Mount::How::kUmount) listers.stop();
    mount.begin_end(how);
    problem = mount.finish_end();
    duplicates = listers.duplicates();
  }
  CHECK(problem == "");
  CHECK(duplicates == 0);
}

}  // namespace

TEST_CASE("unmounts in the middle of listings end clean, every counter zero") {
  const std::array<std::string, 4> manners = {"", ",rtt=1ms,batch=500",
                                              ",cookies=huge,rtt=2ms,jitter=2ms,batch=300",
                                              ",cookies=name,churn=500,verifier=strict"};
  const std::array<std::string, 3> options = {"cache_size=4M,readdirplus=yes",
                                              "cache_size=6M,ttl=0", "readdirplus=no"};
  constexpr std::array<Mount::How, 3> kWays = {Mount::How::kUmount, Mount::How::kLazy,
                                               Mount::How::kSignal};
  for (int round = 0; round < rounds(); ++round) {
    const auto i = static_cast<size_t>(round);
    INFO("round " << round);
    check_end_in_the_middle(manners.at(i / 3 % 4), options.at(i / 2 % 3), kWays.at(i % 3));
  }
}

// libfuse tells of such a request on stderr and exits; a worker that is cancelled as it writes
// keeps stderr's lock for ever, and the end waited for it. Seldom: one round in fifty.
TEST_CASE("an unmount that overtakes a request as it is handed over ends like any other") {
  constexpr size_t kAskers = 4;
  for (int round = 0; round < rounds(); ++round) {
    INFO("round " << round);
    Mount mount("sim:big=100");
    std::atomic<bool> gone{false};
    std::atomic<int> asked{0};
    std::array<std::thread, kAskers> askers;
    for (std::thread& asker : askers) {
      asker = std::thread([&] {
        // A name a question: the kernel remembers what is absent.
        for (int i = 0; !gone; ++i) {
          const std::string name = "big/absent-" + std::to_string(i);
          ++asked;
          if (::access((mount / name).c_str(), F_OK) == 0 || errno != ENOENT) return;
        }
      });
    }
    CHECK(test::wait_until([&] { return asked > 200 + 50 * (round % 7); }));
    CHECK(umount2(mount.path().c_str(), MNT_FORCE | MNT_DETACH) == 0);
    gone = true;
    for (std::thread& asker : askers) asker.join();
    const std::string problem = mount.finish_end();
    CHECK(problem == "");
    CHECK(mount.log().find("reading device") == std::string::npos);
  }
}
