// The operations of libfuse's low-level interface, by file: ops_meta.cc (names, attributes, xattrs,
// the control channel, refusals), ops_control.cc (the control channel's questions about
// directories), ops_dir.cc (listings), ops_file.cc (contents).
//
// Thread-safety:  each may run on any number of workers at once.
// Errors:         every operation replies exactly once (fuse_request.h).
#pragma once

#include <fuse_lowlevel.h>

namespace fusefs {

void add_meta_operations(fuse_lowlevel_ops* operations);
void add_dir_operations(fuse_lowlevel_ops* operations);
void add_file_operations(fuse_lowlevel_ops* operations);

}  // namespace fusefs
