// A directory whose cookies stop fitting below 2^63 in the middle of its listing.
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
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
