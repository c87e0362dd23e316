// Directory: what it tells of itself, for people and their tools.
#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>

#include "tests/support/dir_rig.h"

namespace test {
namespace {

using cache::DirectoryContent;
using cache::DirectoryMap;
using cache::Forgotten;

constexpr size_t kEntries = 2000;  // in ten arrays

uint32_t sum(const DirectoryMap& map) {
  return std::accumulate(map.filled.begin(), map.filled.end(), 0u);
}

TEST_CASE("what a directory holds: from nothing to all of it, and a part") {
  for (const CookieStyle style :
       {CookieStyle::kOrdered, CookieStyle::kHashed, CookieStyle::kName, CookieStyle::kHuge}) {
    DYNAMIC_SECTION(name_of(style)) {
      DirRig rig(with_style(style));
      rig.source->fill(kEntries);
      DirectoryContent content = rig.dir->content();
      CHECK(content.entries == 0);
      CHECK_FALSE(content.complete);
      CHECK(rig.dir->map(10).filled.empty());

      const TimePoint before = std::chrono::steady_clock::now();
      Lister lister(*rig.dir);
      REQUIRE(lister.read_all(kNoLimit, plus()).ok());
      content = rig.dir->content();
      CHECK(content.entries == kEntries);
      CHECK(content.complete);
      CHECK(content.arrays_with_attrs == rig.dir->info().arrays);
      CHECK(content.bytes > rig.dir->info().arrays * cache::kPageBytes + kEntries * 64);
      CHECK(content.bytes <= rig.cache.bytes());
      CHECK(content.oldest_attrs >= before);
      CHECK(content.oldest_listing == content.oldest_attrs);
      DirectoryMap map = rig.dir->map(7);
      CHECK(map.entries == kEntries);
      CHECK(map.end_known);
      CHECK(map.filled == std::vector<uint8_t>(7, 100));
      CHECK(rig.dir->map(100'000).filled == std::vector<uint8_t>(kEntries, 100));

      // The third array alone comes back.
      rig.cache.drop_clean();
      CHECK_FALSE(rig.dir->content().complete);
      CHECK(sum(rig.dir->map(10)) == 0);
      ReadOptions bounded;
      bounded.most_arrays = 1;
      lister.seek(lister.got.cookies[2 * cache::kEntriesPerArray - 1]);
      REQUIRE(lister.read(10, bounded).ok());
      REQUIRE(rig.source->wait_idle());
      content = rig.dir->content();
      CHECK(content.entries == cache::kEntriesPerArray);
      CHECK_FALSE(content.complete);
      CHECK(content.arrays_with_attrs == 0);
      map = rig.dir->map(1000);
      CHECK_FALSE(map.end_known);
      CHECK(map.entries > 9 * cache::kEntriesPerArray);
      const auto first =
          std::find_if(map.filled.begin(), map.filled.end(), [](auto p) { return p > 0; });
      const auto cell = static_cast<uint64_t>(first - map.filled.begin());
      CHECK(cell * map.entries / map.filled.size() + 2 >= 2 * cache::kEntriesPerArray);
      CHECK(cell * map.entries / map.filled.size() <= 2 * cache::kEntriesPerArray + 2);
    }
  }
}

// What is held by then stays.
TEST_CASE("positions count from the beginning also after a switch to mapped cookies") {
  DirRig rig(with_style(CookieStyle::kHuge, 300));
  rig.source->fill(kEntries);
  auto entries = rig.source->entries();
  for (size_t i = 0; i < entries.size(); ++i) entries[i].cookie = i + 1;
  for (size_t i = 1000; i < entries.size(); ++i) entries[i].cookie += uint64_t{1} << 63;
  rig.source->set_entries(entries);
  rig.revalidate();
  Lister lister(*rig.dir);
  REQUIRE(lister.read_all(50).ok());
  CHECK(lister.got.names.size() == kEntries);
  CHECK(rig.dir->content().entries == kEntries);
  CHECK(rig.dir->content().complete);
}

TEST_CASE("what a directory has cost: arrays found, arrays waited for, requests, time") {
  DirRig rig(with_style(CookieStyle::kOrdered));
  rig.source->fill(kEntries);
  CHECK(rig.dir->info().requests == 0);
  rig.list();
  const auto first = rig.dir->info();
  CHECK(first.requests == rig.source->request_count());
  CHECK(first.misses > 0);
  CHECK(first.waited.count() > 0);
  rig.list();
  const auto second = rig.dir->info();
  CHECK(second.hits == first.hits + 10);
  CHECK(second.misses == first.misses);
  CHECK(second.requests == first.requests);
  CHECK(second.waited == first.waited);
}

TEST_CASE("why and when a listing was forgotten last") {
  DirRig rig(with_style(CookieStyle::kOrdered));
  rig.source->fill(kEntries);
  rig.list();
  CHECK(rig.dir->info().forgotten == Forgotten::kNever);
  const TimePoint before = std::chrono::steady_clock::now();
  rig.source->append("another");
  rig.revalidate();
  CHECK(rig.dir->info().forgotten == Forgotten::kChanged);
  CHECK(rig.dir->info().forgotten_at >= before);
  rig.list();
  rig.dir->invalidate(Forgotten::kOldAttributes);
  CHECK(rig.dir->info().forgotten == Forgotten::kOldAttributes);
  rig.dir->invalidate();
  CHECK(rig.dir->info().forgotten == Forgotten::kTold);
  CHECK(rig.dir->info().invalidations == 3);
}

}  // namespace
}  // namespace test
