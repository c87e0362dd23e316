#include "fusefs/backends/local/tree_changes.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <fstream>
#include <utility>

#include "fusefs/backends/local/act_as.h"
#include "fusefs/backends/local/local_attr.h"

namespace fusefs::local {
namespace {

using cache::Result;
using cache::Status;

constexpr uint32_t kPermissions = 07777;

// The mask that the kernel takes off the modes of what this process makes. Reading it with
// umask(2) would change it for other threads; without /proc nothing else here works either.
uint32_t process_umask() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    uint32_t mask = 0;
    if (word == "Umask:" && status >> std::oct >> mask) return mask;
  }
  return 0;
}

bool has_default_acl(int directory) {
  const std::string path = "/proc/self/fd/" + std::to_string(directory);
  return ::getxattr(path.c_str(), "system.posix_acl_default", nullptr, 0) > 0;
}

// The permission bits that the object just made lacks, and that were asked for: the mask of this
// process is not the caller's, and mkdir(2) takes no setgid bit. What a default ACL took off stays
// off.
uint32_t missing_bits(int directory, uint32_t asked, uint32_t has) {
  const uint32_t missing = asked & ~has & kPermissions;
  const uint32_t special = missing & (S_ISUID | S_ISGID | S_ISVTX);
  const uint32_t masked = missing & process_umask();
  if (masked == 0 || has_default_acl(directory)) return special;
  return special | masked;
}

// Attributes of what was just made in `directory`, after its mode is as asked for. What has another
// owner or other names has taken its place meanwhile, and is left alone.
Result<Attr> complete_mode(int directory, const UniqueFd& made, uid_t owner, uint32_t asked) {
  Result<Attr> attr = stat_fd(made.get());
  if (!attr.ok() || S_ISLNK(attr.value().mode)) return attr;
  if ((asked & ~attr.value().mode & kPermissions) == 0) return attr;
  if (attr.value().uid != owner) return attr;
  if (!S_ISDIR(attr.value().mode) && attr.value().nlink != 1) return attr;
  const uint32_t missing = missing_bits(directory, asked, attr.value().mode);
  if (missing == 0) return attr;
  const uint32_t mode = (attr.value().mode & kPermissions) | missing;
  if (::chmod(proc_path(made).c_str(), mode) != 0) return Status::error(errno);
  return stat_fd(made.get());
}

int open_flags(int flags) {
  // A pipe or a device in the file's place must not block; O_APPEND would move what is written.
  constexpr int kAlways = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  return (flags & (O_ACCMODE | O_TRUNC)) | kAlways;
}

// Who owns what is made.
uid_t owner_of_new(const CallerPtr& caller) {
  return caller != nullptr && ::geteuid() == 0 ? caller->uid : ::geteuid();
}

Result<UniqueFd> make_file(const CallerPtr& caller, int directory, const std::string& name,
                           uint32_t mode, int flags) {
  const ActAs acting(caller);
  if (!acting.status().ok()) return acting.status();
  const int all_flags = open_flags(flags) | O_CREAT | O_EXCL | O_NOFOLLOW;
  UniqueFd fd(::openat(directory, name.c_str(), all_flags, mode & kPermissions));
  if (!fd.valid()) return Status::error(errno);
  return fd;
}

// What became of a directory. Whoever else changes it between the two looks at it is not seen; a
// token that never comes again has the listing read anew when it is next asked about.
DirChange changed(uint64_t before) { return {.before = before, .after = unique_token()}; }

timespec to_kernel(bool set, bool now, const cache::Timespec& time) {
  if (now) return {0, UTIME_NOW};
  if (!set) return {0, UTIME_OMIT};
  return {time.seconds, static_cast<long>(time.nanoseconds)};
}

Status set_owner(const UniqueFd& object, const SetAttr& set) {
  if (!set.has(SetAttr::kUid) && !set.has(SetAttr::kGid)) return Status();
  const uid_t uid = set.has(SetAttr::kUid) ? set.uid : static_cast<uid_t>(-1);
  const gid_t gid = set.has(SetAttr::kGid) ? set.gid : static_cast<gid_t>(-1);
  if (::fchownat(object.get(), "", uid, gid, AT_EMPTY_PATH) == 0) return Status();
  return Status::error(errno);
}

// Through the open file where there is one, which may be written although its mode forbids it now.
Status set_size(const UniqueFd& object, const UniqueFd* file, uint64_t size) {
  if (size > static_cast<uint64_t>(LLONG_MAX)) return Status::error(EFBIG);
  const auto length = static_cast<off_t>(size);
  if (file != nullptr) {
    if (::ftruncate(file->get(), length) == 0) return Status();
    if (errno != EBADF && errno != EINVAL) return Status::error(errno);  // else: not for writing
  }
  struct stat st = {};
  if (::fstat(object.get(), &st) != 0) return Status::error(errno);
  if (!S_ISREG(st.st_mode)) return Status::error(S_ISDIR(st.st_mode) ? EISDIR : EINVAL);
  return ::truncate(proc_path(object).c_str(), length) == 0 ? Status() : Status::error(errno);
}

Status set_times(const UniqueFd& object, const SetAttr& set) {
  const timespec times[2] = {
      to_kernel(set.has(SetAttr::kAtime), set.has(SetAttr::kAtimeNow), set.atime),
      to_kernel(set.has(SetAttr::kMtime), set.has(SetAttr::kMtimeNow), set.mtime)};
  if (times[0].tv_nsec == UTIME_OMIT && times[1].tv_nsec == UTIME_OMIT) return Status();
  const std::string path = proc_path(object);
  return ::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0 ? Status() : Status::error(errno);
}

// The mode behind what takes the setuid bit off: a new owner, a new size. Times last: a new size
// moves them.
Status set_all(const UniqueFd& object, const UniqueFd* file, const SetAttr& set) {
  Status status = set_owner(object, set);
  if (status.ok() && set.has(SetAttr::kSize)) status = set_size(object, file, set.size);
  if (status.ok() && set.has(SetAttr::kMode) &&
      ::chmod(proc_path(object).c_str(), set.mode & kPermissions) != 0) {
    status = Status::error(errno);
  }
  return status.ok() ? set_times(object, set) : status;
}

}  // namespace

std::string proc_path(const UniqueFd& fd) { return "/proc/self/fd/" + std::to_string(fd.get()); }

Result<TreeChanges::Place> TreeChanges::place(const ObjectId& parent,
                                              const std::string& name) const {
  const int bad_name = check_component(name);
  if (bad_name != 0) return Status::error(bad_name);
  Place place;
  place.name = name;
  place.id = join_path(parent, name);
  if (place.id.size() >= PATH_MAX) return Status::error(ENAMETOOLONG);
  // The parent first, so that ENOENT means the name and ESTALE the parent.
  Result<UniqueFd> directory = root_.open_path(parent);
  if (!directory.ok()) return directory.status();
  place.directory = std::move(directory).value();
  const Result<Attr> attr = stat_fd(place.directory.get());
  if (!attr.ok()) return attr.status();
  if (!S_ISDIR(attr.value().mode)) return Status::error(ENOTDIR);
  place.before = attr.value().change;
  return place;
}

Result<UniqueFd> TreeChanges::open(const ObjectId& id, int flags) const {
  const Result<UniqueFd> named = root_.open_path(id);
  if (!named.ok()) return named.status();
  const Result<Attr> attr = stat_fd(named.value().get());
  if (!attr.ok()) return attr.status();
  // The kernel opens pipes and devices itself. Only a file is opened here: by its descriptor, so
  // that nothing that blocks or acts when opened can take its place in between.
  if (S_ISDIR(attr.value().mode)) return Status::error(EISDIR);
  if (!S_ISREG(attr.value().mode)) return Status::error(EINVAL);
  UniqueFd file(::open(proc_path(named.value()).c_str(), open_flags(flags)));
  if (!file.valid()) return Status::error(errno);
  return file;
}

Result<CreatedFile> TreeChanges::create(const CallerPtr& caller, const ObjectId& parent,
                                        const std::string& name, uint32_t mode, int flags) const {
  Result<Place> found = place(parent, name);
  if (!found.ok()) return found.status();
  const Place& at = found.value();
  constexpr int kAttempts = 16;  // the name comes and goes elsewhere: not for ever
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Result<UniqueFd> fd = make_file(caller, at.directory.get(), name, mode, flags);
    const bool is_new = fd.ok();
    if (fd.error_number() == EEXIST && (flags & O_EXCL) == 0) fd = open(at.id, flags);
    if (!is_new && fd.error_number() == ESTALE) continue;
    if (!fd.ok()) return fd.status();
    CreatedFile created;
    created.fd = std::move(fd).value();
    const Result<Attr> attr =
        is_new ? complete_mode(at.directory.get(), created.fd, owner_of_new(caller), mode)
               : stat_fd(created.fd.get());
    if (!attr.ok()) return attr.status();
    created.made.entry = {at.id, attr.value()};
    created.made.parent = is_new ? changed(at.before) : DirChange{at.before, at.before};
    return created;
  }
  return Status::error(ESTALE);
}

template <typename Make>
Result<MadeAnswer> TreeChanges::make(const CallerPtr& caller, const ObjectId& parent,
                                     const std::string& name, uint32_t mode, Make make_it) const {
  const Result<Place> found = place(parent, name);
  if (!found.ok()) return found.status();
  const Place& at = found.value();
  {
    const ActAs acting(caller);
    if (!acting.status().ok()) return acting.status();
    if (make_it(at.directory.get(), name.c_str()) != 0) return Status::error(errno);
  }
  const UniqueFd made(::openat(at.directory.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!made.valid()) return Status::error(errno);
  const Result<Attr> attr = complete_mode(at.directory.get(), made, owner_of_new(caller), mode);
  if (!attr.ok()) return attr.status();
  return MadeAnswer{{at.id, attr.value()}, changed(at.before)};
}

Result<MadeAnswer> TreeChanges::mkdir(const CallerPtr& caller, const ObjectId& parent,
                                      const std::string& name, uint32_t mode) const {
  return make(caller, parent, name, mode, [mode](int directory, const char* new_name) {
    return ::mkdirat(directory, new_name, mode & kPermissions);
  });
}

Result<MadeAnswer> TreeChanges::mknod(const CallerPtr& caller, const ObjectId& parent,
                                      const std::string& name, uint32_t mode, uint64_t rdev) const {
  if (S_ISDIR(mode) || S_ISLNK(mode)) return Status::error(EPERM);
  return make(caller, parent, name, mode, [mode, rdev](int directory, const char* new_name) {
    return ::mknodat(directory, new_name, mode & (S_IFMT | kPermissions), rdev);
  });
}

Result<MadeAnswer> TreeChanges::symlink(const CallerPtr& caller, const ObjectId& parent,
                                        const std::string& name, const std::string& target) const {
  if (target.find('\0') != std::string::npos) return Status::error(EINVAL);
  return make(caller, parent, name, 0, [&target](int directory, const char* new_name) {
    return ::symlinkat(target.c_str(), directory, new_name);
  });
}

Result<MadeAnswer> TreeChanges::link(const ObjectId& id, const ObjectId& parent,
                                     const std::string& name) const {
  const Result<UniqueFd> object = root_.open_path(id);
  if (!object.ok()) return object.status();
  const Result<Place> found = place(parent, name);
  if (!found.ok()) return found.status();
  const Place& at = found.value();
  // Follows /proc's link to the object and no further: a symbolic link is linked itself.
  if (::linkat(AT_FDCWD, proc_path(object.value()).c_str(), at.directory.get(), name.c_str(),
               AT_SYMLINK_FOLLOW) != 0) {
    return Status::error(errno);
  }
  const Result<Attr> attr = stat_fd(object.value().get());
  if (!attr.ok()) return attr.status();
  return MadeAnswer{{at.id, attr.value()}, changed(at.before)};
}

Result<DirChange> TreeChanges::remove(const ObjectId& parent, const std::string& name,
                                      int flags) const {
  const Result<Place> found = place(parent, name);
  if (!found.ok()) return found.status();
  const Place& at = found.value();
  if (::unlinkat(at.directory.get(), name.c_str(), flags) != 0) return Status::error(errno);
  return changed(at.before);
}

Result<RenamedAnswer> TreeChanges::rename(const ObjectId& from_parent, const std::string& from_name,
                                          const ObjectId& to_parent, const std::string& to_name,
                                          uint32_t flags) const {
  if (flags != 0 && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE) {
    return Status::error(EINVAL);
  }
  const Result<Place> from = place(from_parent, from_name);
  if (!from.ok()) return from.status();
  const Result<Place> to = place(to_parent, to_name);
  if (!to.ok()) return to.status();
  if (::renameat2(from.value().directory.get(), from_name.c_str(), to.value().directory.get(),
                  to_name.c_str(), flags) != 0) {
    return Status::error(errno == ENOSYS ? EINVAL : errno);
  }
  RenamedAnswer answer;
  answer.from = changed(from.value().before);
  // Two forms of one id ("" and ".") are two directories here: then nothing is proven.
  answer.to = from_parent == to_parent ? answer.from : changed(to.value().before);
  return answer;
}

Result<Attr> TreeChanges::setattr(const ObjectId& id, const UniqueFd* file,
                                  const SetAttr& set) const {
  if (file != nullptr) {
    const Status status = set_all(*file, file, set);
    if (!status.ok()) return status;
    return stat_fd(file->get());
  }
  const Result<UniqueFd> object = root_.open_path(id);
  if (!object.ok()) return object.status();
  const Status status = set_all(object.value(), nullptr, set);
  if (!status.ok()) return status;
  return stat_fd(object.value().get());
}

Result<Nothing> TreeChanges::setxattr(const ObjectId& id, const std::string& name,
                                      const std::string& value, int flags) const {
  if (name.find('\0') != std::string::npos) return Status::error(EINVAL);
  const Result<UniqueFd> object = root_.open_path(id);
  if (!object.ok()) return object.status();
  const std::string path = proc_path(object.value());
  if (::setxattr(path.c_str(), name.c_str(), value.data(), value.size(), flags) != 0) {
    return Status::error(errno == ENOENT ? ENOTSUP : errno);  // ENOENT: no /proc here
  }
  return Nothing();
}

Result<Nothing> TreeChanges::removexattr(const ObjectId& id, const std::string& name) const {
  if (name.find('\0') != std::string::npos) return Status::error(EINVAL);
  const Result<UniqueFd> object = root_.open_path(id);
  if (!object.ok()) return object.status();
  if (::removexattr(proc_path(object.value()).c_str(), name.c_str()) != 0) {
    return Status::error(errno == ENOENT ? ENOTSUP : errno);
  }
  return Nothing();
}

}  // namespace fusefs::local
