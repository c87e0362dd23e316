// Directory: positions: what telldir gave stays good, wherever it lies and whatever was evicted
// (contracts.md, 2 and 3; traps 8, 10, 12, 15).
#include <cinttypes>
#include <set>

#include "cache/base/hash.h"
#include "tests/support/dir_rig.h"
#include "tests/support/random.h"

namespace test {
namespace {

void list_with_evictions(DirRig& rig, size_t every, uint64_t limit) {
  Lister lister(*rig.dir);
  size_t next = every;
  for (;;) {
    const Status status = lister.read(std::min<uint64_t>(limit, every));
    REQUIRE(status.ok());
    if (lister.last == 0) break;
    if (lister.got.names.size() < next) continue;
    next += every;
    rig.cache.drop_clean();
  }
  check_exact(lister.got.names, rig.source->names());
}

TEST_CASE("everything evicted after every k entries: each once, requests O(n) (trap 8)") {
  for (const CookieStyle style : kAllStyles) {
    for (const size_t every : {1, 50, 201, 202, 203, 5000}) {
      if (kSanitized && (every == 50 || every == 201)) continue;  // the same steps again
      // Answers of an array each, so that a listing that begins anew costs more than is allowed.
      const uint32_t batch = every == 5000 ? 100 : 202;
      const size_t size = every == 1 ? 2000 : every == 5000 ? 15'000 : 6000;
      INFO(name_of(style) << ", every " << every);
      DirRig rig(with_style(style, batch));
      rig.source->fill(size);
      rig.revalidate();
      list_with_evictions(rig, every, kNoLimit);
      // Each eviction costs at most what was asked for ahead and lost, a fixed number (kMaxWidth).
      CHECK(rig.source->request_count() <= size / batch + 12 * (size / every) + 10);
    }
  }
}

TEST_CASE("a million entries, everything evicted after every 10,000 (trap 8)") {
  const size_t size = scaled(1'000'000);
  cache::PageCacheOptions memory = DirRig::roomy();
  memory.limit_bytes = uint64_t{256} << 20;  // or less is asked for ahead
  DirRig rig(with_style(CookieStyle::kHashed, 10000), memory);
  rig.source->fill(size);
  rig.revalidate();
  list_with_evictions(rig, 10000, 1000);
  CHECK(rig.source->request_count() <= size / 10000 + 12 * (size / 10000) + 10);
}

TEST_CASE("a seek to a remembered position takes at most two requests, wherever it lies") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    constexpr size_t kSize = 20000;
    DirRig rig(with_style(style, 1000));
    rig.source->fill(kSize);
    rig.revalidate();
    Lister lister(*rig.dir);
    REQUIRE(lister.read_all(100).ok());
    const auto cookies = lister.got.cookies;
    const auto names = rig.source->names();
    Random random(1);
    for (int round = 0; round < 60; ++round) {
      REQUIRE(rig.source->wait_idle());
      rig.cache.drop_clean();
      const size_t at = round == 0   ? 0
                        : round == 1 ? kSize - 2
                        : round == 2 ? 201
                        : round == 3 ? 202
                                     : random.below(kSize - 1);
      INFO("entry " << at);
      rig.dir->closed();  // requests ahead are another matter
      const uint64_t before = rig.source->request_count();
      Lister other(*rig.dir);
      Lister& reader = round % 2 == 0 ? lister : other;  // a fresh cursor too (trap 15)
      reader.seek(cookies[at]);
      REQUIRE(reader.read(1).ok());
      CHECK(reader.got.names.at(0) == names[at + 1]);
      REQUIRE(rig.source->wait_idle());
      CHECK(rig.source->request_count() - before <= 2);
      rig.dir->opened();
    }
  }
}

// With the handle open, so that requests go ahead too: none that has to be waited for, and few,
// since nothing tells yet that the reader reads on.
TEST_CASE("a seek into an evicted listing asks ahead for little") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    constexpr size_t kSize = 20'000;
    DirRig rig(with_style(style, 1000));
    rig.source->fill(kSize);
    rig.revalidate();
    Lister lister(*rig.dir);
    REQUIRE(lister.read_all(100).ok());
    const auto cookies = lister.got.cookies;
    const auto names = rig.source->names();
    for (const size_t at : {size_t{201}, size_t{202}, size_t{5000}, size_t{15'100}}) {
      for (const bool fresh : {false, true}) {
        INFO("entry " << at << ", a fresh cursor " << fresh);
        REQUIRE(rig.source->wait_idle());
        rig.cache.drop_clean();
        const uint64_t before = rig.source->request_count();
        Lister other(*rig.dir);
        Lister& reader = fresh ? other : lister;
        reader.seek(cookies[at]);
        REQUIRE(reader.read(681).ok());
        CHECK(reader.got.names.at(0) == names[at + 1]);
        REQUIRE(rig.source->wait_idle());
        CHECK(rig.source->request_count() - before <= 5);
      }
    }
  }
}

TEST_CASE("telldir is kept across a whole listing and its eviction; seeks in any order (trap 15)") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    const size_t size = scaled(50'000);
    DirRig rig(with_style(style, 2000));
    rig.source->fill(size);
    rig.revalidate();
    Lister lister(*rig.dir);
    REQUIRE(lister.read_all(1000).ok());
    const auto cookies = lister.got.cookies;
    const auto names = rig.source->names();
    Random random(2);
    for (int round = 0; round < 100; ++round) {
      if (round % 10 == 0) rig.cache.drop_clean();
      const size_t at = random.below(size);
      lister.seek(cookies[at]);
      REQUIRE(lister.read(random.below(300) + 1).ok());
      const auto& got = lister.got.names;
      REQUIRE(got.size() <= size - at - 1);
      check_exact(got, {names.begin() + static_cast<ptrdiff_t>(at) + 1,
                        names.begin() + static_cast<ptrdiff_t>(at + 1 + got.size())});
      CHECK((!got.empty() || at + 1 == size));
    }
  }
}

TEST_CASE("a position in the cache costs no request, in order or not") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style));
    rig.source->fill(10000);
    rig.revalidate();
    Lister lister(*rig.dir);
    REQUIRE(lister.read_all(kNoLimit).ok());
    const auto cookies = lister.got.cookies;
    const uint64_t before = rig.source->request_count();
    for (size_t at = 9998; at > 100; at -= 97) {
      Lister other(*rig.dir);
      other.seek(cookies[at]);
      REQUIRE(other.read(1).ok());
      REQUIRE(other.got.cookies.at(0) == cookies[at + 1]);
    }
    CHECK(rig.source->request_count() == before);
  }
}

// The anchors are forgotten and cookies tell no order: only the caller's own cookie is left.
TEST_CASE("the uncached path serves an unordered position, and joins the chain again") {
  DirRig rig(with_style(CookieStyle::kHashed, 300));
  rig.source->fill(20000);
  rig.revalidate();
  Lister lister(*rig.dir);
  REQUIRE(lister.read_all(kNoLimit).ok());
  const auto cookies = lister.got.cookies;
  const auto names = rig.source->names();
  const auto entries = rig.source->entries();
  REQUIRE(rig.source->wait_idle());
  rig.cache.drop_clean();
  rig.source->forget_requests();
  const int64_t pages = rig.cache.stats().pages_resident.get();
  lister.seek(cookies[5000]);
  REQUIRE(lister.read(7).ok());
  CHECK(rig.cache.stats().readdir_uncached.get() == 1);
  CHECK(rig.cache.stats().pages_resident.get() == pages);  // private arrays are never inserted
  CHECK(rig.cache.stats().pages_private.get() > 0);
  REQUIRE(rig.source->requests().size() == 1);
  CHECK(rig.source->requests()[0].after.cookie == cookies[5000]);
  REQUIRE(lister.read_all(7).ok());
  check_exact(lister.got.names, {names.begin() + 5001, names.end()});
  // One uncached answer reaches the next array's key; the rest came through the chain.
  CHECK(rig.cache.stats().readdir_uncached.get() <= 2);
  CHECK(rig.cache.stats().pages_resident.get() > 50);
}

TEST_CASE("an uncached reader of a directory without any anchor reaches the end") {
  for (const uint32_t batch : {7U, 100U, 202U, 1000U}) {
    INFO("batch " << batch);
    DirRig rig(with_style(CookieStyle::kHashed, batch));
    rig.source->fill(3000);
    rig.revalidate();
    const auto entries = rig.source->entries();
    const auto names = rig.source->names();
    Lister lister(*rig.dir);
    lister.seek(entries[499].cookie);
    REQUIRE(lister.read_all(13).ok());
    check_exact(lister.got.names, {names.begin() + 500, names.end()});
    CHECK(rig.cache.stats().readdir_uncached.get() >= 1);
  }
}

TEST_CASE("a fresh cursor with a position from another enumeration (trap 15)") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 500));
    rig.source->fill(5000);
    rig.revalidate();
    Lister lister(*rig.dir);
    REQUIRE(lister.read_all(kNoLimit).ok());
    const auto cookies = lister.got.cookies;
    const auto names = rig.source->names();
    // The inode was evicted, and comes back: nothing is known but the number.
    rig.close();
    rig.open();
    for (const size_t at : {3000, 0, 201, 202, 4998, 4999, 777}) {
      INFO("after entry " << at);
      Lister other(*rig.dir);
      other.seek(cookies[at]);
      REQUIRE(other.read_all(50).ok());
      check_exact(other.got.names, {names.begin() + static_cast<ptrdiff_t>(at) + 1, names.end()});
    }
  }
}

TEST_CASE(
    "a position that the directory never gave ends in an error or the listing, never a loop") {
  for (const CookieStyle style : kAllStyles) {
    for (const uint64_t position : {uint64_t{5}, uint64_t{1} << 40, (uint64_t{1} << 63) - 1}) {
      INFO(name_of(style) << " " << position);
      DirRig rig(with_style(style, 500));
      rig.source->fill(2000);
      rig.revalidate();
      Lister lister(*rig.dir);
      lister.seek(position);
      const Status status = lister.read_all(100);
      INFO("errno " << status.error_number());
      CHECK(status.error_number() < 4096);
      check_listing(lister.got.names, {});
    }
  }
}

TEST_CASE(
    "the entry at the resume cookie is deleted, others come just before and after (trap 10)") {
  for (const CookieStyle style : kAllStyles) {
    for (const bool evict : {false, true}) {
      for (const size_t at : {10, 150, 201, 202, 600}) {
        INFO(name_of(style) << ", entry " << at << ", evict " << evict);
        DirRig rig(with_style(style, 300));
        rig.source->fill(1500);
        rig.revalidate();
        auto stable = rig.source->names();
        Lister lister(*rig.dir);
        while (lister.got.names.size() < at) {
          REQUIRE(lister.read(std::min<uint64_t>(50, at - lister.got.names.size())).ok());
        }
        REQUIRE(rig.source->wait_idle());
        const std::string victim = lister.got.names.back();
        REQUIRE(victim == stable[at - 1]);
        rig.source->remove(victim);
        rig.source->add(victim + "+after", at);
        rig.source->add(stable[at - 2] + "+before", at - 1);
        rig.revalidate();
        if (evict) rig.cache.drop_clean();
        stable.erase(stable.begin() + static_cast<ptrdiff_t>(at) - 1);
        const Status status = lister.read_all(50);
        INFO("errno " << status.error_number());
        CHECK(status.ok());
        check_listing(lister.got.names, stable);
      }
    }
  }
}

TEST_CASE(
    "a seek into an array, whose entry and numbering then go: the names there tell the place") {
  for (const CookieStyle style : kAllStyles) {
    if (is_opaque(style) || style == CookieStyle::kHuge)
      continue;                                   // their numbers are of the array
    for (const size_t seen : {1, 5, 202, 300}) {  // 202: at the end of the first array
      INFO(name_of(style) << ", " << seen << " seen");
      DirRig rig(with_style(style, 700));
      rig.source->fill(seen < 10 ? 9 : 400);
      rig.revalidate();
      Lister first(*rig.dir);
      REQUIRE(first.read_all(kNoLimit).ok());
      const std::vector<std::string> names = rig.source->names();
      Lister again(*rig.dir);
      again.seek(first.got.cookies[seen - 1]);
      // A count of entries would now lead two entries too far, or one back.
      rig.source->remove(names[seen - 1]);
      if (seen > 1) rig.source->remove(names[0]);
      if (seen == 1) rig.source->add("new", 0);
      rig.source->new_verifier();
      REQUIRE(again.read_all(kNoLimit, {.want_attrs = true}).ok());
      CHECK(again.got.names ==
            std::vector<std::string>(names.begin() + static_cast<ptrdiff_t>(seen), names.end()));
    }
  }
}

TEST_CASE("unlink everything that each read gave until the directory is empty (trap 9)") {
  for (const CookieStyle style : kAllStyles) {
    for (const uint64_t limit : {uint64_t{7}, uint64_t{150}, uint64_t{1000}, kNoLimit}) {
      INFO(name_of(style) << ", " << limit << " a call");
      DirRig rig(with_style(style, 300));
      rig.source->fill(limit == 7 ? 1000 : 3000);
      rig.revalidate();
      Lister lister(*rig.dir);
      size_t seen = 0;
      for (;;) {
        const Status status = lister.read(limit);
        // Nothing is left of what was given, and at an array's end nothing else is known: where
        // the remote's places are ordinals, that is the end of what can be told.
        const bool lost = style == CookieStyle::kOrdinal && status.error_number() == ESTALE;
        REQUIRE((status.ok() || lost));
        if (lost) lister.rewind();
        if (lost) seen = 0;
        if (lost) continue;
        if (lister.last == 0) break;
        for (; seen < lister.got.names.size(); ++seen) {
          REQUIRE(rig.source->remove(lister.got.names[seen]));
        }
        rig.dir->invalidate();  // own changes are seen at once
      }
      CHECK(rig.source->names().empty());
    }
  }
}

std::vector<FakeEntry> with_cookies(const std::vector<uint64_t>& cookies) {
  std::vector<FakeEntry> entries;
  for (size_t i = 0; i < cookies.size(); ++i) {
    FakeEntry entry;
    entry.name.append("n").append(std::to_string(i));
    entry.cookie = cookies[i];
    entries.push_back(entry);
  }
  return entries;
}

const std::vector<uint64_t> kExtremes = {1,
                                         uint64_t{1} << 31,
                                         uint64_t{1} << 32,
                                         (uint64_t{1} << 63) - 1,
                                         uint64_t{1} << 63,
                                         UINT64_MAX,
                                         42,
                                         (uint64_t{1} << 31) - 1,
                                         (uint64_t{1} << 32) - 1};

TEST_CASE("cookies at every edge of 64 bits, one an answer and all at once (trap 12)") {
  for (const uint32_t batch : {1U, 2U, 100U}) {
    for (const size_t rotate : {0, 1, 2, 3, 4, 5, 6, 7, 8}) {
      INFO("batch " << batch << ", rotated " << rotate);
      auto cookies = kExtremes;
      std::rotate(cookies.begin(), cookies.begin() + static_cast<ptrdiff_t>(rotate), cookies.end());
      DirRig rig(with_style(CookieStyle::kHuge, batch));
      rig.source->set_entries(with_cookies(cookies));
      rig.revalidate();
      check_exact(rig.list(1), rig.source->names());
      rig.cache.drop_clean();
      check_exact(rig.list(), rig.source->names());
    }
  }
}

TEST_CASE("an entry whose cookie is 0 is given all the same (trap 12)") {
  std::vector<uint64_t> cookies = kExtremes;
  cookies.insert(cookies.begin() + 3, 0);
  DirRig rig(with_style(CookieStyle::kHuge, 100));
  rig.source->set_entries(with_cookies(cookies));
  rig.revalidate();
  check_exact(rig.list(1), rig.source->names());
  check_exact(rig.list(), rig.source->names());
}

// Cookies that fit are shown as they are, until one comes that does not: then those that readers
// hold must still lead to where they were.
TEST_CASE("the first cookie above 2^63 comes late: readers keep their places (trap 12)") {
  for (const size_t big : {5, 250, 1500, 2999}) {
    for (const uint64_t limit : {uint64_t{3}, uint64_t{100}, kNoLimit}) {
      INFO("entry " << big << ", " << limit << " a call");
      DirRig rig(with_style(CookieStyle::kHuge, 300));
      std::vector<uint64_t> cookies(3000);
      for (size_t i = 0; i < cookies.size(); ++i) cookies[i] = cache::mix64(i + 1) >> 1;
      cookies[big] = UINT64_MAX - 5;
      rig.source->set_entries(with_cookies(cookies));
      rig.revalidate();
      check_exact(rig.list(limit), rig.source->names());
      check_exact(rig.list(limit), rig.source->names());
    }
  }
}

TEST_CASE("duplicated cookies: nothing is lost, repeated or looped over (trap 12)") {
  for (const size_t run : {2, 3, 50}) {
    for (const uint32_t batch : {50U, 101U, 202U, 1000U}) {
      for (const uint64_t limit : {uint64_t{1}, uint64_t{7}, kNoLimit}) {
        INFO("runs of " << run << ", batch " << batch << ", " << limit << " a call");
        std::vector<uint64_t> cookies(1000);
        for (size_t i = 0; i < cookies.size(); ++i) cookies[i] = (i / run + 1) * 10;
        DirRig rig(with_style(CookieStyle::kOrdered, batch));
        rig.source->set_entries(with_cookies(cookies));
        rig.revalidate();
        Lister lister(*rig.dir);
        const Status status = lister.read_all(limit);
        // The remote itself loses what follows in a run that an answer cuts, since its cookie
        // can't say where in the run. Then an error would do; repeats and loops would not.
        check_listing(lister.got.names, std::min(batch, 202U) % run == 0
                                            ? rig.source->names()
                                            : std::vector<std::string>());
        CHECK((status.ok() || status.error_number() == EIO));
      }
    }
  }
}

}  // namespace
}  // namespace test
