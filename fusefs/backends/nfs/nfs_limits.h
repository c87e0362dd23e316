// Numbers and bounds that both versions of NFS share.
//
// Source:         RFC 1813 and RFC 7530; what is a bound of ours says why.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fusefs::nfs {

constexpr uint32_t kNfsProgram = 100003;
constexpr uint32_t kMountProgram = 100005;

constexpr size_t kMaxHandle3 = 64;
constexpr size_t kMaxHandle4 = 128;
constexpr uint32_t kMaxMaskWords = 8;             // of a bitmap4; two are defined
constexpr size_t kMaxListedEntries = 65536;       // no answer of 1 MiB has more
constexpr uint32_t kNanoseconds = 1'000'000'000;  // of a second

}  // namespace fusefs::nfs
