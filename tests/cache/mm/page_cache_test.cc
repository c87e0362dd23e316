#include "cache/mm/page_cache.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <thread>
#include <vector>

#include "tests/support/counting_hooks.h"
#include "tests/support/eventually.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

using cache::AddressSpace;
using cache::Page;
using cache::PageCacheOptions;
using cache::PageRef;
using test::Content;

namespace {

using test::kMiB;

// Reads keys from `first` on until the cache has been full for a while.
uint64_t fill_up(test::Fixture& fixture, AddressSpace& mapping, uint64_t first = 0) {
  const uint64_t pages = fixture.pages.limit_bytes() / 4096 * 2;
  for (uint64_t key = first; key < first + pages; ++key) REQUIRE(mapping.read_page(key).ok());
  return pages;
}

}  // namespace

TEST_CASE("the budget is hard: what is held and its peak never pass it, tables included") {
  test::Fixture fixture(2 * kMiB);
  {
    CHECK(fixture.pages.bytes() == fixture.pages.table_bytes());
    CHECK(fixture.pages.table_bytes() > 0);
    AddressSpace mapping(fixture.pages, fixture.hooks);
    for (uint64_t key = 0; key < 3000; ++key) {
      REQUIRE(mapping.read_page(key).ok());
      REQUIRE(fixture.pages.bytes() <= fixture.pages.limit_bytes());
      fixture.pages.check_invariants();
    }
    CHECK(fixture.pages.peak_bytes() <= fixture.pages.limit_bytes());
    CHECK(fixture.pages.stats().reclaim_direct.get() > 0);
    CHECK(fixture.pages.stats().allocation_failures.get() == 0);
    // The budget is used, not only kept.
    CHECK(mapping.page_count() > 2 * kMiB / 4096 * 8 / 10);
  }
  CHECK(fixture.nothing_left());
  CHECK(fixture.pages.stats().free_page_calls.get() == 3000);
}

TEST_CASE("what pages point to is counted, with reclaim at the bound") {
  test::Fixture fixture(2 * kMiB);
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    fill_up(fixture, mapping);
    CHECK(fixture.pages.charge(kMiB));
    CHECK(fixture.pages.bytes() <= 2 * kMiB);
    void* names = fixture.pages.allocate(60000);
    CHECK(names != nullptr);
    CHECK_FALSE(fixture.pages.charge(2 * kMiB));
    CHECK(fixture.pages.stats().allocation_failures.get() == 1);
    fixture.pages.free(names, 60000);
    fixture.pages.uncharge(kMiB);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("a full cache of pages that were all just read again still gives way") {
  // Every page is referenced: reclaim has to go round once before it can take the first.
  test::Fixture fixture(48 * kMiB);
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    for (uint64_t key = 0; fixture.pages.stats().reclaim_direct.get() == 0; ++key) {
      REQUIRE(mapping.read_page(key).ok());
    }
    for (int round = 0; round < 3; ++round) {
      mapping.for_each([](Page& page) {
        page.mark_accessed();
        page.mark_accessed();
        return true;
      });
      for (uint64_t key = 0; key < 100; ++key) {
        REQUIRE(mapping.read_page(kMiB + static_cast<uint64_t>(round) * 1000 + key).ok());
      }
    }
    CHECK(fixture.pages.stats().allocation_failures.get() == 0);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("ENOMEM when everything is pinned, and only then") {
  test::Fixture fixture(2 * kMiB);
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    std::vector<PageRef> pins;
    int error = 0;
    for (uint64_t key = 0; error == 0; ++key) {
      auto page = mapping.read_page(key);
      if (page.ok()) {
        pins.push_back(std::move(page).value());
      } else {
        error = page.error_number();
      }
    }
    // A fill that finds no memory for names fails; without a page there is nothing to fill.
    CHECK((error == ENOMEM || error == EIO));
    CHECK(mapping.grab(kMiB).error_number() == ENOMEM);
    CHECK(mapping.new_private_page().error_number() == ENOMEM);
    CHECK(fixture.pages.allocate(4096) == nullptr);
    CHECK(fixture.pages.pinned_pages() == pins.size());
    CHECK(fixture.pages.bytes() <= fixture.pages.limit_bytes());
    for (size_t i = 0; i < pins.size(); ++i) {
      CHECK(Content::is_own(*pins[i], mapping.id(), i));  // nobody lost anything
    }
    pins.resize(pins.size() - 64);
    CHECK(mapping.read_page(kMiB).ok());
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("threads that reclaim side by side do not report ENOMEM to each other") {
  // Hardly more pages than a few threads' victims: one often finds the lists empty.
  test::Fixture fixture(kMiB / 2);
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    std::atomic<uint64_t> failed{0};
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t i = 0; i < test::scaled(20000); ++i) {
          if (!mapping.read_page(t << 32 | i).ok()) ++failed;
          if (i % 3 == 0) fixture.pages.drop_clean();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(failed == 0);
    CHECK(fixture.pages.peak_bytes() <= fixture.pages.limit_bytes());
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("one unpinned page among thousands is found") {
  test::Fixture fixture(16 * kMiB);
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    std::vector<PageRef> pins;
    for (uint64_t key = 0;; ++key) {
      auto grabbed = mapping.grab(key);
      if (!grabbed.ok()) break;
      CHECK(mapping.fill_done(*grabbed.value().page, mapping.sequence()));
      pins.push_back(std::move(grabbed.value().page));
    }
    REQUIRE(pins.size() > 3000);
    for (const size_t free : {size_t{0}, pins.size() / 2, pins.size() - 2}) {
      CHECK(mapping.grab(kMiB).error_number() == ENOMEM);
      pins[free].reset();
      auto grabbed = mapping.grab(kMiB);
      REQUIRE(grabbed.ok());
      mapping.fill_failed(*grabbed.value().page);
      pins[free] = std::move(grabbed.value().page);  // keeps the memory taken
    }
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("dropping takes every clean page that nobody holds") {
  test::Fixture fixture(4 * kMiB);
  {
    AddressSpace one(fixture.pages, fixture.hooks);
    AddressSpace two(fixture.pages, fixture.hooks);
    for (uint64_t key = 0; key < 100; ++key) {
      REQUIRE(one.read_page(key).ok());
      REQUIRE(two.read_page(key).ok());
      REQUIRE(two.read_page(key).ok());
    }
    PageRef pinned = one.find(50);
    PageRef dirty = two.find(50);
    CHECK(two.make_writable(*dirty).ok());
    dirty.reset();
    CHECK(fixture.pages.drop_clean() == 198);
    CHECK(one.page_count() == 1);
    CHECK(two.page_count() == 1);
    CHECK(Content::is_own(*pinned, one.id(), 50));
    CHECK(fixture.pages.drop_clean() == 0);
    pinned.reset();
    CHECK(fixture.pages.drop_clean() == 1);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("pressure shrinks the cache to its floor, and it grows back") {
  test::Fixture fixture(8 * kMiB, 2 * kMiB);
  auto& pages = fixture.pages;
  {
    AddressSpace mapping(pages, fixture.hooks);
    const uint64_t next = fill_up(fixture, mapping);
    CHECK(pages.bytes() > 7 * kMiB);
    pages.set_pressure_bound(4 * kMiB);
    CHECK(pages.bound_bytes() == 4 * kMiB);
    CHECK(pages.bytes() <= 4 * kMiB);
    CHECK(mapping.page_count() > 300);  // not further than asked
    pages.set_pressure_bound(0);
    CHECK(pages.bound_bytes() == 2 * kMiB);
    CHECK(pages.bytes() <= 2 * kMiB);
    fill_up(fixture, mapping, next);
    CHECK(pages.bytes() <= 2 * kMiB);
    pages.set_pressure_bound(~uint64_t{0});
    CHECK(pages.bound_bytes() == 8 * kMiB);
    fill_up(fixture, mapping, 2 * next);
    CHECK(pages.bytes() > 7 * kMiB);
    CHECK(pages.stats().allocation_failures.get() == 0);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("a bound lowered below what is pinned holds as the pins go") {
  test::Fixture fixture(8 * kMiB, kMiB);
  auto& pages = fixture.pages;
  {
    AddressSpace mapping(pages, fixture.hooks);
    fill_up(fixture, mapping);
    std::vector<PageRef> pins;
    mapping.for_each([&](Page& page) {
      if (page.try_get()) pins.push_back(PageRef::adopt(&page));
      return true;
    });
    pages.set_pressure_bound(2 * kMiB);  // returns, though nothing can be taken
    CHECK(pages.bytes() > 7 * kMiB);
    pins.clear();
    for (uint64_t key = 0; key < 3000 && pages.bytes() > 2 * kMiB; ++key) {
      CHECK(mapping.read_page(kMiB + key).ok());
      // A step takes little of a small cache; the background takes as many as it needs.
      for (int steps = 0; steps < 8; ++steps) pages.reclaim(32);
    }
    CHECK(pages.bytes() <= 2 * kMiB);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("the background reclaimer starts below the low watermark and stops at the high one") {
  test::Fixture fixture(16 * kMiB, 0, PageCacheOptions::Background::kThread);
  auto& pages = fixture.pages;
  {
    AddressSpace mapping(pages, fixture.hooks);
    uint64_t key = 0;
    // Far from the bound it sleeps.
    for (; pages.bytes() < 8 * kMiB; ++key) REQUIRE(mapping.read_page(key).ok());
    CHECK(pages.stats().reclaim_pages.get() == 0);
    const auto low = cache::Watermarks::for_bound(pages.limit_bytes()).low;
    // Within the low mark of the bound it reclaims, without any more allocation.
    for (; pages.bytes() + low / 2 < pages.limit_bytes() && pages.stats().reclaim_pages.get() == 0;
         ++key) {
      REQUIRE(mapping.read_page(key).ok());
    }
    CHECK(test::eventually([&] { return pages.stats().reclaim_pages.get() > 0; }));
    // It stops when as much is available as the high mark says, and takes no more than needed:
    // 4 KiB pages and a batch beyond it at most.
    uint64_t before = 0;
    auto since = std::chrono::steady_clock::now();
    CHECK(test::eventually([&] {
      const uint64_t now = pages.stats().reclaim_pages.get();
      if (now != before) since = std::chrono::steady_clock::now();
      before = now;
      return std::chrono::steady_clock::now() - since > std::chrono::milliseconds(200);
    }));
    CHECK(pages.stats().reclaim_pages.get() <= 2 * low / 4096 + 64);
    // A listing that runs on leaves the work to it.
    for (uint64_t end = key + 20000; key < end; ++key) REQUIRE(mapping.read_page(key).ok());
    CHECK(pages.peak_bytes() <= pages.limit_bytes());
    CHECK(pages.stats().allocation_failures.get() == 0);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("under pressure the background goes on where the caller stopped") {
  test::Fixture fixture(8 * kMiB, kMiB, PageCacheOptions::Background::kThread);
  auto& pages = fixture.pages;
  {
    AddressSpace mapping(pages, fixture.hooks);
    fill_up(fixture, mapping);
    std::vector<PageRef> pins;
    mapping.for_each([&](Page& page) {
      if (page.try_get()) pins.push_back(PageRef::adopt(&page));
      return true;
    });
    pages.set_pressure_bound(2 * kMiB);
    pins.clear();
    uint64_t key = kMiB;
    CHECK(test::eventually([&] {
      (void)mapping.read_page(++key);  // any allocation wakes it
      return pages.bytes() <= 2 * kMiB;
    }));
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("trap 25: a listing of twice the cache, five times, keeps its hits") {
  test::Fixture fixture(8 * kMiB);
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    fill_up(fixture, mapping, kMiB);
    const uint64_t cache_pages = mapping.page_count();
    mapping.truncate(0);
    const uint64_t keys = 2 * cache_pages;
    for (uint64_t key = 0; key < keys; ++key) REQUIRE(mapping.read_page(key).ok());
    const uint64_t fills_before = fixture.hooks.fills;
    for (int round = 0; round < 4; ++round) {
      for (uint64_t key = 0; key < keys; ++key) REQUIRE(mapping.read_page(key).ok());
    }
    const double misses = static_cast<double>(fixture.hooks.fills - fills_before);
    const double ratio = 1 - misses / static_cast<double>(4 * keys);
    CAPTURE(ratio);
    CHECK(ratio > 0.40);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("trap 26: a scan over everything leaves what is read every second") {
  const auto background =
      GENERATE(PageCacheOptions::Background::kNone, PageCacheOptions::Background::kThread);
  test::Fixture fixture(8 * kMiB, 0, background);
  {
    AddressSpace hot(fixture.pages, fixture.hooks);
    AddressSpace cold(fixture.pages, fixture.hooks);
    constexpr uint64_t kHot = 100;
    const auto read_hot = [&] {
      const uint64_t before = fixture.hooks.fills;
      for (uint64_t key = 0; key < kHot; ++key) REQUIRE(hot.read_page(key).ok());
      return fixture.hooks.fills - before;
    };
    read_hot();
    read_hot();
    uint64_t misses = 0;
    for (uint64_t key = 0; key < 20000; ++key) {
      REQUIRE(cold.read_page(key).ok());
      if (key % 1000 == 0) misses += read_hot();
    }
    CHECK(misses <= 20 * kHot * 2 / 100);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("a refault is counted") {
  test::Fixture fixture(2 * kMiB);
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    CHECK(mapping.read_page(1).ok());
    CHECK(fixture.pages.drop_clean() == 1);
    CHECK(fixture.pages.stats().reclaim_pages.get() == 1);
    CHECK(fixture.pages.stats().reclaim_refaults.get() == 0);
    CHECK(mapping.read_page(1).ok());
    CHECK(fixture.pages.stats().reclaim_refaults.get() == 1);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("names of all sizes share the budget without starving pages") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  test::Random random(seed);
  test::Fixture fixture(16 * kMiB);
  auto& pages = fixture.pages;
  struct Names {
    void* at;
    size_t bytes;
  };
  // As arrays: a page that owns an allocation of its own size.
  class Owner final : public cache::PageHooks {
   public:
    explicit Owner(cache::PageCache& of) : cache_(of) {}
    void free_page(std::byte* content) noexcept override {
      Names& names = *reinterpret_cast<Names*>(content);
      used -= 4096;
      if (names.at == nullptr) return;
      used -= names.bytes;
      cache_.free(names.at, names.bytes);
    }
    uint64_t used = 0;

   private:
    cache::PageCache& cache_;
  };
  auto& owner = pages.hook_table<Owner>();
  CHECK(&owner == &pages.hook_table<Owner>());
  {
    AddressSpace mapping(pages, owner);
    uint64_t used_sum = 0, samples = 0;
    const uint64_t reads = test::scaled(40000);
    for (uint64_t i = 0; i < reads; ++i) {
      auto grabbed = mapping.grab(random.below(20000));
      REQUIRE(grabbed.ok());
      PageRef page = std::move(grabbed.value().page);
      page->mark_accessed();
      if (!grabbed.value().created) continue;
      owner.used += 4096;
      const size_t bytes = 500 + random.below(random.one_in(10) ? 40000 : 6000);
      void* at = pages.allocate(bytes);
      REQUIRE(at != nullptr);
      *reinterpret_cast<Names*>(page->content()) = {.at = at, .bytes = bytes};
      owner.used += bytes;
      REQUIRE(mapping.fill_done(*page, mapping.sequence()));
      if (i > reads / 2) {
        used_sum += owner.used;
        ++samples;
      }
    }
    CHECK(pages.stats().allocation_failures.get() == 0);
    CHECK(pages.peak_bytes() <= pages.limit_bytes());
    // How much of the budget is of use, over the second half.
    const double share = static_cast<double>(used_sum) / static_cast<double>(samples) /
                         static_cast<double>(pages.limit_bytes());
    CAPTURE(share);
    CHECK(share > 0.6);
  }
  CHECK(fixture.pages.stats().pages_resident.get() == 0);
  CHECK(fixture.pages.stats().pages_private.get() == 0);
}
