#include "cache/mm/page.h"

#include <catch2/catch.hpp>
#include <thread>

#include "tests/support/counting_hooks.h"
#include "tests/support/page_peer.h"
#include "tests/support/random.h"

using cache::AddressSpace;
using cache::Page;
using cache::PageRef;
using cache::PageTestPeer;
namespace page_state = cache::page_state;

namespace {
// As a page in the index that nobody pins.
void make_idle(Page& page, uint64_t flags = page_state::kUptodate) {
  PageTestPeer::set_state(page, page_state::kOne | flags);
}
}  // namespace

TEST_CASE("trap 2: a try-get on a free or frozen page fails") {
  Page page;
  CHECK_FALSE(page.try_get());
  make_idle(page);
  CHECK(page.try_get());
  CHECK(page_state::count(page.state()) == 2);
  CHECK_FALSE(page.freeze());  // pinned
  make_idle(page);
  CHECK(page.freeze());
  CHECK(page_state::count(page.state()) == 0);
  CHECK_FALSE(page.try_get());
  CHECK_FALSE(page.freeze());
}

TEST_CASE("a page freezes from exactly one reference, and only when nothing speaks against it") {
  Page page;
  make_idle(page);
  for (const uint64_t flag :
       {page_state::kLocked, page_state::kDirty, page_state::kWriteback, page_state::kPrivate}) {
    make_idle(page, page_state::kUptodate | flag);
    CHECK_FALSE(page.freeze());
    CHECK(page.try_get());  // untouched by the attempt
  }
  for (const uint64_t flag : {page_state::kReferenced, page_state::kUsed, page_state::kWaiters,
                              page_state::kMark, page_state::kError}) {
    make_idle(page, page_state::kUptodate | flag);
    CHECK(page.freeze());
  }
}

TEST_CASE("trap 29: a page that was never uptodate is never marked dirty") {
  Page page;
  make_idle(page, 0);
  CHECK_FALSE(page.mark_dirty());
  CHECK_FALSE(page.dirty());
  make_idle(page);
  CHECK(page.mark_dirty());
  CHECK(page.dirty());
}

TEST_CASE("the first use of a page is not a reason to keep it, the second is") {
  Page page;
  make_idle(page);
  page.mark_accessed();
  CHECK_FALSE(page.has(page_state::kReferenced));
  page.mark_accessed();
  CHECK(page.has(page_state::kReferenced));
  CHECK(page.clear(page_state::kReferenced));
  CHECK_FALSE(page.clear(page_state::kReferenced));
  page.mark_accessed();  // reclaim took the bit, not the history
  CHECK(page.has(page_state::kReferenced));
}

TEST_CASE("a page is what it was pinned as only with its mapping and its whole key") {
  Page page;
  auto* one = reinterpret_cast<AddressSpace*>(64);
  auto* two = reinterpret_cast<AddressSpace*>(128);
  PageTestPeer::set_identity(page, one, uint64_t{1} << 63 | 5);
  CHECK(page.is(one, uint64_t{1} << 63 | 5));
  CHECK_FALSE(page.is(one, 5));
  CHECK_FALSE(page.is(two, uint64_t{1} << 63 | 5));
  PageTestPeer::set_identity(page, nullptr, uint64_t{1} << 63 | 5);
  CHECK_FALSE(page.is(one, uint64_t{1} << 63 | 5));
}

TEST_CASE("trap 4: a dirtying between reclaim's look and its removal is never lost") {
  Page page;
  std::atomic<int> round{0};
  std::atomic<int> dirtied{0}, missed{0};
  const int rounds = static_cast<int>(test::scaled(5000));
  std::atomic<int> ready{0};
  make_idle(page);
  std::thread writer([&] {
    for (int i = 1; i <= rounds; ++i) {
      while (round.load() < i) std::this_thread::yield();
      // As a lookup and a write: a pin, the dirty flag, the pin dropped.
      if (page.try_get()) {
        if (page.mark_dirty()) ++dirtied;
        PageTestPeer::set_state(page, page.state() - page_state::kOne);
      } else {
        ++missed;
      }
      ready = i;
    }
  });
  int lost = 0;
  for (int i = 1; i <= rounds; ++i) {
    make_idle(page);
    const int dirtied_before = dirtied;
    round = i;
    bool frozen = false;
    for (int attempt = 0; attempt < 4 && !frozen; ++attempt) frozen = page.freeze();
    while (ready.load() < i) std::this_thread::yield();
    if (frozen && dirtied != dirtied_before) ++lost;
  }
  writer.join();
  CHECK(lost == 0);
  CHECK(dirtied + missed == rounds);
}

TEST_CASE("a pin moves, is duplicated, and is dropped once") {
  test::Fixture fixture;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    PageRef a = mapping.read_page(1).value().duplicate();
    const Page* page = a.get();
    CHECK(page_state::count(page->state()) == 2);  // ours and the cache's
    PageRef b = a.duplicate();
    CHECK(page_state::count(page->state()) == 3);
    PageRef c = std::move(a);
    CHECK_FALSE(a);  // NOLINT: moved from, by intent
    CHECK(page_state::count(page->state()) == 3);
    b = std::move(c);
    CHECK(page_state::count(page->state()) == 2);
    PageRef& self = b;
    b = std::move(self);
    CHECK(b.get() == page);
    b.reset();
    b.reset();
    CHECK(page_state::count(page->state()) == 1);
    CHECK_FALSE(PageRef().duplicate());
  }
  CHECK(fixture.nothing_left());
}
