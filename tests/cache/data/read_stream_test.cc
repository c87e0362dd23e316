// ReadStream: its rules as examples, in KiB.
#include "cache/data/read_stream.h"

#include <catch2/catch.hpp>

namespace cache {
namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;

ReadStream::Limits limits(uint64_t file = 1024 * kMiB) {
  return {.file_size = file, .request = kMiB, .window = 64 * kMiB};
}

TEST_CASE("a reader that begins at 0 is taken for a sequential one") {
  ReadStream stream;
  const auto ahead = stream.on_read(0, 128 * kKiB, limits());
  CHECK(ahead.from == 0);
  CHECK(ahead.to == 128 * kKiB + ReadStream::kFirstWindow);
}

TEST_CASE("a small file is asked for as a whole, and never beyond its end") {
  ReadStream stream;
  CHECK(stream.on_read(0, 32 * kKiB, limits(100 * kKiB)).to == 100 * kKiB);
  CHECK(stream.on_read(32 * kKiB, 32 * kKiB, limits(100 * kKiB)).empty());
  CHECK(stream.on_read(64 * kKiB, 32 * kKiB, limits(100 * kKiB)).empty());
}

TEST_CASE("a reader that begins elsewhere is sequential from its second read on") {
  ReadStream stream;
  CHECK(stream.on_read(5 * kMiB, 4 * kKiB, limits()).empty());
  CHECK(stream.window() == 0);
  const auto ahead = stream.on_read(5 * kMiB + 4 * kKiB, 4 * kKiB, limits());
  CHECK(ahead.from == 5 * kMiB + 4 * kKiB);
  CHECK_FALSE(ahead.empty());
}

TEST_CASE("random and strided readers are asked nothing for") {
  ReadStream stream;
  for (uint64_t i = 1; i < 50; ++i) {
    CHECK(stream.on_read(i * 7919 % 97 * 10 * kMiB + 5 * kMiB, 4 * kKiB, limits()).empty());
  }
  ReadStream strided;
  for (uint64_t i = 1; i < 50; ++i) CHECK(strided.on_read(i * kMiB, 4 * kKiB, limits()).empty());
}

TEST_CASE("the window doubles up to the limit, without gap or overlap") {
  ReadStream stream;
  uint64_t asked = 0;
  for (uint64_t at = 0; at < 200 * kMiB; at += 128 * kKiB) {
    const auto ahead = stream.on_read(at, 128 * kKiB, limits());
    if (ahead.empty()) continue;
    CHECK(ahead.from == asked);
    asked = ahead.to;
  }
  CHECK(stream.window() == ReadStream::kMostWindow);
  CHECK(asked >= 200 * kMiB + ReadStream::kMostWindow - kMiB);
  CHECK(asked % kMiB == 0);
  ReadStream small;
  ReadStream::Limits tight = limits();
  tight.window = kMiB;
  for (uint64_t at = 0; at < 20 * kMiB; at += 128 * kKiB) small.on_read(at, 128 * kKiB, tight);
  CHECK(small.window() <= kMiB);
}

TEST_CASE("the kernel's swapped requests do not end a run") {
  ReadStream stream;
  uint64_t asked = 0;
  for (uint64_t at = 0; at < 32 * kMiB; at += 512 * kKiB) {
    for (const uint64_t part : {1, 0, 3, 2}) {
      const auto ahead = stream.on_read(at + part * 128 * kKiB, 128 * kKiB, limits());
      if (!ahead.empty()) asked = ahead.to;
    }
  }
  CHECK(stream.window() == ReadStream::kMostWindow);
  CHECK(asked > 32 * kMiB);
}

TEST_CASE("what was lost before it was read halves the window") {
  ReadStream stream;
  for (uint64_t at = 0; at < 100 * kMiB; at += 128 * kKiB) stream.on_read(at, 128 * kKiB, limits());
  CHECK(stream.was_asked(101 * kMiB));
  stream.lost(100 * kMiB);
  CHECK(stream.window() == ReadStream::kMostWindow / 2);
  CHECK_FALSE(stream.was_asked(101 * kMiB));
  CHECK(stream.on_read(100 * kMiB, 128 * kKiB, limits()).from == 100 * kMiB);
  CHECK(stream.window() <= ReadStream::kMostWindow / 2 + ReadStream::kFirstWindow);
}

TEST_CASE("what could not be asked for is told again") {
  ReadStream stream;
  const auto first = stream.on_read(0, 128 * kKiB, limits());
  stream.asked_until(first.to - 64 * kKiB);
  const auto second = stream.on_read(128 * kKiB, 128 * kKiB, limits());
  CHECK(second.from == first.to - 64 * kKiB);
}

}  // namespace
}  // namespace cache
