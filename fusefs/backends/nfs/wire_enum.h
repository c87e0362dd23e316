// wire_number: an enumeration of libnfs', as the number that the server sent.
//
// C lets an enumeration hold any number, and libnfs stores what comes; in C++ to read one that has
// no such enumerator is undefined.
#pragma once

#include <cstdint>
#include <cstring>

namespace fusefs::nfs {

template <typename Enum>
uint32_t wire_number(const Enum& value) {
  static_assert(sizeof(Enum) == sizeof(uint32_t));
  uint32_t number = 0;
  std::memcpy(&number, &value, sizeof number);
  return number;
}

}  // namespace fusefs::nfs
