// The operations of libfuse's low-level interface, by file: ops_meta.cc (names, attributes,
// xattrs), ops_control.cc (the control channel), ops_dir.cc (listings), ops_file.cc (contents),
// ops_change.cc (changes of the tree and of attributes), ops_lock.cc (locks).
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
void add_change_operations(fuse_lowlevel_ops* operations);
void add_lock_operations(fuse_lowlevel_ops* operations);

}  // namespace fusefs
