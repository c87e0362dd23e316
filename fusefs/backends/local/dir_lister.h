// DirLister: one answer of a local directory's listing.
//
// Purpose:        getdents64 with the kernel's own cookies (d_off, unchanged), from any place of
//                 the directory, with attributes where they are wanted.
// Ownership:      refers to the root and the descriptor cache, which outlive it; it keeps no state.
// Thread-safety:  list() may be called from any thread. It blocks on the disk.
// Errors:         in the answer: kErrBadCookie: no place of this filesystem's; ESTALE: the
//                 directory is gone; others as open(2) and getdents(2) give them. A failure after
//                 the first entries ends the answer there: the next request meets it again.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "cache/base/result.h"
#include "cache/dir/source.h"
#include "fusefs/backends/local/dir_fd_cache.h"
#include "fusefs/backends/local/tree_root.h"

namespace fusefs::local {

// The most entries of one answer: 5 ms of getdents64 at 3 M entries/s.
constexpr uint32_t kMaxBatch = 16384;

class DirLister {
 public:
  DirLister(const TreeRoot& root, DirFdCache& descriptors)
      : root_(root), descriptors_(descriptors) {}

  // Nothing when `cancelled` was set on the way.
  //
  // '.' and '..' are left out, and so is an entry that vanished before its attributes were read;
  // an answer without entries is the end. `change` is the directory's token if it was the same
  // before and after the entries were read, so that they belong to it; else one that never comes
  // again.
  std::optional<cache::DirAnswer> list(const std::string& directory,
                                       const cache::DirRequest& request,
                                       const std::atomic<bool>& cancelled);

 private:
  struct Position {
    UniqueFd fd;
    uint64_t token = 0;  // the directory's before the first read
  };

  cache::Result<Position> open_at(const std::string& directory, uint64_t cookie);
  cache::Result<UniqueFd> open_fresh(const std::string& directory);

  const TreeRoot& root_;
  DirFdCache& descriptors_;
};

}  // namespace fusefs::local
