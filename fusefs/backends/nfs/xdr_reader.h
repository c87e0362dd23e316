// XdrReader: big-endian words and padded bytes (RFC 4506), from a piece of memory that it can't
// leave.
//
// Thread-safety:  none of its own.
// Errors:         after the first step past the end, or over a bound, everything is zero and empty
//                 and ok() is false.
#pragma once

#include <endian.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace fusefs::nfs {

class XdrReader {
 public:
  explicit XdrReader(std::string_view bytes) : bytes_(bytes) {}

  uint32_t u32() {
    uint32_t word = 0;
    if (const std::string_view at = take(sizeof word); !at.empty())
      std::memcpy(&word, at.data(), sizeof word);
    return be32toh(word);
  }
  uint64_t u64() {
    uint64_t word = 0;
    if (const std::string_view at = take(sizeof word); !at.empty())
      std::memcpy(&word, at.data(), sizeof word);
    return be64toh(word);
  }
  // Eight bytes that mean something to the server alone.
  uint64_t verifier() {
    uint64_t bytes = 0;
    if (const std::string_view at = take(sizeof bytes); !at.empty())
      std::memcpy(&bytes, at.data(), sizeof bytes);
    return bytes;
  }
  bool flag() { return u32() != 0; }
  // Bytes with their length in front, at most so many.
  std::string_view opaque(size_t most) {
    const uint32_t length = u32();
    if (length > most) fail();
    const std::string_view value = take(length);
    take((4 - length % 4) % 4);
    return value;
  }
  // Bytes of a fixed size, a multiple of four.
  std::string_view bytes(size_t count) { return take(count); }
  void skip(size_t count) { take(count); }
  void fail() { ok_ = false; }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::string_view rest() const { return ok_ ? bytes_ : std::string_view(); }

 private:
  std::string_view take(size_t count) {
    if (!ok_ || bytes_.size() < count) {
      ok_ = false;
      return {};
    }
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }

  std::string_view bytes_;
  bool ok_ = true;
};

}  // namespace fusefs::nfs
