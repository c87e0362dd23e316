// The nth thing fails, for every n until all passes: a remote answer, or room in the cache. Every
// operation ends in an errno or in what was asked for, nothing is left behind (DirRig counts), and
// the next try works. The heap is another matter: its end is the daemon's (cache/base/check.h).
#include <atomic>
#include <new>
#include <vector>

#include "cache/base/check.h"
#include "tests/support/death.h"
#include "tests/support/dir_rig.h"

namespace test {
namespace {

using cache::DirAnswer;

cache::PageCacheOptions small() {
  return {.limit_bytes = uint64_t{2} << 20,
          .min_bytes = uint64_t{1} << 20,
          .background = cache::PageCacheOptions::Background::kNone};
}

// Lists with the nth answer failing; true when that answer was never reached.
bool survives_answer(CookieStyle style, const cache::PageCacheOptions& memory, int error,
                     uint64_t nth) {
  INFO(name_of(style) << ", errno " << error << " in answer " << nth);
  DirRig rig(with_style(style, 250), memory);
  rig.source->fill(1500);
  rig.revalidate();
  const HookGuard guard(*rig.source);
  std::atomic<bool> failed{false};
  rig.source->on_answer([&](uint64_t number, const DirRequest&, DirAnswer& answer) {
    if (number != nth) return;
    failed = true;
    answer = {};
    answer.error = error;
  });
  Lister lister(*rig.dir);
  const Status first = lister.read_all(170);
  // It shows as what it is, or was got over inside; never as the end.
  if (!first.ok()) {
    CHECK(first.error_number() == error);
    CHECK(failed);
    REQUIRE(lister.read_all(170).ok());
  }
  check_exact(lister.got.names, rig.source->names());
  check_exact(rig.list(), rig.source->names());
  return !failed;
}

TEST_CASE("the nth remote answer fails: an errno or nothing, and the next try goes on") {
  const CookieStyle style = GENERATE(CookieStyle::kOrdered, CookieStyle::kHashed,
                                     CookieStyle::kName, CookieStyle::kOrdinal);
  for (const auto& memory : {DirRig::roomy(), small()}) {
    for (const int error :
         {EIO, EACCES, ESTALE, ENOENT, ETIMEDOUT, ENOTCONN, ENOMEM, EAGAIN, cache::kErrTooSmall}) {
      uint64_t nth = 1;
      while (!survives_answer(style, memory, error, nth)) {
        REQUIRE(++nth < 100);
      }
      CHECK(nth > 2);  // there was something to fail
    }
  }
}

TEST_CASE("the nth allocation in the cache fails: ENOMEM or the listing, and the next try works") {
  constexpr uint64_t kStep = uint64_t{4} << 10;
  bool refused = false;
  int listed = 0;  // in a row
  // Room for nothing, then for a page more each time, until everything fits.
  for (uint64_t room = 0; room < (uint64_t{1} << 20) && listed < 20; room += kStep) {
    INFO("room for " << room << " bytes");
    DirRig rig(with_style(CookieStyle::kOrdered, 250), small());
    rig.source->fill(1500);
    rig.revalidate();
    const uint64_t hogged = rig.cache.limit_bytes() - rig.cache.bytes() - room;
    REQUIRE(rig.cache.charge(hogged));
    Lister lister(*rig.dir);
    const Status status = lister.read_all(170);
    if (status.ok()) {
      ++listed;
    } else {
      listed = 0;
      refused = true;
      CHECK(status.error_number() == ENOMEM);
    }
    rig.cache.uncharge(hogged);
    REQUIRE(lister.read_all(170).ok());
    check_exact(lister.got.names, rig.source->names());
    CHECK(rig.cache.peak_bytes() <= rig.cache.limit_bytes());
  }
  CHECK(refused);
  CHECK(listed > 0);
}

TEST_CASE("a full budget refuses pages and charges, and gives them again once there is room") {
  cache::PageCache pages(small());
  const uint64_t free = pages.limit_bytes() - pages.bytes();
  REQUIRE(pages.charge(free));
  CHECK(pages.allocate(4096) == nullptr);
  CHECK_FALSE(pages.charge(1));
  CHECK(pages.stats().allocation_failures.get() >= 2);
  pages.uncharge(free);
  void* page = pages.allocate(4096);
  REQUIRE(page != nullptr);
  pages.free(page, 4096);
}

TEST_CASE("an uncached read without memory ends in ENOMEM, and the next try works") {
  bool refused = false;
  for (uint64_t room = 0; room < (uint64_t{512} << 10); room += uint64_t{16} << 10) {
    INFO("room for " << room << " bytes");
    DirRig rig(with_style(CookieStyle::kHashed, 250), small());
    rig.source->fill(700);
    rig.revalidate();
    const uint64_t hogged = rig.cache.limit_bytes() - rig.cache.bytes() - room;
    REQUIRE(rig.cache.charge(hogged));
    Lister lister(*rig.dir);
    lister.seek(rig.source->entries()[99].cookie);
    const Status status = lister.read_all(170);
    if (!status.ok()) {
      refused = true;
      CHECK(status.error_number() == ENOMEM);
    }
    rig.cache.uncharge(hogged);
    REQUIRE(lister.read_all(170).ok());
    const std::vector<std::string> names = rig.source->names();
    check_exact(lister.got.names, {names.begin() + 100, names.end()});
  }
  CHECK(refused);
}

TEST_CASE("an exhausted heap ends the process, instead of a thread in the middle of something") {
  // Sanitizers have allocators of their own, which end the process by themselves or return null.
  CHECK(aborts([] {
    cache::abort_when_heap_is_exhausted();
    std::get_new_handler()();
  }));
}

}  // namespace
}  // namespace test
