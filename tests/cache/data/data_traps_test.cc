// The traps of data pages (27 to 30), one by one.
#include <atomic>
#include <catch2/catch.hpp>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/support/data_rig.h"

namespace test {
namespace {

using cache::ErrorMark;
using cache::FileMapping;
using cache::ReadStream;
using Kind = FakeFile::Kind;
using Durable = FileMapping::Durable;

// Letters that tell which writer: every page is of one letter, and of none that was never written.
TEST_CASE("trap 27: fill against truncate against mark-dirty") {
  DataRig::Setup setup;
  setup.cache_bytes = 4 << 20;
  setup.content = std::string(32 * kPage, 'a');
  setup.file.answers = FakeFile::Answers::kThread;
  setup.write_back.expire = std::chrono::milliseconds(1);
  DataRig rig(setup);
  const uint64_t rounds = scaled(600);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> bad{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&, i] {
      ReadStream stream;
      std::string out(4 * kPage, '?');
      for (uint64_t n = static_cast<uint64_t>(i); !stop; ++n) {
        const auto into = std::as_writable_bytes(std::span(out.data(), out.size()));
        const auto got =
            rig.mapping->read(stream, rig.source, n * 5 % 32 * kPage, into, DataRig::patience());
        if (!got.ok()) ++bad;
        for (size_t k = 0; got.ok() && k < got.value(); ++k) {
          if (out[k] != 'a' && out[k] != 'b' && out[k] != 'c' && out[k] != '\0') ++bad;
        }
      }
    });
  }
  std::thread writer([&] {
    for (uint64_t n = 0; !stop; ++n) {
      if (!rig.write(n * 7 % 32 * kPage + n % 3, std::string(kPage, n % 2 == 0 ? 'b' : 'c')).ok()) {
        ++bad;
      }
    }
  });
  // The size that goes with an invalidation is not from before a truncation.
  std::mutex sizes;
  std::thread invalidator([&] {
    while (!stop) {
      const std::lock_guard lock(sizes);
      const cache::Status status = rig.mapping->invalidate(rig.mapping->size());
      if (!status.ok() && status.error_number() != EBUSY) ++bad;
    }
  });
  for (uint64_t n = 0; n < rounds; ++n) {
    const std::lock_guard lock(sizes);
    CHECK(rig.truncate(n % 3 == 0 ? 0 : n * 11 % 32 * kPage + n % 100).ok());
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  writer.join();
  invalidator.join();
  CHECK(bad == 0);
  CHECK(rig.flush().ok());
  const std::string last = rig.get(0, 40 * kPage);
  CHECK(last == rig.file->content());
  CHECK(rig.nothing_left());
}

TEST_CASE("trap 27: an invalidate of file data reports busy for dirty or uncommitted pages only") {
  DataRig::Setup setup;
  setup.content = pattern(0, 8 * kPage);
  setup.file.stable = false;
  DataRig rig(setup);
  CHECK(rig.get(0, 8 * kPage) == pattern(0, 8 * kPage));
  CHECK(rig.mapping->invalidate(8 * kPage).ok());
  CHECK(rig.mapping->info().pages == 0);
  CHECK(rig.get(0, 8 * kPage) == pattern(0, 8 * kPage));
  CHECK(rig.write(3 * kPage, "own").ok());
  rig.file->write_elsewhere(0, "others");
  CHECK(rig.mapping->invalidate(8 * kPage).error_number() == EBUSY);
  CHECK(rig.mapping->info().pages == 1);
  CHECK(rig.get(0, 6) == "others");
  CHECK(rig.get(3 * kPage, 3) == "own");
  CHECK(rig.flush().ok());
  CHECK(rig.mapping->invalidate(8 * kPage).ok());
  CHECK(rig.mapping->info().pages == 0);
  CHECK(rig.get(3 * kPage, 3) == "own");
  CHECK(rig.nothing_left());
}

TEST_CASE("trap 27: a fill that an invalidation overtook is not installed") {
  DataRig rig({.content = pattern(0, 2 * kPage)});
  rig.file->set_answers(FakeFile::Answers::kHeld);
  rig.file->carry_out_held(false);  // read before the change, answered after
  std::string seen;
  std::thread reader([&] { seen = rig.get(0, kPage); });
  REQUIRE(eventually([&] { return rig.file->held() == 1; }));
  rig.file->write_elsewhere(0, pattern(0, 2 * kPage, 3));
  CHECK(rig.mapping->invalidate(2 * kPage).ok());
  rig.file->set_answers(FakeFile::Answers::kAtOnce);
  rig.file->release();
  reader.join();
  CHECK(seen == pattern(0, kPage, 3));
  CHECK(rig.get(kPage, kPage) == pattern(kPage, kPage, 3));
  CHECK(rig.nothing_left());
}

TEST_CASE("trap 27: a stream of invalidations does not live-lock a reader") {
  DataRig rig({.content = pattern(0, 4 * kPage)});
  rig.file->set_fault([&](const FakeFile::Call& call) {
    if (call.kind == Kind::kRead) static_cast<void>(rig.mapping->invalidate(4 * kPage).ok());
    return 0;
  });
  CHECK(rig.get(0, 4 * kPage) == pattern(0, 4 * kPage));
  CHECK(rig.file->count(Kind::kRead) < 20);
  CHECK(rig.nothing_left());
}

TEST_CASE("trap 28: a dirty page is never reclaimed before it is written back") {
  DataRig::Setup setup;
  setup.content = std::string(64 * kPage, 'o');
  DataRig rig(setup);
  for (uint64_t page = 0; page < 64; page += 2) CHECK(rig.write(page * kPage + 1, "d").ok());
  CHECK(rig.get(0, 64 * kPage).size() == 64 * kPage);
  rig.cache.drop_clean();
  CHECK(rig.mapping->info().pages == 32);
  rig.file->set_answers(FakeFile::Answers::kHeld);
  CHECK(rig.mapping->flush(Durable::kNo, DataRig::impatience()).error_number() == ETIMEDOUT);
  rig.cache.drop_clean();  // nor while it is under way
  CHECK(rig.mapping->info().pages == 32);
  rig.file->set_answers(FakeFile::Answers::kAtOnce);
  rig.file->release();
  CHECK(rig.flush().ok());
  rig.cache.drop_clean();
  CHECK(rig.mapping->info().pages == 0);
  for (uint64_t page = 0; page < 64; ++page) {
    CHECK(rig.get(page * kPage, 3) == (page % 2 == 0 ? "odo" : "ooo"));
  }
  CHECK(rig.nothing_left());
}

TEST_CASE("trap 28: an error in write-back reaches fsync exactly once per open file") {
  DataRig rig;
  ErrorMark first = rig.mapping->error_mark();
  ErrorMark second = rig.mapping->error_mark();
  const int why = GENERATE(ENOSPC, EIO, EDQUOT, EFBIG);
  rig.file->set_fault([&](const FakeFile::Call&) { return why; });
  CHECK(rig.write(0, "x").ok());
  static_cast<void>(rig.flush().ok());
  rig.file->set_fault({});
  ErrorMark later = rig.mapping->error_mark();  // opened before anybody was told
  CHECK(rig.mapping->check_error(first).error_number() == why);
  ErrorMark told = rig.mapping->error_mark();  // opened after
  for (int again = 0; again < 2; ++again) CHECK(rig.mapping->check_error(first).ok());
  CHECK(rig.mapping->check_error(second).error_number() == why);
  CHECK(rig.mapping->check_error(second).ok());
  CHECK(rig.mapping->check_error(later).error_number() == why);
  CHECK(rig.mapping->check_error(told).ok());
  CHECK(rig.write(0, "y").ok());
  CHECK(rig.flush(Durable::kYes).ok());
  CHECK(rig.mapping->check_error(first).ok());
  CHECK(rig.nothing_left());
}

TEST_CASE("trap 28: an error met by the thread, and not by fsync, is told as well") {
  DataRig::Setup setup;
  setup.write_back.expire = std::chrono::milliseconds(1);
  DataRig rig(setup);
  ErrorMark mark = rig.mapping->error_mark();
  rig.file->set_fault([](const FakeFile::Call&) { return ENOSPC; });
  CHECK(rig.write(0, "x").ok());
  REQUIRE(eventually([&] { return !rig.mapping->has_unwritten(); }));
  CHECK(rig.flush(Durable::kNo).ok());  // it had nothing to do
  CHECK(rig.mapping->check_error(mark).error_number() == ENOSPC);
  CHECK(rig.mapping->check_error(mark).ok());
  CHECK(rig.nothing_left());
}

TEST_CASE("trap 29: a page that is not up to date is never shown to a reader nor marked dirty") {
  DataRig rig({.content = pattern(0, 8 * kPage)});
  SECTION("its fill is under way: reader and writer wait for it") {
    rig.file->set_answers(FakeFile::Answers::kHeld);
    std::string seen;
    std::thread reader([&] { seen = rig.get(0, kPage); });
    REQUIRE(eventually([&] { return rig.file->held() >= 1; }));
    CHECK(rig.mapping->write(rig.source, 10, DataRig::bytes_of("w"), rig.impatience())
              .error_number() == ETIMEDOUT);
    CHECK(rig.mapping->info().dirty_pages == 0);
    rig.file->set_answers(FakeFile::Answers::kAtOnce);
    rig.file->release();
    reader.join();
    CHECK(seen == pattern(0, kPage));
    CHECK(rig.write(10, "w").ok());
    CHECK(rig.flush().ok());
    CHECK(rig.file->content() == pattern(0, 10) + "w" + pattern(11, 8 * kPage - 11));
  }
  SECTION("its fill failed: the error is told, and the page is asked for again") {
    std::atomic<int> failures{0};
    rig.file->set_fault([&](const FakeFile::Call&) { return failures++ == 0 ? EIO : 0; });
    CHECK(rig.read(2 * kPage, kPage).error_number() == EIO);
    CHECK(rig.get(2 * kPage, kPage) == pattern(2 * kPage, kPage));
    failures = 0;
    CHECK(rig.write(5 * kPage + 1, "w").error_number() == EIO);
    CHECK(rig.mapping->info().dirty_pages == 0);
    CHECK(rig.get(5 * kPage, kPage) == pattern(5 * kPage, kPage));
  }
  SECTION("the last waiter leaves: the request stops, and nothing is left of it") {
    rig.file->set_answers(FakeFile::Answers::kHeld);
    cache::Interrupt interrupt;
    std::thread reader([&] {
      ReadStream stream;
      std::string out(kPage, '?');
      CHECK(rig.mapping
                ->read(stream, rig.source, 4 * kPage,
                       std::as_writable_bytes(std::span(out.data(), out.size())),
                       {std::chrono::steady_clock::now() + kDeadline, &interrupt})
                .error_number() == EINTR);
    });
    REQUIRE(eventually([&] { return rig.file->held() == 1; }));
    interrupt.trigger();
    reader.join();
    CHECK(rig.file->cancelled() == 1);
    CHECK(rig.mapping->info().pages == 0);
  }
  CHECK(rig.nothing_left());
}

TEST_CASE("trap 30: readers see the remote's change after the invalidation; O_DIRECT agrees") {
  DataRig rig({.content = pattern(0, 4 * kPage)});
  CHECK(rig.get(0, 4 * kPage) == pattern(0, 4 * kPage));
  rig.file->write_elsewhere(kPage, pattern(kPage, kPage, 9));
  CHECK(rig.mapping->invalidate(4 * kPage).ok());
  CHECK(rig.get(kPage, kPage) == pattern(kPage, kPage, 9));
  CHECK(rig.mapping
            ->write_direct(rig.source, 0, DataRig::bytes_of(pattern(0, kPage, 4)), rig.patience())
            .ok());
  CHECK(rig.get(0, kPage) == pattern(0, kPage, 4));
  CHECK(rig.write(2 * kPage, pattern(2 * kPage, kPage, 5)).ok());
  std::string out(kPage, '?');
  CHECK(rig.mapping
            ->read_direct(rig.source, 2 * kPage,
                          std::as_writable_bytes(std::span(out.data(), out.size())), rig.patience())
            .ok());
  CHECK(out == pattern(2 * kPage, kPage, 5));
  CHECK(rig.nothing_left());
}

}  // namespace
}  // namespace test
