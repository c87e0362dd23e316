#include "cache/mm/span_pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/support/death.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

using cache::SpanPool;

namespace {

using test::kMiB;

struct Object {
  std::byte* at;
  size_t bytes;
  uint8_t pattern;
};

bool intact(const Object& object) {
  for (size_t i = 0; i < object.bytes; ++i) {
    if (static_cast<uint8_t>(object.at[i]) != object.pattern) return false;
  }
  return true;
}

// Whole spans that lie inside [from, to) and are in memory.
size_t resident_bytes(std::byte* from, size_t bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> in_memory(bytes / page);
  REQUIRE(mincore(from, bytes, in_memory.data()) == 0);
  size_t resident = 0;
  for (const unsigned char flag : in_memory) resident += (flag & 1) != 0 ? page : 0;
  return resident;
}

}  // namespace

TEST_CASE("what an object takes: at least its size, little more, granules of 64 bytes") {
  size_t previous = 0;
  for (size_t bytes = 1; bytes <= SpanPool::kMaxObject; ++bytes) {
    const size_t rounded = SpanPool::rounded(bytes);
    REQUIRE(rounded >= bytes);
    REQUIRE(rounded % 64 == 0);
    REQUIRE(rounded >= previous);
    // Up to 1 KiB a granule is lost at most, beyond it as much as sizes that fill a span need.
    if (bytes <= 1024) {
      REQUIRE(rounded < bytes + 64);
    } else if (bytes <= SpanPool::kSpanBytes / 2) {
      REQUIRE(rounded <= bytes + bytes / 2 + 64);
    }
    previous = rounded;
  }
  CHECK(SpanPool::rounded(4096) == 4096);
}

TEST_CASE("objects are aligned, distinct and keep their bytes") {
  SpanPool pool(4 * kMiB);
  std::vector<Object> objects;
  for (size_t bytes = 1; bytes <= SpanPool::kMaxObject; bytes = bytes * 5 / 3 + 1) {
    for (uint8_t n = 0; n < 3; ++n) {
      auto* at = static_cast<std::byte*>(pool.allocate(bytes));
      REQUIRE(at != nullptr);
      REQUIRE(reinterpret_cast<uintptr_t>(at) % 64 == 0);
      const auto pattern = static_cast<uint8_t>(objects.size() + 1);
      std::memset(at, pattern, bytes);
      objects.push_back({at, bytes, pattern});
      pool.check_invariants();
    }
  }
  for (const Object& object : objects) CHECK(intact(object));
  for (const Object& object : objects) {
    pool.free(object.at, object.bytes);
    pool.check_invariants();
  }
  CHECK(pool.committed() == 0);
}

TEST_CASE("the bound is hard: what is committed and its peak never pass it") {
  const uint64_t limit = GENERATE(uint64_t{1} << 20, (uint64_t{1} << 20) + 12345);
  SpanPool pool(limit);
  std::vector<void*> pages;
  while (void* page = pool.allocate(4096)) {
    pages.push_back(page);
    REQUIRE(pool.committed() <= limit);
  }
  // Spans and their descriptors fill the bound up to less than one more.
  CHECK(pool.committed() + SpanPool::kSpanBytes + 1024 > limit);
  CHECK(pool.allocate(4096) == nullptr);
  CHECK_FALSE(pool.charge(SpanPool::kSpanBytes + 1024));
  CHECK(pool.peak() <= limit);
  pool.free(pages.back(), 4096);
  pages.back() = pool.allocate(4096);
  CHECK(pages.back() != nullptr);
  for (void* page : pages) pool.free(page, 4096);
  CHECK(pool.committed() == 0);
  CHECK(pool.peak() <= limit);
}

TEST_CASE("charges are counted byte by byte under the same bound") {
  SpanPool pool(kMiB);
  CHECK(pool.charge(kMiB));
  CHECK(pool.committed() == kMiB);
  CHECK_FALSE(pool.charge(1));
  CHECK(pool.allocate(1) == nullptr);
  pool.uncharge(1);
  CHECK(pool.charge(1));
  CHECK_FALSE(pool.charge(~uint64_t{0}));  // would overflow
  pool.uncharge(kMiB);
  CHECK(pool.committed() == 0);
  CHECK(pool.peak() == kMiB);
}

TEST_CASE("available is what can be allocated without reclaim") {
  SpanPool pool(kMiB);
  CHECK(pool.available() == kMiB);
  void* page = pool.allocate(4096);
  // The rest of the span is free, and what its descriptor takes is not.
  CHECK(pool.available() == kMiB - pool.committed() + SpanPool::kSpanBytes - 4096);
  pool.free(page, 4096);
  CHECK(pool.available() == kMiB);
}

TEST_CASE("a lowered bound stops growth, and holds as what is above it is freed") {
  SpanPool pool(kMiB);
  std::vector<void*> objects;
  for (int i = 0; i < 10; ++i) objects.push_back(pool.allocate(SpanPool::kMaxObject));
  const uint64_t before = pool.committed();
  pool.set_bound(before / 2);
  CHECK(pool.bound() == before / 2);
  CHECK(pool.allocate(SpanPool::kMaxObject) == nullptr);
  CHECK(pool.available() == 0);
  pool.check_invariants();
  // Freed memory does not come back above the bound.
  for (int i = 0; i < 5; ++i) {
    pool.free(objects.back(), SpanPool::kMaxObject);
    objects.pop_back();
    CHECK(pool.allocate(SpanPool::kMaxObject) == nullptr);
  }
  pool.free(objects.back(), SpanPool::kMaxObject);
  objects.back() = pool.allocate(SpanPool::kMaxObject);
  CHECK(objects.back() != nullptr);
  pool.set_bound(2 * kMiB);
  CHECK(pool.bound() == kMiB);  // at most the limit
  for (void* object : objects) pool.free(object, SpanPool::kMaxObject);
}

namespace {

// Spans of one object each, written to.
struct FullSpans {
  FullSpans(SpanPool& from, size_t count) : pool(from) {
    while (objects.size() < count) add();
  }
  ~FullSpans() {
    while (!objects.empty()) remove();
  }
  FullSpans(const FullSpans&) = delete;
  FullSpans& operator=(const FullSpans&) = delete;

  void add() {
    auto* at = static_cast<std::byte*>(pool.allocate(SpanPool::kMaxObject));
    REQUIRE(at != nullptr);
    std::memset(at, 1, SpanPool::kMaxObject);
    objects.push_back(at);
  }
  void remove() {
    pool.free(objects.back(), SpanPool::kMaxObject);
    objects.pop_back();
  }

  SpanPool& pool;
  std::vector<std::byte*> objects;
};

size_t resident_spans(const std::vector<std::byte*>& spans) {
  size_t bytes = 0;
  for (std::byte* span : spans) bytes += resident_bytes(span, SpanPool::kSpanBytes);
  return bytes / SpanPool::kSpanBytes;
}

size_t most_empty(size_t in_use) {
  const size_t kept = std::min<size_t>(SpanPool::kMostKept, in_use / 16);
  const bool small = in_use < SpanPool::kUsedForBlocks / 2;
  return kept + (small ? 0 : SpanPool::kMostSpare + in_use / 4);
}

}  // namespace

TEST_CASE("an empty span goes back to the system, but for a sixteenth of those in use") {
  SpanPool pool(32 * kMiB);
  FullSpans full(pool, GENERATE(120, 400));
  const bool small = full.objects.size() < SpanPool::kUsedForBlocks;
  const std::vector<std::byte*> all = full.objects;
  CHECK(resident_spans(all) == all.size());
  while (!full.objects.empty()) {
    full.remove();
    const size_t in_use = full.objects.size();
    const size_t kept = resident_spans(all) - in_use;
    const size_t empty = pool.committed() / SpanPool::kSpanBytes - in_use;
    CHECK(empty >= kept);
    if (small) {
      CHECK(empty == kept);
      CHECK(kept <= std::min<size_t>(SpanPool::kMostKept, in_use / 16));
    } else {
      CHECK(empty <= most_empty(in_use));
    }
    pool.check_invariants();
  }
  CHECK(pool.committed() == 0);
  CHECK(resident_spans(all) == 0);
}

namespace {

// A pool of which all that is in memory can be looked at: its first span begins it.
struct WholePool {
  WholePool() { begin = static_cast<std::byte*>(pool.allocate(SpanPool::kMaxObject)); }
  ~WholePool() {
    if (begin != nullptr) pool.free(begin, SpanPool::kMaxObject);
  }
  WholePool(const WholePool&) = delete;
  WholePool& operator=(const WholePool&) = delete;
  [[nodiscard]] size_t resident() const { return resident_bytes(begin, kBytes); }
  // Only spans of whole pages are asked to be in memory at once; nothing that is not committed is.
  [[nodiscard]] bool holds_what_it_says() const { return resident() <= pool.committed(); }

  static constexpr uint64_t kBytes = 64 * kMiB;
  SpanPool pool{kBytes};
  std::byte* begin = nullptr;
};

}  // namespace

TEST_CASE("a pool that has grown takes blocks, and gives them back whole or broken") {
  WholePool whole;
  SpanPool& pool = whole.pool;
  FullSpans full(pool, SpanPool::kUsedForBlocks + 3 * SpanPool::kBlockSpans);
  CHECK(whole.holds_what_it_says());
  const uint64_t used = (full.objects.size() + 1) * SpanPool::kSpanBytes;
  if (pool.committed() < used + SpanPool::kSpanBytes) {
    WARN("no huge pages on this machine: skipped");
    return;
  }
  SECTION("a block's spare spans are the next ones") {
    const uint64_t committed = pool.committed();
    const auto spare = (committed - used) / SpanPool::kSpanBytes;
    CHECK(spare < SpanPool::kBlockSpans);
    for (size_t i = 0; i < spare; ++i) full.add();
    CHECK(pool.committed() == committed);
    full.add();
    CHECK(pool.committed() > committed + SpanPool::kSpanBytes);
    CHECK(whole.holds_what_it_says());
  }
  SECTION("the second block that is empty goes back") {
    const uint64_t committed = pool.committed();
    for (size_t i = 0; i < 3 * SpanPool::kBlockSpans; ++i) full.remove();
    CHECK(pool.committed() < committed - SpanPool::kBlockBytes);
    CHECK(whole.holds_what_it_says());
    pool.check_invariants();
    for (size_t i = 0; i < 3 * SpanPool::kBlockSpans; ++i) full.add();
    CHECK(whole.holds_what_it_says());
  }
  SECTION("a lowered bound, and a charge, break them") {
    for (size_t i = 0; i < 5; ++i) full.remove();
    const uint64_t left = (full.objects.size() + 1) * SpanPool::kSpanBytes;
    if (GENERATE(true, false)) {
      pool.set_bound(left);
      pool.check_invariants();
      CHECK(pool.committed() < left + SpanPool::kSpanBytes);
    } else {
      const uint64_t room = pool.available();
      CHECK(pool.charge(room));
      pool.check_invariants();
      CHECK(pool.allocate(SpanPool::kMaxObject) == nullptr);
      CHECK(whole.resident() <= left);
      pool.uncharge(room);
    }
    CHECK(whole.holds_what_it_says());
    for (std::byte* object : full.objects) {
      CHECK(resident_bytes(object, SpanPool::kSpanBytes) == SpanPool::kSpanBytes);
      CHECK(object[SpanPool::kSpanBytes - 1] == std::byte{1});
    }
  }
}

TEST_CASE("whatever is taken and given back, no more is in memory than the pool says") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  test::Random random(seed);
  WholePool whole;
  SpanPool& pool = whole.pool;
  std::vector<Object> objects;
  for (uint64_t step = 0; step < test::scaled(300); ++step) {
    const bool grow = random.below(2) == 0;
    const uint64_t many = random.below(120);
    for (uint64_t i = 0; i < many; ++i) {
      if (grow) {
        const size_t bytes = random.below(2) == 0 ? SpanPool::kMaxObject : 1 + random.below(30'000);
        auto* at = static_cast<std::byte*>(pool.allocate(bytes));
        if (at == nullptr) break;
        std::memset(at, 7, bytes);
        objects.push_back({at, bytes, 7});
      } else if (!objects.empty()) {
        const size_t which = random.below(objects.size());
        REQUIRE(intact(objects[which]));
        pool.free(objects[which].at, objects[which].bytes);
        objects[which] = objects.back();
        objects.pop_back();
      }
    }
    if (random.one_in(20)) pool.set_bound((1 + random.below(64)) * kMiB);
    REQUIRE(whole.holds_what_it_says());
    pool.check_invariants();
  }
  for (const Object& object : objects) pool.free(object.at, object.bytes);
  CHECK(pool.committed() <= 2 * SpanPool::kSpanBytes);
}

TEST_CASE("a full pool that frees and takes again keeps its spans, of whatever size") {
  SpanPool pool(8 * kMiB);
  FullSpans full(pool, 100);
  std::byte* last = full.objects.back();
  const uint64_t committed = pool.committed();
  full.remove();
  CHECK(resident_bytes(last, SpanPool::kSpanBytes) == SpanPool::kSpanBytes);
  CHECK(pool.committed() == committed);
  void* other = pool.allocate(4096);
  CHECK(other == last);
  CHECK(pool.committed() == committed);
  pool.free(other, 4096);
}

TEST_CASE(
    "kept spans stand in nobody's way: they are available, to charges too, and go with the bound") {
  SpanPool pool(8 * kMiB);
  FullSpans full(pool, 100);
  const uint64_t available = pool.available();
  const uint64_t committed = pool.committed();
  full.remove();
  full.remove();
  CHECK(pool.committed() == committed);
  const uint64_t spans = pool.available() - available;
  CHECK(spans >= 2 * SpanPool::kSpanBytes);
  SECTION("a charge") {
    CHECK(pool.charge(pool.available()));
    CHECK(pool.committed() <= pool.bound());
    CHECK_FALSE(pool.charge(SpanPool::kSpanBytes));
    pool.check_invariants();
    pool.uncharge(available + spans);
  }
  SECTION("the bound") {
    pool.set_bound(committed - 1);
    CHECK(pool.committed() == committed - spans);
    pool.set_bound(committed - spans - 1);
    full.remove();
    CHECK(pool.committed() < committed - spans);
  }
  SECTION("a bound far below: they go together, and are nobody's") {
    pool.set_bound(pool.committed() / 2);
    const uint64_t above = pool.committed();
    CHECK(above == committed - spans);
    for (int i = 0; i < 15; ++i) full.remove();
    CHECK(pool.committed() == above);
    CHECK(pool.available() == 0);
    CHECK(pool.allocate(SpanPool::kMaxObject) == nullptr);
    full.remove();
    CHECK(pool.committed() == above - 8 * spans);
    while (pool.committed() > pool.bound()) full.remove();
    CHECK(full.objects.size() == 50);
  }
}

TEST_CASE("random allocations agree with a model") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  test::Random random(seed);
  SpanPool pool(2 * kMiB);
  std::vector<Object> objects;
  uint64_t charged = 0;
  for (uint64_t step = 0; step < test::scaled(20000); ++step) {
    const uint64_t wish = random.below(100);
    if (wish < 52) {
      const size_t bytes =
          1 + (random.one_in(8) ? random.below(SpanPool::kMaxObject) : random.below(6000));
      auto* at = static_cast<std::byte*>(pool.allocate(bytes));
      if (at == nullptr) continue;
      const auto pattern = static_cast<uint8_t>(1 + random.below(255));
      std::memset(at, pattern, bytes);
      objects.push_back({at, bytes, pattern});
    } else if (wish < 95) {
      if (objects.empty()) continue;
      const size_t which = random.below(objects.size());
      REQUIRE(intact(objects[which]));
      pool.free(objects[which].at, objects[which].bytes);
      objects[which] = objects.back();
      objects.pop_back();
    } else if (wish < 98) {
      const uint64_t bytes = random.below(5000);
      if (pool.charge(bytes)) charged += bytes;
    } else {
      pool.uncharge(charged);
      charged = 0;
    }
    if (step % 16 == 0) pool.check_invariants();
    uint64_t used = charged;
    for (const Object& object : objects) used += object.bytes;
    REQUIRE(pool.committed() >= used);
    REQUIRE(pool.committed() <= pool.limit());
  }
  for (const Object& object : objects) pool.free(object.at, object.bytes);
  CHECK(pool.committed() == charged);
  pool.uncharge(charged);
}

TEST_CASE("threads share the pool and stay inside its bound") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  SpanPool pool(2 * kMiB);
  std::atomic<bool> broken{false};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      test::Random random(seed + t);
      std::vector<Object> mine;
      for (uint64_t i = 0; i < test::scaled(20000); ++i) {
        if (mine.size() < 40 && random.below(3) != 0) {
          const size_t bytes = 1 + random.below(8000);
          auto* at = static_cast<std::byte*>(pool.allocate(bytes));
          if (at == nullptr) continue;
          std::memset(at, static_cast<int>(t + 1), bytes);
          mine.push_back({at, bytes, static_cast<uint8_t>(t + 1)});
        } else if (!mine.empty()) {
          if (!intact(mine.back())) broken = true;
          pool.free(mine.back().at, mine.back().bytes);
          mine.pop_back();
        }
        if (pool.committed() > pool.limit()) broken = true;
      }
      for (const Object& object : mine) pool.free(object.at, object.bytes);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(broken);
  CHECK(pool.committed() == 0);
  CHECK(pool.peak() <= pool.limit());
  pool.check_invariants();
}

TEST_CASE("misuse aborts: a second free, a wrong size, a leak") {
  CHECK(test::aborts([] {
    SpanPool pool(kMiB);
    void* keep = pool.allocate(100);
    void* object = pool.allocate(100);
    pool.free(object, 100);
    pool.free(object, 100);
    (void)keep;
  }));
  CHECK(test::aborts([] {
    SpanPool pool(kMiB);
    pool.free(pool.allocate(100), 1000);
  }));
  CHECK(test::aborts([] {
    SpanPool pool(kMiB);
    (void)pool.allocate(100);
  }));
}
