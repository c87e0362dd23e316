// A directory whose cookies stop fitting below 2^63 in the middle of its listing.
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <list>
#include <thread>

#include "cache/base/race_point.h"
#include "tests/support/dir_rig.h"

using namespace test;  // NOLINT

namespace {

// The first `native` entries have cookies that fit, the others have not. In order, all over the
// range: a server that resumes after any number takes each for a place.
std::vector<FakeEntry> half_fitting(size_t native, size_t count) {
  constexpr uint64_t kHalf = uint64_t{1} << 63;
  std::vector<FakeEntry> entries(count);
  for (size_t i = 0; i < count; ++i) {
    entries[i].name = "entry-" + std::to_string(100000 + i);
    entries[i].cookie = i < native ? (i + 1) * (kHalf / (native + 1)) : kHalf + i * 1000;
  }
  return entries;
}

}  // namespace

TEST_CASE("trap 12: positions given before a directory switches to mapped cookies stay valid") {
  DirRig rig(with_style(CookieStyle::kOrdered, 400));
  rig.source->set_entries(half_fitting(3000, 6000));
  rig.revalidate();
  Lister before(*rig.dir);
  std::vector<uint64_t> positions;
  std::vector<size_t> given;
  while (before.got.names.size() < 2500) {
    REQUIRE(before.read(70).ok());
    REQUIRE(before.last > 0);
    positions.push_back(before.position);
    given.push_back(before.got.names.size());
  }
  REQUIRE(before.read_all(70).ok());
  check_exact(before.got.names, rig.source->names());

  const std::vector<std::string> names = rig.source->names();
  for (const bool evicted : {false, true}) {
    for (size_t i = 0; i < positions.size(); i += 3) {
      if (evicted) rig.cache.drop_clean();
      Lister seeker(*rig.dir);
      seeker.seek(positions[i]);
      REQUIRE(seeker.read(300).ok());
      REQUIRE(seeker.last > 0);
      INFO("position " << positions[i]);
      CHECK(seeker.got.names.front() == names[given[i]]);
    }
  }
  Lister rest(*rig.dir);
  rest.seek(positions.front());
  REQUIRE(rest.read_all(500).ok());
  check_exact(rest.got.names, {names.begin() + static_cast<ptrdiff_t>(given.front()), names.end()});
}

namespace {

// More than the anchors are kept for: those of arrays that nobody listed since are gone.
void let_generations_pass(DirRig& rig) {
  for (int i = 0; i < 8; ++i) {
    rig.dir->invalidate();
    Lister other(*rig.dir);
    REQUIRE(other.read_up_to(300).ok());
  }
}

}  // namespace

// A mapped cookie whose array is no longer known is not one of the remote's own: taken for one, it
// led back into what had been given.
TEST_CASE("trap 12: after the switch, a place whose anchor was forgotten is found all the same") {
  for (const size_t before : {size_t{3200}, size_t{4500}, size_t{5900}}) {
    for (const size_t taken : {size_t{1}, size_t{30}, size_t{70}}) {
      INFO("after " << before << " entries and " << taken << " of a reply of 70");
      DirRig rig(with_style(CookieStyle::kOrdered, 400));
      rig.source->set_entries(half_fitting(3000, 6000));
      rig.revalidate();
      Lister lister(*rig.dir);
      REQUIRE(lister.read_up_to(before).ok());
      CollectSink reply(70);
      REQUIRE(rig.dir->read(lister.cursor, lister.position, {}, reply).ok());
      REQUIRE_FALSE(reply.names.empty());
      // The program had room for some of it only; what it goes on from is a place in the middle.
      const size_t room = std::min(taken, reply.names.size());
      for (size_t i = 0; i < room; ++i) lister.got.names.push_back(reply.names[i]);
      lister.position = reply.cookies[room - 1];
      let_generations_pass(rig);
      REQUIRE(lister.read_all(500).ok());
      check_exact(lister.got.names, rig.source->names());
    }
  }
}

TEST_CASE("trap 12: a seek to a place of before or after the switch, its anchor forgotten") {
  DirRig rig(with_style(CookieStyle::kOrdered, 400));
  rig.source->set_entries(half_fitting(3000, 6000));
  rig.revalidate();
  const std::vector<std::string> names = rig.source->names();
  Lister whole(*rig.dir);
  REQUIRE(whole.read_all(100).ok());
  check_exact(whole.got.names, names);
  for (const size_t at : {size_t{1}, size_t{1700}, size_t{2400}, size_t{3300}, size_t{5700}}) {
    INFO("after " << at << " entries");
    let_generations_pass(rig);
    Lister seeker(*rig.dir);
    seeker.seek(whole.got.cookies[at - 1]);
    REQUIRE(seeker.read_all(500).ok());
    check_exact(seeker.got.names, {names.begin() + static_cast<ptrdiff_t>(at), names.end()});
  }
  // Boundaries move with a change: then the number could be either, and neither is taken.
  rig.source->remove(names.front());
  rig.revalidate();
  let_generations_pass(rig);
  Lister seeker(*rig.dir);
  seeker.seek(whole.got.cookies[5699]);
  CHECK(seeker.read_all(500).error_number() == ESTALE);
  CHECK(seeker.got.names.empty());
}

// They had the remote's own cookies, and the remote still knows them: nothing is listed again, and
// what is held stays.
TEST_CASE("trap 12: readers go on at the switch where they are") {
  for (const uint64_t reply : {uint64_t{1}, uint64_t{70}, uint64_t{202}, uint64_t{5000}}) {
    INFO("by " << reply);
    DirRig rig(with_style(CookieStyle::kOrdered, 400));
    rig.source->set_entries(half_fitting(8000, 12'000));
    rig.revalidate();
    // At the start and in the middle of an array, in the first one, and where only the number
    // tells.
    std::list<Lister> slow;
    for (const size_t at : {size_t{1}, size_t{100}, size_t{202}, size_t{3 * 202}, size_t{5555}}) {
      REQUIRE(slow.emplace_back(*rig.dir).read_up_to(at).ok());
    }
    Lister seeker(*rig.dir);
    seeker.seek(slow.back().got.cookies[4444]);
    REQUIRE(seeker.read_up_to(10).ok());
    rig.source->forget_requests();
    Lister first(*rig.dir);
    REQUIRE(first.read_all(reply).ok());
    check_exact(first.got.names, rig.source->names());
    // What nobody had listed, by 400.
    CHECK(rig.source->requests().size() <= 20);
    rig.source->forget_requests();
    for (Lister& lister : slow) {
      REQUIRE(lister.read_all(reply).ok());
      check_exact(lister.got.names, rig.source->names());
    }
    REQUIRE(seeker.read_all(reply).ok());
    CHECK(seeker.got.names.size() == 12'000 - 4445);
    CHECK(rig.source->requests().size() <= 2);
    CHECK(rig.dir->info().arrays <= 12'000 / 202 + 3);
  }
}

// As rm -r does it.
TEST_CASE("traps 9, 12: at the switch all that a reader was given is gone") {
  for (const uint32_t batch : {150U, 400U}) {
    for (const uint64_t reply : {uint64_t{70}, uint64_t{202}, uint64_t{5000}}) {
      INFO("by " << reply << ", in answers of " << batch);
      DirRig rig(with_style(CookieStyle::kOrdered, batch));
      rig.source->set_entries(half_fitting(1000, 2000));
      rig.revalidate();
      const std::vector<std::string> names = rig.source->names();
      Lister lister(*rig.dir);
      size_t removed = 0;
      do {
        REQUIRE(lister.read(reply).ok());
        for (; removed < lister.got.names.size(); ++removed) {
          const std::string& name = lister.got.names[removed];
          const auto told = rig.source->remove_told(name);
          REQUIRE(told);
          (void)rig.dir->note_removed(name, told->before, told->after);
        }
      } while (lister.last > 0);
      check_exact(lister.got.names, names);
    }
  }
}

TEST_CASE("traps 9, 12: at the switch all that came of an array was given, and is gone") {
  auto options = with_style(CookieStyle::kOrdered, 150);
  options.manual = true;
  DirRig rig(options);
  rig.source->set_entries(half_fitting(200, 600));
  rig.revalidate();
  const std::vector<std::string> names = rig.source->names();
  Lister lister(*rig.dir);
  std::thread listing([&] { (void)lister.read(5000).ok(); });
  rig.source->allow(1);
  listing.join();
  REQUIRE(lister.last == 150);
  for (size_t i = 0; i < lister.last; ++i) REQUIRE(rig.source->remove(names[i]));
  rig.source->allow_all();
  REQUIRE(lister.read_all(70).ok());
  check_exact(lister.got.names, names);
}

TEST_CASE("trap 12: a seek past the arrays meets the switch, and goes on where it is") {
  DirRig rig(with_style(CookieStyle::kOrdered, 400));
  rig.source->set_entries(half_fitting(3000, 6000));
  rig.revalidate();
  const std::vector<std::string> names = rig.source->names();
  Lister seeker(*rig.dir);
  seeker.seek(rig.source->entries()[2899].cookie);
  REQUIRE(seeker.read_all(500).ok());
  check_exact(seeker.got.names, {names.begin() + 2900, names.end()});
  CHECK(rig.source->requests().size() <= 20);  // 3,100 entries by 400, small ones at first
}

// Arrays of before the change and of after it would stand beside each other, and not meet.
TEST_CASE("trap 12: what we removed before the switch is nowhere, and is not held twice") {
  auto options = with_style(CookieStyle::kOrdered, 400);
  options.manual = true;
  DirRig rig(options);
  rig.source->set_entries(half_fitting(1000, 2000));
  rig.revalidate();
  const auto remove = [&](const std::string& name) {
    const auto told = rig.source->remove_told(name);
    if (told) (void)rig.dir->note_removed(name, told->before, told->after);
    return told.has_value();
  };
  Lister first(*rig.dir);
  std::thread listing([&] { (void)first.read_up_to(10).ok(); });
  rig.source->allow(1);
  listing.join();
  REQUIRE(first.last == 10);
  REQUIRE(rig.source->wait_requests(2));
  REQUIRE(remove(rig.source->names()[5]));  // its array is there, the next ones come after it
  rig.source->allow(1);
  REQUIRE(rig.source->wait_requests(3));
  rig.source->allow_all();
  Lister again(*rig.dir);
  REQUIRE(again.read_all(300).ok());
  const std::vector<std::string> names = rig.source->names();
  check_exact(again.got.names, names);
  const uint64_t arrays = rig.dir->info().arrays;
  for (size_t i = 0; i < 600; ++i) {
    REQUIRE(remove(names[i]));
    INFO(names[i]);
    CHECK_FALSE(rig.dir->find_ino(names[i]));
  }
  rig.dir->invalidate();
  Lister fresh(*rig.dir);
  REQUIRE(fresh.read_all(300).ok());
  const uint64_t once = rig.dir->info().arrays + 600 / 202;
  CHECK(arrays <= once);
}

TEST_CASE("trap 12: what is held at the switch keeps its attributes, and no room is no harm") {
  for (const uint64_t mib : {uint64_t{64}, uint64_t{1}}) {
    INFO("in " << mib << " MiB");
    DirRig rig(with_style(CookieStyle::kOrdered, 400),
               {.limit_bytes = mib << 20,
                .min_bytes = uint64_t{1} << 20,
                .background = cache::PageCacheOptions::Background::kNone});
    rig.source->set_entries(half_fitting(20'000, 24'000));
    rig.revalidate();
    ReadOptions options;
    options.want_attrs = true;
    Lister lister(*rig.dir);
    REQUIRE(lister.read_all(300, options).ok());
    check_exact(lister.got.names, rig.source->names());
    const auto held = rig.dir->content();
    CHECK(held.arrays_with_attrs == rig.dir->info().arrays);
    CHECK(held.complete == (mib == 64));
    Lister next(*rig.dir);
    REQUIRE(next.read_all(300, options).ok());
    CHECK(next.got.names == lister.got.names);
    CHECK(next.got.cookies.back() == lister.got.cookies.back());
  }
}

TEST_CASE("trap 12: a name that we have removed before the switch is gone after it") {
  DirRig rig(with_style(CookieStyle::kOrdered, 400));
  rig.source->set_entries(half_fitting(3000, 6000));
  rig.revalidate();
  std::vector<std::string> names = rig.source->names();
  Lister slow(*rig.dir);
  REQUIRE(slow.read_up_to(500).ok());
  for (const size_t at : {size_t{600}, size_t{450}, size_t{300}}) {
    const auto told = rig.source->remove_told(names[at]);
    REQUIRE(told);
    (void)rig.dir->note_removed(names[at], told->before, told->after);
  }
  Lister first(*rig.dir);
  REQUIRE(first.read_all(300).ok());
  check_exact(first.got.names, rig.source->names());
  REQUIRE(slow.read_all(70).ok());
  names.erase(names.begin() + 600);
  check_exact(slow.got.names, names);
  Lister again(*rig.dir);
  REQUIRE(again.read_all(300).ok());
  check_exact(again.got.names, rig.source->names());
}

TEST_CASE("trap 12: at the switch the entry that a reader was given last is gone") {
  for (const size_t at : {size_t{1}, size_t{100}, size_t{202}, size_t{1000}}) {
    INFO("after " << at);
    DirRig rig(with_style(CookieStyle::kOrdered, 400));
    rig.source->set_entries(half_fitting(3000, 6000));
    rig.revalidate();
    std::vector<std::string> names = rig.source->names();
    Lister slow(*rig.dir);
    REQUIRE(slow.read_up_to(at).ok());
    Lister first(*rig.dir);
    REQUIRE(first.read_all(500).ok());
    rig.source->remove(names[at - 1]);
    rig.source->remove(names[at]);
    rig.revalidate();
    REQUIRE(slow.read_all(70).ok());
    names.erase(names.begin() + static_cast<ptrdiff_t>(at));
    check_exact(slow.got.names, names);
  }
}

// What it is given has cookies of before the switch, or of after it, but none of another place.
TEST_CASE("trap 12: a directory switches while somebody asks for entries past its arrays") {
  auto options = with_style(CookieStyle::kOrdered, 400);
  options.manual = true;
  DirRig rig(options);
  rig.source->set_entries(half_fitting(600, 1000));
  rig.revalidate();
  const std::vector<std::string> names = rig.source->names();
  Lister first(*rig.dir);
  std::thread listing([&] { (void)first.read_up_to(10).ok(); });
  rig.source->allow(1);
  listing.join();
  REQUIRE(first.last == 10);
  REQUIRE(rig.source->wait_requests(2));  // ahead of it, and what meets the switch
  Lister seeker(*rig.dir);
  seeker.seek(rig.source->entries()[299].cookie);
  std::thread seeking([&] { (void)seeker.read(20).ok(); });
  REQUIRE(rig.source->wait_requests(3));
  rig.source->allow(1);
  REQUIRE(rig.source->wait_answered(2));
  rig.source->allow_all();
  seeking.join();
  REQUIRE(seeker.last > 0);
  for (size_t i = 0; i < seeker.last; ++i) {
    INFO("entry " << i);
    CHECK(seeker.got.names[i] == names[300 + i]);
    Lister other(*rig.dir);
    other.seek(seeker.got.cookies[i]);
    REQUIRE(other.read(1).ok());
    CHECK(other.got.names == std::vector{names[301 + i]});
  }
  REQUIRE(seeker.read_all(70).ok());
  check_exact(seeker.got.names, {names.begin() + 300, names.end()});
}

// As long as no anchor was forgotten, a number that none of them knows is the remote's own.
TEST_CASE("trap 12: a seek to a place of before the switch costs a few requests, not a listing") {
  DirRig rig(with_style(CookieStyle::kOrdered, 400));
  rig.source->set_entries(half_fitting(30'000, 40'000));
  rig.revalidate();
  const std::vector<std::string> names = rig.source->names();
  Lister whole(*rig.dir);
  REQUIRE(whole.read_all(100).ok());
  check_exact(whole.got.names, names);
  for (const size_t at : {size_t{5'000}, size_t{15'000}, size_t{27'000}, size_t{35'000}}) {
    INFO("after " << at << " entries");
    rig.cache.drop_clean();
    REQUIRE(rig.source->wait_idle());
    rig.source->forget_requests();
    Lister seeker(*rig.dir);
    seeker.seek(whole.got.cookies[at - 1]);
    REQUIRE(seeker.read(10).ok());
    const size_t asked = rig.source->requests().size();
    CHECK(asked <= 4);  // with what was read ahead by then
    REQUIRE(seeker.last > 0);
    CHECK(seeker.got.names.front() == names[at]);
  }
}

// What is refilled is in use: its anchor lives on, however many generations go by.
TEST_CASE("a place that is read again in every generation is never looked for along the chain") {
  DirRig rig(with_style(CookieStyle::kName, 400));
  rig.source->fill(30'000);
  rig.revalidate();
  const std::vector<std::string> names = rig.source->names();
  Lister whole(*rig.dir);
  REQUIRE(whole.read_all(100).ok());
  for (int i = 0; i < 12; ++i) {
    INFO("generation " << i);
    rig.dir->invalidate();
    REQUIRE(rig.source->wait_idle());
    rig.source->forget_requests();
    Lister seeker(*rig.dir);
    seeker.seek(whole.got.cookies[19'999]);
    REQUIRE(seeker.read(10).ok());
    const size_t asked = rig.source->requests().size();
    CHECK(asked <= 4);  // with what was read ahead by then
    REQUIRE(seeker.last > 0);
    CHECK(seeker.got.names.front() == names[20'000]);
  }
}

#ifdef CACHE_RACE_POINTS
// Readers that begin while the directory switches: none may take an array of before it for one of
// after it. The key after such an array meant nothing, and the listing began again there.
TEST_CASE("trap 12: readers that begin as a directory switches get each name once") {
  constexpr size_t kNative = 4000;
  constexpr size_t kBegun = 20;  // listings that a reader begins from then on
  // Held, not awaited: readers that have found nothing wait for the lock under which this runs.
  cache::race_point::hook =
      +[](const char*) { std::this_thread::sleep_for(std::chrono::milliseconds(5)); };
  for (int round = 0; round < 4; ++round) {
    INFO("round " << round);
    DirRig rig(with_style(CookieStyle::kOrdered, 400));
    rig.source->set_entries(half_fitting(kNative, kNative + 500));
    rig.revalidate();
    std::atomic<bool> coming{false};
    const HookGuard guard(*rig.source);
    rig.source->on_answer([&](FakeSource::Number, const DirRequest&, cache::DirAnswer& answer) {
      if (!answer.entries.empty() && answer.entries.back().cookie >> 63 != 0) coming = true;
    });
    std::array<std::vector<std::unique_ptr<Lister>>, 2> begun;
    std::vector<std::thread> readers;
    for (auto& mine : begun) {
      readers.emplace_back([&mine, &coming, &rig] {
        while (mine.size() < kBegun) {
          if (!coming) mine.clear();
          mine.push_back(std::make_unique<Lister>(*rig.dir));
          static_cast<void>(mine.back()->read(kNoLimit));
        }
      });
    }
    Lister over(*rig.dir);
    CHECK(over.read_all(500).ok());
    for (std::thread& reader : readers) reader.join();
    check_exact(over.got.names, rig.source->names());
    for (const auto& mine : begun) {
      for (const auto& lister : mine) {
        CHECK(lister->read_all(kNoLimit).ok());
        check_exact(lister->got.names, rig.source->names());
      }
    }
  }
  cache::race_point::hook = nullptr;
}
#endif
