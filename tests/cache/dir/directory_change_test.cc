// Directory: freshness, changes in mid-listing, verifiers, attributes (contracts.md, 1, 4 and 5;
// traps 7, 13, 23).
#include <atomic>

#include "tests/support/dir_rig.h"
#include "tests/support/random.h"

namespace test {
namespace {

// GCC 12 warns of overlaps that are not there where a literal is added to a temporary.
std::string numbered(const char* prefix, int number) {
  std::string name = prefix;
  name.append(std::to_string(number));
  return name;
}

TEST_CASE("a change injected in mid-request never leaves a page that validates (trap 7)") {
  for (const CookieStyle style : kAllStyles) {
    for (const uint64_t request : {1, 2, 3}) {
      for (const bool tells : {true, false}) {
        INFO(name_of(style) << ", request " << request << ", tells its change " << tells);
        FakeSource::Options options = with_style(style, 300);
        options.tells_change = tells;
        DirRig rig(options);
        rig.source->fill(1000);
        rig.revalidate();
        FakeSource* source = rig.source.get();
        // After the answer was made, before it is delivered: it does not show the change.
        source->on_answer([source, request](uint64_t number, const DirRequest&, cache::DirAnswer&) {
          if (number == request) source->append("zz-injected");
        });
        Lister lister(*rig.dir);
        REQUIRE(lister.read_all(100).ok());
        CHECK(rig.dir->revalidate(source->change()));
        const auto names = rig.list();
        CHECK(std::count(names.begin(), names.end(), "zz-injected") == 1);
        check_exact(names, source->names());
      }
    }
  }
}

TEST_CASE("a change before the answer is made does not validate either (trap 7)") {
  DirRig rig(with_style(CookieStyle::kOrdered, 300));
  rig.source->fill(1000);
  rig.revalidate();
  FakeSource* source = rig.source.get();
  source->on_request([source](uint64_t number) {
    if (number == 1) source->remove("f00000500");
  });
  rig.list();
  CHECK(rig.dir->revalidate(source->change()));
  check_exact(rig.list(), source->names());
  CHECK_FALSE(rig.dir->revalidate(source->change()));
}

TEST_CASE("revalidation keeps what is unchanged and drops what is not") {
  DirRig rig(with_style(CookieStyle::kOrdered));
  rig.source->fill(5000);
  rig.revalidate();
  CHECK_FALSE(rig.dir->holds_listing());
  rig.list();
  CHECK(rig.dir->holds_listing());
  const uint64_t requests = rig.source->request_count();
  CHECK_FALSE(rig.dir->revalidate(rig.source->change()));
  rig.list();
  CHECK(rig.source->request_count() == requests);
  rig.source->append("zz");
  CHECK(rig.dir->revalidate(rig.source->change()));
  CHECK_FALSE(rig.dir->holds_listing());
  CHECK(rig.dir->info().arrays == 0);
  check_exact(rig.list(), rig.source->names());
  // An unknown token proves nothing.
  CHECK(rig.dir->revalidate(0));
  CHECK(rig.dir->info().arrays == 0);
}

TEST_CASE("an invalidated page is gone for lookups and whole for its readers (trap 3)") {
  DirRig rig(with_style(CookieStyle::kOrdered));
  rig.source->fill(150);
  rig.revalidate();
  rig.list();
  struct Hold final : cache::EntrySink {
    explicit Hold(Directory& of) : dir(of) {}
    uint32_t consume(const cache::ArrayView& view, uint32_t from, uint32_t to) override {
      dir.invalidate();
      for (uint32_t i = from; i < to; ++i) names.emplace_back(view.name(i));
      return to - from;
    }
    Directory& dir;
    std::vector<std::string> names;
  };
  Hold sink(*rig.dir);
  cache::DirCursor cursor;
  REQUIRE(rig.dir->read(cursor, 0, {}, sink).ok());
  check_exact(sink.names, rig.source->names());
  CHECK(rig.dir->info().arrays == 0);
}

// A listing under way, changes around it, invalidations: the stable ones exactly once.
void list_under_churn(DirRig& rig, uint64_t limit, uint64_t seed, bool evict) {
  Random random(seed);
  std::vector<std::string> stable;
  const auto all = rig.source->names();
  for (size_t i = 0; i < all.size(); i += 2) stable.push_back(all[i]);
  Lister lister(*rig.dir);
  for (uint64_t step = 0;; ++step) {
    const Status status = lister.read(limit);
    INFO("step " << step << ", errno " << status.error_number());
    REQUIRE(status.ok());
    if (lister.last == 0) break;
    REQUIRE(lister.got.names.size() < 4 * all.size());
    const size_t odd = 1 + 2 * random.below(all.size() / 2);
    if (random.one_in(2)) rig.source->remove(all[odd]);
    if (random.one_in(2)) {
      rig.source->add(numbered("x", static_cast<int>(step)), random.below(all.size()));
    }
    if (random.one_in(3)) rig.revalidate();
    if (random.one_in(5)) rig.dir->invalidate();
    if (evict && random.one_in(2)) rig.cache.drop_clean();
  }
  check_listing(lister.got.names, stable);
}

TEST_CASE("a listing goes on under changes, revalidations and invalidations") {
  const uint64_t first_seed = seed();
  for (const CookieStyle style : kAllStyles) {
    for (const uint64_t limit : {uint64_t{7}, uint64_t{100}, kNoLimit}) {
      for (const bool evict : {false, true}) {
        const uint64_t run = first_seed + limit;
        INFO(name_of(style) << ", " << limit << " a call, evict " << evict << ", seed "
                            << first_seed);
        DirRig rig(with_style(style, 300));
        rig.source->fill(limit == 7 ? 800 : 3000);
        rig.revalidate();
        list_under_churn(rig, limit, run, evict);
      }
    }
  }
}

TEST_CASE("answers older than an invalidation serve those who wait and are not kept") {
  for (const CookieStyle style : kAllStyles) {
    if (style == CookieStyle::kHuge) continue;  // begins anew with its first answer
    INFO(name_of(style));
    DirRig rig(with_style(style, 100));
    rig.source->fill(100);
    rig.revalidate();
    Directory* dir = rig.dir.get();
    rig.source->on_request([dir](uint64_t number) {
      if (number == 1) dir->invalidate();
    });
    Lister lister(*rig.dir);
    REQUIRE(lister.read(kNoLimit).ok());
    CHECK(lister.last == 100);
    CHECK(rig.source->request_count() == 1);
    CHECK(rig.cache.stats().fills_discarded.get() == 1);
    CHECK(rig.cache.stats().entries_resident.get() == 0);
  }
}

TEST_CASE("a stream of invalidations does not live-lock a reader") {
  for (const CookieStyle style : kAllStyles) {
    for (const uint32_t batch : {50U, 202U, 1000U}) {
      for (const size_t size : {0, 150, 202, 404, 1500}) {
        INFO(name_of(style) << ", batch " << batch << ", " << size << " entries");
        DirRig rig(with_style(style, batch));
        rig.source->fill(size);
        rig.revalidate();
        Directory* dir = rig.dir.get();
        rig.source->on_request([dir](uint64_t) { dir->invalidate(); });
        Lister lister(*rig.dir);
        const Status status = lister.read_all(kNoLimit);
        INFO("errno " << status.error_number());
        CHECK(status.ok());
        check_exact(lister.got.names, rig.source->names());
        // Each read begins its array again: with small answers, a sum of so many terms an array.
        const size_t answers = 202 / std::min(batch, 202U) + 1;
        CHECK(rig.source->request_count() <= (size / 202 + 1) * (answers + 1) * (answers + 2) + 8);
      }
    }
  }
}

TEST_CASE("revalidations in another thread while 4 listers read") {
  for (const CookieStyle style :
       {CookieStyle::kOrdered, CookieStyle::kHashed, CookieStyle::kName}) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 300));
    rig.source->fill(scaled(20000));
    rig.revalidate();
    const auto names = rig.source->names();
    std::atomic<int> done{0};
    std::vector<std::vector<std::string>> got(4);
    std::vector<int> errors(4);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < got.size(); ++t) {
      threads.emplace_back([&, t] {
        Lister lister(*rig.dir);
        errors[t] = lister.read_all(50 + t * 100).error_number();
        got[t] = lister.got.names;
        ++done;
      });
    }
    for (int i = 0; done < 4; ++i) {
      rig.source->append(numbered("zz", i));
      if (i % 3 == 0) {
        rig.dir->invalidate();
      } else {
        rig.revalidate();
      }
      const uint64_t answered = rig.source->answered();
      // One change for each answer at most: that the listers get on is what is tested.
      eventually([&] { return done == 4 || rig.source->answered() > answered; });
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t t = 0; t < got.size(); ++t) {
      CHECK(errors[t] == 0);
      check_listing(got[t], names);
    }
  }
}

TEST_CASE("what was given moves on to the next array when much comes before it") {
  for (const CookieStyle style : {CookieStyle::kName, CookieStyle::kOrdinal, CookieStyle::kHuge}) {
    for (const size_t came : {20, 80, 300}) {
      for (const size_t removed : {0, 1, 9}) {  // of the nine given last
        INFO(name_of(style) << ", " << came << " came, " << removed << " went");
        DirRig rig(with_style(style, 700));
        std::vector<std::string> stable;
        for (int i = 0; i < 400; ++i) rig.source->append(numbered("f", i));
        for (int i = 0; i < 177; ++i) rig.source->add(numbered("c", i), static_cast<size_t>(i));
        rig.revalidate();
        Lister lister(*rig.dir);
        REQUIRE(lister.read_up_to(186).ok());
        for (size_t i = 0; i < came; ++i)
          rig.source->add(numbered("d", static_cast<int>(i)), 177 + i);
        for (size_t i = 0; i < removed; ++i) {
          REQUIRE(rig.source->remove(numbered("f", 8 - static_cast<int>(i))));
        }
        rig.revalidate();
        const Status status = lister.read_all(100);
        INFO("errno " << status.error_number());
        CHECK(status.ok());
        for (int i = 0; i < 400; ++i) {
          if (i >= 9 || i + static_cast<int>(removed) < 9) stable.push_back(numbered("f", i));
        }
        check_listing(lister.got.names, stable);
      }
    }
  }
}

TEST_CASE("the verifier changes in mid-listing: no error, no restart (trap 13)") {
  for (const CookieStyle style : kAllStyles) {
    for (const bool renumber : {false, true}) {
      for (const bool evict : {false, true}) {
        for (const size_t at : {1, 100, 202, 300, 2020, 2999}) {
          INFO(name_of(style) << ", renumber " << renumber << ", evict " << evict << ", after "
                              << at);
          DirRig rig(with_style(style, 500));
          rig.source->fill(3000);
          rig.revalidate();
          Lister lister(*rig.dir);
          REQUIRE(lister.read_up_to(at).ok());
          REQUIRE(rig.source->wait_idle());
          if (renumber) {
            rig.source->renumber();
          } else {
            rig.source->new_verifier();
          }
          if (evict) rig.cache.drop_clean();
          const Status status = lister.read_all(100);
          INFO("errno " << status.error_number());
          CHECK(status.ok());
          check_exact(lister.got.names, rig.source->names());
        }
      }
    }
  }
}

TEST_CASE("a strict verifier: every change makes every cookie bad (trap 13)") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    FakeSource::Options options = with_style(style, 300);
    options.strict_verifier = true;
    DirRig rig(options);
    rig.source->fill(3000);
    rig.revalidate();
    const auto stable = rig.source->names();
    Lister lister(*rig.dir);
    for (int i = 0;; ++i) {
      const Status status = lister.read(100);
      INFO("errno " << status.error_number());
      REQUIRE(status.ok());
      if (lister.last == 0) break;
      rig.source->add(numbered("zz", i), static_cast<size_t>(i) * 50);
      if (i % 4 == 0) rig.cache.drop_clean();
    }
    check_listing(lister.got.names, stable);
  }
}

// A listing that takes longer than a caller waits for one answer, and goes on all the time.
TEST_CASE("the way back may take longer than a wait for the remote") {
  DirRig rig(with_style(CookieStyle::kHashed, 100));
  rig.source->fill(9000);
  rig.revalidate();
  Lister lister(*rig.dir);
  REQUIRE(lister.read_up_to(8500).ok());
  rig.source->renumber();
  rig.revalidate();
  // From the beginning of the way back on: 85 answers and more are 2.1 s.
  std::atomic<bool> slow = false;
  rig.source->on_answer(
      [&](FakeSource::Number, const cache::DirRequest& request, cache::DirAnswer& /*answer*/) {
        if (request.after.cookie == 0 && request.max_entries > 1) slow = true;
        if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(25));
      });
  ReadOptions options;
  options.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
  REQUIRE(lister.read(100, options).ok());
  rig.source->end_hooks();
  REQUIRE(lister.read_all(500).ok());
  check_exact(lister.got.names, rig.source->names());
}

// The way back by name goes over arrays that are gone again, to fills in the middle of the listing
// that the remote refuses: what the reader has passed proves that the numbering is the same.
TEST_CASE("changes and evictions overtake the way back again and again (trap 13)") {
  for (const CookieStyle style : kAllStyles) {
    if (is_opaque(style) || style == CookieStyle::kHuge) continue;  // of tokens nothing is proved
    for (const uint64_t every : {5, 7, 16}) {
      INFO(name_of(style) << ", a change every " << every << " requests");
      FakeSource::Options options = with_style(style, 500);
      options.strict_verifier = true;
      DirRig rig(options);
      rig.source->fill(12000);
      rig.revalidate();
      const auto stable = rig.source->names();
      Lister lister(*rig.dir);
      HookGuard guard(*rig.source);
      REQUIRE(lister.read_up_to(11000).ok());
      rig.source->on_request([&](FakeSource::Number number) {
        if (number % every == 0) rig.source->append(numbered("zz", static_cast<int>(number)));
        rig.cache.drop_clean();
      });
      rig.cache.drop_clean();
      const Status status = lister.read_all(100);
      INFO("errno " << status.error_number());
      CHECK(status.ok());
      check_listing(lister.got.names, stable);
    }
  }
}

TEST_CASE("a bad cookie in mid-listing, the last entry deleted or not (trap 13)") {
  for (const CookieStyle style : kAllStyles) {
    for (const bool deleted : {false, true}) {
      INFO(name_of(style) << ", deleted " << deleted);
      if (style == CookieStyle::kHuge) continue;  // begins anew with its first answer
      FakeSource::Options options = with_style(style, 202);
      options.strict_verifier = true;
      options.manual = true;
      DirRig rig(options);
      rig.source->fill(2000);
      rig.revalidate();
      auto stable = rig.source->names();
      rig.source->allow(1);
      Lister lister(*rig.dir);
      REQUIRE(lister.read_up_to(202).ok());
      REQUIRE(rig.source->wait_requests(2));
      if (deleted) {
        REQUIRE(rig.source->remove(stable[201]));
        stable.erase(stable.begin() + 201);
      } else {
        rig.source->append("zz");
      }
      rig.source->allow_all();
      const Status status = lister.read_all(100);
      INFO("errno " << status.error_number());
      CHECK(status.ok());
      check_listing(lister.got.names, stable);
    }
  }
}

TEST_CASE("a part of an array was read, its last entry goes with the meaning of all cookies") {
  for (const CookieStyle style : kAllStyles) {
    for (const size_t removed : {1, 5, 15}) {
      INFO(name_of(style) << ", removed " << removed);
      FakeSource::Options options = with_style(style, 50);
      options.manual = true;
      DirRig rig(options);
      rig.source->fill(2000);
      rig.revalidate();
      auto stable = rig.source->names();
      rig.source->allow(style == CookieStyle::kHuge ? 2 : 1);  // begins anew when it sees them
      Lister lister(*rig.dir);
      REQUIRE(lister.read_up_to(50).ok());
      const auto end = stable.begin() + 50;
      const auto begin = end - static_cast<ptrdiff_t>(removed);
      for (auto gone = begin; gone != end; ++gone) REQUIRE(rig.source->remove(*gone));
      stable.erase(begin, end);
      rig.source->renumber();
      rig.source->allow_all();
      const Status status = lister.read_all(100);
      INFO("errno " << status.error_number());
      CHECK(status.ok());
      check_listing(lister.got.names, stable);
    }
  }
}

// Calls end after every one, two or three answers: at the bad cookie, with a new verifier that is
// not proved yet, with the way back found and nothing given. What a call leaves behind may not
// mislead the next one: a verifier under which the old cookie would be taken, or a position in new
// numbers where the program still has the old one.
TEST_CASE("calls time out at each step of the way back, and the listing is exact (trap 13)") {
  for (const CookieStyle style : kAllStyles) {
    if (style == CookieStyle::kHuge) continue;  // begins anew with its first answer
    for (const uint64_t answers : {1, 2, 3}) {
      INFO(name_of(style) << ", a call has " << answers);
      FakeSource::Options options = with_style(style, 202);
      options.manual = true;
      DirRig rig(options);
      rig.source->fill(2000);
      rig.revalidate();
      const auto names = rig.source->names();
      rig.source->allow(1);
      Lister lister(*rig.dir);
      REQUIRE(lister.read_up_to(202).ok());
      REQUIRE(rig.source->wait_requests(2));
      rig.source->renumber();
      rig.cache.drop_clean();
      for (int i = 0; i < 6; ++i) {
        rig.source->allow(answers);
        ReadOptions soon;
        soon.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(30);
        const int error = lister.read(100, soon).error_number();
        REQUIRE((error == 0 || error == ETIMEDOUT));
      }
      rig.source->allow_all();
      const Status status = lister.read_all(100);
      INFO("errno " << status.error_number());
      CHECK(status.ok());
      check_exact(lister.got.names, names);
    }
  }
}

// The end came as an answer of its own, so the last entry's cookie, a sentinel, was the next
// array's key; before that answer a new last entry has taken the sentinel over.
TEST_CASE("the sentinel goes to a new last entry together with a new verifier") {
  FakeSource::Options options = with_style(CookieStyle::kSentinel, 202);
  options.strict_verifier = true;
  options.eof_alone = true;
  options.manual = true;
  DirRig rig(options);
  rig.source->fill(202);
  rig.revalidate();
  const auto stable = rig.source->names();
  rig.source->allow(1);
  Lister lister(*rig.dir);
  REQUIRE(lister.read_up_to(202).ok());
  REQUIRE(rig.source->wait_requests(2));
  rig.source->append("zz");
  rig.source->allow_all();
  const Status status = lister.read_all(100);
  INFO("errno " << status.error_number());
  CHECK(status.ok());
  check_listing(lister.got.names, stable);
}

TEST_CASE("a bad cookie for an uncached reader with and without its last entry (trap 13)") {
  for (const bool deleted : {false, true}) {
    INFO("deleted " << deleted);
    FakeSource::Options options = with_style(CookieStyle::kHashed, 202);
    options.strict_verifier = true;
    DirRig rig(options);
    rig.source->fill(2000);
    rig.revalidate();
    auto stable = rig.source->names();
    Lister lister(*rig.dir);
    REQUIRE(lister.read(100).ok());
    REQUIRE(lister.last == 100);
    if (deleted) {
      REQUIRE(rig.source->remove(stable[99]));
      stable.erase(stable.begin() + 99);
    } else {
      rig.source->append("zz");
    }
    rig.revalidate();
    const Status status = lister.read_all(100);
    INFO("errno " << status.error_number());
    CHECK(status.ok());
    check_listing(lister.got.names, stable);
  }
}

// --- attributes -------------------------------------------------------------------------------

TEST_CASE("a reader that wants attributes refills arrays that lack them, once") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 2000));
    rig.source->fill(5000);
    rig.revalidate();
    rig.list();
    Lister lister(*rig.dir);
    REQUIRE(lister.read_all(100, plus()).ok());
    check_exact(lister.got.names, rig.source->names());
    CHECK(lister.got.attrs.size() == 5000);
    const uint64_t requests = rig.source->request_count();
    Lister again(*rig.dir);
    REQUIRE(again.read_all(100, plus()).ok());
    CHECK(again.got.attrs.size() == 5000);
    CHECK(rig.source->request_count() == requests);
    rig.list();
    CHECK(rig.source->request_count() == requests);
  }
}

TEST_CASE("attributes older than the caller allows are fetched again") {
  DirRig rig(with_style(CookieStyle::kOrdered, 2000));
  rig.source->fill(1000);
  rig.revalidate();
  rig.list(kNoLimit, plus());
  const auto later = std::chrono::steady_clock::now();
  CHECK(rig.dir->find_attr("f00000500").has_value());
  CHECK_FALSE(rig.dir->find_attr("f00000500", later).has_value());
  const uint64_t requests = rig.source->request_count();
  Lister lister(*rig.dir);
  REQUIRE(lister.read_all(kNoLimit, plus(later)).ok());
  CHECK(lister.got.attrs.size() == 1000);
  CHECK(rig.source->request_count() > requests);
  CHECK(rig.dir->find_attr("f00000500", later).has_value());
}

TEST_CASE("after a listing with attributes a stat costs no request") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 2000));
    rig.source->fill(1000);
    rig.revalidate();
    rig.list(kNoLimit, plus());
    const uint64_t requests = rig.source->request_count();
    check_attrs_by_name(rig);
    CHECK(rig.source->request_count() == requests);
    rig.dir->invalidate();
    CHECK_FALSE(rig.dir->find_attr("f00000500").has_value());
  }
}

TEST_CASE("in a large directory names in listing order are found without a search of it all") {
  DirRig rig(with_style(CookieStyle::kOrdered, 10000));
  rig.source->fill(20000);
  rig.revalidate();
  Lister lister(*rig.dir);
  REQUIRE(lister.read_all(kNoLimit, plus()).ok());
  REQUIRE(lister.got.attrs.size() == 20000);
  // As ls -l: read some, stat those, read on.
  Lister other(*rig.dir);
  size_t hits = 0;
  size_t seen = 0;
  while (other.read(150, plus()).ok() && other.last > 0) {
    for (; seen < other.got.names.size(); ++seen) {
      hits += rig.dir->find_attr(other.got.names[seen]).has_value() ? 1 : 0;
    }
  }
  CHECK(hits == 20000);
}

TEST_CASE("a remote that refuses attributes is asked for them no more (trap 23)") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    FakeSource::Options options = with_style(style, 500);
    options.attrs = false;
    DirRig rig(options);
    rig.source->fill(3000);
    rig.revalidate();
    check_exact(rig.list(100, plus()), rig.source->names());
    const uint64_t requests = rig.source->request_count();
    CHECK(requests <= 12);
    check_exact(rig.list(100, plus()), rig.source->names());
    CHECK(rig.source->request_count() == requests);
    CHECK_FALSE(rig.source->requests().back().want_attrs);
  }
}

TEST_CASE("attributes refused in mid-listing: it goes on from the same place (trap 23)") {
  for (const CookieStyle style : kAllStyles) {
    for (const uint64_t from : {2, 3, 4}) {
      INFO(name_of(style) << ", from request " << from);
      DirRig rig(with_style(style, 300));
      rig.source->fill(3000);
      rig.revalidate();
      rig.source->on_answer([from](uint64_t number, const DirRequest&, cache::DirAnswer& answer) {
        if (number < from) return;
        answer.has_attrs = false;
        answer.attrs.clear();
      });
      check_exact(rig.list(100, plus()), rig.source->names());
      CHECK(rig.source->request_count() <= 30);
    }
  }
}

TEST_CASE("answers too small for attributes grow until something fits (trap 23)") {
  for (const bool attrs : {false, true}) {
    DirRig rig(with_style(CookieStyle::kOrdered, 5000));
    rig.source->fill(3000);
    rig.revalidate();
    rig.source->on_answer([](uint64_t, const DirRequest& request, cache::DirAnswer& answer) {
      if (request.max_entries >= 1000) return;
      answer = {};
      answer.error = cache::kErrTooSmall;
    });
    ReadOptions options;
    options.want_attrs = attrs;
    check_exact(rig.list(100, options), rig.source->names());
    CHECK(rig.source->request_count() <= 10);
  }
}

}  // namespace
}  // namespace test
