// Own changes applied to cached listings: removed and added names, the tokens around them, readers
// in mid-listing, answers under way, evictions in between; and what all that costs.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <random>
#include <thread>

#include "tests/support/dir_rig.h"
#include "tests/support/random.h"

namespace test {
namespace {

using Presence = Directory::Presence;

// Removes and adds as the daemon does it; true when the listing stays, under the token after it.
bool remove(DirRig& rig, const std::string& name) {
  const auto told = rig.source->remove_told(name);
  if (!told) return false;
  return rig.dir->note_removed(name, told->before, told->after) == told->after;
}

bool note_added(DirRig& rig, const std::string& name, const FakeSource::Told& told) {
  const Directory::NewEntry entry{.name = name,
                                  .ino = told.ino,
                                  .type = FakeSource::type_of(told.ino),
                                  .attr = FakeSource::attr_of(told.ino),
                                  .asked = std::chrono::steady_clock::now()};
  return rig.dir->note_added(entry, told.before, told.after) == told.after;
}

bool add(DirRig& rig, const std::string& name, size_t index = SIZE_MAX) {
  return note_added(rig, name, rig.source->add_told(name, index));
}

// The n-th of every `step` names.
std::vector<std::string> every(const std::vector<std::string>& names, size_t step, size_t first) {
  std::vector<std::string> some;
  for (size_t i = first; i < names.size(); i += step) some.push_back(names[i]);
  return some;
}

std::vector<std::string> sorted(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return names;
}

bool confirmed(DirRig& rig) { return !rig.dir->revalidate(rig.source->change()); }

// Lists everything, so that all of it is held.
void hold_all(DirRig& rig, size_t entries, const ReadOptions& how = {}) {
  rig.source->fill(entries);
  rig.revalidate();
  CHECK(rig.list(kNoLimit, how).size() == entries);
}

TEST_CASE("what we remove is gone at once, and the rest of the listing stays") {
  for (const CookieStyle style : kAllStyles) {
    for (const bool attrs : {false, true}) {
      INFO(name_of(style) << ", attributes " << attrs);
      DirRig rig(with_style(style));
      hold_all(rig, 1000, attrs ? plus() : ReadOptions());
      const uint64_t requests = rig.source->request_count();
      const std::vector<std::string> gone = every(rig.source->names(), 3, 1);
      for (const std::string& name : gone) CHECK(remove(rig, name));
      CHECK(confirmed(rig));
      check_exact(rig.list(), rig.source->names());
      check_exact(rig.list(7), rig.source->names());
      for (const std::string& name : gone) {
        CHECK_FALSE(rig.dir->find_attr(name).has_value());
        CHECK_FALSE(rig.dir->find_ino(name).has_value());
        CHECK(rig.dir->presence(name) == Presence::kAbsent);
      }
      for (const std::string& name : rig.source->names()) {
        CHECK(rig.dir->find_attr(name).has_value() == attrs);
        CHECK(rig.dir->presence(name) == Presence::kThere);
      }
      const auto left = static_cast<int64_t>(rig.source->names().size());
      CHECK(rig.cache.stats().entries_resident.get() == left);
      CHECK(rig.dir->content().entries == static_cast<uint64_t>(left));
      CHECK(rig.dir->content().complete);
      CHECK(rig.source->request_count() == requests);
    }
  }
}

TEST_CASE("attributes renewed where we have removed leave the rest of the listing") {
  for (const CookieStyle style : {CookieStyle::kOrdered, CookieStyle::kHashed}) {
    INFO(name_of(style));
    DirRig rig(with_style(style));
    hold_all(rig, 2000);
    const uint64_t arrays = rig.dir->info().arrays;
    const std::vector<std::string> names = rig.source->names();
    for (const size_t i : {3, 4, 50, 200, 300}) CHECK(remove(rig, names[i]));
    const uint64_t requests = rig.source->request_count();
    ReadOptions renewing = plus();
    renewing.most_arrays = 2;
    Lister lister(*rig.dir);
    REQUIRE(lister.read(10, renewing).ok());
    REQUIRE(rig.source->wait_idle());
    CHECK(rig.dir->find_attr(names[0]).has_value());
    CHECK(rig.dir->info().arrays == arrays);
    check_exact(rig.list(), rig.source->names());
    CHECK(rig.source->request_count() == requests + 1);
  }
}

TEST_CASE("a reader that stands on a removed entry goes on right after it") {
  for (const CookieStyle style : kAllStyles) {
    for (const uint64_t limit : {uint64_t{1}, uint64_t{7}, uint64_t{202}, uint64_t{300}}) {
      INFO(name_of(style) << ", " << limit << " a reply");
      DirRig rig(with_style(style));
      hold_all(rig, 900);
      const std::vector<std::string> all = rig.source->names();
      const uint64_t requests = rig.source->request_count();
      Lister lister(*rig.dir);
      for (size_t removed = 0;;) {
        REQUIRE(lister.read(limit).ok());
        if (lister.last == 0) break;
        for (; removed < lister.got.names.size(); ++removed) {
          remove(rig, lister.got.names[removed]);
        }
      }
      check_exact(lister.got.names, all);
      CHECK(rig.list().empty());
      CHECK(rig.cache.stats().entries_resident.get() == 0);
      // A handle that was told nothing but the place.
      for (const size_t i : {size_t{0}, size_t{201}, size_t{450}, size_t{899}}) {
        Lister other(*rig.dir);
        other.seek(lister.got.cookies[i]);
        CHECK(other.read_all(5).ok());
        CHECK(other.got.names.empty());
      }
      CHECK(confirmed(rig));
      CHECK(rig.source->request_count() == requests);
    }
  }
}

TEST_CASE("entries around the place of a reader are removed, whole arrays of them") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style));
    hold_all(rig, 1000);
    const std::vector<std::string> all = rig.source->names();
    const uint64_t requests = rig.source->request_count();
    Lister lister(*rig.dir);
    REQUIRE(lister.read_up_to(150).ok());
    for (size_t i = 100; i < 700; ++i) remove(rig, all[i]);
    REQUIRE(lister.read_all(60).ok());
    std::vector<std::string> expected(all.begin(), all.begin() + 150);
    expected.insert(expected.end(), all.begin() + 700, all.end());
    check_exact(lister.got.names, expected);
    check_exact(rig.list(9), rig.source->names());
    CHECK(rig.source->request_count() == requests);
  }
}

TEST_CASE("tokens that prove nothing: the change shows at once, the listing is not trusted") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style));
    hold_all(rig, 500);
    const std::vector<std::string> names = rig.source->names();
    Lister before(*rig.dir);
    REQUIRE(before.read_up_to(10).ok());
    const auto told = rig.source->remove_told(names[20]);
    CHECK(rig.dir->note_removed(names[20], 0, 0) == 0);
    CHECK(rig.dir->presence("no such name") == Presence::kUnsure);
    const auto more = rig.source->add_told("new");
    CHECK(rig.dir->note_added({.name = "new", .ino = more.ino, .type = 0, .attr = {}, .asked = {}},
                              0, 0) == 0);
    CHECK(rig.dir->find_ino("new") == more.ino);
    CHECK_FALSE(rig.dir->find_ino(names[20]).has_value());
    REQUIRE(before.read_all(100).ok());
    CHECK(std::count(before.got.names.begin(), before.got.names.end(), names[20]) == 0);
    CHECK_FALSE(confirmed(rig));  // forgotten
    check_listing(rig.list(), rig.source->names());
    CHECK(told->after < rig.source->change());
  }
}

TEST_CASE("somebody else's change before ours is seen at the next opendir") {
  DirRig rig(with_style(CookieStyle::kHashed));
  hold_all(rig, 500);
  const std::vector<std::string> names = rig.source->names();
  rig.source->remove(names[7]);
  CHECK_FALSE(remove(rig, names[30]));
  CHECK_FALSE(rig.dir->find_ino(names[30]).has_value());
  CHECK_FALSE(remove(rig, names[31]));
  CHECK(rig.dir->presence(names[30]) == Presence::kUnsure);
  CHECK_FALSE(confirmed(rig));
  check_exact(rig.list(), rig.source->names());
  CHECK(remove(rig, names[32]));
}

TEST_CASE("changes made side by side prove themselves in whatever order they are told") {
  DirRig rig(with_style(CookieStyle::kHashed));
  hold_all(rig, 500);
  const uint64_t requests = rig.source->request_count();
  const std::vector<std::string> names = rig.source->names();
  std::vector<FakeSource::Told> told;
  for (size_t i = 0; i < 20; ++i) told.push_back(*rig.source->remove_told(names[i]));
  std::vector<size_t> order(told.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  Random random(seed());
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  uint64_t last = 1;
  for (const size_t i : order) {
    last = rig.dir->note_removed(names[i], told[i].before, told[i].after);
  }
  CHECK(last == rig.source->change());
  // Answers from before these changes say nothing against the listing.
  CHECK(rig.dir->present_token(told[3].before) == rig.source->change());
  CHECK_FALSE(rig.dir->revalidate(told[3].before));
  CHECK(confirmed(rig));
  check_exact(rig.list(), rig.source->names());
  CHECK(rig.source->request_count() == requests);
}

// --- answers under way ------------------------------------------------------------------------

TEST_CASE("an answer from before our change is patched, and held under the token after it") {
  for (const CookieStyle style : kAllStyles) {
    for (const FakeSource::Number at : {1, 2}) {
      INFO(name_of(style) << ", in answer " << at);
      DirRig rig(with_style(style, 300));
      rig.source->fill(900);
      rig.revalidate();
      const std::vector<std::string> names = rig.source->names();
      const std::vector<std::string> gone = {names[3], names[250], names[301], names[580]};
      const HookGuard guard(*rig.source);
      rig.source->on_answer([&](FakeSource::Number n, const DirRequest&, cache::DirAnswer&) {
        if (n != at) return;
        for (const std::string& name : gone) remove(rig, name);
        add(rig, "new", 10);
      });
      std::vector<std::string> stable = names;
      std::erase_if(stable, [&](const std::string& name) {
        return std::find(gone.begin(), gone.end(), name) != gone.end();
      });
      check_listing(rig.list(), stable);
      rig.source->end_hooks();
      CHECK(confirmed(rig));
      for (const std::string& name : gone) CHECK_FALSE(rig.dir->find_ino(name).has_value());
      CHECK(rig.dir->find_ino("new").has_value());
      check_exact(rig.list(), rig.source->names());
      CHECK(confirmed(rig));
      CHECK(rig.dir->presence(gone[0]) == Presence::kAbsent);
    }
  }
}

TEST_CASE("a name that is removed and made again while it is asked for is the new one") {
  DirRig rig(with_style(CookieStyle::kHashed));
  rig.source->fill(300);
  rig.revalidate();
  const std::string name = rig.source->names()[40];
  uint64_t ino = 0;
  const HookGuard guard(*rig.source);
  rig.source->on_answer([&](FakeSource::Number n, const DirRequest&, cache::DirAnswer&) {
    if (n != 1) return;
    remove(rig, name);
    const auto told = rig.source->add_told(name);
    ino = told.ino;
    note_added(rig, name, told);
  });
  rig.list(kNoLimit, plus());
  rig.source->end_hooks();
  CHECK(rig.dir->find_ino(name) == ino);
  REQUIRE(rig.dir->find_attr(name).has_value());
  CHECK(rig.dir->find_attr(name)->ino == ino);
  CHECK(rig.dir->find_attr(name)->mode == FakeSource::attr_of(ino).mode);
  CHECK(rig.dir->find_attr(name)->size == FakeSource::attr_of(ino).size);
  CHECK(confirmed(rig));
  check_exact(rig.list(), rig.source->names());
  CHECK(rig.dir->find_ino(name) == ino);
}

TEST_CASE("removals in the part of an array that has come so far") {
  for (const CookieStyle style : kAllStyles) {
    if (style == CookieStyle::kHuge) continue;  // its first answer is not kept
    INFO(name_of(style));
    FakeSource::Options options = with_style(style, 50);
    options.manual = true;
    DirRig rig(options);
    rig.source->fill(450);
    rig.revalidate();
    const std::vector<std::string> names = rig.source->names();
    rig.source->allow(1);
    Lister first(*rig.dir);
    REQUIRE(first.read(20).ok());
    REQUIRE(first.last == 20);
    for (size_t i = 10; i < 50; ++i) remove(rig, names[i]);
    Lister second(*rig.dir);
    REQUIRE(second.read(kNoLimit).ok());
    check_exact(second.got.names, {names.begin(), names.begin() + 10});
    rig.source->allow_all();
    REQUIRE(first.read_all(kNoLimit).ok());
    REQUIRE(second.read_all(kNoLimit).ok());
    std::vector<std::string> expected(names.begin(), names.begin() + 20);
    expected.insert(expected.end(), names.begin() + 50, names.end());
    check_exact(first.got.names, expected);
    check_exact(second.got.names, rig.source->names());
    CHECK(confirmed(rig));
    const auto left = static_cast<int64_t>(rig.source->names().size());
    CHECK(rig.cache.stats().entries_resident.get() == left);
  }
}

TEST_CASE("more removals than are remembered for an answer: it is asked for again") {
  FakeSource::Options options = with_style(CookieStyle::kHashed, 300);
  options.manual = true;
  DirRig rig(options);
  rig.source->fill(300);
  rig.revalidate();
  CHECK(rig.dir->fetch_ahead(false));
  const std::vector<std::string> names = rig.source->names();
  for (uint64_t i = 0; i < 5000; ++i) {
    rig.dir->note_removed("other" + std::to_string(i), 0, 0);
  }
  remove(rig, names[5]);
  rig.source->allow_all();
  check_exact(rig.list(), rig.source->names());
}

TEST_CASE("removals among entries that came by the uncached path") {
  DirRig rig(with_style(CookieStyle::kHashed));
  hold_all(rig, 900);
  Lister all(*rig.dir);
  REQUIRE(all.read_all(kNoLimit).ok());
  rig.dir->invalidate();
  Lister lister(*rig.dir);
  lister.seek(all.got.cookies[299]);
  const uint64_t uncached = rig.cache.stats().readdir_uncached.get();
  REQUIRE(lister.read(5).ok());
  CHECK(rig.cache.stats().readdir_uncached.get() > uncached);
  for (size_t i = 300; i < 340; ++i) remove(rig, all.got.names[i]);
  REQUIRE(lister.read_all(5).ok());
  std::vector<std::string> expected(all.got.names.begin() + 300, all.got.names.begin() + 305);
  expected.insert(expected.end(), all.got.names.begin() + 340, all.got.names.end());
  check_exact(lister.got.names, expected);
  // ... and while such an answer is under way.
  Lister other(*rig.dir);
  other.seek(all.got.cookies[599]);
  rig.dir->invalidate();
  const HookGuard guard(*rig.source);
  rig.source->on_answer([&, done = false](uint64_t, const DirRequest&, cache::DirAnswer&) mutable {
    if (!std::exchange(done, true)) remove(rig, all.got.names[601]);
  });
  REQUIRE(other.read(3).ok());
  check_exact(other.got.names, {all.got.names[600], all.got.names[602], all.got.names[603]});
}

// --- evictions --------------------------------------------------------------------------------

TEST_CASE("removals, evictions and refills: each entry that is left exactly once") {
  const uint64_t first = seed();
  for (const CookieStyle style : kAllStyles) {
    for (uint64_t round = 0; round < std::max<uint64_t>(scaled(10), 2); ++round) {
      INFO(name_of(style) << ", round " << round << ", COOKIEFS_TEST_SEED=" << first);
      Random random(first + round);
      DirRig rig(with_style(style, 202));
      hold_all(rig, 1500);
      Lister lister(*rig.dir);
      REQUIRE(lister.read_up_to(random.below(1500)).ok());
      const std::vector<std::string> given = lister.got.names;
      std::vector<std::string> names = rig.source->names();
      for (uint64_t step = 0; step < 8; ++step) {
        for (uint64_t n = random.below(60); n > 0; --n) {
          const size_t i = random.below(names.size());
          remove(rig, names[i]);
          names.erase(names.begin() + static_cast<ptrdiff_t>(i));
        }
        rig.cache.reclaim(1 + static_cast<uint32_t>(random.below(4)));
        if (random.one_in(3)) check_exact(rig.list(1 + random.below(400)), rig.source->names());
      }
      // A place that is told by ordinals alone is lost with all the entries around it.
      const Status status = lister.read_all(50);
      if (style != CookieStyle::kOrdinal) CHECK(status.ok());
      std::vector<std::string> got = lister.got.names;
      CHECK(std::unique(got.begin(), got.end()) == got.end());
      check_exact(rig.list(), rig.source->names());
      rig.cache.drop_clean();
      check_exact(rig.list(), rig.source->names());
    }
  }
}

// --- names that are added ---------------------------------------------------------------------

TEST_CASE("a name that is wanted is looked for in what is held, from the start on") {
  const auto ends_in_99 = [](std::string_view name) { return name.ends_with("99"); };
  const auto is_x = [](std::string_view name) { return name == "x"; };
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style));
    CHECK_FALSE(rig.dir->find_name(is_x));
    hold_all(rig, 1000);
    const uint64_t requests = rig.source->request_count();
    const auto found = rig.dir->find_name(ends_in_99);
    REQUIRE(found);
    CHECK(ends_in_99(*found));
    CHECK(rig.dir->find_name(is_x) == "");  // there is none
    CHECK(remove(rig, *found));
    CHECK(rig.dir->find_name(ends_in_99) != *found);
    CHECK(add(rig, "y", 1));
    CHECK_FALSE(rig.dir->find_name(is_x));  // not known of those that were added
    CHECK(rig.source->request_count() == requests);
  }
}

TEST_CASE("added names are found at once, and cost one reading of the listing in all") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style));
    rig.source->fill(900);
    rig.revalidate();
    rig.list(kNoLimit, plus());
    const uint64_t whole = rig.source->request_count();
    Lister before(*rig.dir);
    REQUIRE(before.read_up_to(30).ok());
    const std::vector<std::string> old = rig.source->names();
    for (int i = 0; i < 100; ++i) {
      const std::string name = "new" + std::to_string(i);
      CHECK(add(rig, name, static_cast<size_t>(i) * 9));
      CHECK(rig.dir->presence(name) == Presence::kThere);
      CHECK(rig.dir->find_attr(name).has_value());
      CHECK(rig.dir->find_ino(name) == rig.dir->find_attr(name)->ino);
      CHECK_FALSE(rig.dir->find_attr(name, TimePoint::max()).has_value());
      CHECK(rig.dir->presence("no" + name) == Presence::kAbsent);
    }
    CHECK(confirmed(rig));
    REQUIRE(before.read_all(100).ok());  // not disturbed
    check_listing(before.got.names, old);
    CHECK(rig.source->request_count() == whole);
    check_exact(rig.list(), rig.source->names());
    CHECK(rig.source->request_count() <= 2 * whole + 1);
    const uint64_t requests = rig.source->request_count();
    check_exact(rig.list(11), rig.source->names());
    CHECK(rig.dir->presence("new3") == Presence::kThere);
    CHECK(rig.source->request_count() == requests);
    CHECK(rig.dir->info().forgotten == cache::Forgotten::kOwnChange);
  }
}

TEST_CASE("what is added and removed again costs nothing") {
  DirRig rig(with_style(CookieStyle::kHashed));
  hold_all(rig, 500);
  const uint64_t requests = rig.source->request_count();
  for (int i = 0; i < 1000; ++i) {
    add(rig, "tmp");
    CHECK(rig.dir->presence("tmp") == Presence::kThere);
    CHECK(remove(rig, "tmp"));
    CHECK(rig.dir->presence("tmp") == Presence::kAbsent);
  }
  CHECK(rig.cache.stats().name_index_bytes.get() == 0);
  check_exact(rig.list(), rig.source->names());
  CHECK(rig.source->request_count() == requests);
}

TEST_CASE("a name that replaces another stays listed, with its own number") {
  DirRig rig(with_style(CookieStyle::kHashed));
  rig.source->fill(300);
  rig.revalidate();
  rig.list(kNoLimit, plus());
  const std::string name = rig.source->names()[100];
  Lister lister(*rig.dir);
  REQUIRE(lister.read_up_to(50).ok());
  const FakeSource::Told told{
      .before = rig.source->change(), .after = rig.source->change(), .ino = 77777};
  note_added(rig, name, told);
  CHECK(rig.dir->find_ino(name) == 77777);
  CHECK(rig.dir->find_attr(name) == FakeSource::attr_of(77777));
  REQUIRE(lister.read_all(kNoLimit, plus()).ok());
  check_exact(lister.got.names, rig.source->names());
  CHECK(lister.got.inos[100] == 77777);
  CHECK(lister.got.types[100] == FakeSource::type_of(77777));
  CHECK(lister.got.attrs.size() == 299);
}

TEST_CASE("attributes that we have changed are not told from the listing") {
  DirRig rig(with_style(CookieStyle::kHashed));
  rig.source->fill(300);
  rig.revalidate();
  rig.list(kNoLimit, plus());
  const std::string name = rig.source->names()[100];
  rig.dir->note_attr_changed(name);
  add(rig, "new");
  rig.dir->note_attr_changed("new");
  rig.dir->note_attr_changed("no such name");
  CHECK_FALSE(rig.dir->find_attr(name).has_value());
  CHECK_FALSE(rig.dir->find_attr("new").has_value());
  CHECK(rig.dir->find_ino(name).has_value());
  CHECK(rig.dir->find_ino("new").has_value());
  CHECK(rig.dir->presence(name) == Presence::kThere);
}

TEST_CASE("more added names than there is room for: the listing is read again") {
  cache::PageCacheOptions memory = DirRig::roomy();
  memory.limit_bytes = uint64_t{2} << 20;
  DirRig rig(with_style(CookieStyle::kHashed), memory);
  hold_all(rig, 500);
  for (int i = 0; i < 3000; ++i) add(rig, "new" + std::to_string(i));
  CHECK(static_cast<uint64_t>(rig.cache.stats().name_index_bytes.get()) <=
        rig.cache.bound_bytes() / 16);
  CHECK(rig.dir->presence("no such name") == Presence::kUnsure);
  CHECK(confirmed(rig));
  check_exact(sorted(rig.list()), sorted(rig.source->names()));
  CHECK(rig.dir->presence("no such name") == Presence::kAbsent);
}

// --- absent names -----------------------------------------------------------------------------

TEST_CASE("a new directory is listed, and asked for names, without a request") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style));
    rig.close();
    rig.dir = std::make_unique<Directory>(rig.cache, *rig.source);
    rig.dir->opened();
    rig.dir->adopt_empty(0);
    CHECK_FALSE(rig.dir->holds_listing());
    rig.dir->adopt_empty(rig.source->change());
    CHECK(rig.dir->holds_listing());
    CHECK(confirmed(rig));
    CHECK(rig.list().empty());
    CHECK(rig.list(kNoLimit, plus()).empty());
    for (int i = 0; i < 50; ++i) {
      const std::string name = "f" + std::to_string(i);
      CHECK(rig.dir->presence(name) == Presence::kAbsent);
      CHECK(add(rig, name));
      CHECK(rig.dir->presence(name) == Presence::kThere);
      CHECK(rig.dir->find_attr(name).has_value());
    }
    CHECK(remove(rig, "f7"));
    CHECK(rig.dir->presence("f7") == Presence::kAbsent);
    CHECK(rig.source->request_count() == 0);
    check_exact(rig.list(), rig.source->names());
    const uint64_t requests = rig.source->request_count();
    rig.dir->adopt_empty(rig.source->change());  // there is something: nothing is adopted
    check_exact(rig.list(), rig.source->names());
    CHECK(rig.source->request_count() == requests);
  }
}

TEST_CASE("names are known to be absent only where the whole listing is held, and proven") {
  DirRig rig(with_style(CookieStyle::kHashed, 400));
  rig.source->fill(20000);  // more than is fetched ahead of a reader of the first thousand
  rig.revalidate();
  const auto absent = [&] { return rig.dir->presence("no such name"); };
  CHECK(absent() == Presence::kUnsure);
  Lister lister(*rig.dir);
  REQUIRE(lister.read_up_to(1000).ok());
  CHECK(absent() == Presence::kUnsure);
  rig.list();
  CHECK(absent() == Presence::kAbsent);
  CHECK(rig.dir->presence(rig.source->names()[1234]) == Presence::kThere);
  rig.cache.reclaim(1);  // a hole
  CHECK(absent() == Presence::kUnsure);
  rig.list();
  CHECK(absent() == Presence::kAbsent);
  rig.source->append("others");
  rig.revalidate();
  CHECK(absent() == Presence::kUnsure);
  rig.list();
  CHECK(absent() == Presence::kAbsent);
  rig.dir->invalidate();
  CHECK(absent() == Presence::kUnsure);
}

TEST_CASE("a remote that tells no tokens has no names that are known to be absent") {
  FakeSource::Options options = with_style(CookieStyle::kHashed);
  options.tells_change = false;
  DirRig rig(options);
  rig.source->fill(100);
  rig.dir->revalidate(0);
  rig.list();
  CHECK(rig.dir->presence("no such name") == Presence::kUnsure);
}

// --- what it costs ----------------------------------------------------------------------------

TEST_CASE("removing all of a long listing looks at each array a few times an entry, in any order") {
  enum class Order { kListing, kRandom };
  const size_t size = kSanitized ? 20'000 : 100'000;
  for (const Order order : {Order::kListing, Order::kRandom}) {
    INFO("random " << (order == Order::kRandom));
    DirRig rig(with_style(CookieStyle::kHashed, 10'000));
    hold_all(rig, size);
    const uint64_t requests = rig.source->request_count();
    std::vector<std::string> names = rig.source->names();
    if (order == Order::kRandom) {
      std::mt19937_64 random(seed());
      std::shuffle(names.begin(), names.end(), random);
    }
    uint64_t token = rig.source->change();
    for (const std::string& name : names) {
      CHECK(rig.dir->presence(name) == Presence::kThere);
      const uint64_t after = token + 1;
      if (rig.dir->note_removed(name, token, after) != after) FAIL("not proven");
      token = after;
    }
    const uint64_t arrays = rig.dir->info().arrays;
    // presence() and the removal: where it is expected, the next array, where the index says.
    CHECK(rig.dir->info().own_searched <= 6 * size + 10 * arrays);
    CHECK(rig.dir->info().own_changes == size);
    CHECK_FALSE(rig.dir->revalidate(token));
    CHECK(rig.list().empty());
    CHECK(rig.cache.stats().entries_resident.get() == 0);
    CHECK(rig.source->request_count() == requests);
    CHECK(rig.dir->presence(names[5]) == Presence::kAbsent);
  }
}

TEST_CASE("where there is no room for an index of names, random removals still are right") {
  cache::PageCacheOptions memory = DirRig::roomy();
  memory.limit_bytes = uint64_t{3} << 20;
  DirRig rig(with_style(CookieStyle::kHashed, 1000), memory);
  rig.source->fill(20'000);
  rig.revalidate();
  rig.list();
  std::vector<std::string> names = rig.source->names();
  std::mt19937_64 random(seed());
  std::shuffle(names.begin(), names.end(), random);
  for (size_t i = 0; i < 200; ++i) {
    remove(rig, names[i]);
    CHECK_FALSE(rig.dir->find_ino(names[i]).has_value());
  }
  CHECK(confirmed(rig));
  check_exact(rig.list(), rig.source->names());
}

// --- many threads -----------------------------------------------------------------------------

TEST_CASE("readers, removals, additions and reclaim side by side") {
  for (const CookieStyle style : {CookieStyle::kHashed, CookieStyle::kName, CookieStyle::kHuge}) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 300));
    hold_all(rig, 3000, plus());
    const std::vector<std::string> names = rig.source->names();
    const std::vector<std::string> gone = every(names, 2, 1);
    const std::vector<std::string> stable = every(names, 2, 0);
    std::atomic<size_t> removed{0};
    std::atomic<bool> end{false};
    std::vector<std::string> failures(3);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < failures.size(); ++t) {
      threads.emplace_back([&, t] {
        while (!end && failures[t].empty()) {
          const size_t known = removed;
          Lister lister(*rig.dir);
          const Status status = lister.read_all(100 + t, t == 0 ? plus() : ReadOptions());
          if (!status.ok()) failures[t] = "errno " + std::to_string(status.error_number());
          std::unordered_map<std::string, int> seen;
          for (const std::string& name : lister.got.names) {
            if (++seen[name] > 1) failures[t] = "twice: " + name;
          }
          for (const std::string& name : stable) {
            if (seen.count(name) == 0) failures[t] = "missing: " + name;
          }
          for (size_t i = 0; i < known; ++i) {
            if (seen.count(gone[i]) != 0) failures[t] = "removed: " + gone[i];
          }
        }
      });
    }
    Random random(seed());
    for (size_t i = 0; i < gone.size(); ++i) {
      remove(rig, gone[i]);
      removed = i + 1;
      if (i % 50 == 7) add(rig, "x" + std::to_string(i), random.below(3000));
      if (i % 100 == 31) rig.cache.reclaim(2);
      if (rig.dir->presence(gone[i]) == Presence::kThere) failures[0] = "there: " + gone[i];
    }
    end = true;
    for (std::thread& thread : threads) thread.join();
    for (const std::string& failure : failures) CHECK(failure == "");
    // Not proven where an array that was reclaimed came back another one: then it is read again.
    static_cast<void>(confirmed(rig));
    check_exact(sorted(rig.list()), sorted(rig.source->names()));
  }
}

}  // namespace
}  // namespace test
