#include "tools/ctl/channel.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <system_error>

namespace ctl {

std::string explain(const std::string& path, int error_number) {
  switch (error_number) {
    case ENOENT:
      return path + ": no such file or directory";
    case ENOTDIR:
      return path + ": not a directory; name a directory of the mount";
    case EACCES:
      return path +
             ": permission denied; FUSE shows a mount to its owner alone, even to root not " +
             "without -o allow_root or allow_other";
    case EPERM:
      return path + ": not permitted; only the user who mounted it and root may do this";
    case ENOTCONN:
    case ECONNABORTED:  // just now, with this question under way
      return path + ": its daemon has died; clear the mount away with fusermount3 -u " + path;
    // What filesystems answer to an ioctl that they don't know.
    case ENOTTY:
    case ENOSYS:
    case EINVAL:
    case EOPNOTSUPP:
      return path + ": not in a cookiefs mount; `cookiefsctl list` lists them";
    default:
      return path + ": " + std::generic_category().message(error_number);
  }
}

Directory::Directory(const std::string& path)
    : path_(path), fd_(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC)) {
  if (fd_ < 0) throw Failure(explain(path, errno), errno);
}

Directory::~Directory() { close(fd_); }

void Directory::ask_raw(unsigned long request, void* answer) const {
  if (ioctl(fd_, request, answer) < 0) throw Failure(explain(path_, errno), errno);
}

std::string Directory::ask_text(unsigned long request, std::string_view in) const {
  const auto answer = std::make_unique<fusefs::ControlText>();
  std::memset(answer->text, 0, sizeof answer->text);
  in.copy(answer->text, sizeof answer->text - 1);
  ask(request, answer.get());
  answer->text[fusefs::kControlTextBytes - 1] = '\0';
  return answer->text;
}

Json Directory::ask_json(unsigned long request, std::string_view in) const {
  Json json = Json::parse(ask_text(request, in), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    throw Failure(path_ + ": the daemon's answer is not JSON; is it of another version?");
  }
  return json;
}

void Directory::read(const std::function<bool(const Entry&)>& visit) const {
  constexpr size_t kBytes = 1 << 20;  // what the daemon gives at a time, at most
  const auto buffer = std::make_unique<char[]>(kBytes);
  for (;;) {
    const auto got = syscall(SYS_getdents64, fd_, buffer.get(), kBytes);
    if (got < 0) throw Failure(explain(path_, errno), errno);
    if (got == 0) return;
    for (size_t at = 0; at < static_cast<size_t>(got);) {
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer.get() + at);
      at += entry->d_reclen;
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (!visit({.name = name, .type = entry->d_type})) return;
    }
  }
}

std::vector<std::string> Directory::remote_names() const {
  const auto answer = std::make_unique<fusefs::ControlNames>();
  std::vector<std::string> names;
  for (;;) {
    ask(fusefs::kControlRemoteNames, answer.get());
    if (answer->count == 0) return names;
    const std::string_view all(answer->names,
                               std::min<size_t>(answer->bytes, sizeof answer->names));
    for (size_t at = 0; at < all.size();) {
      const size_t end = std::min(all.find('\0', at), all.size());
      names.emplace_back(all.substr(at, end - at));
      at = end + 1;
    }
  }
}

std::string joined(const std::string& directory, std::string_view below) {
  std::string path = directory;
  if (!path.ends_with('/')) path += '/';
  path += below;
  return path;
}

bool is_directory(const Directory& parent, const Entry& entry) {
  if (entry.type != DT_UNKNOWN) return entry.type == DT_DIR;
  struct stat status {};
  const std::string name(entry.name);
  return fstatat(parent.fd(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISDIR(status.st_mode);
}

}  // namespace ctl
