// XdrWriter: big-endian words and padded bytes (RFC 4506), appended to a string; what xdr_reader.h
// reads.
//
// Thread-safety:  none of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace fusefs::nfs {

class XdrWriter {
 public:
  XdrWriter& u32(uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8)
      bytes_.push_back(static_cast<char>(value >> shift));
    return *this;
  }
  XdrWriter& u64(uint64_t value) {
    return u32(static_cast<uint32_t>(value >> 32)).u32(static_cast<uint32_t>(value));
  }
  // Bytes with their length in front.
  XdrWriter& opaque(std::string_view value) {
    u32(static_cast<uint32_t>(value.size()));
    bytes_.append(value);
    bytes_.append((4 - value.size() % 4) % 4, '\0');
    return *this;
  }
  // Bytes as they stand.
  XdrWriter& raw(std::string_view value) {
    bytes_.append(value);
    return *this;
  }
  void reserve(size_t count) { bytes_.reserve(count); }
  // Writes over a word that stands there.
  void u32_at(size_t at, uint32_t value) { bytes_.replace(at, 4, XdrWriter().u32(value).bytes()); }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }
  // The same, and is empty then.
  [[nodiscard]] std::string take() { return std::exchange(bytes_, {}); }

 private:
  std::string bytes_;
};

}  // namespace fusefs::nfs
