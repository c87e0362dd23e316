#include "fusefs/backends/sftp/sftp_paths.h"

#include <cerrno>

namespace fusefs::sftp {

int check_name(std::string_view name) {
  if (name.empty() || name.find('/') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    return EINVAL;
  }
  return name.size() > kMaxName ? ENAMETOOLONG : 0;
}

int check_child(const ObjectId& parent, std::string_view name) {
  if (const int wrong = check_name(name); wrong != 0) return wrong;
  if (name == "." || name == "..") return EINVAL;
  return parent.size() + 1 + name.size() >= kMaxPath ? ENAMETOOLONG : 0;
}

ObjectId join(const ObjectId& parent, std::string_view name) {
  return parent.empty() ? ObjectId(name) : ObjectId(parent).append("/").append(name);
}

ObjectId parent_of(const ObjectId& id) {
  const size_t slash = id.rfind('/');
  return slash == std::string::npos ? ObjectId() : id.substr(0, slash);
}

std::string moved_path(const std::string& path, const std::string& from, const std::string& to) {
  if (from.empty() || !path.starts_with(from)) return {};
  if (path.size() > from.size() && path[from.size()] != '/') return {};
  return to + path.substr(from.size());
}

int gone_is_stale(int error_number) { return error_number == ENOENT ? ESTALE : error_number; }

std::string ServerRoot::of(const ObjectId& id) const {
  if (id.empty()) return path;
  return path == "/" ? path + id : path + "/" + id;
}

Request ServerRoot::attributes_request(const ObjectId& id) const {
  return id.empty() ? stat_request(path) : lstat_request(of(id));
}

}  // namespace fusefs::sftp
