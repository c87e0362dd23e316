// ReadStream: its rules as examples, in KiB.
#include "cache/data/read_stream.h"

#include <catch2/catch.hpp>
#include <vector>

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

TEST_CASE("random readers are asked nothing for, and so lose nothing") {
  ReadStream stream;
  for (uint64_t i = 1; i < 50; ++i) {
    const uint64_t at = i * i * 7919 % 97 * 10 * kMiB + 5 * kMiB;
    CHECK(stream.on_read(at, 4 * kKiB, limits()).empty());
    CHECK_FALSE(stream.was_asked(at));
  }
}

// What is asked for ahead of reads that are `apart`, the first at `start`, by where it begins.
std::vector<uint64_t> asked_for_strides(ReadStream& stream, uint64_t start, int64_t apart,
                                        uint64_t reads, const ReadStream::Limits& within) {
  std::vector<uint64_t> asked;
  for (uint64_t i = 0; i < reads; ++i) {
    const uint64_t at = start + i * static_cast<uint64_t>(apart);
    const auto ahead = stream.on_read(at, 4 * kKiB, within);
    for (uint32_t k = 0; !ahead.empty() && k < ahead.count; ++k) {
      CHECK(ahead.at(k).to - ahead.at(k).from == 4 * kKiB);
      asked.push_back(ahead.at(k).from);
    }
  }
  return asked;
}

TEST_CASE("a strided reader is asked for the reads to come, each once, without a gap") {
  for (const int64_t apart : {int64_t{1} << 20, -(int64_t{1} << 20)}) {
    ReadStream stream;
    const uint64_t start = 500 * kMiB;
    const auto asked = asked_for_strides(stream, start, apart, 200, limits());
    REQUIRE(asked.size() > 150);
    // From the one after the proof on; three jumps are four reads.
    for (size_t i = 0; i < asked.size(); ++i) {
      CHECK(asked[i] == start + (ReadStream::kStrideProof + 1 + i) * static_cast<uint64_t>(apart));
    }
    CHECK(asked.size() >= 200 - 4 + ReadStream::kMostStrides / 2);
    CHECK(asked.size() <= 200 - 4 + ReadStream::kMostStrides);
  }
}

TEST_CASE("strides are not asked for beyond the file, nor beyond what there is room for") {
  ReadStream stream;
  const auto asked = asked_for_strides(stream, 2 * kMiB, int64_t{1} << 20, 19, limits(21 * kMiB));
  REQUIRE(!asked.empty());
  CHECK(asked.back() == 20 * kMiB);
  CHECK(asked.size() == 19 - 4);
  ReadStream back;
  CHECK(asked_for_strides(back, 20 * kMiB, -(int64_t{1} << 20), 20, limits()).back() == 0);
  ReadStream tight;
  ReadStream::Limits narrow = limits();
  narrow.window = 3 * 4 * kKiB;
  CHECK(asked_for_strides(tight, 2 * kMiB, int64_t{1} << 20, 30, narrow).size() <= 30 - 4 + 3);
}

TEST_CASE("strides that were lost before they were read are halved; another stride begins anew") {
  ReadStream stream;
  for (uint64_t i = 1; i < 60; ++i) stream.on_read(i * kMiB, 4 * kKiB, limits());
  REQUIRE(stream.was_asked(59 * kMiB));
  stream.lost(59 * kMiB);
  // Half of them, and the next beyond that only after these were read.
  const auto ahead = stream.on_read(60 * kMiB, 4 * kKiB, limits());
  CHECK(ahead.from == 61 * kMiB);
  CHECK(ahead.count == ReadStream::kMostStrides / 2);
  CHECK(stream.on_read(500 * kMiB, 4 * kKiB, limits()).empty());
  CHECK_FALSE(stream.was_asked(500 * kMiB));
  CHECK(stream.on_read(503 * kMiB, 4 * kKiB, limits()).empty());
  CHECK(stream.on_read(506 * kMiB, 4 * kKiB, limits()).empty());
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
