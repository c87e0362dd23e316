#include "cache/mm/address_space.h"

#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "tests/support/counting_hooks.h"
#include "tests/support/eventually.h"

using cache::AddressSpace;
using cache::Page;
using cache::PageRef;
using cache::Status;
using test::Content;
namespace page_state = cache::page_state;

namespace {

constexpr uint64_t kHuge = ~uint64_t{0};

PageRef grab_new(AddressSpace& mapping, uint64_t key) {
  auto grabbed = mapping.grab(key);
  REQUIRE(grabbed.ok());
  REQUIRE(grabbed.value().created);
  return std::move(grabbed.value().page);
}

void fill(AddressSpace& mapping, uint64_t first, uint64_t count) {
  for (uint64_t key = first; key < first + count; ++key) REQUIRE(mapping.read_page(key).ok());
}

// Runs `act` in a thread and tells whether it is still waiting.
class Waiting {
 public:
  template <typename Act>
  explicit Waiting(const Act& act)
      : thread_([this, act] {
          act();
          done_ = true;
        }) {}
  ~Waiting() {
    if (thread_.joinable()) thread_.join();
  }
  // Whether the page has a sleeper: then the thread has reached its wait.
  static bool reached(const Page& page) {
    return test::eventually([&] { return page.has(page_state::kWaiters); });
  }
  bool done() const { return done_; }
  bool finish() {
    return test::eventually([&] { return done_.load(); });
  }

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

}  // namespace

TEST_CASE("a page is found from its grab to its removal, by its whole key") {
  test::Fixture fixture;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    for (const uint64_t key :
         {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, uint64_t{1} << 63, kHuge}) {
      CHECK_FALSE(mapping.find(key));
      PageRef page = grab_new(mapping, key);
      CHECK(page->locked());
      CHECK_FALSE(page->uptodate());
      CHECK(mapping.find(key).get() == page.get());
      auto again = mapping.grab(key);
      CHECK_FALSE(again.value().created);
      CHECK(again.value().page.get() == page.get());
      CHECK(fixture.hooks.fill_now(mapping, *page, mapping.sequence()));
      CHECK(page->uptodate());
      CHECK_FALSE(page->locked());
      mapping.check_invariants();
    }
    CHECK(mapping.page_count() == 5);
    uint64_t visited = 0;
    mapping.for_each([&](Page&) { return ++visited < 3; });
    CHECK(visited == 3);
  }
  CHECK(fixture.nothing_left());
  CHECK(fixture.hooks.frees == 5);
}

TEST_CASE("a hint is only taken for the mapping and key it is given for") {
  test::Fixture fixture;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    AddressSpace other(fixture.pages, fixture.hooks);
    fill(mapping, 3, 2);
    Page* hint = mapping.find(3).get();
    CHECK(mapping.find_hint(hint, 3).get() == hint);
    CHECK_FALSE(mapping.find_hint(hint, 4));
    CHECK_FALSE(other.find_hint(hint, 3));
    CHECK_FALSE(mapping.find_hint(nullptr, 3));
    mapping.truncate(0);
    CHECK_FALSE(mapping.find_hint(hint, 3));
    fill(other, 3, 2);  // may reuse the descriptor
    CHECK_FALSE(mapping.find_hint(hint, 3));
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("trap 1: every removal path ends in free_page, exactly once") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  auto mapping = std::make_unique<AddressSpace>(fixture.pages, hooks);
  SECTION("reclaim") {
    fill(*mapping, 0, 4);
    while (fixture.pages.reclaim(32) != 0) {
    }
    CHECK(hooks.frees == 4);
    CHECK(hooks.invalidates == 0);
  }
  SECTION("truncate") {
    fill(*mapping, 0, 4);
    CHECK(mapping->truncate(1) == 3);
    CHECK(hooks.frees == 3);
    CHECK(mapping->find(0));
  }
  SECTION("invalidate") {
    fill(*mapping, 0, 4);
    CHECK(mapping->invalidate_all() == 4);
    CHECK(hooks.invalidates == 4);
  }
  SECTION("invalidate for coherence") {
    fill(*mapping, 0, 200);  // several batches
    CHECK(mapping->invalidate_pages().ok());
    CHECK(hooks.frees == 200);
    CHECK(hooks.invalidates == 200);
  }
  SECTION("removal of one page") {
    fill(*mapping, 0, 4);
    PageRef page = mapping->find(2);
    CHECK(mapping->remove(*page));
    CHECK_FALSE(mapping->remove(*page));
    CHECK_FALSE(mapping->find(2));
    CHECK(hooks.frees == 0);
    page.reset();
    CHECK(hooks.frees == 1);
  }
  SECTION("teardown") { fill(*mapping, 0, 4); }
  SECTION("failed fill") {
    PageRef page = grab_new(*mapping, 1);
    mapping->fill_failed(*page);
    CHECK_FALSE(mapping->find(1));
    CHECK_FALSE(page->uptodate());
    CHECK_FALSE(page->locked());
    page.reset();
    CHECK(hooks.frees == 1);
  }
  SECTION("a grab that lost its race, and a private page") {
    PageRef page = mapping->new_private_page().value().duplicate();
    CHECK(page->locked());
    CHECK_FALSE(page->uptodate());
    CHECK(fixture.pages.stats().pages_private.get() == 1);
    page.reset();
    CHECK(hooks.frees == 1);
  }
  SECTION("drop") {
    fill(*mapping, 0, 100);
    CHECK(fixture.pages.drop_clean() == 100);
    CHECK(hooks.frees == 100);
  }
  mapping.reset();
  CHECK(fixture.nothing_left());
}

TEST_CASE("trap 3: readers of a removed page finish on the old content, lookups miss") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  {
    AddressSpace mapping(fixture.pages, hooks);
    fill(mapping, 7, 1);
    PageRef reader = mapping.find(7);
    PageRef second = reader.duplicate();
    const uint64_t how = GENERATE(0, 1, 2);
    if (how == 0) mapping.invalidate_all();
    if (how == 1) mapping.truncate(7);
    if (how == 2) CHECK(mapping.invalidate_pages().ok());
    CHECK_FALSE(mapping.find(7));
    CHECK(hooks.frees == 0);
    CHECK(Content::is_own(*reader, mapping.id(), 7));
    PageRef fresh = mapping.read_page(7).value().duplicate();
    CHECK(fresh.get() != reader.get());
    CHECK(Content::is_own(*reader, mapping.id(), 7));
    reader.reset();
    CHECK(hooks.frees == 0);
    second.reset();
    CHECK(hooks.frees == 1);
    CHECK(Content::is_own(*fresh, mapping.id(), 7));
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("a pin outlives its mapping") {
  test::Fixture fixture;
  PageRef reader;
  uint64_t id = 0;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    id = mapping.id();
    reader = mapping.read_page(1).value().duplicate();
  }
  CHECK(Content::is_own(*reader, id, 1));
  reader.reset();
  CHECK(fixture.nothing_left());
}

TEST_CASE("a fill that an invalidation overtook is not installed") {
  test::Fixture fixture;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    const int how = GENERATE(0, 1, 2, 3);
    const uint64_t noted = mapping.sequence();
    if (how == 3) mapping.invalidate_all();  // before the page is there
    PageRef page = grab_new(mapping, 5);
    if (how == 0) mapping.invalidate_all();
    if (how == 1) mapping.truncate(100);  // says nothing of this key, but something changed
    if (how == 2) CHECK(mapping.invalidate_pages().ok());
    CHECK(mapping.sequence() != noted);
    CHECK_FALSE(fixture.hooks.fill_now(mapping, *page, noted));
    CHECK_FALSE(page->uptodate());
    CHECK_FALSE(page->locked());
    CHECK_FALSE(mapping.find(5));
    CHECK(fixture.hooks.invalidates == 1);
  }
  CHECK(fixture.nothing_left());
  CHECK(fixture.hooks.frees == 1);
}

TEST_CASE("a fill whose page was removed is not installed, whatever the sequence") {
  test::Fixture fixture;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    PageRef page = grab_new(mapping, 5);
    CHECK(mapping.remove(*page));
    PageRef next = grab_new(mapping, 5);  // the key is free at once
    CHECK_FALSE(fixture.hooks.fill_now(mapping, *page, mapping.sequence()));
    CHECK(mapping.find(5).get() == next.get());
    CHECK(fixture.hooks.fill_now(mapping, *next, mapping.sequence()));
    CHECK(fixture.hooks.invalidates == 1);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("read_page asks again after an invalidation in mid-fill, a bounded number of times") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  {
    AddressSpace mapping(fixture.pages, hooks);
    uint64_t changes = 0;
    hooks.on_fill = [&](AddressSpace& of, Page& page) {
      const uint64_t noted = of.sequence();
      if (changes != 0) {
        --changes;
        of.invalidate_all();
      }
      hooks.fill_now(of, page, noted);
    };
    changes = 2;
    CHECK(mapping.read_page(1).ok());
    CHECK(hooks.fills == 3);
    changes = kHuge;  // a stream of changes does not hold the reader for ever
    CHECK(mapping.read_page(2).error_number() == EAGAIN);
    CHECK(hooks.fills < 20);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("a failed fill is an error for those who wait, and the next reader fills again") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  {
    AddressSpace mapping(fixture.pages, hooks);
    bool fail = true;
    hooks.on_fill = [&](AddressSpace& of, Page& page) {
      if (fail) return of.fill_failed(page);
      hooks.fill_now(of, page, of.sequence());
    };
    CHECK(mapping.read_page(1).error_number() == EIO);
    CHECK(hooks.fills == 1);
    fail = false;
    CHECK(mapping.read_page(1).ok());
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("one fill serves all who wait for it") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  {
    AddressSpace mapping(fixture.pages, hooks);
    PageRef filling;
    hooks.on_fill = [&](AddressSpace&, Page&) {};  // asynchronous
    filling = grab_new(mapping, 1);
    std::atomic<int> served{0};
    const auto read = [&] {
      auto page = mapping.read_page(1);
      if (page.ok() && Content::is_own(*page.value(), mapping.id(), 1)) ++served;
    };
    Waiting one(read);
    Waiting two(read);
    CHECK(Waiting::reached(*filling));
    CHECK_FALSE(one.done());
    CHECK(hooks.fill_now(mapping, *filling, mapping.sequence()));
    CHECK(one.finish());
    CHECK(two.finish());
    CHECK(served == 2);
    CHECK(hooks.fills == 0);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("hook table: removal waits neither for a fill, nor forgets its order") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  {
    AddressSpace mapping(fixture.pages, hooks);
    PageRef filling = grab_new(mapping, 1);
    fill(mapping, 2, 1);
    CHECK(mapping.invalidate_all() == 2);  // returns, though page 1 is locked
    CHECK(hooks.invalidates == 1);
    mapping.fill_failed(*filling);
    CHECK(hooks.invalidates == 2);
    CHECK(hooks.breaches == 0);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("hook table: invalidate_page is given under the page lock, after the removal") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  {
    AddressSpace mapping(fixture.pages, hooks);
    fill(mapping, 1, 1);
    PageRef page = mapping.find(1);
    fixture.pages.lock_page(*page);
    Waiting truncate([&] { mapping.truncate(0); });
    CHECK(test::eventually([&] { return !mapping.find(1); }));  // at once, though it is locked
    CHECK(Waiting::reached(*page));
    CHECK(hooks.invalidates == 0);
    fixture.pages.unlock_page(*page);
    CHECK(truncate.finish());
    CHECK(hooks.invalidates == 1);
    CHECK(hooks.frees == 0);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("hook table: release_page is asked before private state is reclaimed, and may refuse") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  {
    AddressSpace mapping(fixture.pages, hooks);
    fill(mapping, 0, 2);
    mapping.find(0)->set(page_state::kPrivate);
    bool agree = false;
    hooks.on_release = [&](Page& page) {
      if (page.mapping() != &mapping) ++hooks.breaches;  // still findable when asked
      return agree;
    };
    for (int i = 0; i < 4; ++i) fixture.pages.reclaim(32);
    CHECK(hooks.releases > 0);
    CHECK(hooks.frees == 1);
    CHECK(mapping.find(0));
    CHECK(fixture.pages.drop_clean() == 0);
    CHECK(mapping.invalidate_pages() == Status::error(EBUSY));
    CHECK(mapping.find(0));
    agree = true;
    const bool drop = GENERATE(false, true);
    if (drop) CHECK(fixture.pages.drop_clean() == 1);
    for (int i = 0; i < 4; ++i) fixture.pages.reclaim(32);
    CHECK(hooks.frees == 2);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("hook table: the owner can't refuse truncate, invalidate and teardown") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  hooks.on_release = [](Page&) { return false; };
  {
    AddressSpace mapping(fixture.pages, hooks);
    fill(mapping, 0, 2);
    mapping.for_each([](Page& page) {
      page.set(page_state::kPrivate);
      return true;
    });
    CHECK(mapping.truncate(1) == 1);
  }
  CHECK(fixture.nothing_left());
  CHECK(hooks.frees == 2);
  CHECK(hooks.releases == 0);
}

TEST_CASE("trap 28: a dirty page is not reclaimed, nor one under write-back") {
  test::Fixture fixture;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    fill(mapping, 1, 1);
    PageRef page = mapping.find(1);
    CHECK(mapping.make_writable(*page).ok());
    Page* raw = page.get();
    page.reset();
    for (int i = 0; i < 4; ++i) CHECK(fixture.pages.reclaim(32) == 0);
    CHECK(fixture.pages.drop_clean() == 0);
    page = mapping.find_hint(raw, 1);
    fixture.pages.lock_page(*page);
    CHECK(mapping.begin_writeback(*page));
    CHECK_FALSE(page->dirty());
    CHECK(page->has(page_state::kWriteback));
    CHECK_FALSE(mapping.begin_writeback(*page));  // clean now
    fixture.pages.unlock_page(*page);
    page.reset();
    CHECK(fixture.pages.drop_clean() == 0);
    page = mapping.find(1);
    mapping.end_writeback(*page);
    page.reset();
    CHECK(fixture.pages.drop_clean() == 1);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("hook table: page_mkwrite runs locked; the page is dirty before the lock is dropped") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  {
    AddressSpace mapping(fixture.pages, hooks);
    fill(mapping, 1, 1);
    PageRef page = mapping.find(1);
    SECTION("success") {
      std::unique_ptr<Waiting> cleaner;
      std::atomic<bool> was_dirty{false};
      hooks.on_mkwrite = [&](AddressSpace&, Page& p) {
        // Write-back comes in the middle and has to wait for the lock.
        cleaner = std::make_unique<Waiting>([&] {
          fixture.pages.lock_page(p);
          was_dirty = mapping.begin_writeback(p);
          fixture.pages.unlock_page(p);
          if (was_dirty) mapping.end_writeback(p);
        });
        CHECK(Waiting::reached(p));
        return Status();
      };
      CHECK(mapping.make_writable(*page).ok());
      CHECK(cleaner->finish());
      CHECK(was_dirty);
    }
    SECTION("no space") {
      hooks.on_mkwrite = [](AddressSpace&, Page&) { return Status::error(ENOSPC); };
      CHECK(mapping.make_writable(*page).error_number() == ENOSPC);
      CHECK_FALSE(page->dirty());
    }
    SECTION("truncated before") {
      mapping.truncate(0);
      CHECK(mapping.make_writable(*page).error_number() == EAGAIN);
      CHECK(hooks.mkwrites == 0);
      CHECK_FALSE(page->dirty());
    }
    SECTION("truncated meanwhile: retry, and no other page is looked up") {
      std::unique_ptr<Waiting> truncate;
      hooks.on_mkwrite = [&](AddressSpace&, Page& p) {
        truncate = std::make_unique<Waiting>([&] { mapping.truncate(0); });
        CHECK(test::eventually([&] { return p.mapping() == nullptr; }));
        return Status();
      };
      CHECK(mapping.make_writable(*page).error_number() == EAGAIN);
      CHECK(truncate->finish());
      CHECK_FALSE(page->dirty());
      CHECK(mapping.page_count() == 0);
    }
    CHECK_FALSE(page->locked());
    page.reset();
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("modify: the change is made under the page lock of a page that is dirty already") {
  test::Fixture fixture;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    fill(mapping, 1, 1);
    const PageRef page = mapping.find(1);
    bool changed = false;
    CHECK(mapping.modify(*page, [&] { changed = page->locked() && page->dirty(); }).ok());
    CHECK(changed);
    CHECK_FALSE(page->locked());
    changed = false;
    fixture.hooks.on_mkwrite = [](AddressSpace&, Page&) { return Status::error(ENOSPC); };
    CHECK(mapping.modify(*page, [&] { changed = true; }).error_number() == ENOSPC);
    CHECK_FALSE(changed);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("fill_dirty: uptodate and dirty in one step, or removed") {
  test::Fixture fixture;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    const auto grab = [&](uint64_t key) { return std::move(mapping.grab(key)).value().page; };
    const PageRef good = grab(1);
    CHECK(mapping.fill_dirty(*good, mapping.sequence(), [&] { CHECK(good->locked()); }).ok());
    CHECK(good->has(page_state::kUptodate | page_state::kDirty));
    CHECK_FALSE(good->locked());
    CHECK(mapping.find(1));
    const PageRef late = grab(2);
    const uint64_t noted = mapping.sequence();
    CHECK(mapping.invalidate_pages(7).ok());
    CHECK(mapping.fill_dirty(*late, noted, [] {}).error_number() == EAGAIN);
    CHECK_FALSE(late->uptodate());
    CHECK_FALSE(late->dirty());
    CHECK_FALSE(mapping.find(2));
    fixture.hooks.on_mkwrite = [](AddressSpace&, Page&) { return Status::error(ENOSPC); };
    const PageRef refused = grab(3);
    CHECK(mapping.fill_dirty(*refused, mapping.sequence(), [] { FAIL(); }).error_number() ==
          ENOSPC);
    CHECK_FALSE(mapping.find(3));
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("remove_clean and a range of invalidate_pages leave what they must") {
  test::Fixture fixture;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    fill(mapping, 0, 10);
    const PageRef dirty = mapping.find(4);
    CHECK(mapping.make_writable(*dirty).ok());
    CHECK_FALSE(mapping.remove_clean(*dirty));
    const PageRef kept = mapping.find(5);
    kept->set(page_state::kPrivate);
    CHECK_FALSE(mapping.remove_clean(*kept));
    kept->clear(page_state::kPrivate);
    CHECK(mapping.remove_clean(*kept));
    CHECK_FALSE(mapping.find(5));
    CHECK(mapping.invalidate_pages(6, 8).ok());
    CHECK(mapping.find(9));
    CHECK(mapping.find(3));
    CHECK_FALSE(mapping.find(8));
    CHECK(mapping.invalidate_pages(0, 4).error_number() == EBUSY);
    CHECK(mapping.find(4));
    CHECK_FALSE(mapping.find(3));
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("trap 27: an invalidate goes on past failures and reports redirtied and refused only") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  {
    AddressSpace mapping(fixture.pages, hooks);
    fill(mapping, 0, 150);
    PageRef pinned = mapping.find(3);
    CHECK(mapping.invalidate_pages().ok());  // a pin alone is not 'busy'
    CHECK(mapping.page_count() == 0);
    fill(mapping, 0, 150);
    const int how = GENERATE(0, 1, 2);
    PageRef page = mapping.find(70);
    if (how == 0) CHECK(mapping.make_writable(*page).ok());
    page->set(page_state::kPrivate);
    hooks.on_release = [&](Page& p) {
      if (how == 2) p.mark_dirty();  // redirtied while its owner is asked
      return how != 1;
    };
    page.reset();
    CHECK(mapping.invalidate_pages() == Status::error(EBUSY));
    CHECK(mapping.page_count() == 1);
    CHECK(mapping.find(70));
    hooks.on_release = nullptr;
    CHECK(mapping.truncate(0) == 1);
    CHECK(mapping.invalidate_pages().ok());
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("trap 27: an invalidate waits for write-back, not for the page to be written") {
  test::Fixture fixture;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    fill(mapping, 1, 2);
    PageRef page = mapping.find(1);
    CHECK(mapping.make_writable(*page).ok());
    fixture.pages.lock_page(*page);
    CHECK(mapping.begin_writeback(*page));
    fixture.pages.unlock_page(*page);
    Status status = Status::error(EIO);
    const bool truncated = GENERATE(false, true);
    {
      Waiting invalidate([&] { status = mapping.invalidate_pages(); });
      CHECK(Waiting::reached(*page));
      CHECK_FALSE(invalidate.done());
      if (truncated) {
        // Dirtied again and then thrown away by somebody else: not ours to report.
        CHECK(page->mark_dirty());
        PageRef other = mapping.find(1);
        Waiting truncate([&] { mapping.truncate(0); });
        CHECK(test::eventually([&] { return mapping.page_count() == 0; }));
        mapping.end_writeback(*page);
        CHECK(invalidate.finish());
        CHECK(truncate.finish());
      } else {
        mapping.end_writeback(*page);
        CHECK(invalidate.finish());
      }
    }
    CHECK(status.ok());
    CHECK(mapping.page_count() == 0);
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("invalidate_pages takes pages out of fills that will not end") {
  test::Fixture fixture;
  {
    AddressSpace mapping(fixture.pages, fixture.hooks);
    PageRef filling = grab_new(mapping, 1);
    CHECK(mapping.invalidate_pages().ok());
    CHECK_FALSE(mapping.find(1));
    CHECK(mapping.read_page(1).ok());  // a fresh fill
    mapping.fill_failed(*filling);
    CHECK(mapping.find(1));
  }
  CHECK(fixture.nothing_left());
}

TEST_CASE("hook table: an owner is not asked about a page that can't be taken anyway") {
  test::Fixture fixture;
  auto& hooks = fixture.hooks;
  {
    AddressSpace mapping(fixture.pages, hooks);
    fill(mapping, 0, 2);
    PageRef pinned = mapping.find(0);
    PageRef dirty = mapping.find(1);
    pinned->set(page_state::kPrivate);
    dirty->set(page_state::kPrivate);
    CHECK(mapping.make_writable(*dirty).ok());
    dirty.reset();
    for (int i = 0; i < 4; ++i) CHECK(fixture.pages.reclaim(32) == 0);
    CHECK(fixture.pages.drop_clean() == 0);
    CHECK(hooks.releases == 0);
    CHECK(pinned->has(page_state::kPrivate));
    CHECK(mapping.invalidate_pages() == Status::error(EBUSY));  // of the dirty one
    CHECK(hooks.releases == 1);                                 // of the pinned one
  }
  CHECK(fixture.nothing_left());
}
