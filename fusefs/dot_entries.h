// '.' and '..', which no remote lists and every listing begins with, and their offsets.
//
// Entries' cookies may be any value in [1, 2^63-1]: no value is left for the places after '.' and
// after '..', which a program may still seek to (and must pass, with a buffer for one entry). So
// two values near the top are taken, below those that filesystems use as end marks (2^63-1 and
// 2^63-2), and never shown by mapped cookies (cache/dir/cookie_map.h: their index bits are all
// ones). A remote whose own cookie has exactly one of these two values is told apart by what the
// handle did: once an entry with that cookie was given, the offset means the entry, until the
// handle starts over.
#pragma once

#include <cstdint>

namespace fusefs {

constexpr uint64_t kAfterDot = 0x7ffffffffffffff0;
constexpr uint64_t kAfterDotDot = 0x7ffffffffffffff1;

}  // namespace fusefs
