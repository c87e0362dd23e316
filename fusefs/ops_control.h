// The control channel's questions about directories (control.h), and the extended attribute that
// answers one of them.
//
// Thread-safety:  each may run on any number of workers at once.
// Locks:          a shard of the inode table at a time; the handle's mutex while the remote lists.
// Errors:         each replies exactly once. EPERM for whom may_control() excludes; ENOTDIR; EINVAL
//                 for a question that is cut short.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fusefs/fuse_request.h"
#include "fusefs/inode.h"

namespace fusefs {

struct DirectoryQuestion {
  unsigned command = 0;
  uint64_t handle = 0;  // fi->fh
  std::string_view in;
  size_t out_bytes = 0;
};

// The mount's owner and root.
[[nodiscard]] bool may_control(const FuseRequest& request);

[[nodiscard]] bool asks_directories(unsigned command);
void answer_directories(SessionImpl& session, FuseRequest& request, fuse_ino_t ino,
                        const DirectoryQuestion& question);

// kDirectoryXattr. ENODATA of what is no directory.
void reply_directory_xattr(SessionImpl& session, FuseRequest& request, const Inode& inode,
                           size_t size);

}  // namespace fusefs
