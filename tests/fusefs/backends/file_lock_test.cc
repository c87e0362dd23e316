// The ranges of a file that one holder has locked: how they are split, joined and met.

#include "fusefs/backends/file_lock.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <initializer_list>
#include <string>
#include <vector>

#include "tests/support/random.h"

namespace fusefs {
namespace {

constexpr uint64_t kToTheEnd = FileLock::kToTheEnd;

FileLock lock_of(LockType type, uint64_t start, uint64_t end) {
  FileLock lock;
  lock.type = type;
  lock.start = start;
  lock.end = end;
  return lock;
}

std::string end_text(uint64_t end) { return end == kToTheEnd ? "" : std::to_string(end); }

// "w0-4 r7-": what is written is held exclusively, and the last one has no end.
std::string text_of(const FileLock& lock) {
  const char* const type = lock.type == LockType::kWrite  ? "w"
                           : lock.type == LockType::kRead ? "r"
                                                          : "none";
  return type + std::to_string(lock.start) + "-" + end_text(lock.end);
}

std::string text_of(const std::vector<FileLock>& locks) {
  std::string text;
  for (const FileLock& lock : locks) text += (text.empty() ? "" : " ") + text_of(lock);
  return text;
}

std::string text_of(const LockRanges& ranges) { return text_of(ranges.held()); }

std::string met(const LockRanges& ranges, LockType type, uint64_t start, uint64_t end) {
  const auto found = ranges.conflict(lock_of(type, start, end));
  return found ? text_of(*found) : "nothing";
}

LockRanges ranges_of(std::initializer_list<FileLock> locks) {
  LockRanges ranges;
  for (const FileLock& lock : locks) ranges.set(lock);
  return ranges;
}

constexpr LockType kNone = LockType::kNone;
constexpr LockType kRead = LockType::kRead;
constexpr LockType kWrite = LockType::kWrite;

}  // namespace

TEST_CASE("lock ranges: nothing is held at first, and nothing is met") {
  LockRanges ranges;
  CHECK(ranges.empty());
  CHECK(met(ranges, kWrite, 0, kToTheEnd) == "nothing");
  ranges.set(lock_of(kNone, 0, kToTheEnd));
  CHECK(ranges.empty());
}

TEST_CASE("lock ranges: what is given up in the middle leaves both sides") {
  LockRanges ranges = ranges_of({lock_of(kWrite, 0, kToTheEnd)});
  ranges.set(lock_of(kNone, 10, 19));
  CHECK(text_of(ranges) == "w0-9 w20-");
  ranges.set(lock_of(kNone, 0, 0));
  CHECK(text_of(ranges) == "w1-9 w20-");
  ranges.set(lock_of(kNone, 9, 20));
  CHECK(text_of(ranges) == "w1-8 w21-");
  ranges.set(lock_of(kNone, 5, kToTheEnd));
  CHECK(text_of(ranges) == "w1-4");
  ranges.set(lock_of(kNone, 1, 4));
  CHECK(ranges.empty());
}

TEST_CASE("lock ranges: another type replaces what it covers and no more") {
  LockRanges ranges = ranges_of({lock_of(kWrite, 0, 99)});
  ranges.set(lock_of(kRead, 40, 59));
  CHECK(text_of(ranges) == "w0-39 r40-59 w60-99");
  ranges.set(lock_of(kRead, 30, 44));
  CHECK(text_of(ranges) == "w0-29 r30-59 w60-99");
  ranges.set(lock_of(kWrite, 30, 59));
  CHECK(text_of(ranges) == "w0-99");
  ranges.set(lock_of(kRead, 0, kToTheEnd));
  CHECK(text_of(ranges) == "r0-");
}

TEST_CASE("lock ranges: neighbours of one type are one, those of two are two") {
  CHECK(text_of(ranges_of({lock_of(kRead, 10, 19), lock_of(kRead, 0, 9)})) == "r0-19");
  CHECK(text_of(ranges_of({lock_of(kRead, 0, 9), lock_of(kRead, 20, kToTheEnd),
                           lock_of(kRead, 10, 19)})) == "r0-");
  CHECK(text_of(ranges_of({lock_of(kRead, 0, 9), lock_of(kWrite, 10, 19)})) == "r0-9 w10-19");
  CHECK(text_of(ranges_of({lock_of(kRead, 0, 9), lock_of(kRead, 11, 19)})) == "r0-9 r11-19");
}

TEST_CASE("lock ranges: the last byte that there is can be locked and given up by itself") {
  LockRanges ranges = ranges_of({lock_of(kWrite, kToTheEnd, kToTheEnd)});
  CHECK(met(ranges, kRead, 0, kToTheEnd - 1) == "nothing");
  CHECK(ranges.conflict(lock_of(kRead, 0, kToTheEnd)).has_value());
  ranges.set(lock_of(kWrite, 5, kToTheEnd - 1));
  CHECK(text_of(ranges) == "w5-");
  ranges.set(lock_of(kNone, kToTheEnd, kToTheEnd));
  REQUIRE(ranges.held().size() == 1);
  CHECK(ranges.held()[0].end == kToTheEnd - 1);
}

TEST_CASE("lock ranges: only what overlaps is met, and readers do not meet readers") {
  const LockRanges ranges = ranges_of({lock_of(kRead, 10, 19), lock_of(kWrite, 30, 39)});
  CHECK(met(ranges, kWrite, 0, 9) == "nothing");
  CHECK(met(ranges, kWrite, 20, 29) == "nothing");
  CHECK(met(ranges, kWrite, 40, kToTheEnd) == "nothing");
  CHECK(met(ranges, kWrite, 0, 10) == "r10-19");
  CHECK(met(ranges, kWrite, 19, 30) == "r10-19");
  CHECK(met(ranges, kRead, 0, 29) == "nothing");
  CHECK(met(ranges, kRead, 0, kToTheEnd) == "w30-39");
  CHECK(met(ranges, kRead, 39, 39) == "w30-39");
}

TEST_CASE("lock ranges: pieces cover what is asked for, held or not") {
  const auto pieces_of = [](const LockRanges& ranges, uint64_t start, uint64_t end) {
    return text_of(ranges.pieces(lock_of(kWrite, start, end)));
  };
  CHECK(pieces_of(LockRanges(), 3, 7) == "none3-7");
  CHECK(pieces_of(LockRanges(), 0, kToTheEnd) == "none0-");
  const LockRanges ranges = ranges_of({lock_of(kRead, 10, 19), lock_of(kWrite, 20, 29)});
  CHECK(pieces_of(ranges, 0, kToTheEnd) == "none0-9 r10-19 w20-29 none30-");
  CHECK(pieces_of(ranges, 12, 24) == "r12-19 w20-24");
  CHECK(pieces_of(ranges, 15, 15) == "r15-15");
  CHECK(pieces_of(ranges, 30, 30) == "none30-30");
  const LockRanges last = ranges_of({lock_of(kRead, kToTheEnd, kToTheEnd)});
  const auto both = last.pieces(lock_of(kWrite, 5, kToTheEnd));
  REQUIRE(both.size() == 2);
  CHECK(both[0].end == kToTheEnd - 1);
  CHECK(text_of(both[1]) == text_of(last));
}

TEST_CASE("lock ranges: clear gives up all") {
  LockRanges ranges = ranges_of({lock_of(kRead, 10, 19), lock_of(kWrite, 30, kToTheEnd)});
  ranges.clear();
  CHECK(ranges.empty());
  CHECK(met(ranges, kWrite, 0, kToTheEnd) == "nothing");
}

namespace {

// A type for each byte; the last one stands for all that follow.
class BytesModel {
 public:
  static constexpr uint64_t kBytes = 24;

  void set(const FileLock& lock) {
    for (uint64_t i = lock.start; i <= last_of(lock); ++i) types_.at(i) = lock.type;
  }
  // As LockRanges::held() has to be.
  [[nodiscard]] std::string text() const {
    std::string all;
    for (uint64_t i = 0; i <= kBytes; i = end_of(i) + 1) {
      if (types_.at(i) != kNone) all += (all.empty() ? "" : " ") + text_of(range_at(i));
    }
    return all;
  }
  // As LockRanges::pieces() has to be: neighbours of one type are one piece.
  [[nodiscard]] std::string pieces_of(const FileLock& lock) const {
    std::string all;
    for (uint64_t i = lock.start; i <= last_of(lock); i = end_of(i) + 1) {
      FileLock piece = range_at(i);
      piece.end = std::min(piece.end, lock.end);
      all += (all.empty() ? "" : " ") + text_of(piece);
    }
    return all;
  }
  [[nodiscard]] std::string met_by(const FileLock& lock) const {
    for (uint64_t i = lock.start; i <= last_of(lock); ++i) {
      const LockType held = types_.at(i);
      if (held == kNone || (held == kRead && lock.type == kRead)) continue;
      uint64_t start = i;
      while (start > 0 && types_.at(start - 1) == held) --start;
      return text_of(range_at(start));
    }
    return "nothing";
  }

 private:
  static uint64_t last_of(const FileLock& lock) { return std::min(lock.end, kBytes); }
  [[nodiscard]] uint64_t end_of(uint64_t at) const {
    while (at < kBytes && types_.at(at + 1) == types_.at(at)) ++at;
    return at;
  }
  [[nodiscard]] FileLock range_at(uint64_t start) const {
    const uint64_t end = end_of(start);
    return lock_of(types_.at(start), start, end == kBytes ? kToTheEnd : end);
  }

  std::array<LockType, kBytes + 1> types_{};
};

FileLock random_lock(test::Random& random) {
  const uint64_t start = random.below(BytesModel::kBytes + 1);
  const uint64_t length = random.below(BytesModel::kBytes / 2) + 1;
  const bool ends = start + length <= BytesModel::kBytes && !random.one_in(8);
  const LockType type = std::array{kNone, kRead, kWrite}.at(random.below(3));
  return lock_of(type, start, ends ? start + length - 1 : kToTheEnd);
}

}  // namespace

TEST_CASE("lock ranges: any order of changes leaves what each byte says") {
  const uint64_t seed = test::seed();
  INFO("seed " << seed);
  test::Random random(seed);
  LockRanges ranges;
  BytesModel model;
  for (int step = 0; step < 20'000; ++step) {
    const FileLock lock = random_lock(random);
    INFO("step " << step << ": " << text_of(lock) << " into " << text_of(ranges));
    ranges.set(lock);
    model.set(lock);
    REQUIRE(text_of(ranges) == model.text());
    REQUIRE(ranges.empty() == model.text().empty());
    const FileLock range = random_lock(random);
    REQUIRE(text_of(ranges.pieces(range)) == model.pieces_of(range));
    FileLock asked = random_lock(random);
    if (asked.type == kNone) asked.type = kWrite;  // who gives something up asks nobody
    REQUIRE(met(ranges, asked.type, asked.start, asked.end) == model.met_by(asked));
  }
}

}  // namespace fusefs
