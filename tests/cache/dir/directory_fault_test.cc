// Directory: remotes that fail, lie, or say nothing (contracts.md, 4; traps 14, 16, 20, 22).
#include <atomic>

#include "tests/support/dir_rig.h"

namespace test {
namespace {

using cache::DirAnswer;
using std::chrono::milliseconds;

ReadOptions within(milliseconds time) {
  ReadOptions options;
  options.deadline = std::chrono::steady_clock::now() + time;
  return options;
}

TEST_CASE("an error shows at the point of failure; what was before it is served; it goes on") {
  for (const CookieStyle style : kAllStyles) {
    for (const int error : {EIO, EACCES, ESTALE, ENOENT, ETIMEDOUT, ENOTCONN}) {
      for (const uint64_t at : {1, 2, 3}) {
        const uint64_t limit = (static_cast<uint64_t>(error) + at) % 2 == 0 ? 50 : kNoLimit;
        INFO(name_of(style) << ", errno " << error << " in answer " << at << ", " << limit);
        DirRig rig(with_style(style, 300));
        rig.source->fill(2000);
        rig.revalidate();
        std::atomic<bool> failing{true};
        const HookGuard guard(*rig.source);
        rig.source->on_answer(
            [at, error, &failing](uint64_t number, const DirRequest&, DirAnswer& answer) {
              if (number < at || !failing) return;
              answer = {};
              answer.error = error;
            });
        Lister lister(*rig.dir);
        Status status = lister.read_all(limit);
        CHECK(status.error_number() == error);
        // What the failing answer would have continued is whole arrays, or part of one for those
        // who were waiting for it.
        const size_t given = at == 1 ? 0 : at == 2 ? 202 : 502;
        if (style != CookieStyle::kHuge) {
          CHECK(lister.got.names.size() >= given / 202 * 202);
          CHECK(lister.got.names.size() <= given);
        }
        // Again and again: never the end of the directory.
        for (int i = 0; i < 3; ++i) {
          status = lister.read(limit);
          CHECK(status.error_number() == error);
        }
        failing = false;
        REQUIRE(lister.read_all(limit).ok());
        check_exact(lister.got.names, rig.source->names());
      }
    }
  }
}

TEST_CASE("entries in the cache are served while the remote is down") {
  DirRig rig(with_style(CookieStyle::kOrdered));
  rig.source->fill(5000);
  rig.revalidate();
  rig.list();
  rig.source->on_answer([](uint64_t, const DirRequest&, DirAnswer& answer) {
    answer = {};
    answer.error = EIO;
  });
  check_exact(rig.list(), rig.source->names());
}

TEST_CASE("a remote that never answers: ETIMEDOUT at the deadline, and the request is cancelled") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    FakeSource::Options options = with_style(style);
    options.manual = true;
    DirRig rig(options);
    rig.source->fill(1000);
    rig.revalidate();
    Lister lister(*rig.dir);
    CHECK(lister.read(10, within(milliseconds(20))).error_number() == ETIMEDOUT);
    CHECK(rig.source->cancels() == 1);
    CHECK(rig.dir->info().fills == 0);
    // When it comes back, so does the listing (trap 20).
    rig.source->allow_all();
    REQUIRE(lister.read_all(100).ok());
    check_exact(lister.got.names, rig.source->names());
  }
}

TEST_CASE("a deadline in mid-listing: served first, ETIMEDOUT, then on from the same place") {
  for (const CookieStyle style : kAllStyles) {
    if (style == CookieStyle::kHuge) continue;  // its first answer is asked for twice
    INFO(name_of(style));
    FakeSource::Options options = with_style(style, 202);
    options.manual = true;
    DirRig rig(options);
    rig.source->fill(1000);
    rig.revalidate();
    rig.source->allow(1);
    Lister lister(*rig.dir);
    while (lister.got.names.size() < 202) REQUIRE(lister.read(kNoLimit).ok());
    CHECK(lister.read(kNoLimit, within(milliseconds(20))).error_number() == ETIMEDOUT);
    CHECK(lister.got.names.size() == 202);
    rig.source->allow_all();
    REQUIRE(lister.read_all(kNoLimit).ok());
    check_exact(lister.got.names, rig.source->names());
  }
}

TEST_CASE("an uncached read keeps its deadline too (trap 20)") {
  FakeSource::Options options = with_style(CookieStyle::kHashed, 100);
  options.manual = true;
  DirRig rig(options);
  rig.source->fill(1000);
  rig.revalidate();
  Lister lister(*rig.dir);
  lister.seek(rig.source->entries()[300].cookie);
  CHECK(lister.read(10, within(milliseconds(20))).error_number() == ETIMEDOUT);
  CHECK(rig.source->cancels() == 1);
  rig.source->allow_all();
  REQUIRE(lister.read_all(100).ok());
  CHECK(lister.got.names.size() == 699);
}

TEST_CASE("a signal ends the wait; the request stops with its last waiter") {
  for (const bool uncached : {false, true}) {
    FakeSource::Options options = with_style(CookieStyle::kHashed);
    options.manual = true;
    DirRig rig(options);
    rig.source->fill(1000);
    rig.revalidate();
    cache::Interrupt interrupts[2];
    int errors[2] = {0, 0};
    std::vector<std::thread> threads;
    for (size_t i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        Lister lister(*rig.dir);
        if (uncached) lister.seek(rig.source->entries()[300 + i].cookie);
        ReadOptions read;
        read.interrupt = &interrupts[i];
        errors[i] = lister.read(10, read).error_number();
      });
    }
    CHECK(rig.source->wait_requests(uncached ? 2 : 1));
    interrupts[0].trigger();
    threads[0].join();
    CHECK(errors[0] == EINTR);
    interrupts[1].trigger();
    threads[1].join();
    CHECK(errors[1] == EINTR);
    CHECK(rig.source->cancels() == rig.source->request_count());
    CHECK(rig.dir->info().fills == 0);
  }
}

TEST_CASE("a waiter that leaves does not take the request from those who stay") {
  FakeSource::Options options = with_style(CookieStyle::kOrdered);
  options.manual = true;
  DirRig rig(options);
  rig.source->fill(1000);
  rig.revalidate();
  Status status = Status::error(1);
  std::vector<std::string> got;
  std::thread staying([&] {
    Lister lister(*rig.dir);
    status = lister.read_all(100);
    got = lister.got.names;
  });
  REQUIRE(rig.source->wait_requests(1));
  Lister leaving(*rig.dir);
  const int left = leaving.read(10, within(milliseconds(20))).error_number();
  const uint64_t cancels = rig.source->cancels();
  rig.source->allow_all();
  staying.join();
  CHECK(left == ETIMEDOUT);
  CHECK(cancels == 0);
  CHECK(status.ok());
  check_exact(got, rig.source->names());
}

TEST_CASE("an interrupt before the read ends it; what is cached is given all the same") {
  DirRig rig(with_style(CookieStyle::kOrdered));
  rig.source->fill(100);
  rig.revalidate();
  cache::Interrupt interrupt;
  interrupt.trigger();
  ReadOptions options;
  options.interrupt = &interrupt;
  Lister lister(*rig.dir);
  const Status status = lister.read(kNoLimit, options);
  CHECK((status.ok() || status.error_number() == EINTR));
  rig.list();
  CHECK(lister.read(kNoLimit, options).ok());
}

TEST_CASE("with no handle open, fills that nobody waits for end") {
  FakeSource::Options options = with_style(CookieStyle::kOrdered, 202);
  options.manual = true;
  DirRig rig(options);
  rig.source->fill(2000);
  rig.revalidate();
  rig.source->allow(1);
  Lister lister(*rig.dir);
  REQUIRE(lister.read(10).ok());
  REQUIRE(rig.source->wait_requests(2));
  REQUIRE(rig.source->wait_answered(1));
  rig.dir->closed();
  CHECK(rig.dir->info().fills == 0);
  CHECK(rig.source->cancels() == 1);
  rig.dir->opened();
}

// --- lies -------------------------------------------------------------------------------------

TEST_CASE("bad names are refused and counted, the listing goes on (trap 16)") {
  const std::vector<std::string> bad = {"",
                                        "a/b",
                                        "/",
                                        std::string("nul\0inside", 10),
                                        std::string(1, '\0'),
                                        std::string(256, 'x'),
                                        std::string(70000, 'y')};
  for (const CookieStyle style : kAllStyles) {
    for (const size_t at : {0, 100, 201, 202, 499}) {
      INFO(name_of(style) << ", at " << at);
      DirRig rig(with_style(style, 150));
      rig.source->fill(500);
      rig.revalidate();
      const auto names = rig.source->names();
      const std::string victim = names[at];
      const HookGuard guard(*rig.source);
      for (const std::string& name : bad) {
        rig.source->on_answer([&](uint64_t, const DirRequest&, DirAnswer& answer) {
          for (auto& entry : answer.entries) {
            if (answer.name(entry) != victim) continue;
            entry.name_offset = static_cast<uint32_t>(answer.names.size());
            entry.name_length = static_cast<uint32_t>(name.size());
            answer.names.append(name);
            break;
          }
        });
        rig.dir->invalidate();
        const uint64_t counted = rig.cache.stats().bad_names.get();
        auto expected = names;
        expected.erase(expected.begin() + static_cast<ptrdiff_t>(at));
        check_exact(rig.list(), expected);
        CHECK(rig.cache.stats().bad_names.get() > counted);
      }
    }
  }
}

TEST_CASE("a whole answer of bad names is passed over (trap 16)") {
  for (const CookieStyle style : kAllStyles) {
    INFO(name_of(style));
    DirRig rig(with_style(style, 100));
    rig.source->fill(1000);
    rig.revalidate();
    const auto names = rig.source->names();
    rig.source->on_answer([](uint64_t, const DirRequest&, DirAnswer& answer) {
      for (auto& entry : answer.entries) {
        const std::string_view name = answer.name(entry);
        if (name >= "f00000200" && name < "f00000700") entry.name_length = 0;
      }
    });
    auto expected = names;
    expected.erase(expected.begin() + 200, expected.begin() + 700);
    check_exact(rig.list(), expected);
    check_exact(rig.list(7), expected);
  }
}

TEST_CASE("'.' and '..' from the remote are not entries (trap 11)") {
  DirRig rig(with_style(CookieStyle::kOrdered, 100));
  rig.source->fill(300);
  auto entries = rig.source->entries();
  entries.insert(entries.begin(), {.name = "..", .cookie = 2, .ino = 1});
  entries.insert(entries.begin(), {.name = ".", .cookie = 1, .ino = 1});
  rig.source->set_entries(entries);
  rig.revalidate();
  auto names = rig.source->names();
  names.erase(names.begin(), names.begin() + 2);
  check_exact(rig.list(), names);
  CHECK(rig.cache.stats().bad_names.get() == 0);
}

TEST_CASE("hard links: one inode number, many entries (trap 11)") {
  DirRig rig(with_style(CookieStyle::kHashed, 100));
  rig.source->fill(700);
  auto entries = rig.source->entries();
  for (FakeEntry& entry : entries) entry.ino = 5;
  rig.source->set_entries(entries);
  rig.revalidate();
  check_exact(rig.list(3), rig.source->names());
}

TEST_CASE("offsets and lengths outside their buffers: an error, nothing touched") {
  struct Lie {
    const char* what;
    std::function<void(DirAnswer&)> tell;
  };
  const std::vector<Lie> lies = {
      {"name beyond the buffer", [](DirAnswer& a) { a.entries[3].name_offset = 1u << 30; }},
      {"length beyond", [](DirAnswer& a) { a.entries.back().name_length = 0xffffffff; }},
      {"sum wraps",
       [](DirAnswer& a) {
         a.entries[0].name_offset = 0xfffffff0;
         a.entries[0].name_length = 0x20;
       }},
      {"token beyond", [](DirAnswer& a) { a.entries[3].token_offset = 1u << 30; }},
      {"attributes missing",
       [](DirAnswer& a) {
         a.has_attrs = true;
         a.attrs.resize(1);
       }},
  };
  for (const CookieStyle style : kAllStyles) {
    for (const Lie& lie : lies) {
      INFO(name_of(style) << ": " << lie.what);
      DirRig rig(with_style(style, 100));
      rig.source->fill(500);
      rig.revalidate();
      std::atomic<bool> lying{true};
      const HookGuard guard(*rig.source);
      rig.source->on_answer([&](uint64_t number, const DirRequest&, DirAnswer& answer) {
        if (number >= 2 && lying) lie.tell(answer);
      });
      Lister lister(*rig.dir);
      CHECK(lister.read_all(50).error_number() == EIO);
      CHECK(rig.cache.stats().bad_answers.get() > 0);
      CHECK(rig.source->request_count() < 40);
      lying = false;
      REQUIRE(lister.read_all(50).ok());
      check_exact(lister.got.names, rig.source->names());
    }
  }
}

TEST_CASE("opaque tokens that are empty, too long or repeated") {
  for (const size_t length :
       {size_t{0}, size_t{100}, size_t{321}, size_t{65536}, size_t{1} << 20}) {
    for (const CookieStyle style : {CookieStyle::kName, CookieStyle::kOrdinal}) {
      INFO(name_of(style) << ", token of " << length);
      DirRig rig(with_style(style, 100));
      rig.source->fill(1000);
      rig.revalidate();
      rig.source->on_answer([&](uint64_t number, const DirRequest&, DirAnswer& answer) {
        if (number < 2) return;
        for (auto& entry : answer.entries) {
          entry.token_offset = static_cast<uint32_t>(answer.tokens.size());
          entry.token_length = static_cast<uint32_t>(length);
        }
        answer.tokens.append(length, 'z');
      });
      Lister lister(*rig.dir);
      const Status status = lister.read_all(50);
      if (length != 100) CHECK(status.error_number() == EIO);
      check_listing(lister.got.names, {});
      CHECK(rig.source->request_count() < 400);
    }
  }
}

TEST_CASE("an answer repeated once is passed over; one repeated for ever is an error (trap 14)") {
  for (const CookieStyle style : kAllStyles) {
    for (const bool for_ever : {false, true}) {
      INFO(name_of(style) << ", for ever " << for_ever);
      DirRig rig(with_style(style, 100));
      rig.source->fill(1000);
      rig.revalidate();
      DirAnswer last;
      bool repeated = false;
      const HookGuard guard(*rig.source);
      rig.source->on_answer([&](uint64_t, const DirRequest& request, DirAnswer& answer) {
        if (request.after == cache::ResumeToken{}) {
          last = answer;
        } else if (for_ever || !repeated) {
          repeated = true;
          answer = last;
        }
      });
      Lister lister(*rig.dir);
      const Status status = lister.read_all(50);
      check_listing(lister.got.names, {});
      if (for_ever) {
        CHECK(status.error_number() == EIO);
        CHECK(rig.source->request_count() < 400);
      } else {
        CHECK(status.ok());
        check_exact(lister.got.names, rig.source->names());
      }
    }
  }
}

TEST_CASE("empty without the end: asked again, then an error, never a short listing (trap 14)") {
  for (const CookieStyle style : kAllStyles) {
    for (const bool for_ever : {false, true}) {
      INFO(name_of(style) << ", for ever " << for_ever);
      DirRig rig(with_style(style, 100));
      rig.source->fill(1000);
      rig.revalidate();
      uint64_t times = 0;
      const HookGuard guard(*rig.source);
      rig.source->on_answer([&](uint64_t number, const DirRequest&, DirAnswer& answer) {
        if (number < 3 || (!for_ever && ++times % 3 != 0)) return;
        answer.entries.clear();
        answer.attrs.clear();
        answer.eof = false;
      });
      Lister lister(*rig.dir);
      const Status status = lister.read_all(50);
      CHECK(rig.source->request_count() < 400);
      if (for_ever) {
        CHECK(status.error_number() == EIO);
      } else {
        CHECK(status.ok());
        check_exact(lister.got.names, rig.source->names());
      }
    }
  }
}

TEST_CASE("a chain that comes back to its beginning is an error, not a loop (trap 14)") {
  for (const CookieStyle style :
       {CookieStyle::kOrdered, CookieStyle::kHashed, CookieStyle::kName, CookieStyle::kHuge}) {
    for (const uint64_t limit : {uint64_t{50}, kNoLimit}) {
      INFO(name_of(style) << ", " << limit);
      DirRig rig(with_style(style, 300));
      rig.source->fill(3000);
      rig.revalidate();
      // After the 1500th comes the 500th, for ever.
      const auto entries = rig.source->entries();
      const HookGuard guard(*rig.source);
      rig.source->on_answer([&](uint64_t, const DirRequest&, DirAnswer& answer) {
        DirAnswer looped;
        looped.verifier = answer.verifier;
        looped.change = answer.change;
        for (const auto& entry : answer.entries) {
          const std::string name(answer.name(entry));
          const size_t i = std::stoul(name.substr(1));
          const FakeEntry& other = entries[i < 1500 ? i : 500 + (i - 1500) % 1000];
          looped.add(other.name, other.ino, entry.type, other.cookie);
          if (is_opaque(style)) looped.add_token(other.name);
        }
        looped.eof = false;
        answer = looped;
      });
      Lister lister(*rig.dir);
      const Status status = lister.read_all(limit);
      CHECK(status.error_number() == EIO);
      // Mapped: found when an array begins where another did, which takes longer.
      const bool mapped = is_opaque(style) || style == CookieStyle::kHuge;
      CHECK(lister.got.names.size() < (mapped ? 400'000 : 20'000));
      CHECK(rig.source->request_count() < (mapped ? 10'000 : 500));
    }
  }
}

TEST_CASE(
    "an entry with cookie 0 at an answer's end can't send the listing to its start (trap 12)") {
  for (const bool stays : {false, true}) {
    INFO("at the directory's end " << stays);
    DirRig rig(with_style(CookieStyle::kHuge, 100));
    rig.source->fill(1000);
    auto entries = rig.source->entries();
    entries[stays ? 999 : 201].cookie = 0;
    rig.source->set_entries(entries);
    rig.revalidate();
    Lister lister(*rig.dir);
    const Status status = lister.read_all(50);
    check_listing(lister.got.names, {});
    if (stays) {
      CHECK(status.ok());
      CHECK(lister.got.names.size() == 1000);
    } else {
      CHECK((status.ok() ? lister.got.names.size() == 1000 : status.error_number() == EIO));
    }
    CHECK(rig.source->request_count() < 400);
  }
}

TEST_CASE("EAGAIN and too-small answers are tried again, within bounds") {
  for (const int error : {EAGAIN, cache::kErrTooSmall}) {
    for (const CookieStyle style : {CookieStyle::kOrdered, CookieStyle::kHashed}) {
      for (const bool for_ever : {false, true}) {
        INFO(name_of(style) << ", error " << error << ", for ever " << for_ever);
        DirRig rig(with_style(style, 300));
        rig.source->fill(1000);
        rig.revalidate();
        rig.source->on_answer([&](uint64_t number, const DirRequest&, DirAnswer& answer) {
          if (number % 3 == 0 && !for_ever) return;
          answer = {};
          answer.error = error;
        });
        Lister lister(*rig.dir);
        if (style == CookieStyle::kHashed) lister.seek(rig.source->entries()[10].cookie);
        const Status status = lister.read_all(50);
        CHECK(status.error_number() == (for_ever ? EIO : 0));
        if (!for_ever) CHECK(lister.got.names.size() >= 989);
        CHECK(rig.source->request_count() < 400);
      }
    }
  }
}

TEST_CASE("more entries than were asked for are taken all the same, or refused, but not lost") {
  DirRig rig(with_style(CookieStyle::kOrdered, 100));
  rig.source->fill(5000);
  rig.revalidate();
  const auto entries = rig.source->entries();
  const HookGuard guard(*rig.source);
  rig.source->on_answer([&](uint64_t, const DirRequest& request, DirAnswer& answer) {
    if (request.after.cookie != 0) return;
    answer.entries.clear();
    answer.names.clear();
    for (const FakeEntry& entry : entries) {
      answer.add(entry.name, entry.ino, FakeSource::type_of(entry.ino), entry.cookie);
    }
    answer.eof = true;
  });
  check_exact(rig.list(), rig.source->names());
}

// A creator waits for the directory's lock, which the kernel holds for one READDIR: so a READDIR
// is over as soon as there is something to give.
TEST_CASE("a read ends with what is there; it never waits for a second answer (trap 22)") {
  for (const uint32_t batch : {1U, 10U, 202U, 1000U}) {
    FakeSource::Options options = with_style(CookieStyle::kOrdered, batch);
    options.manual = true;
    DirRig rig(options);
    rig.source->fill(3000);
    rig.revalidate();
    Lister lister(*rig.dir);
    for (uint64_t answers = 1; answers <= 10; ++answers) {
      INFO("batch " << batch << ", answer " << answers);
      rig.source->allow(1);
      // The first answer of a listing is small.
      const uint64_t brought =
          std::min<uint64_t>(batch, 202) + (answers - 1) * std::min<uint64_t>(batch, 1616);
      while (lister.got.names.size() < std::min<uint64_t>(brought, 3000)) {
        REQUIRE(lister.read(kNoLimit).ok());
        REQUIRE(lister.last > 0);
      }
    }
  }
}

}  // namespace
}  // namespace test
