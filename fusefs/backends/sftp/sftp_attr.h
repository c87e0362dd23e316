// From what SFTP tells of a file to what a file system shows.
//
// Inode numbers:  SFTP 3 has none. They are made from the path: the same path has the same number,
//                 over mounts too; hard links have several; a number is not kept over a rename.
// Link counts:    not told either; 1, which find(1) and others take for 'unknown'.
// Change token:   a directory's modification time, in whole seconds, and its size. While it is so
//                 young that another change may still fall into the same second, the token is one
//                 that never comes again, so nothing that was listed meanwhile is trusted later.
//                 The clocks of server and client are taken to agree within kYoung.
// Thread-safety:  pure functions, but for unique_token(), which any thread may call.
#pragma once

#include <cstdint>
#include <string_view>

#include "cache/dir/attr.h"
#include "fusefs/backends/sftp/codec.h"

namespace fusefs::sftp {

constexpr int64_t kYoung = 2;  // seconds

// The inode number of a path relative to the root ("" is that itself), of a child by its name.
uint64_t inode_of(std::string_view path);
uint64_t child_inode(uint64_t parent, std::string_view name);

// `wall_seconds`: since 1970, now.
cache::Attr to_attr(const FileAttrs& attrs, uint64_t ino, int64_t wall_seconds);
uint64_t change_token(const FileAttrs& attrs, int64_t wall_seconds);
uint64_t unique_token();

// DT_*, DT_UNKNOWN where the server does not tell.
uint8_t entry_type(const FileAttrs& attrs);

int64_t wall_seconds_now();

}  // namespace fusefs::sftp
