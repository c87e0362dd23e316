// fattr4: attributes as version 4.0 packs them (RFC 7530, 5 and 16.7).
//
// Purpose:        the bit sets to ask for, and a decoder that believes no length.
// Thread-safety:  pure functions.
// Owners:         numbers, as Linux' servers send them with sec=sys; "root@..." is 0, and other
//                 names are nobody (65534), as they are to a client without an id mapping.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "cache/dir/attr.h"
#include "fusefs/backends/backend.h"
#include "fusefs/backends/nfs/nfs_attr.h"
#include "fusefs/backends/nfs/nfs_protocol.h"

namespace fusefs::nfs {

using AttrBits = std::array<uint32_t, 2>;

// Everything that cache::Attr has.
AttrBits whole_attr_bits();
// The same, with the handle and what went wrong with an entry; and what a listing needs at least.
AttrBits listed_attr_bits();
AttrBits stamp_bits();  // what a file_stamp() is made of
AttrBits name_only_bits();
AttrBits statfs_bits();
AttrBits limits_bits();
AttrBits lease_bits();

// What was found in the attributes; absent ones keep these values.
struct DecodedAttr {
  cache::Attr attr;        // mode 0: type or mode were not told
  uint32_t type_mode = 0;  // S_IFMT bits, also where the mode was not told
  uint64_t change = 0;
  uint64_t mounted_on = 0;  // the number that the directory knows it by; 0: not told
  Handle handle;
  uint32_t read_error = 0;  // rdattr_error
  StatfsAnswer figures;
  uint32_t max_read = 0, max_write = 0;
  uint32_t lease_seconds = 0;
};

// False: the bytes are no such attributes, or hold one that was not asked for and so can't be
// passed over.
bool decode_attr4(std::span<const uint32_t> mask, std::string_view bytes, DecodedAttr* decoded);

// When attributes were asked for.
struct AskedAt {
  cache::TimePoint when = std::chrono::steady_clock::now();
  WallTime wall = wall_now();
};

// An object's attributes with its token.
Attr dated(const DecodedAttr& decoded, ChangeTokens& tokens, const AskedAt& asked);

}  // namespace fusefs::nfs
