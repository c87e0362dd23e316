// Identities of callers: fetched once in a while, never mixed up.
#include "fusefs/caller_cache.h"

#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>

namespace {

using fusefs::Caller;
using fusefs::CallerCache;
using std::chrono::milliseconds;

constexpr cache::TimePoint kStart{std::chrono::hours(1)};

struct Fixture {
  fusefs::CallerPtr find(const CallerCache::Process& process, cache::TimePoint now) {
    return cache.find(process, now, [this] {
      ++fetches;
      return groups;
    });
  }
  CallerCache cache;
  std::vector<uint32_t> groups{10, 20};
  int fetches = 0;
};

}  // namespace

TEST_CASE("a caller's groups are fetched once, until they are too old") {
  Fixture f;
  const auto first = f.find({.pid = 100, .uid = 1, .gid = 2}, kStart);
  CHECK(*first == Caller{.uid = 1, .gid = 2, .groups = {10, 20}});
  CHECK(f.find({.pid = 100, .uid = 1, .gid = 2}, kStart + milliseconds(999)) == first);
  CHECK(f.fetches == 1);
  f.groups = {30};
  const auto second = f.find({.pid = 100, .uid = 1, .gid = 2}, kStart + CallerCache::kMaxAge);
  CHECK(second->groups == std::vector<uint32_t>{30});
  CHECK(f.fetches == 2);
  CHECK(first->groups == std::vector<uint32_t>{10, 20});
}

TEST_CASE("another user or group of the same process, or another process, is another caller") {
  Fixture f;
  f.find({.pid = 100, .uid = 1, .gid = 2}, kStart);
  CHECK(f.find({.pid = 100, .uid = 0, .gid = 2}, kStart)->uid == 0);
  CHECK(f.find({.pid = 100, .uid = 0, .gid = 0}, kStart)->gid == 0);
  CHECK(f.fetches == 3);
  // On the same place: they take turns.
  const int32_t neighbour = 100 + static_cast<int32_t>(CallerCache::kPlaces);
  f.find({.pid = neighbour, .uid = 0, .gid = 0}, kStart);
  f.find({.pid = 100, .uid = 0, .gid = 0}, kStart);
  CHECK(f.fetches == 5);
  f.find({.pid = 101, .uid = 0, .gid = 0}, kStart);
  f.find({.pid = 100, .uid = 0, .gid = 0}, kStart);
  CHECK(f.fetches == 6);
}

TEST_CASE("groups are those of the process, and none where there is no process") {
  std::vector<gid_t> own(256);
  const int count = getgroups(static_cast<int>(own.size()), own.data());
  REQUIRE(count >= 0);
  own.resize(static_cast<size_t>(count));
  auto told = fusefs::groups_of(getpid());
  std::sort(own.begin(), own.end());
  std::sort(told.begin(), told.end());
  CHECK(told == std::vector<uint32_t>(own.begin(), own.end()));
  CHECK(fusefs::groups_of(0).empty());
  CHECK(fusefs::groups_of(-1).empty());
}
