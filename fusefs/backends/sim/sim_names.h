// Numbered names: "file-000000000000000123", computed from the number alone.
//
// Purpose:        names of one directory have one length, so their bytewise order is that of their
//                 numbers and a directory of any size costs no memory.
// Thread-safety:  immutable after construction.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace fusefs {

constexpr uint32_t kSimMaxName = 255;
using SimNameBuffer = std::array<char, kSimMaxName>;

// Decimal digits that number `count` objects from 0; at least 1.
constexpr unsigned sim_digits(uint64_t count) {
  unsigned digits = 1;
  for (uint64_t last = count > 0 ? count - 1 : 0; last >= 10; last /= 10) ++digits;
  return digits;
}

class SimNames {
 public:
  // `length` bytes in all: the digits that `count` needs, then as much of `prefix` as fits, then
  // zeroes between them.
  SimNames(std::string_view prefix, uint64_t count, uint32_t length)
      : length_(length), prefix_(prefix.substr(0, length - sim_digits(count))) {
    zeroes_.assign(prefix_);
    zeroes_.resize(length, '0');
  }
  // As short as it can be: the prefix and the digits.
  SimNames(std::string_view prefix, uint64_t count)
      : SimNames(prefix, count, static_cast<uint32_t>(prefix.size()) + sim_digits(count)) {}

  std::string_view format(uint64_t number, SimNameBuffer* buffer) const {
    std::memcpy(buffer->data(), zeroes_.data(), length_);
    for (size_t place = length_; number > 0; number /= 10) {
      (*buffer)[--place] = static_cast<char>('0' + number % 10);
    }
    return {buffer->data(), length_};
  }

 private:
  uint32_t length_;
  std::string prefix_;
  std::string zeroes_;  // the name of number 0
};

}  // namespace fusefs
