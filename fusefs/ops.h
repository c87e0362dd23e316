// The operations of libfuse's low-level interface, by file: ops_meta.cc (names, attributes, xattrs,
// refusals), ops_control.cc (the control channel), ops_dir.cc (listings), ops_file.cc (contents).
//
// Thread-safety:  each may run on any number of workers at once.
// Errors:         every operation replies exactly once (fuse_request.h).
#pragma once

#include <fuse_lowlevel.h>

namespace fusefs {

void add_meta_operations(fuse_lowlevel_ops* operations);
void add_control_operations(fuse_lowlevel_ops* operations);
void add_dir_operations(fuse_lowlevel_ops* operations);
void add_file_operations(fuse_lowlevel_ops* operations);

}  // namespace fusefs
