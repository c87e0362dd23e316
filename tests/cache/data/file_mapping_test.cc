// FileMapping: reads, writes, sizes, truncation, coherence; one thread asks at a time.
#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "tests/support/data_rig.h"

namespace test {
namespace {

using cache::FileMapping;
using cache::ReadStream;
using Kind = FakeFile::Kind;

TEST_CASE("a read fills pages once and is served from them afterwards") {
  DataRig rig({.content = pattern(0, 10 * kPage + 100)});
  CHECK(rig.get(5, 3 * kPage) == pattern(5, 3 * kPage));
  const size_t asked = rig.file->count(Kind::kRead);
  CHECK(rig.get(kPage, kPage) == pattern(kPage, kPage));
  CHECK(rig.file->count(Kind::kRead) == asked);
  CHECK(rig.get(10 * kPage, kPage) == pattern(10 * kPage, 100));
  CHECK(rig.get(11 * kPage, kPage).empty());
  CHECK(rig.nothing_left());
}

TEST_CASE("a small file read from its beginning takes one request") {
  DataRig rig({.content = pattern(0, 100000)});
  ReadStream stream;
  std::string all;
  for (uint64_t at = 0; at < 131072; at += 32768) all += rig.read(at, 32768, stream).value();
  CHECK(all == pattern(0, 100000));
  CHECK(rig.file->count(Kind::kRead) == 1);
  CHECK(rig.nothing_left());
}

TEST_CASE("a sequential reader keeps several requests under way") {
  constexpr uint64_t kRead = 128 << 10;
  const std::string content(40 << 20, 's');
  DataRig rig({.cache_bytes = 128 << 20, .content = content});
  ReadStream stream;
  uint64_t at = 0;
  for (; at < 8 << 20; at += kRead) REQUIRE(rig.read(at, kRead, stream).value().size() == kRead);
  CHECK(rig.file->count(Kind::kRead) < 30);
  // What is ahead by now lets it read on while nothing is answered.
  rig.file->set_answers(FakeFile::Answers::kHeld);
  for (; at < 16 << 20; at += kRead) REQUIRE(rig.read(at, kRead, stream).value().size() == kRead);
  CHECK(rig.file->held() >= 6);
  CHECK(rig.stats().data_ahead_bytes.get() >= 6 << 20);
  rig.file->release();
  CHECK(rig.stats().data_ahead_bytes.get() == 0);
  CHECK(rig.nothing_left());
}

TEST_CASE("a strided reader keeps several requests under way, either way, and asks for no more") {
  constexpr uint64_t kRead = 8 << 10;
  constexpr uint64_t kApart = 640 << 10;
  const std::string content = pattern(0, 40 << 20);
  for (const bool back : {false, true}) {
    INFO("back " << back);
    DataRig rig({.cache_bytes = 128 << 20, .content = content});
    ReadStream stream;
    const auto place = [&](uint64_t i) { return (back ? 60 - i : i + 1) * kApart; };
    uint64_t i = 0;
    const auto right = [&] {
      const uint64_t at = place(i++);
      return rig.read(at, kRead, stream).value() == content.substr(at, kRead);
    };
    while (i < 17) CHECK(right());
    // What is ahead by now lets it read on while nothing is answered.
    rig.file->set_answers(FakeFile::Answers::kHeld);
    while (i < 25) CHECK(right());
    CHECK(rig.file->held() >= 8);
    rig.file->release();
    rig.file->set_answers(FakeFile::Answers::kAtOnce);
    while (i < 60) CHECK(right());
    CHECK(rig.file->count(Kind::kRead) <= 63);  // as many as there are places
    CHECK(rig.stats().data_read_wasted.get() == 0);
    CHECK(rig.nothing_left());
  }
}

TEST_CASE("many threads read one open file") {
  const std::string content = pattern(0, 4 << 20);
  DataRig rig({.cache_bytes = 2 << 20, .content = content});
  rig.file->set_answers(FakeFile::Answers::kThread);
  ReadStream stream;
  std::atomic<uint64_t> next{0}, bad{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (uint64_t at; (at = next.fetch_add(64 << 10)) < content.size();) {
        const auto got = rig.read(at, 64 << 10, stream);
        if (!got.ok() || got.value() != content.substr(at, 64 << 10)) ++bad;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(bad == 0);
  CHECK(rig.nothing_left());
}

TEST_CASE("a write is seen at once, grows the file, and reaches the remote with flush") {
  DataRig rig;
  CHECK(rig.write(100, "hello").ok());
  CHECK(rig.mapping->size() == 105);
  CHECK(rig.get(0, 200) == std::string(100, '\0') + "hello");
  CHECK(rig.file->size() == 0);
  CHECK(rig.mapping->has_unwritten());
  CHECK(rig.flush().ok());
  CHECK(rig.file->content() == std::string(100, '\0') + "hello");
  CHECK_FALSE(rig.mapping->has_unwritten());
  CHECK(rig.file->count(Kind::kRead) == 0);
  CHECK(rig.nothing_left());
}

TEST_CASE("a partial write keeps what the remote has around it") {
  const std::string content = pattern(0, 3 * kPage);
  DataRig rig({.content = content});
  CHECK(rig.write(kPage + 10, "abc").ok());
  std::string expected = content;
  expected.replace(kPage + 10, 3, "abc");
  CHECK(rig.get(0, 3 * kPage) == expected);
  CHECK(rig.flush().ok());
  CHECK(rig.file->content() == expected);
  CHECK(rig.nothing_left());
}

TEST_CASE("whole pages are written without being filled, in requests of the remote's size") {
  DataRig rig({.content = pattern(0, 4 << 20)});
  const std::string bytes = pattern(0, 4 << 20, 5);
  CHECK(rig.write(0, bytes).ok());
  CHECK(rig.flush().ok());
  CHECK(rig.file->content() == bytes);
  CHECK(rig.file->count(Kind::kRead) == 0);
  CHECK(rig.file->count(Kind::kWrite) <= 8);
  CHECK(rig.nothing_left());
}

TEST_CASE("through a source that can't read a part of a page is written through") {
  const std::string content = pattern(0, 2 * kPage);
  DataRig rig({.content = content});
  const auto writer = rig.file->open(FakeFile::Access::kWrite);
  CHECK(rig.mapping->write(writer, 7, DataRig::bytes_of("xyz"), rig.patience()).ok());
  std::string expected = content;
  expected.replace(7, 3, "xyz");
  CHECK(rig.file->content() == expected);
  CHECK(rig.file->count(Kind::kRead) == 0);
  CHECK(rig.get(0, 2 * kPage) == expected);
  std::string out(3, '?');
  ReadStream stream;
  CHECK(rig.mapping
            ->read(stream, writer, 0, std::as_writable_bytes(std::span(out.data(), 3)),
                   rig.patience())
            .error_number() == EBADF);
  const auto reader = rig.file->open(FakeFile::Access::kRead);
  CHECK(rig.mapping->write(reader, 0, DataRig::bytes_of("a"), rig.patience()).error_number() ==
        EBADF);
  CHECK(rig.nothing_left());
}

TEST_CASE("what lies between the remote's end and the file's is zeros") {
  DataRig rig({.content = pattern(0, 100)});
  CHECK(rig.write(5 * kPage, "end").ok());
  CHECK(rig.get(0, 6 * kPage) == pattern(0, 100) + std::string(5 * kPage - 100, '\0') + "end");
  CHECK(rig.flush().ok());
  CHECK(rig.file->content() == pattern(0, 100) + std::string(5 * kPage - 100, '\0') + "end");
  CHECK(rig.nothing_left());
}

TEST_CASE("own truncation: shorter, then longer again, shows zeros") {
  DataRig rig({.content = pattern(0, 4 * kPage)});
  CHECK(rig.get(0, 4 * kPage) == pattern(0, 4 * kPage));
  CHECK(rig.write(3 * kPage, "dirty beyond").ok());
  CHECK(rig.truncate(kPage + 10).ok());
  CHECK(rig.mapping->size() == kPage + 10);
  CHECK(rig.get(0, 4 * kPage) == pattern(0, kPage + 10));
  CHECK(rig.truncate(3 * kPage).ok());
  CHECK(rig.get(0, 4 * kPage) == pattern(0, kPage + 10) + std::string(2 * kPage - 10, '\0'));
  CHECK(rig.flush().ok());
  CHECK(rig.file->content() == pattern(0, kPage + 10) + std::string(2 * kPage - 10, '\0'));
  CHECK(rig.nothing_left());
}

TEST_CASE("a truncation that the remote refused changes nothing, and lets writes go on") {
  DataRig rig({.content = pattern(0, 2 * kPage)});
  CHECK(rig.write(kPage, "x").ok());
  {
    auto begun = rig.mapping->begin_truncate(0, rig.patience());
    REQUIRE(begun.ok());
  }
  CHECK(rig.mapping->size() == 2 * kPage);
  CHECK(rig.write(0, "y").ok());
  CHECK(rig.flush().ok());
  CHECK(rig.file->content() == "y" + pattern(1, kPage - 1) + "x" + pattern(kPage + 1, kPage - 1));
  CHECK(rig.nothing_left());
}

TEST_CASE("a truncation does not wait for what it holds back itself, when a write fails") {
  DataRig rig({.content = pattern(0, 8 * kPage)});
  rig.file->set_answers(FakeFile::Answers::kHeld);
  CHECK(rig.write(0, std::string(8 * kPage, 'x')).ok());
  bool flushed = false, truncated = false;
  std::thread flusher([&] { flushed = rig.flush().ok(); });
  CHECK(eventually([&] { return rig.file->held() == 1; }));
  std::thread truncater([&] { truncated = rig.truncate(4 * kPage).ok(); });
  CHECK(eventually([&] {  // writers wait for it
    return rig.mapping->write(rig.source, 0, DataRig::bytes_of("x"), rig.impatience())
               .error_number() == ETIMEDOUT;
  }));
  rig.file->set_answers(FakeFile::Answers::kAtOnce);
  rig.file->fail(ECONNRESET);
  truncater.join();
  flusher.join();
  CHECK(flushed);
  CHECK(truncated);
  CHECK(rig.file->content() == std::string(4 * kPage, 'x'));
  CHECK(rig.nothing_left());
}

TEST_CASE("while a truncation goes on writes and reads beyond it wait, other reads do not") {
  DataRig rig({.content = pattern(0, 4 * kPage)});
  CHECK(rig.get(0, 1) == pattern(0, 1));
  auto begun = rig.mapping->begin_truncate(kPage, rig.patience());
  REQUIRE(begun.ok());
  CHECK(
      rig.mapping->write(rig.source, 0, DataRig::bytes_of("a"), rig.impatience()).error_number() ==
      ETIMEDOUT);
  std::string out(10, '?');
  ReadStream stream;
  const auto into = std::as_writable_bytes(std::span(out.data(), out.size()));
  CHECK(rig.mapping->invalidate(4 * kPage).ok());  // so that pages are missing
  CHECK(rig.mapping->read(stream, rig.source, 2 * kPage, into, rig.impatience()).error_number() ==
        ETIMEDOUT);
  CHECK(rig.get(0, 10) == pattern(0, 10));  // below it they are filled, too
  CHECK(rig.mapping->begin_truncate(0, rig.impatience()).error_number() == ETIMEDOUT);
  begun.value()->end_truncate(FileMapping::Truncation::Remote::kFailed);
  CHECK(rig.write(0, "a").ok());
  CHECK(rig.nothing_left());
}

TEST_CASE("O_DIRECT: sees what is dirty, and is seen by cached readers") {
  DataRig rig({.content = pattern(0, 3 * kPage)});
  CHECK(rig.get(0, 3 * kPage) == pattern(0, 3 * kPage));
  CHECK(rig.write(kPage, "cached").ok());
  std::string out(6, '?');
  const auto into = std::as_writable_bytes(std::span(out.data(), out.size()));
  CHECK(rig.mapping->read_direct(rig.source, kPage, into, rig.patience()).value() == 6);
  CHECK(out == "cached");
  CHECK(
      rig.mapping->write_direct(rig.source, kPage + 2, DataRig::bytes_of("direct"), rig.patience())
          .ok());
  CHECK(rig.get(kPage, 8) == "cadirect");
  CHECK(rig.file->content().substr(kPage, 8) == "cadirect");
  CHECK(rig.mapping->write_direct(rig.source, 5 * kPage, DataRig::bytes_of("far"), rig.patience())
            .ok());
  CHECK(rig.mapping->size() == 5 * kPage + 3);
  CHECK(rig.get(5 * kPage, 10) == "far");
  CHECK(rig.get(4 * kPage, 10) == std::string(10, '\0'));
  CHECK(rig.nothing_left());
}

TEST_CASE("the remote's new size, longer or shorter, is shown with its bytes") {
  DataRig rig({.content = pattern(0, kPage + 50)});
  CHECK(rig.get(0, 2 * kPage) == pattern(0, kPage + 50));
  rig.file->set_content(pattern(0, 2 * kPage));
  rig.mapping->set_remote_size(2 * kPage);
  CHECK(rig.get(0, 3 * kPage) == pattern(0, 2 * kPage));
  rig.file->truncate(10);
  rig.mapping->set_remote_size(10);
  CHECK(rig.get(0, 3 * kPage) == pattern(0, 10));
  CHECK(rig.nothing_left());
}

TEST_CASE("a file that others made shorter ends where its answers end") {
  DataRig rig({.content = pattern(0, 8 * kPage)});
  rig.file->truncate(3 * kPage + 5);
  CHECK(rig.get(kPage, 7 * kPage) == pattern(kPage, 2 * kPage + 5));
  CHECK(rig.mapping->size() == 3 * kPage + 5);
  CHECK(rig.nothing_left());
}

TEST_CASE("discard forgets what is dirty and what is under way") {
  DataRig rig({.content = pattern(0, 4 * kPage)});
  CHECK(rig.write(0, "lost").ok());
  rig.file->set_answers(FakeFile::Answers::kHeld);
  CHECK(rig.mapping->flush(FileMapping::Durable::kNo, rig.impatience()).error_number() ==
        ETIMEDOUT);
  CHECK(rig.file->held() == 1);
  CHECK(rig.write(2 * kPage, std::string(kPage, 'z')).ok());
  rig.mapping->discard();
  CHECK_FALSE(rig.mapping->has_unwritten());
  CHECK(rig.file->held() == 0);
  rig.file->set_answers(FakeFile::Answers::kAtOnce);
  CHECK(rig.get(0, 4 * kPage) == pattern(0, 4 * kPage));
  CHECK(rig.nothing_left());
}

TEST_CASE("a mapping ends in the middle of fills, writes and commits without the remote") {
  DataRig::Setup setup{.content = pattern(0, 64 * kPage)};
  setup.file.stable = false;
  DataRig rig(setup);
  CHECK(rig.write(0, "first").ok());
  CHECK(rig.flush().ok());
  rig.file->set_answers(FakeFile::Answers::kHeld);
  CHECK(rig.write(0, std::string(20 * kPage, 'w')).ok());
  CHECK(rig.mapping->flush(FileMapping::Durable::kYes, rig.impatience()).error_number() ==
        ETIMEDOUT);
  ReadStream stream;
  std::string out(kPage, '?');
  CHECK(rig.mapping
            ->read(stream, rig.source, 40 * kPage,
                   std::as_writable_bytes(std::span(out.data(), out.size())), rig.impatience())
            .error_number() == ETIMEDOUT);
  CHECK(rig.nothing_left());
  rig.file->release();  // nobody is there any more
}

}  // namespace
}  // namespace test
