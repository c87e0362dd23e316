// The extended attribute that tells what is held of a directory (control.h, kDirectoryXattr). The
// control channel's questions are answered in ops_control.cc.
//
// Thread-safety:  may run on any number of workers at once.
// Locks:          a shard of the inode table at a time.
// Errors:         replies exactly once. EPERM for whom the control channel refuses; ENODATA of what
//                 is no directory.
#pragma once

#include <cstddef>

#include "fusefs/fuse_request.h"
#include "fusefs/inode.h"

namespace fusefs {

void reply_directory_xattr(SessionImpl& session, FuseRequest& request, const Inode& inode,
                           size_t size);

}  // namespace fusefs
