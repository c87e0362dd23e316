// cache_bench: what the steps of a warm and of a cold listing cost, one by one.
//
//   page_find, page_find_hint     a page of a mapping of 4096, through the index or the handle
//   array_append_seal             entries put into a page, names packed; and freed again
//   array_find_cookie             the entry of a cookie within one array
//   reply_encode                  entries from arrays into a READDIR reply
//   reclaim_step                  32 pages made, then taken by one step of reclaim
//
// Figures are per item (entry or page) in the column items_per_second.
#include <benchmark/benchmark.h>
#include <dirent.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "cache/base/check.h"
#include "cache/dir/array_builder.h"
#include "cache/dir/array_hooks.h"
#include "cache/dir/readdir_array.h"
#include "cache/mm/address_space.h"
#include "cache/mm/page_cache.h"
#include "fusefs/dirent_encoder.h"

namespace {

using cache::AddressSpace;
using cache::ArrayBuilder;
using cache::ArrayHooks;
using cache::ArrayView;
using cache::kEntriesPerArray;
using cache::PageCache;
using cache::PageRef;

constexpr uint64_t kPages = 4096;

struct Fixture {
  Fixture()
      : pages({.limit_bytes = uint64_t{128} << 20,
               .background = cache::PageCacheOptions::Background::kNone}),
        hooks(pages.hook_table<ArrayHooks>()),
        mapping(pages, hooks) {}

  PageCache pages;
  ArrayHooks& hooks;
  AddressSpace mapping;
};

// As a listing names them; far apart enough for no two to share a cache line in the index.
uint64_t key_of(uint64_t page) { return page * kEntriesPerArray; }

// Every other key, in an order that no prefetcher guesses.
uint64_t scattered(uint64_t i) { return (i * 2654435761U) % kPages; }

std::vector<std::string> make_names() {
  std::vector<std::string> names;
  for (uint32_t i = 0; i < kEntriesPerArray; ++i) {
    char name[32];
    std::snprintf(name, sizeof name, "file-%019u", i);
    names.emplace_back(name);
  }
  return names;
}

// Fills the page that `builder` was reset to. The cookies begin after `key`.
void fill(ArrayBuilder& builder, PageCache& pages, const std::vector<std::string>& names,
          uint64_t key) {
  for (uint32_t i = 0; i < kEntriesPerArray; ++i) {
    builder.append(key + i + 1, key + i + 100, DT_REG, names[i], nullptr);
  }
  CACHE_CHECK(builder.seal(pages, key + kEntriesPerArray, cache::kArrayFull, {}));
}

void install(Fixture& fixture, const std::vector<std::string>& names, uint64_t key) {
  const uint64_t sequence = fixture.mapping.sequence();
  auto grabbed = fixture.mapping.grab(key);
  CACHE_CHECK(grabbed.ok() && grabbed.value().created);
  ArrayBuilder builder;
  builder.reset(grabbed.value().page->content(), {.change = 1});
  fill(builder, fixture.pages, names, key);
  CACHE_CHECK(fixture.mapping.fill_done(*grabbed.value().page, sequence));
}

void install_all(Fixture& fixture, uint64_t count) {
  const std::vector<std::string> names = make_names();
  for (uint64_t i = 0; i < count; ++i) install(fixture, names, key_of(i));
}

void page_find(benchmark::State& state) {
  static Fixture* fixture = nullptr;
  if (state.thread_index() == 0) {
    fixture = new Fixture;
    install_all(*fixture, kPages);
  }
  uint64_t i = static_cast<uint64_t>(state.thread_index()) * 1000;
  for (auto _ : state) {
    PageRef page = fixture->mapping.find(key_of(scattered(i++)));
    benchmark::DoNotOptimize(page.get());
  }
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() == 0) delete fixture;
}
BENCHMARK(page_find)->Threads(1)->Threads(2)->UseRealTime();

void page_find_hint(benchmark::State& state) {
  Fixture fixture;
  install_all(fixture, kPages);
  std::vector<cache::Page*> hints;
  for (uint64_t i = 0; i < kPages; ++i) hints.push_back(fixture.mapping.find(key_of(i)).get());
  uint64_t i = 0;
  for (auto _ : state) {
    const uint64_t at = scattered(i++);
    PageRef page = fixture.mapping.find_hint(hints[at], key_of(at));
    benchmark::DoNotOptimize(page.get());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(page_find_hint);

void array_append_seal(benchmark::State& state) {
  Fixture fixture;
  const std::vector<std::string> names = make_names();
  ArrayBuilder builder;
  for (auto _ : state) {
    auto page = fixture.mapping.new_private_page();
    CACHE_CHECK(page.ok());
    builder.reset(page.value()->content(), {.change = 1});
    fill(builder, fixture.pages, names, 0);
  }
  state.SetItemsProcessed(state.iterations() * kEntriesPerArray);
}
BENCHMARK(array_append_seal);

void array_find_cookie(benchmark::State& state) {
  Fixture fixture;
  install_all(fixture, 1);
  const PageRef page = fixture.mapping.find(0);
  const ArrayView view = ArrayView::of(page->content());
  uint64_t i = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(view.find_cookie(1 + (i++ * 97) % kEntriesPerArray));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(array_find_cookie);

void reply_encode(benchmark::State& state) {
  Fixture fixture;
  install_all(fixture, kPages);
  std::vector<PageRef> pages;
  for (uint64_t i = 0; i < kPages; ++i) pages.push_back(fixture.mapping.find(key_of(i)));
  std::vector<std::byte> reply(static_cast<size_t>(state.range(0)));
  uint64_t entries = 0;
  uint64_t next = 0;
  for (auto _ : state) {
    fusefs::DirentEncoder encoder(reply.data(), reply.size(), fusefs::DirentFormat::kPlain);
    for (uint32_t taken = kEntriesPerArray; taken == kEntriesPerArray; ++next) {
      taken = encoder.append(ArrayView::of(pages[next % kPages]->content()), 0, kEntriesPerArray);
      entries += taken;
    }
    benchmark::DoNotOptimize(encoder.size());
  }
  state.SetItemsProcessed(static_cast<int64_t>(entries));
}
BENCHMARK(reply_encode)->Arg(32768)->Arg(1 << 20);

void reclaim_step(benchmark::State& state) {
  constexpr uint32_t kStep = 32;
  Fixture fixture;
  const std::vector<std::string> names = make_names();
  uint64_t key = 0;
  int64_t freed = 0;
  for (auto _ : state) {
    state.PauseTiming();
    for (uint32_t i = 0; i < kStep; ++i) install(fixture, names, key_of(key++));
    state.ResumeTiming();
    freed += fixture.pages.reclaim(kStep);
  }
  state.SetItemsProcessed(freed);
}
BENCHMARK(reclaim_step);

}  // namespace

BENCHMARK_MAIN();
