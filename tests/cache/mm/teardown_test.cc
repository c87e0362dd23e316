// Trap 5: a mapping ends while reclaim is in the middle of its pages, while fills of it have just
// ended, while other threads look pages up elsewhere.
#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <thread>
#include <vector>

#include "cache/mm/address_space.h"
#include "tests/support/counting_hooks.h"
#include "tests/support/random.h"

using cache::AddressSpace;
using cache::PageCacheOptions;
using cache::PageRef;
using test::Content;

namespace {

constexpr uint64_t kPages = 24;

// What the destroyed mapping leaves behind: pins that outlive it.
struct Left {
  PageRef page;
  uint64_t mapping_id;
  uint64_t key;
};

}  // namespace

TEST_CASE("trap 5: 10,000 mappings end in the middle of fills, lookups and reclaim") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  constexpr uint64_t kMappings = 10000;
  std::atomic<uint64_t> wrong{0}, destroyed{0};
  test::Fixture fixture(uint64_t{3} << 20, 0, PageCacheOptions::Background::kThread);
  {
    std::atomic<bool> stop{false};
    std::thread reclaim([&] {
      while (!stop) {
        fixture.pages.reclaim(32);
        if (destroyed % 64 == 0) fixture.pages.drop_clean();
        std::this_thread::yield();
      }
    });
    const auto worker = [&](uint64_t t) {
      test::Random random(seed + t);
      std::vector<Left> left;
      while (destroyed.fetch_add(1) < kMappings) {
        auto mapping = std::make_unique<AddressSpace>(fixture.pages, fixture.hooks);
        // A second user of the mapping fills and looks up until just before its end.
        std::atomic<bool> leave{false};
        const auto use = [&](uint64_t from, uint64_t limit) {
          for (uint64_t i = 0; i < limit && !leave; ++i) {
            const uint64_t key = (from + i * 7) % kPages;
            auto page = mapping->read_page(key);
            if (page.ok() && !Content::is_own(*page.value(), mapping->id(), key)) ++wrong;
            if (i % 5 == 0) mapping->truncate(kPages - from % 4);
          }
        };
        std::unique_ptr<std::thread> second;
        if (random.one_in(8))
          second = std::make_unique<std::thread>(use, random.below(kPages), kPages);
        use(random.below(kPages), kPages / 2 + random.below(kPages));
        if (PageRef page = mapping->find(random.below(kPages)); page && page->uptodate()) {
          const uint64_t key = page->key();
          left.push_back({std::move(page), mapping->id(), key});
        }
        leave = true;
        if (second) second->join();
        mapping.reset();
        for (const Left& l : left) {
          if (!Content::is_own(*l.page, l.mapping_id, l.key)) ++wrong;
        }
        if (left.size() > 8) left.clear();
      }
    };
    std::thread other(worker, 1);
    worker(2);
    other.join();
    stop = true;
    reclaim.join();
  }
  CHECK(wrong == 0);
  CHECK(fixture.pages.stats().reclaim_pages.get() > 100);
  CHECK(fixture.nothing_left());  // trap 6
  fixture.pages.check_invariants();
}

TEST_CASE("trap 5: a mapping that ends waits for reclaim that holds one of its pages") {
  test::Fixture fixture(uint64_t{3} << 20);
  std::atomic<bool> stop{false};
  std::thread reclaim([&] {
    while (!stop) fixture.pages.reclaim(32);
  });
  for (uint64_t i = 0; i < test::scaled(3000); ++i) {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    for (uint64_t key = 0; key < 4; ++key) CHECK(mapping.read_page(key).ok());
  }
  stop = true;
  reclaim.join();
  CHECK(fixture.nothing_left());
}
