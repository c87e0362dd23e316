// XdrReader: big-endian words and padded bytes (RFC 4506), from a piece of memory that it can't
// leave.
//
// Thread-safety:  none of its own.
// Errors:         after the first step past the end, or over a bound, everything is zero and empty
//                 and ok() is false.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace fusefs::nfs {

class XdrReader {
 public:
  explicit XdrReader(std::string_view bytes) : bytes_(bytes) {}

  uint32_t u32() {
    const std::string_view word = take(4);
    uint32_t value = 0;
    for (const char c : word) value = value << 8 | static_cast<unsigned char>(c);
    return value;
  }
  uint64_t u64() {
    const uint64_t high = u32();
    return high << 32 | u32();
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
