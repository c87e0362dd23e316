#include "fusefs/backends/local/tree_root.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#include <utility>

namespace fusefs::local {
namespace {

using cache::Result;
using cache::Status;

int retry_openat(int directory, const char* path, int flags) {
  int fd;
  do {
    fd = ::openat(directory, path, flags);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

int retry_openat2(int directory, const char* path, int flags) {
  struct open_how how = {};
  how.flags = static_cast<uint64_t>(flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  // EAGAIN: a rename elsewhere raced with the walk, and the kernel could not prove that it stayed
  // beneath. It can only happen with '..', which no path of ours has; the bound is for others.
  constexpr int kAttempts = 16;
  long fd = -1;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    fd = ::syscall(SYS_openat2, directory, path, &how, sizeof(how));
    if (fd >= 0 || (errno != EINTR && errno != EAGAIN)) break;
  }
  return static_cast<int>(fd);
}

// What a failed resolution means for an object that was once found at this path.
int as_object_error(int error_number) {
  switch (error_number) {
    case ENOENT:  // gone
    case ELOOP:   // a parent is a symbolic link now
    case EXDEV:   // the path leads out of the root
      return ESTALE;
    default:
      return error_number;
  }
}

}  // namespace

Status TreeRoot::open_root(const std::string& path) {
  UniqueFd root(retry_openat(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return Status::error(errno);
  // O_PATH asks for no right to the directory itself; a walk into it does.
  const UniqueFd probe(retry_openat(root.get(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!probe.valid()) return Status::error(errno);
  if (resolver_ == Resolver::kAuto) {
    // Sandboxes refuse unknown calls with EPERM as well as with ENOSYS.
    const UniqueFd beneath(retry_openat2(root.get(), ".", O_PATH | O_CLOEXEC));
    resolver_ = beneath.valid() ? Resolver::kOpenat2 : Resolver::kWalk;
  }
  root_ = std::move(root);
  return Status();
}

Result<UniqueFd> TreeRoot::open_path(const std::string& path) const {
  Result<UniqueFd> opened = open_beneath(path, O_PATH);
  // Without O_DIRECTORY it is a parent that is not a directory any more.
  if (opened.error_number() == ENOTDIR) return Status::error(ESTALE);
  return opened;
}

Result<UniqueFd> TreeRoot::open(const std::string& path, int flags) const {
  return open_beneath(path, flags);
}

Result<UniqueFd> TreeRoot::open_beneath(const std::string& path, int flags) const {
  if (!root_.valid()) return Status::error(ENOTCONN);
  if (path.find('\0') != std::string::npos) return Status::error(EINVAL);
  const int all_flags = flags | O_CLOEXEC | O_NOFOLLOW;
  if (resolver_ == Resolver::kWalk) return walk(path, all_flags);
  UniqueFd fd(retry_openat2(root_.get(), path.empty() ? "." : path.c_str(), all_flags));
  if (!fd.valid()) return Status::error(as_object_error(errno));
  return fd;
}

Result<UniqueFd> TreeRoot::walk(const std::string& path, int flags) const {
  if (is_root_path(path)) {
    UniqueFd fd(retry_openat(root_.get(), ".", flags));
    if (!fd.valid()) return Status::error(as_object_error(errno));
    return fd;
  }
  if (path.size() >= PATH_MAX) return Status::error(ENAMETOOLONG);  // as openat2 says
  UniqueFd directory;
  std::string_view rest = path;
  for (;;) {
    const size_t slash = rest.find('/');
    const std::string component(rest.substr(0, slash));
    if (check_component(component) != 0) return Status::error(ESTALE);
    const bool last = slash == std::string_view::npos;
    // O_PATH with O_NOFOLLOW opens a symbolic link itself; O_DIRECTORY then refuses it.
    const int step = last ? flags : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    UniqueFd next(
        retry_openat(directory.valid() ? directory.get() : root_.get(), component.c_str(), step));
    if (!next.valid()) return Status::error(as_object_error(errno));
    if (last) return next;
    directory = std::move(next);
    rest.remove_prefix(slash + 1);
  }
}

int check_component(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return EINVAL;
  if (name.find('/') != std::string_view::npos) return EINVAL;
  if (name.find('\0') != std::string_view::npos) return EINVAL;
  if (name.size() > NAME_MAX) return ENAMETOOLONG;
  return 0;
}

std::string join_path(const std::string& directory, std::string_view name) {
  if (is_root_path(directory)) return std::string(name);
  std::string path;
  path.reserve(directory.size() + 1 + name.size());
  path.append(directory).append(1, '/').append(name);
  return path;
}

bool is_root_path(std::string_view path) { return path.empty() || path == "."; }

}  // namespace fusefs::local
