// Directory: what every listing is promised, over every cookie style (contracts.md, 2 to 4).
#include <sys/stat.h>

#include <set>

#include "tests/support/dir_rig.h"

namespace test {
namespace {

TEST_CASE("a listing gives every entry once, in order, whatever the cookies and the buffer") {
  for (const CookieStyle style : kAllStyles) {
    for (const uint64_t limit : {uint64_t{1}, uint64_t{3}, uint64_t{7}, uint64_t{202}, kNoLimit}) {
      for (const size_t size : {0, 1, 2, 201, 202, 203, 404, 1000, 2500}) {
        INFO(name_of(style) << ", " << size << " entries, " << limit << " a call");
        DirRig rig(with_style(style, 700));
        rig.source->fill(size);
        rig.revalidate();
        check_exact(rig.list(limit), rig.source->names());
        const uint64_t requests = rig.source->request_count();
        check_exact(rig.list(limit), rig.source->names());
        CHECK(rig.source->request_count() == requests);
      }
    }
  }
}

TEST_CASE("inode numbers, types and attributes come with the names") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style));
    rig.source->fill(3000);
    rig.revalidate();
    Lister lister(*rig.dir);
    ReadOptions options;
    options.want_attrs = true;
    REQUIRE(lister.read_all(kNoLimit, options).ok());
    const auto entries = rig.source->entries();
    REQUIRE(lister.got.inos.size() == entries.size());
    REQUIRE(lister.got.attrs.size() == entries.size());
    bool equal = true;
    for (size_t i = 0; i < entries.size(); ++i) {
      equal &= lister.got.inos[i] == entries[i].ino;
      equal &= lister.got.types[i] == FakeSource::type_of(entries[i].ino);
      equal &= lister.got.attrs[i] == FakeSource::attr_of(entries[i].ino);
    }
    CHECK(equal);
  }
}

TEST_CASE("visible cookies lie in [1, 2^63-1], differ, and pass through where they fit") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style));
    rig.source->fill(3000);
    rig.revalidate();
    Lister lister(*rig.dir);
    REQUIRE(lister.read_all(100).ok());
    std::set<uint64_t> seen;
    bool in_range = true;
    for (const uint64_t cookie : lister.got.cookies) {
      in_range &= cache::cookie_map::fits(cookie);
      seen.insert(cookie);
    }
    CHECK(in_range);
    CHECK(seen.size() == 3000);
    if (style == CookieStyle::kHuge || is_opaque(style)) continue;
    const auto entries = rig.source->entries();
    bool through = true;
    for (size_t i = 0; i + 1 < entries.size(); ++i) {
      through &= lister.got.cookies[i] == entries[i].cookie;
    }
    CHECK(through);
  }
}

// The keys of a chain: 0, and each array's last cookie. What is asked after is a key or the place
// where the answer before it ended: never what a caller searched for. (Only where cookies tell no
// order and the array is gone may the uncached path do that: directory_seek_test.cc.)
TEST_CASE("a fill asks after a key of the chain, never after a caller's cookie") {
  for (const CookieStyle style : {CookieStyle::kOrdered, CookieStyle::kDescending}) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 500));
    rig.source->fill(5000);
    rig.revalidate();
    Lister lister(*rig.dir);
    REQUIRE(lister.read_all(7).ok());
    const auto entries = rig.source->entries();
    bool from_zero = false;
    std::set<uint64_t> searched;
    rig.source->forget_requests();
    for (size_t round = 0; round < 40; ++round) {
      REQUIRE(rig.source->wait_idle());
      rig.cache.drop_clean();
      // Keys and the ends of answers have odd indices here.
      const size_t at = round * 98 + 12;
      searched.insert(entries[at].cookie);
      lister.seek(entries[at].cookie);
      REQUIRE(lister.read(3).ok());
      REQUIRE(lister.got.names.at(0) == entries[at + 1].name);
    }
    for (const DirRequest& request : rig.source->requests()) {
      CHECK(searched.count(request.after.cookie) == 0);
      from_zero |= request.after.cookie == 0;
    }
    CHECK(from_zero);
    CHECK(rig.cache.stats().readdir_uncached.get() == 0);
  }
}

TEST_CASE("filling is deterministic: array boundaries do not depend on answers or readers") {
  for (const CookieStyle style : kAllStyles) {
    std::optional<std::vector<uint64_t>> first;
    for (const uint32_t batch : {50U, 202U, 333U, 5000U}) {
      INFO(name_of(style) << ", batch " << batch);
      DirRig rig(with_style(style, batch));
      rig.source->fill(1500);
      rig.revalidate();
      Lister lister(*rig.dir);
      REQUIRE(lister.read_all(batch % 40 + 1).ok());
      CHECK(rig.dir->info().arrays == (1500 + 201) / 202);
      if (!first) first = lister.got.cookies;
      CHECK(*first == lister.got.cookies);
    }
  }
}

TEST_CASE("one answer fills as many arrays as it holds entries for") {
  DirRig rig(with_style(CookieStyle::kOrdered, 20200));
  rig.source->fill(30000);
  rig.revalidate();
  check_exact(rig.list(), rig.source->names());
  CHECK(rig.source->request_count() <= 5);
  CHECK(rig.dir->info().arrays == (30000 + 201) / 202);
}

TEST_CASE("the first answer is small, later ones grow to what the remote allows") {
  DirRig rig(with_style(CookieStyle::kOrdered, 10000));
  rig.source->fill(68000);
  rig.revalidate();
  check_exact(rig.list(), rig.source->names());
  const auto requests = rig.source->requests();
  REQUIRE(requests.size() >= 4);
  CHECK(requests[0].max_entries <= 1000);
  for (size_t i = 1; i < requests.size(); ++i) {
    CHECK(requests[i].max_entries >= requests[i - 1].max_entries);
    CHECK(requests[i].max_entries <= 10000);
  }
  CHECK(requests[3].max_entries == 10000);
}

TEST_CASE("the next request is under way before the first answer is consumed") {
  FakeSource::Options options = with_style(CookieStyle::kOrdered, 202);
  options.manual = true;
  DirRig rig(options);
  rig.source->fill(5000);
  rig.revalidate();
  rig.source->allow(1);
  Lister lister(*rig.dir);
  REQUIRE(lister.read(1).ok());
  CHECK(lister.got.names == std::vector<std::string>{"f00000000"});
  // One entry of 202 was read.
  REQUIRE(rig.source->wait_requests(2));
  REQUIRE(rig.source->wait_answered(1));
  CHECK(rig.source->answered() == 1);
  rig.source->allow_all();
  REQUIRE(lister.read_all(kNoLimit).ok());
  check_exact(lister.got.names, rig.source->names());
}

TEST_CASE("what is at hand is given at once: a partial reply beats waiting") {
  FakeSource::Options options = with_style(CookieStyle::kOrdered, 10);
  options.manual = true;
  DirRig rig(options);
  rig.source->fill(100);
  rig.revalidate();
  Lister lister(*rig.dir);
  rig.source->allow(1);
  REQUIRE(lister.read(kNoLimit).ok());
  CHECK(lister.last == 10);  // an array is 202, but 10 were there
  rig.source->allow(1);
  REQUIRE(lister.read(kNoLimit).ok());
  CHECK(lister.last == 10);
  rig.source->allow_all();
  REQUIRE(lister.read_all(kNoLimit).ok());
  check_exact(lister.got.names, rig.source->names());
}

TEST_CASE("requests ahead of the readers are bounded") {
  DirRig rig(with_style(CookieStyle::kOrdered, 202));
  rig.source->fill(20000);
  rig.revalidate();
  Lister lister(*rig.dir);
  REQUIRE(lister.read(1).ok());
  REQUIRE(rig.source->wait_idle());
  CHECK(rig.source->request_count() <= 6);
  REQUIRE(lister.read_all(kNoLimit).ok());
  check_exact(lister.got.names, rig.source->names());
}

TEST_CASE("16 listers of one directory share the requests of one") {
  FakeSource::Options options = with_style(CookieStyle::kOrdered, 500);
  options.manual = true;
  DirRig rig(options);
  rig.source->fill(20000);
  rig.revalidate();
  std::vector<std::vector<std::string>> got(16);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < got.size(); ++i) {
    threads.emplace_back([&, i] {
      Lister lister(*rig.dir);
      if (lister.read_all(20 + i).ok()) got[i] = lister.got.names;
    });
  }
  CHECK(rig.source->wait_requests(1));
  rig.source->allow_all();
  for (std::thread& thread : threads) thread.join();
  const auto names = rig.source->names();
  for (const auto& names_of_one : got) check_exact(names_of_one, names);
  // One lister alone takes 42: the first answers are small.
  CHECK(rig.source->request_count() <= 45);
}

TEST_CASE("a directory that ends exactly at a full page, or with an answer of its own (trap 14)") {
  for (const CookieStyle style : kAllStyles) {
    for (const bool eof_alone : {false, true}) {
      for (const size_t size : {0, 100, 202, 404, 808}) {
        for (const uint32_t batch : {101U, 202U, 404U}) {
          INFO(name_of(style) << ", " << size << " by " << batch << ", eof alone " << eof_alone);
          FakeSource::Options options = with_style(style, batch);
          options.eof_alone = eof_alone;
          DirRig rig(options);
          rig.source->fill(size);
          rig.revalidate();
          check_exact(rig.list(), rig.source->names());
          check_exact(rig.list(5), rig.source->names());
        }
      }
    }
  }
}

TEST_CASE("an array whose key is known is filled alone; the rest stays as it is") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 202));
    rig.source->fill(202 * 50);
    rig.revalidate();
    Lister lister(*rig.dir);
    REQUIRE(lister.read_all(kNoLimit).ok());
    const auto cookies = lister.got.cookies;
    const auto names = rig.source->names();
    rig.dir->closed();  // nobody reads ahead
    rig.cache.drop_clean();
    const uint64_t before = rig.source->request_count();
    lister.seek(cookies[202 * 30 - 1]);
    REQUIRE(lister.read(202).ok());
    CHECK(lister.got.names.at(0) == names[202 * 30]);
    CHECK(rig.source->request_count() - before <= 3);
    CHECK(rig.dir->info().arrays <= 3);
    rig.dir->opened();
  }
}

TEST_CASE("the sink that takes nothing leaves the place where it was") {
  DirRig rig(with_style(CookieStyle::kOrdered));
  rig.source->fill(500);
  rig.revalidate();
  Lister lister(*rig.dir);
  REQUIRE(lister.read(150).ok());
  for (int i = 0; i < 3; ++i) {
    REQUIRE(lister.read(0).ok());
    CHECK(lister.last == 0);
  }
  REQUIRE(lister.read_all(kNoLimit).ok());
  check_exact(lister.got.names, rig.source->names());
}

TEST_CASE("rewinding starts over, from the cache") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style));
    rig.source->fill(1000);
    rig.revalidate();
    Lister lister(*rig.dir);
    for (const int reads : {1, 5, 100, 0}) {
      lister.rewind();
      for (int i = 0; i < reads; ++i) REQUIRE(lister.read(7).ok());
    }
    REQUIRE(lister.read_all(7).ok());
    check_exact(lister.got.names, rig.source->names());
    // rewinddir sees the present state, once the directory is known to have changed.
    rig.source->remove(rig.source->names()[3]);
    rig.source->append("zz-new");
    rig.revalidate();
    lister.rewind();
    REQUIRE(lister.read_all(7).ok());
    check_exact(lister.got.names, rig.source->names());
  }
}

TEST_CASE("names, attributes and anchors are counted, and the counters end at zero") {
  DirRig rig(with_style(CookieStyle::kName));
  rig.source->fill(1000, 24);
  rig.revalidate();
  ReadOptions options;
  options.want_attrs = true;
  check_exact(rig.list(kNoLimit, options), rig.source->names());
  const cache::Stats& stats = rig.cache.stats();
  CHECK(stats.entries_resident.get() == 1000);
  CHECK(stats.names_bytes.get() >= 24000);
  CHECK(stats.attrs_bytes.get() == 64000);
  CHECK(stats.anchors.get() >= 4);
  CHECK(stats.pages_resident.get() == 5);
  REQUIRE(rig.source->wait_idle());
  rig.cache.drop_clean();
  CHECK(stats.entries_resident.get() == 0);
  CHECK(stats.names_bytes.get() == 0);
  CHECK(stats.attrs_bytes.get() == 0);
  CHECK(stats.pages_resident.get() == 0);
}

}  // namespace
}  // namespace test
