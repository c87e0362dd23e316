// Directory: what it tells of its entries to who looks ahead, and listings fetched before they are
// read.
#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "tests/support/dir_rig.h"

namespace test {
namespace {

using cache::Subdirectory;

std::vector<std::string> names_of(const std::vector<Subdirectory>& found) {
  std::vector<std::string> names;
  for (const Subdirectory& one : found) names.push_back(one.name);
  return names;
}

// Names and inode numbers of the directories among the entries, in order.
std::vector<FakeEntry> directories_of(const FakeSource& source) {
  std::vector<FakeEntry> entries = source.entries();
  std::erase_if(entries, [](const FakeEntry& entry) {
    return !entry.alive || FakeSource::type_of(entry.ino) != DT_DIR;
  });
  return entries;
}

TEST_CASE("the directories after an entry, in the listing's order, at no request") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style));
    rig.source->fill(1500);
    rig.revalidate();
    std::vector<Subdirectory> found;
    CHECK_FALSE(rig.dir->subdirectories(0, 10, &found));  // nothing is held
    rig.list();
    const auto requests = rig.source->request_count();
    const auto expected = directories_of(*rig.source);
    REQUIRE(expected.size() > 40);
    for (size_t at = 0; at <= expected.size(); at += 7) {
      found.clear();
      const uint64_t after = at == 0 ? 0 : expected[at - 1].ino;
      REQUIRE(rig.dir->subdirectories(after, 20, &found));
      CHECK(found.size() == std::min<size_t>(20, expected.size() - at));
      for (size_t i = 0; i < found.size(); ++i) {
        CHECK(found[i].name == expected[at + i].name);
        CHECK(found[i].ino == expected[at + i].ino);
      }
    }
    found.clear();
    CHECK_FALSE(rig.dir->subdirectories(1, 20, &found));  // no such entry
    CHECK(found.empty());
    CHECK(rig.source->request_count() == requests);
  }
}

TEST_CASE("evicted arrays end what is told ahead") {
  DirRig rig(with_style(CookieStyle::kOrdered));
  rig.source->fill(1500);
  rig.revalidate();
  rig.list();
  const auto expected = directories_of(*rig.source);
  rig.cache.reclaim(3);
  std::vector<Subdirectory> found;
  rig.dir->subdirectories(0, 2000, &found);
  const auto told = names_of(found);
  CHECK(told.size() < expected.size());
  for (size_t i = 0; i < told.size(); ++i) CHECK(told[i] == expected[i].name);
  rig.cache.drop_clean();
  found.clear();
  CHECK_FALSE(rig.dir->subdirectories(0, 2000, &found));
  CHECK(found.empty());
}

TEST_CASE("inode numbers by name, with attributes and without") {
  for (const bool attrs : {false, true}) {
    DirRig rig(with_style(CookieStyle::kHashed));
    rig.source->fill(1200);
    rig.revalidate();
    CHECK_FALSE(rig.dir->find_ino("f0"));
    ReadOptions options;
    options.want_attrs = attrs;
    rig.list(kNoLimit, options);
    const auto requests = rig.source->request_count();
    for (const FakeEntry& entry : rig.source->entries()) {
      CHECK(rig.dir->find_ino(entry.name) == entry.ino);
    }
    CHECK_FALSE(rig.dir->find_ino("not there"));
    CHECK(rig.source->request_count() == requests);
  }
}

TEST_CASE("a listing that was fetched ahead is read without a request, and only asked for once") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    if (style == CookieStyle::kHuge) continue;  // begins anew with its first answer
    FakeSource::Options options = with_style(style);
    options.manual = true;
    DirRig rig(options);
    rig.source->fill(100);
    rig.revalidate();
    REQUIRE(rig.dir->fetch_ahead(true));
    CHECK_FALSE(rig.dir->fetch_ahead(true));  // under way
    rig.source->allow_all();
    REQUIRE(rig.source->wait_answered(1));
    REQUIRE(eventually([&] { return rig.dir->info().fills == 0; }));
    const auto requests = rig.source->request_count();
    CHECK(requests <= 2);
    CHECK_FALSE(rig.dir->fetch_ahead(true));  // held
    ReadOptions read;
    read.want_attrs = true;
    check_exact(rig.list(kNoLimit, read), rig.source->names());
    CHECK(rig.source->request_count() == requests);
  }
}

TEST_CASE("nobody came for a listing that is being fetched ahead") {
  FakeSource::Options options = with_style(CookieStyle::kOrdered);
  options.manual = true;
  DirRig rig(options);
  rig.source->fill(100);
  rig.revalidate();
  REQUIRE(rig.dir->fetch_ahead(false));
  rig.dir->closed();  // as it was opened for that purpose alone
  CHECK(rig.dir->info().fills == 0);
  CHECK(rig.source->cancels() == 1);
  rig.dir->opened();
}

// A directory of a hundred, whose first request is refused; it answers when it is let.
struct Refusing {
  explicit Refusing(int error) : rig(manual()), guard(*rig.source) {
    rig.source->fill(100);
    rig.revalidate();
    rig.source->on_answer(
        [error](FakeSource::Number number, const DirRequest&, cache::DirAnswer& answer) {
          if (number > 1) return;
          answer = {};
          answer.error = error;
        });
  }
  static FakeSource::Options manual() {
    FakeSource::Options options = with_style(CookieStyle::kOrdered);
    options.manual = true;
    return options;
  }
  // Once so many readers wait, the remote answers: a listing that is waited for then is exact.
  void list_after(uint64_t waiting) {
    std::thread opener([&] {
      REQUIRE(eventually([&] { return rig.cache.stats().readdir_misses.get() >= waiting; }));
      rig.source->allow_all();
    });
    check_exact(rig.list(), rig.source->names());
    opener.join();
  }
  DirRig rig;
  HookGuard guard;
};

TEST_CASE("who waits for what another was refused asks for himself") {
  for (const int error : {EACCES, EPERM}) {
    Refusing refusing(error);
    REQUIRE(refusing.rig.dir->fetch_ahead(false));
    refusing.list_after(1);
    CHECK(refusing.rig.source->request_count() == 2);
  }
}

// A reader that reads for those who will come.
Status read_ahead_of_others(DirRig& rig, TimePoint deadline) {
  ReadOptions options;
  options.ahead = true;
  options.deadline = deadline;
  Lister lister(*rig.dir);
  return lister.read_all(kNoLimit, options);
}

TEST_CASE("what a reader has begun for others goes on when it gives up") {
  for (const bool listed_before : {false, true}) {
    DirRig rig(Refusing::manual());
    rig.source->fill(100);
    rig.revalidate();
    if (listed_before) REQUIRE(rig.dir->fetch_ahead(false));
    const auto soon = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
    CHECK(read_ahead_of_others(rig, soon).error_number() == ETIMEDOUT);
    CHECK(rig.dir->info().fills == 1);
    CHECK(rig.source->cancels() == 0);
    rig.source->allow_all();
    check_exact(rig.list(), rig.source->names());
    CHECK(rig.source->request_count() == 1);
  }
}

TEST_CASE("who waits for what was begun for others, and refused, asks for himself") {
  Refusing refusing(EACCES);
  std::thread other([&] {
    CHECK(read_ahead_of_others(refusing.rig, TimePoint::max()).error_number() == EACCES);
  });
  REQUIRE(eventually([&] { return refusing.rig.source->request_count() == 1; }));
  refusing.list_after(2);
  other.join();
}

// Names of 15 answers. Its second reply shows that a reader uses attributes.
struct AttributeReader {
  AttributeReader() {
    rig.source->fill(3000);
    rig.revalidate();
    REQUIRE(lister.read(10, plus()).ok());
    REQUIRE(lister.read(10, plus()).ok());
    REQUIRE(rig.source->wait_idle());
    bare = rig.source->request_count() - 1;
  }
  // Nothing was asked for twice but what was under way by then.
  void check_rest() {
    REQUIRE(lister.read_all(30, plus()).ok());
    CHECK(lister.got.attrs.size() == 3000);
    CHECK(rig.source->request_count() <= 15 + bare);
  }
  DirRig rig{with_style(CookieStyle::kOrdered, 202)};
  Lister lister{*rig.dir};
  uint64_t bare = 0;
};

TEST_CASE("what is fetched ahead of a reader that uses attributes has them") {
  AttributeReader().check_rest();
}

TEST_CASE("who reads for others fetches attributes for a reader that uses them") {
  AttributeReader reader;
  REQUIRE(read_ahead_of_others(reader.rig, TimePoint::max()).ok());
  reader.check_rest();
}

TEST_CASE("a chain that goes round and has no directories ends what is told ahead") {
  DirRig rig(with_style(CookieStyle::kOrdered, 202));
  std::vector<FakeEntry> entries;
  for (uint64_t i = 1; i <= 404; ++i) entries.push_back({"f" + std::to_string(i), i, 7 * i + 1});
  rig.source->set_entries(entries);
  rig.revalidate();
  HookGuard guard(*rig.source);
  // Two arrays in one answer, and behind them the first one comes again.
  rig.source->on_answer([&](FakeSource::Number, const DirRequest& asked, cache::DirAnswer& answer) {
    const size_t from = answer.entries.size();
    const size_t to = asked.after.cookie == 404 ? 202 : 404;
    for (size_t i = from; i < to; ++i) {
      answer.add(entries[i].name, entries[i].ino, DT_REG, entries[i].cookie);
    }
    answer.eof = false;
  });
  REQUIRE(rig.dir->fetch_ahead(false));
  REQUIRE(rig.source->wait_idle());
  REQUIRE(eventually([&] { return rig.dir->info().arrays >= 3; }));
  std::vector<Subdirectory> found;
  CHECK(rig.dir->subdirectories(0, 10, &found));
  CHECK(rig.dir->subdirectories(entries.back().ino, 10, &found));
  CHECK(found.empty());
}

TEST_CASE("a huge directory is not read to its end ahead of anybody") {
  DirRig rig(with_style(CookieStyle::kOrdered, 1000));
  rig.source->fill(100'000);
  rig.revalidate();
  REQUIRE(rig.dir->fetch_ahead(false));
  REQUIRE(rig.source->wait_idle());
  CHECK(rig.source->request_count() <= 4);
}

}  // namespace
}  // namespace test
