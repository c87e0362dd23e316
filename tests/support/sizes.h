// Units of memory.
#pragma once

#include <cstdint>

namespace test {

constexpr uint64_t kMiB = uint64_t{1} << 20;

}  // namespace test
