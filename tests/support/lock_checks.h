// What locks promise whatever the remote is: for tests of local directories and of NFS alike.
//
// Purpose:        the ways in which a lock ends, the options under which caches may be old, and
//                 checks on a file that is reached by two paths, through a mount each.
// Thread-safety:  one thread, the test's first (LockProcess).
#pragma once

#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/lock_process.h"

namespace test {

// Long for kernels and daemons to trust what they know.
inline const std::vector<std::string>& lock_options() {
  static const std::vector<std::string> all = {"ttl=1h", "ttl=1h,writeback_cache"};
  return all;
}

// `another`: a descriptor of the same file, for reading.
using EndOfLock = std::function<void(Locker& holder, int another)>;

// However a process comes to hold nothing.
inline const std::vector<std::pair<std::string, EndOfLock>>& ends_of_locks() {
  static const std::vector<std::pair<std::string, EndOfLock>> all = {
      {"unlocks", [](Locker& holder, int) { CHECK(holder.unlock() == 0); }},
      {"closes it", [](Locker& holder, int) { CHECK(holder.process.close(holder.fd) == 0); }},
      {"closes another descriptor, which is for reading",
       [](Locker& holder, int another) { CHECK(holder.process.close(another) == 0); }},
      {"is killed", [](Locker& holder, int) { CHECK(holder.process.kill()); }},
  };
  return all;
}

// The file holds counter_text(0). What is written through a mapping of one path is read through the
// other as the lock is made weaker.
inline void check_weaker_lock_shows_mapping(const std::string& written, const std::string& read) {
  Locker writer(written);
  Locker reader(read);
  REQUIRE(writer.process.map(writer.fd) == 0);
  for (int round = 1; round <= 10; ++round) {
    INFO("round " << round);
    REQUIRE(writer.lock(F_WRLCK) == 0);
    CHECK(writer.process.load(8) == counter_text(round - 1));
    writer.process.store(counter_text(round));
    REQUIRE(writer.lock(F_RDLCK) == 0);
    REQUIRE(reader.lock(F_RDLCK) == 0);
    CHECK(reader.process.read(reader.fd, 8) == counter_text(round));
    REQUIRE(reader.unlock() == 0);
    REQUIRE(writer.unlock() == 0);
  }
}

// Two processes at each path count in a file that holds counter_text(0), 20 times each: its text is
// counter_text(80) then.
inline void check_counted_once_each(const std::vector<std::string>& paths, LockCall call,
                                    int (*counter)(const std::string&, int, LockCall)) {
  constexpr int kTimes = 20;
  std::vector<std::unique_ptr<Child>> all;
  for (const std::string& path : paths) {
    for (int i = 0; i < 2; ++i) {
      all.push_back(std::make_unique<Child>([=] { return counter(path, kTimes, call); }));
    }
  }
  for (const auto& one : all) CHECK(one->wait(std::chrono::minutes(4)) == 0);
}

}  // namespace test
