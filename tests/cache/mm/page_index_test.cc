#include "cache/mm/page_index.h"

#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "tests/support/counting_hooks.h"
#include "tests/support/eventually.h"
#include "tests/support/page_peer.h"
#include "tests/support/random.h"

using cache::AddressSpace;
using cache::Page;
using cache::PageIndex;
using cache::PageRef;
using cache::PageTestPeer;
using test::Content;

namespace {

// Tries of a race end after so many or so long.
constexpr std::chrono::seconds kLong{1};

// Never dereferenced by the index.
AddressSpace* mapping_of(uintptr_t n) { return reinterpret_cast<AddressSpace*>(n * 64); }

void put(PageIndex& index, Page& page, AddressSpace* mapping, uint64_t key) {
  PageTestPeer::set_state(page, cache::page_state::kOne);
  PageTestPeer::set_identity(page, mapping, key);
  index.insert(page, mapping);
}

}  // namespace

TEST_CASE("a page is found by its mapping and its full 64-bit key, pinned") {
  PageIndex index(1);  // the smallest table: long chains
  std::array<Page, 400> pages;
  const auto key = [](size_t i) { return uint64_t{i + 1} << 32 | (i % 7); };
  for (size_t i = 0; i < pages.size(); ++i) put(index, pages[i], mapping_of(1 + i % 2), key(i));
  for (size_t i = 0; i < pages.size(); ++i) {
    PageRef found = index.find(mapping_of(1 + i % 2), key(i));
    REQUIRE(found.get() == &pages[i]);
    CHECK(cache::page_state::count(pages[i].state()) == 2);
    CHECK_FALSE(index.find(mapping_of(2 - i % 2), key(i)));
    CHECK_FALSE(index.find(mapping_of(1 + i % 2), key(i) & 0xffffffff));
  }
  for (size_t i = 0; i < pages.size(); ++i) {
    index.remove(pages[i], mapping_of(1 + i % 2));
    PageTestPeer::set_identity(pages[i], nullptr, key(i));
    CHECK_FALSE(index.find(mapping_of(1 + i % 2), key(i)));
  }
}

TEST_CASE("trap 2: a frozen page is not found, its neighbours in the chain are") {
  PageIndex index(1);
  std::array<Page, 200> pages;
  for (size_t i = 0; i < pages.size(); ++i) put(index, pages[i], mapping_of(1), i);
  for (size_t i = 0; i < pages.size(); i += 2) REQUIRE(pages[i].freeze());
  for (size_t i = 0; i < pages.size(); ++i) {
    CHECK(static_cast<bool>(index.find(mapping_of(1), i)) == (i % 2 == 1));
  }
}

TEST_CASE("trap 2: a page recycled under another key fails the second look") {
  PageIndex index(1);
  Page page;
  put(index, page, mapping_of(1), 5);
  // As if between a reader's first look and its try-get: same descriptor, another life.
  PageTestPeer::set_identity(page, mapping_of(1), 6);
  CHECK_FALSE(index.find(mapping_of(1), 5));
  PageTestPeer::set_identity(page, mapping_of(2), 5);
  CHECK_FALSE(index.find(mapping_of(1), 5));
}

// One descriptor is given one key after the other in the same mapping, as when a small cache runs
// through a directory. A reader that combined the key of one life with the mapping of the next
// would take one for the other.
TEST_CASE("trap 2: a descriptor that changes its key under a reader is never taken for another") {
  Page page;
  AddressSpace* mapping = mapping_of(1);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0};
  std::thread reader([&] {
    while (!stop) {
      if (!page.try_get()) continue;
      PageRef pin = PageRef::adopt(&page);
      // Looks for the key of the former life while the descriptor is given its next one.
      const uint64_t key = page.key();
      bool taken = false;
      for (int look = 0; look < 200 && !taken; ++look) taken = page.is(mapping, key);
      if (taken && page.key() != key) ++wrong;
    }
  });
  const auto end = std::chrono::steady_clock::now() + kLong;
  for (uint64_t life = 0; life < 50000 && std::chrono::steady_clock::now() < end; ++life) {
    PageTestPeer::set_state(page, cache::page_state::kOne);
    for (int i = 0; i < 100 && cache::page_state::count(page.state()) == 1; ++i) {
      std::this_thread::yield();
    }
    for (uint64_t i = 0; i < life % 64; ++i) (void)page.state();  // somewhere in its looks
    PageTestPeer::set_identity(page, mapping, life);
    while (!page.freeze()) std::this_thread::yield();
    PageTestPeer::set_identity(page, nullptr, life);
  }
  stop = true;
  reader.join();
  CHECK(wrong == 0);
}

// The same through the index: the descriptor is removed, frees itself and comes back under another
// key between a reader's first look and its try-get.
TEST_CASE("trap 2: a page recycled in mid-lookup is never returned for its former key") {
  PageIndex index(1);
  Page page;
  AddressSpace* mapping = mapping_of(1);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0};
  std::thread reader([&] {
    for (uint64_t i = 0; !stop; ++i) {
      PageRef found = index.find(mapping, i % 2);
      if (found && (found->key() != i % 2 || found->mapping() != mapping)) ++wrong;
    }
  });
  const auto end = std::chrono::steady_clock::now() + kLong;
  for (uint64_t life = 0; life < 200000 && std::chrono::steady_clock::now() < end; ++life) {
    put(index, page, mapping, life % 2);
    while (!page.freeze()) std::this_thread::yield();
    index.remove(page, mapping);
    PageTestPeer::set_identity(page, nullptr, life % 2);
  }
  stop = true;
  reader.join();
  CHECK(wrong == 0);
}

// Readers look for pages that stay and for pages that come and go, in a table of 64 buckets.
TEST_CASE("under churn no lookup gives a wrong page, nor misses one that stays") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  constexpr uint64_t kStay = 128;
  constexpr uint64_t kChurn = 400;
  test::Fixture fixture(uint64_t{4} << 20);
  {
    AddressSpace stays(fixture.pages, fixture.hooks);
    AddressSpace churns(fixture.pages, fixture.hooks);
    std::vector<PageRef> kept;
    for (uint64_t key = 0; key < kStay; ++key) {
      kept.push_back(std::move(stays.read_page(key)).value());
    }
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> wrong{0}, missed{0}, found{0};
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {
        test::Random random(seed + t);
        while (!stop) {
          const uint64_t key = random.below(kStay);
          PageRef page = stays.find(key);
          if (!page) {
            ++missed;
          } else if (!Content::is_own(*page, stays.id(), key)) {
            ++wrong;
          }
          const uint64_t other = random.below(kChurn);
          PageRef moving = churns.find(other);
          if (!moving) continue;
          if (moving->key() != other) ++wrong;
          if (!moving->uptodate()) continue;
          ++found;
          if (!Content::is_own(*moving, churns.id(), other)) ++wrong;
        }
      });
    }
    test::Random random(seed + 100);
    for (uint64_t i = 0; i < test::scaled(100000); ++i) {
      const uint64_t key = random.below(kChurn);
      if (random.one_in(2)) {
        if (PageRef page = churns.find(key)) churns.remove(*page);
      } else if (random.one_in(200)) {
        fixture.pages.reclaim(32);
      } else {
        (void)churns.read_page(key);
      }
    }
    CHECK(test::eventually([&] { return found > 100; }));
    stop = true;
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
    CHECK(missed == 0);
  }
  CHECK(fixture.nothing_left());
}
