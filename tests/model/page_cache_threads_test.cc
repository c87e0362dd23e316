// Random operations of several threads on the page cache. Nobody knows the state then; what must
// hold in every state is checked instead:
//   - what is found is the key's own, and stays so as long as it is pinned;
//   - what an invalidation removed is not found by a lookup that began after it ended, and no
//     answer from before the change is installed;
//   - a dirty page is found until it has been written back;
//   - free_page runs exactly once, and never while somebody holds the page;
//   - a mapping that ends while the others reclaim its pages is not touched again;
//   - at the end every counter is zero.
// COOKIEFS_TEST_SEED repeats the operations, though not their interleaving.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "cache/mm/address_space.h"
#include "tests/support/counting_hooks.h"
#include "tests/support/random.h"

using cache::AddressSpace;
using cache::Page;
using cache::PageRef;
using test::Content;

namespace {

constexpr size_t kThreads = 4;
constexpr size_t kSharedMappings = 2;
constexpr uint64_t kKeys = 500;

// A remote object: its version moves before each invalidation.
struct Object {
  explicit Object(test::Fixture& fixture) : mapping(fixture.pages, fixture.hooks) {}
  AddressSpace mapping;
  std::atomic<uint64_t> version{1};
  // Every lookup that begins now must see this version or a later one.
  std::atomic<uint64_t> floor{1};
};

struct Shared {
  explicit Shared(test::Fixture& of) : fixture(of), objects{Object(of), Object(of)}, written(of) {}
  test::Fixture& fixture;
  std::array<Object, kSharedMappings> objects;
  Object written;  // dirtied and written back, never truncated; each thread has keys of its own
  std::atomic<uint64_t> foreign{0}, stale{0}, lost{0}, refused{0}, reads{0}, ended{0};
};

struct Held {
  PageRef page;
  Object* object;
  uint64_t key;
};

class Worker {
 public:
  Worker(Shared& shared, uint64_t seed, uint64_t number)
      : s_(shared), random_(seed + number), number_(number) {}

  void run(uint64_t steps) {
    for (uint64_t i = 0; i < steps; ++i) step();
    held_.clear();
    for (uint64_t& state : dirty_) {
      if (state != 0) write_back(static_cast<uint64_t>(&state - dirty_.data()));
    }
  }

 private:
  void step() {
    Object& object = s_.objects[random_.below(kSharedMappings)];
    const uint64_t key = random_.below(kKeys);
    const uint64_t wish = random_.below(1000);
    if (wish < 700) return read(object, key);
    if (wish < 850) return hold(object, key);
    if (wish < 930) return use_dirty(random_.below(dirty_.size()));
    if (wish < 980) return remove(object, key);
    if (wish < 986) return change(object, key);
    if (wish < 988) return live_and_end();
    if (wish < 996) {
      s_.fixture.pages.reclaim(32);
    } else if (wish < 998) {
      s_.fixture.pages.drop_clean();
    } else {
      s_.fixture.pages.set_pressure_bound(s_.fixture.pages.limit_bytes() * (1 + wish % 2) / 2);
    }
  }

  void look(Object& object, uint64_t key, Page& page, uint64_t floor) {
    ++s_.reads;
    if (!Content::is_own(page, object.mapping.id(), key)) ++s_.foreign;
    if (Content::of(page).version < floor) ++s_.stale;
  }
  void read(Object& object, uint64_t key) {
    const uint64_t floor = object.floor;
    auto grabbed = object.mapping.grab(key);
    if (!grabbed.ok()) return;
    PageRef page = std::move(grabbed.value().page);
    if (grabbed.value().created) {
      fill(object, *page);
    } else {
      s_.fixture.pages.wait_unlocked(*page);
    }
    if (page->uptodate()) look(object, key, *page, floor);
  }
  void fill(Object& object, Page& page) {
    const uint64_t noted = object.mapping.sequence();
    const uint64_t version = object.version;
    if (random_.one_in(30) || !s_.fixture.hooks.make_content(object.mapping.id(), page, version)) {
      return object.mapping.fill_failed(page);
    }
    if (random_.one_in(4)) std::this_thread::yield();
    (void)object.mapping.fill_done(page, noted);
  }
  void hold(Object& object, uint64_t key) {
    const uint64_t floor = object.floor;
    if (PageRef page = object.mapping.find(key); page && page->uptodate()) {
      look(object, key, *page, floor);
      page->mark_accessed();
      held_.push_back({std::move(page), &object, key});
    }
    for (Held& held : held_) look(*held.object, held.key, *held.page, 0);
    if (held_.size() > 6) held_.erase(held_.begin());
  }
  void remove(Object& object, uint64_t key) {
    if (PageRef page = object.mapping.find(key)) object.mapping.remove(*page);
  }
  void change(Object& object, uint64_t key) {
    const uint64_t now = ++object.version;
    if (key % 3 == 0) {
      object.mapping.invalidate_all();
    } else if (key % 3 == 1) {
      object.mapping.truncate(0);
    } else if (!object.mapping.invalidate_pages().ok()) {
      ++s_.refused;  // nothing is dirty here
    }
    uint64_t floor = object.floor;
    while (floor < now && !object.floor.compare_exchange_weak(floor, now)) {
    }
  }

  // A mapping of this thread's own, whose pages the others reclaim as it ends.
  void live_and_end() {
    Object object(s_.fixture);
    const uint64_t pages = 1 + random_.below(60);
    for (uint64_t key = 0; key < pages; ++key) read(object, key);
    if (random_.one_in(2)) object.mapping.invalidate_all();
    for (uint64_t key = 0; key < pages; key += 7) read(object, key);
    ++s_.ended;
  }

  // Each of this thread's keys of the written object goes clean -> dirty -> written back.
  uint64_t own_key(uint64_t i) const { return number_ << 32 | i; }
  void use_dirty(uint64_t i) {
    if (dirty_[i] != 0) {
      if (random_.one_in(2)) return write_back(i);
      if (!s_.written.mapping.find(own_key(i))) ++s_.lost;
      if (random_.one_in(20)) (void)s_.written.mapping.invalidate_pages();
      return;
    }
    auto grabbed = s_.written.mapping.grab(own_key(i));
    if (!grabbed.ok()) return;
    Page& page = *grabbed.value().page;
    if (grabbed.value().created) fill(s_.written, page);
    if (!page.uptodate() || !s_.written.mapping.make_writable(page).ok()) return;
    dirty_[i] = Content::of(page).version = ++versions_;
  }
  void write_back(uint64_t i) {
    PageRef page = s_.written.mapping.find(own_key(i));
    if (!page) {
      ++s_.lost;
      return;
    }
    s_.fixture.pages.lock_page(*page);
    if (!s_.written.mapping.begin_writeback(*page)) ++s_.lost;
    s_.fixture.pages.unlock_page(*page);
    if (Content::of(*page).version != dirty_[i]) ++s_.lost;
    s_.written.mapping.end_writeback(*page);
    dirty_[i] = 0;
  }

  Shared& s_;
  test::Random random_;
  const uint64_t number_;
  std::vector<Held> held_;
  std::array<uint64_t, 20> dirty_{};  // version written to the page, 0: clean
  uint64_t versions_ = 0;
};

}  // namespace

TEST_CASE("random operations of several threads keep every promise") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  test::Fixture fixture(uint64_t{2} << 20, uint64_t{1} << 20,
                        cache::PageCacheOptions::Background::kThread);
  {
    Shared shared(fixture);
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] { Worker(shared, seed, t).run(test::scaled(80000)); });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(shared.foreign == 0);
    CHECK(shared.stale == 0);
    CHECK(shared.lost == 0);
    CHECK(shared.refused == 0);
    CHECK(shared.reads > 1000);
    CHECK(shared.ended > 10);
    CHECK(fixture.pages.stats().reclaim_pages.get() > 1000);
    CHECK(fixture.pages.peak_bytes() <= fixture.pages.limit_bytes());
    for (const Object& object : shared.objects) object.mapping.check_invariants();
    fixture.pages.check_invariants();
  }
  CHECK(fixture.nothing_left());
}
