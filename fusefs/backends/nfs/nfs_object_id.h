// Object ids of NFS: the path under the root and the object's number there ("a/b", NUL, 8 bytes);
// the root's is empty.
//
// Thread-safety:  pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fusefs/backends/backend.h"

namespace fusefs::nfs {

struct ObjectName {
  std::string_view path;  // under the root, without a slash in front
  uint64_t ino = 0;       // 0: the root's, or any
};

// Empty where the path is too long.
ObjectId make_id(std::string_view path, uint64_t ino);
// Refers to the id's bytes.
ObjectName parse_id(std::string_view id);

std::string join(std::string_view directory, std::string_view name);
std::string_view parent_of(std::string_view path);
std::string_view last_name(std::string_view path);

// The errno of what can't be a name: 0: it can.
int bad_name(std::string_view name);
bool is_dots(std::string_view name);
// The same of a name that is to be made in a directory.
int bad_new_name(std::string_view directory, std::string_view name);

}  // namespace fusefs::nfs
