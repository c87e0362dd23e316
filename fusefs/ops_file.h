// Opening files, for OPEN and CREATE.
//
// Thread-safety:  any worker.
#pragma once

#include <fuse_lowlevel.h>

#include "fusefs/session_impl.h"

namespace fusefs {

// The flags that a back end is to open with: what is written must be read, too.
int flags_for_backend(int flags);

// Takes over what the back end has opened, and says in `fi` what the kernel may keep of the file.
// `attr` is what is known of it.
std::unique_ptr<FileHandle> make_handle(SessionImpl& session, InodeRef inode, const Attr& attr,
                                        BackendFileSourcePtr source, fuse_file_info* fi);

}  // namespace fusefs
