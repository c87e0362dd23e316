// Directory: memory and the end: budgets, reclaim under listers, teardown in the middle of it all
// (contracts.md, 1, 2 and 6; traps 1, 5, 6).
#include <atomic>
#include <cstdio>

#include "tests/support/dir_rig.h"
#include "tests/support/random.h"

namespace test {
namespace {

using cache::PageCacheOptions;

PageCacheOptions tiny(uint64_t bytes) {
  return {.limit_bytes = bytes,
          .min_bytes = bytes / 2,
          .background = PageCacheOptions::Background::kThread};
}

constexpr size_t kWeighed = 200'000;

double bytes_per_entry(bool attrs) {
  DirRig rig(with_style(CookieStyle::kOrdered, 10000));
  rig.source->fill(kWeighed, 24);
  rig.revalidate();
  ReadOptions options;
  options.want_attrs = attrs;
  Lister lister(*rig.dir);
  size_t entries = 0;
  for (;;) {
    lister.got = CollectSink(0);
    REQUIRE(lister.read(10000, options).ok());
    if (lister.last == 0) break;
    entries += lister.last;
  }
  REQUIRE(entries == kWeighed);
  REQUIRE(rig.cache.stats().entries_resident.get() == static_cast<int64_t>(kWeighed));
  const uint64_t bytes = rig.cache.bytes() - rig.cache.table_bytes();
  return static_cast<double>(bytes) / static_cast<double>(kWeighed);
}

TEST_CASE("an entry with a 24-byte name takes at most 52 bytes") {
  const double plain = bytes_per_entry(false);
  const double with_attrs = bytes_per_entry(true);
  std::printf("bytes per entry: %.1f, with attributes %.1f\n", plain, with_attrs);
  CHECK(plain <= 52);
  CHECK(with_attrs <= 52 + sizeof(cache::PackedAttr) * 1.25);
}

TEST_CASE("many directories and listers in a budget of one or two MiB") {
  for (const uint64_t megabytes : {1, 2}) {
    for (const CookieStyle style : kAllStyles) {
      INFO(name_of(style) << ", " << megabytes << " MiB");
      cache::PageCache cache(tiny(megabytes << 20));
      constexpr size_t kDirectories = 8;
      std::vector<std::unique_ptr<FakeSource>> sources;
      std::vector<std::unique_ptr<Directory>> directories;
      for (size_t i = 0; i < kDirectories; ++i) {
        sources.push_back(std::make_unique<FakeSource>(with_style(style, 1000)));
        sources.back()->fill(scaled(8000), 30);
        directories.push_back(std::make_unique<Directory>(cache, *sources.back()));
        directories.back()->revalidate(sources.back()->change());
      }
      std::vector<std::thread> threads;
      std::vector<std::vector<std::string>> got(2 * kDirectories);
      std::vector<int> errors(got.size(), -1);
      for (size_t t = 0; t < got.size(); ++t) {
        threads.emplace_back([&, t] {
          Directory& dir = *directories[t % kDirectories];
          dir.opened();
          ReadOptions options;
          options.want_attrs = t % 3 == 0;
          {
            Lister lister(dir);
            errors[t] = lister.read_all(40 + 50 * t, options).error_number();
            got[t] = lister.got.names;
          }
          dir.closed();
        });
      }
      for (std::thread& thread : threads) thread.join();
      for (size_t t = 0; t < got.size(); ++t) {
        CHECK(errors[t] == 0);
        check_exact(got[t], sources[t % kDirectories]->names());
      }
      CHECK(cache.peak_bytes() <= cache.limit_bytes());
      directories.clear();
      CHECK(cache.stats().pages_resident.get() == 0);
      CHECK(cache.stats().anchors.get() == 0);
      CHECK(cache.stats().names_bytes.get() == 0);
    }
  }
}

TEST_CASE("a directory far larger than the cache: exact, requests O(n)") {
  for (const CookieStyle style :
       {CookieStyle::kOrdered, CookieStyle::kHashed, CookieStyle::kName}) {
    INFO(name_of(style));
    const size_t size = scaled(200'000);
    DirRig rig(with_style(style, 5000), tiny(uint64_t{2} << 20));
    rig.source->fill(size, 24);
    rig.revalidate();
    for (int round = 1; round <= 2; ++round) {
      Lister lister(*rig.dir);
      REQUIRE(lister.read_all(1000).ok());
      check_exact(lister.got.names, rig.source->names());
      CHECK(rig.source->request_count() <= static_cast<uint64_t>(round) * (size / 100 + 50));
    }
    CHECK(rig.cache.peak_bytes() <= rig.cache.limit_bytes());
  }
}

// Every invalidation leaves other keys behind, and positions of mapped cookies need theirs: the
// table that knows them may not eat the cache.
TEST_CASE("anchors stay within the budget, however often a directory changes") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 5000), tiny(uint64_t{1} << 20));
    rig.source->fill(3000);
    rig.revalidate();
    const auto names = rig.source->names();
    int64_t most = 0;
    for (size_t i = 0; i < 30; ++i) {
      rig.source->remove(names[i]);
      rig.revalidate();
      Lister lister(*rig.dir);
      REQUIRE(lister.read_all(kNoLimit).ok());
      REQUIRE(lister.got.names.size() == 2999 - i);
      most = std::max(most, rig.cache.stats().anchors.get());
    }
    // Those of a few listings, of which each has some fifteen.
    CHECK(most <= 6 * (3000 / 202 + 2));
    check_exact(rig.list(), rig.source->names());
    CHECK(rig.cache.stats().allocation_failures.get() == 0);
  }
}

TEST_CASE("listers, evictions, pressure and invalidations side by side") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 700), tiny(uint64_t{4} << 20));
    rig.source->fill(scaled(20'000), 20);
    rig.revalidate();
    const auto names = rig.source->names();
    std::atomic<int> done{0};
    std::vector<std::vector<std::string>> got(4);
    std::vector<int> errors(got.size(), -1);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < got.size(); ++t) {
      threads.emplace_back([&, t] {
        Lister lister(*rig.dir);
        ReadOptions options;
        options.want_attrs = t == 1;
        errors[t] = lister.read_all(33 + 70 * t, options).error_number();
        got[t] = lister.got.names;
        ++done;
      });
    }
    for (int i = 0; done < 4; ++i) {
      if (i % 7 == 0) rig.cache.drop_clean();
      if (i % 11 == 0) rig.cache.set_pressure_bound(uint64_t{1} << 20);
      if (i % 11 == 5) rig.cache.set_pressure_bound(uint64_t{4} << 20);
      if (i % 97 == 0) rig.dir->invalidate();
      static_cast<void>(rig.dir->find_attr(names[static_cast<size_t>(i) % names.size()]));
      rig.cache.reclaim(4);
      std::this_thread::yield();
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t t = 0; t < got.size(); ++t) {
      CHECK(errors[t] == 0);
      check_listing(got[t], names);
    }
    rig.cache.check_invariants();
  }
}

// --- the end ----------------------------------------------------------------------------------

void check_nothing_left(cache::PageCache& cache) {
  const cache::Stats& stats = cache.stats();
  CHECK(stats.pages_resident.get() == 0);
  CHECK(stats.pages_private.get() == 0);
  CHECK(stats.names_bytes.get() == 0);
  CHECK(stats.attrs_bytes.get() == 0);
  CHECK(stats.anchors.get() == 0);
  CHECK(stats.entries_resident.get() == 0);
  CHECK(stats.name_index_bytes.get() == 0);
  CHECK(cache.pinned_pages() == 0);
  cache.check_invariants();
}

TEST_CASE(
    "a Directory ends at once while its remote says nothing; counters zero at once (trap 6)") {
  for (const CookieStyle style : kAllStyles) {
    for (const bool deaf : {false, true}) {
      for (const uint64_t answers : {0, 1, 2}) {
        INFO(name_of(style) << ", deaf " << deaf << ", answers " << answers);
        cache::PageCache cache(DirRig::roomy());
        FakeSource::Options options = with_style(style, 250);
        options.manual = true;
        options.deaf = deaf;
        FakeSource source(options);
        source.fill(2000);
        {
          Directory dir(cache, source);
          dir.revalidate(source.change());
          dir.opened();
          Lister lister(dir);
          source.allow(answers);
          const bool answered = answers > (style == CookieStyle::kHuge ? 1 : 0);
          ReadOptions patience;  // brief where nothing will come
          patience.deadline = std::chrono::steady_clock::now() +
                              (answered ? kDeadline : std::chrono::milliseconds(10));
          CHECK(lister.read(1, patience).ok() == answered);
          // A reader that gave up first has cancelled its request.
          if (answered || (deaf && answers > 0)) CHECK(source.wait_answered(1));
        }
        // Whatever the source still holds, it holds no page.
        check_nothing_left(cache);
        source.allow_all();
        CHECK(source.wait_idle());  // late completions find nothing to do
        check_nothing_left(cache);
      }
    }
  }
}

TEST_CASE("10,000 directories destroyed in the middle of fills and reclaim (traps 1, 5, 6)") {
  cache::PageCache cache(tiny(uint64_t{1} << 20));
  std::atomic<bool> stop{false};
  // Pauses, or it would hardly let go of the lists' lock: who waits for it sleeps.
  std::thread reclaimer([&] {
    while (!stop) {
      cache.reclaim(8);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  constexpr size_t kSources = 7;
  std::vector<std::unique_ptr<FakeSource>> sources;
  for (size_t i = 0; i < kSources; ++i) {
    FakeSource::Options options = with_style(kAllStyles[i], 300);
    options.deaf = i % 2 == 1;
    sources.push_back(std::make_unique<FakeSource>(options));
    sources.back()->fill(1000, 20);
  }
  Random random(seed());
  const uint64_t count = kSanitized ? 1000 : 10'000;
  for (uint64_t i = 0; i < count; ++i) {
    FakeSource& source = *sources[i % kSources];
    Directory dir(cache, source);
    dir.revalidate(source.change());
    dir.opened();
    Lister lister(dir);
    ReadOptions options;
    options.want_attrs = i % 2 == 0;
    const uint64_t reads = random.below(4);
    for (uint64_t k = 0; k < reads; ++k) {
      const Status status = lister.read(1 + random.below(400), options);
      INFO(name_of(kAllStyles[i % kSources]) << ", errno " << status.error_number());
      CHECK(status.ok());
    }
    if (i % 5 == 0) dir.invalidate();
    if (i % 3 == 0) dir.closed();
  }
  stop = true;
  reclaimer.join();
  check_nothing_left(cache);
  for (const auto& source : sources) CHECK(source->wait_idle());
  check_nothing_left(cache);
  // free_page ran once for every page, whoever removed it.
  CHECK(cache.stats().free_page_calls.get() > 0);
}

TEST_CASE("cursors with uncached arrays may end before or after the remote answers") {
  cache::PageCache cache(DirRig::roomy());
  FakeSource source(with_style(CookieStyle::kHashed, 500));
  source.fill(3000);
  const auto entries = source.entries();
  for (uint64_t i = 0; i < scaled(500); ++i) {
    Directory dir(cache, source);
    Lister lister(dir);
    lister.seek(entries[i].cookie);
    REQUIRE(lister.read(3).ok());
    CHECK(cache.stats().pages_private.get() > 0);
  }
  check_nothing_left(cache);
}

TEST_CASE("a budget in which everything is pinned: a reader waits, and fails within its deadline") {
  cache::PageCache cache(tiny(uint64_t{1} << 20));
  FakeSource source(with_style(CookieStyle::kHashed, 1000));
  source.fill(3000, 200);
  const auto entries = source.entries();
  Directory dir(cache, source);
  // Uncached arrays are their readers' own: together they are more than the cache.
  std::vector<std::unique_ptr<Lister>> hoarders;
  int failed = 0;
  for (size_t i = 0; i < 60; ++i) {
    hoarders.push_back(std::make_unique<Lister>(dir));
    hoarders.back()->seek(entries[i * 40].cookie);
    ReadOptions brief;
    brief.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
    const Status status = hoarders.back()->read(1, brief);
    failed += status.ok() ? 0 : 1;
    CHECK((status.ok() || hoarders.back()->last == 0));
  }
  CHECK(cache.peak_bytes() <= cache.limit_bytes());
  INFO(failed << " failed");
  hoarders.clear();
  Lister lister(dir);
  REQUIRE(lister.read_all(100).ok());
  check_exact(lister.got.names, source.names());
}

}  // namespace
}  // namespace test
