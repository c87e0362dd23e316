#include "fusefs/backends/nfs/nfs_object_id.h"

#include <cerrno>
#include <cstring>

namespace fusefs::nfs {
namespace {

constexpr size_t kMaxIdBytes = 4096;
constexpr size_t kMaxNameBytes = 255;

}  // namespace

ObjectId make_id(std::string_view path, uint64_t ino) {
  if (path.empty()) return {};
  ObjectId id(path);
  id.push_back('\0');
  id.append(reinterpret_cast<const char*>(&ino), sizeof ino);
  return id.size() <= kMaxIdBytes ? id : ObjectId();
}

ObjectName parse_id(std::string_view id) {
  ObjectName name;
  constexpr size_t kTail = 1 + sizeof name.ino;
  if (id.size() <= kTail) return name;
  name.path = id.substr(0, id.size() - kTail);
  std::memcpy(&name.ino, id.data() + id.size() - sizeof name.ino, sizeof name.ino);
  return name;
}

std::string join(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty()) path.push_back('/');
  return path.append(name);
}

std::string_view parent_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  return path.substr(0, slash == std::string_view::npos ? 0 : slash);
}

std::string_view last_name(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

int bad_name(std::string_view name) {
  if (name.empty() || name.find('/') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    return EINVAL;
  }
  return name.size() > kMaxNameBytes ? ENAMETOOLONG : 0;
}

bool is_dots(std::string_view name) { return name == "." || name == ".."; }

int bad_new_name(std::string_view directory, std::string_view name) {
  if (is_dots(name)) return EINVAL;
  if (const int wrong = bad_name(name)) return wrong;
  return make_id(join(directory, name), 0).empty() ? ENAMETOOLONG : 0;
}

}  // namespace fusefs::nfs
