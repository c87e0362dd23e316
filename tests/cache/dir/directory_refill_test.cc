// Directory: what was evicted is asked for again side by side, from keys that anchors know, and
// nothing is asked for twice (contracts.md, 2: anchors; design.md, the way of a listing, 4).
#include <atomic>

#include "tests/support/dir_rig.h"

namespace test {
namespace {

using cache::DirAnswer;

struct Asked {
  std::atomic<uint64_t> entries{0};
  std::atomic<uint64_t> requests{0};
};

// Counts what the source gives from now on.
void count_answers(DirRig& rig, Asked& asked) {
  rig.source->on_answer([&asked](uint64_t, const DirRequest&, DirAnswer& answer) {
    asked.entries += answer.entries.size();
    ++asked.requests;
  });
}

void check_side_by_side(CookieStyle style, uint32_t announced) {
  constexpr size_t kSize = 40000;
  FakeSource::Options options = with_style(style, 1000);
  options.announced = announced;
  DirRig rig(options);
  rig.source->fill(kSize);
  rig.revalidate();
  const auto names = rig.source->names();
  Lister lister(*rig.dir);
  REQUIRE(lister.read_all(kNoLimit).ok());
  check_exact(lister.got.names, names);
  REQUIRE(rig.source->wait_idle());
  rig.cache.drop_clean();

  Asked asked;
  count_answers(rig, asked);
  const uint64_t before = rig.source->request_count();
  std::atomic<bool> side_by_side{false};
  const FakeSource* source = rig.source.get();
  rig.source->on_request([&](uint64_t number) {
    // Early answers come at once; this one waits for company.
    if (number != before + 8) return;
    side_by_side = eventually([&] { return source->request_count() - source->answered() >= 6; });
  });
  lister.rewind();
  REQUIRE(lister.read_all(kNoLimit).ok());
  check_exact(lister.got.names, names);
  CHECK(side_by_side);
  CHECK(rig.source->wait_idle());
  CHECK(asked.entries <= kSize + 202);
  CHECK(rig.cache.stats().fills_ahead.get() > 5);
  rig.source->end_hooks();
}

TEST_CASE("an evicted listing is asked for side by side, each entry once") {
  // Remotes that give less than they say have to be found out: NFS servers, for one.
  for (const uint32_t announced : {1000, 50'000}) {
    for (const CookieStyle style : kAllStyles) {
      INFO(name_of(style) << ", announced " << announced);
      check_side_by_side(style, announced);
    }
  }
}

TEST_CASE("a listing larger than the cache is not asked for in small pieces, side by side") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    constexpr size_t kSize = 100'000;
    constexpr uint32_t kBatch = 400;  // one such answer at a time has room
    cache::PageCacheOptions memory = DirRig::roomy();
    memory.limit_bytes = uint64_t{2} << 20;
    DirRig rig(with_style(style, kBatch), memory);
    rig.source->fill(kSize);
    rig.revalidate();
    const auto names = rig.source->names();
    Lister lister(*rig.dir);
    for (int round = 0; round < 3; ++round) {
      INFO("listing " << round);
      Asked asked;
      count_answers(rig, asked);
      lister.rewind();
      REQUIRE(lister.read_all(1000).ok());
      check_exact(lister.got.names, names);
      CHECK(rig.source->wait_idle());
      CHECK(asked.requests <= kSize / kBatch + 10);
      rig.source->end_hooks();
    }
  }
}

TEST_CASE("only what is missing is asked for") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    constexpr size_t kSize = 20200;
    DirRig rig(with_style(style, 2020));
    rig.source->fill(kSize);
    rig.revalidate();
    const auto names = rig.source->names();
    Lister lister(*rig.dir);
    REQUIRE(lister.read_all(kNoLimit).ok());
    REQUIRE(rig.source->wait_idle());
    // About every tenth array goes.
    const uint64_t resident = rig.cache.stats().entries_resident.get();
    rig.cache.reclaim(10);
    const uint64_t missing = resident - rig.cache.stats().entries_resident.get();
    REQUIRE(missing > 0);
    Asked asked;
    count_answers(rig, asked);
    lister.rewind();
    REQUIRE(lister.read_all(kNoLimit).ok());
    check_exact(lister.got.names, names);
    CHECK(rig.source->wait_idle());
    CHECK(asked.entries <= missing + 202);
    CHECK(rig.source->cancels() == 0);
    rig.source->end_hooks();
  }
}

TEST_CASE("a reader that stops soon has not had the whole listing fetched") {
  constexpr size_t kSize = 100000;
  DirRig rig(with_style(CookieStyle::kHashed, 1000));
  rig.source->fill(kSize);
  rig.revalidate();
  Lister lister(*rig.dir);
  REQUIRE(lister.read_all(kNoLimit).ok());
  REQUIRE(rig.source->wait_idle());
  rig.cache.drop_clean();
  Asked asked;
  count_answers(rig, asked);
  lister.rewind();
  while (lister.got.names.size() < 1000) REQUIRE(lister.read(100).ok());
  CHECK(rig.source->wait_idle());
  CHECK(asked.entries < kSize / 4);
  rig.source->end_hooks();
}

}  // namespace
}  // namespace test
