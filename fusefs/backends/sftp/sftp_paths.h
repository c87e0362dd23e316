// Object ids as paths: what names an id may be made of, and what the server calls it.
//
// Purpose:        an id is a path relative to the mounted root, components separated by single
//                 slashes; "" is the root.
// Thread-safety:  pure functions; ServerRoot is constant once connected.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "fusefs/backends/backend.h"
#include "fusefs/backends/sftp/codec.h"

namespace fusefs::sftp {

constexpr size_t kMaxName = 255;
// An id is at most 4096 bytes; a server's own limit may be lower.
constexpr size_t kMaxPath = 4096;

// A name that a path may be made of; 0 or an errno.
int check_name(std::string_view name);
// The same of what is to be made, removed or moved, and with the path that it makes.
int check_child(const ObjectId& parent, std::string_view name);

ObjectId join(const ObjectId& parent, std::string_view name);
ObjectId parent_of(const ObjectId& id);

// What `path` is called now that `from` has become `to`; empty: it is neither that nor below it.
std::string moved_path(const std::string& path, const std::string& from, const std::string& to);

// Of an object that was once found.
int gone_is_stale(int error_number);

// The server's own path of the root.
struct ServerRoot {
  std::string path = "/";

  [[nodiscard]] std::string of(const ObjectId& id) const;
  // Links are followed in the root's own path only.
  [[nodiscard]] Request attributes_request(const ObjectId& id) const;
};

}  // namespace fusefs::sftp
