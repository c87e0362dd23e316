// SimBackend: the requests that change something, and what other clients do.

#include <fcntl.h>
#include <sys/stat.h>

#include <limits>
#include <utility>

#include "fusefs/backends/sim/sim_backend.h"
#include "fusefs/backends/sim/sim_call.h"

namespace fusefs {

using cache::MutexLock;
using sim::id_from;

DirChange SimBackend::told(const DirChange& change) const {
  return config_.wcc ? change : DirChange();
}

MadeAnswer SimBackend::answer_of(const SimChanges::Made& made) const {
  return {.entry = {.id = id_from(made.node.ino), .attr = tree_.attr(made.node)},
          .parent = told(made.parent)};
}

// --- Data ---

SimBackend::RequestId SimBackend::write(const CallerPtr& /*caller*/, FileHandle file,
                                        uint64_t offset, std::string bytes, StableHow how,
                                        Done<WriteAnswer> done) {
  const uint64_t size = bytes.size();
  auto serve = [this, file, offset, how, bytes = std::move(bytes)] {
    MutexLock lock(mutex_);
    return files_.write(file, offset, bytes, how);
  };
  return call<WriteAnswer>(SimRequestKind::kWrite, std::move(serve), std::move(done), size);
}

SimBackend::RequestId SimBackend::fsync(const CallerPtr& /*caller*/, FileHandle file,
                                        Done<uint64_t> done) {
  const auto serve = [this, file] {
    MutexLock lock(mutex_);
    return files_.commit(file);
  };
  return call<uint64_t>(SimRequestKind::kCommit, serve, std::move(done));
}

SimBackend::RequestId SimBackend::getattr_open(const CallerPtr& /*caller*/, FileHandle file,
                                               Done<Attr> done) {
  const auto serve = [this, file] {
    MutexLock lock(mutex_);
    return files_.attr(file);
  };
  return call<Attr>(SimRequestKind::kGetattr, serve, std::move(done));
}

SimBackend::RequestId SimBackend::fallocate(const CallerPtr& /*caller*/, FileHandle file, int mode,
                                            uint64_t offset, uint64_t length, Done<Nothing> done) {
  const auto serve = [this, file, mode, offset, length] {
    MutexLock lock(mutex_);
    return files_.allocate(file, mode, offset, length);
  };
  return call<Nothing>(SimRequestKind::kChange, serve, std::move(done));
}

SimBackend::RequestId SimBackend::copy_range(const CallerPtr& /*caller*/, FileHandle from,
                                             uint64_t from_offset, FileHandle to,
                                             uint64_t to_offset, uint64_t length,
                                             Done<uint64_t> done) {
  const auto serve = [this, from, from_offset, to, to_offset, length] {
    MutexLock lock(mutex_);
    return files_.copy(from, from_offset, to, to_offset, length);
  };
  return call<uint64_t>(SimRequestKind::kChange, serve, std::move(done));
}

// --- The tree ---

Result<MadeAnswer> SimBackend::make(const CallerPtr& caller, const ObjectId& parent,
                                    const std::string& name, SimChanges::New what) {
  MutexLock lock(mutex_);
  const Result<SimNode> directory = find(parent);
  if (!directory.ok()) return directory.status();
  const Result<SimChanges::Made> made =
      changes_.make(caller, directory.value(), name, std::move(what));
  if (!made.ok()) return made.status();
  return answer_of(made.value());
}

Result<CreatedAnswer> SimBackend::create_file(const CallerPtr& caller, const ObjectId& parent,
                                              const std::string& name, uint32_t mode, int flags) {
  MutexLock lock(mutex_);
  const Result<SimNode> directory = find(parent);
  if (!directory.ok()) return directory.status();
  Result<SimChanges::Made> made =
      changes_.make(caller, directory.value(), name, {.mode = S_IFREG | (mode & 07777)});
  if (made.error_number() == EEXIST && (flags & O_EXCL) == 0) {
    const Result<SimNode> there = tree_.lookup(directory.value(), name);
    if (!there.ok()) return there.status();
    const uint64_t token = tree_.change_token(directory.value());
    made = SimChanges::Made{.node = there.value(), .parent = {.before = token, .after = token}};
  }
  if (!made.ok()) return made.status();
  const Result<FileHandle> file = files_.open(made.value().node, flags);
  if (!file.ok()) return file.status();
  const MadeAnswer answer = answer_of(made.value());
  return CreatedAnswer{.entry = answer.entry, .parent = answer.parent, .file = file.value()};
}

SimBackend::RequestId SimBackend::create(const CallerPtr& caller, const ObjectId& parent,
                                         const std::string& name, uint32_t mode, int flags,
                                         Done<CreatedAnswer> done) {
  return call<CreatedAnswer>(
      SimRequestKind::kChange,
      [this, caller, parent, name, mode, flags] {
        return create_file(caller, parent, name, mode, flags);
      },
      std::move(done), 0, [this](const CreatedAnswer& answer) { release(answer.file); });
}

SimBackend::RequestId SimBackend::mkdir(const CallerPtr& caller, const ObjectId& parent,
                                        const std::string& name, uint32_t mode,
                                        Done<MadeAnswer> done) {
  return call<MadeAnswer>(
      SimRequestKind::kChange,
      [this, caller, parent, name, mode] {
        return make(caller, parent, name, {.mode = S_IFDIR | (mode & 07777)});
      },
      std::move(done));
}

SimBackend::RequestId SimBackend::mknod(const CallerPtr& caller, const ObjectId& parent,
                                        const std::string& name, uint32_t mode, uint64_t rdev,
                                        Done<MadeAnswer> done) {
  const auto serve = [this, caller, parent, name, mode, rdev]() -> Result<MadeAnswer> {
    if (S_ISDIR(mode) || S_ISLNK(mode)) return Status::error(EPERM);
    const uint32_t type = (mode & S_IFMT) == 0 ? S_IFREG : mode & S_IFMT;
    return make(caller, parent, name, {.mode = type | (mode & 07777), .rdev = rdev});
  };
  return call<MadeAnswer>(SimRequestKind::kChange, serve, std::move(done));
}

SimBackend::RequestId SimBackend::symlink(const CallerPtr& caller, const ObjectId& parent,
                                          const std::string& name, const std::string& target,
                                          Done<MadeAnswer> done) {
  return call<MadeAnswer>(
      SimRequestKind::kChange,
      [this, caller, parent, name, target] {
        return make(caller, parent, name, {.mode = S_IFLNK | 0777, .target = target});
      },
      std::move(done));
}

SimBackend::RequestId SimBackend::link(const CallerPtr& /*caller*/, const ObjectId& id,
                                       const ObjectId& parent, const std::string& name,
                                       Done<MadeAnswer> done) {
  const auto serve = [this, id, parent, name]() -> Result<MadeAnswer> {
    MutexLock lock(mutex_);
    const Result<SimNode> node = find(id);
    if (!node.ok()) return node.status();
    const Result<SimNode> directory = find(parent);
    if (!directory.ok()) return directory.status();
    const Result<SimChanges::Made> made = changes_.link(node.value(), directory.value(), name);
    if (!made.ok()) return made.status();
    return answer_of(made.value());
  };
  return call<MadeAnswer>(SimRequestKind::kChange, serve, std::move(done));
}

Result<DirChange> SimBackend::remove(const ObjectId& parent, const std::string& name,
                                     SimChanges::Kind kind) {
  MutexLock lock(mutex_);
  const Result<SimNode> directory = find(parent);
  if (!directory.ok()) return directory.status();
  const Result<DirChange> change = changes_.remove(directory.value(), name, kind);
  if (!change.ok()) return change.status();
  return told(change.value());
}

SimBackend::RequestId SimBackend::unlink(const CallerPtr& /*caller*/, const ObjectId& parent,
                                         const std::string& name, Done<DirChange> done) {
  return call<DirChange>(
      SimRequestKind::kChange,
      [this, parent, name] { return remove(parent, name, SimChanges::Kind::kOther); },
      std::move(done));
}

SimBackend::RequestId SimBackend::rmdir(const CallerPtr& /*caller*/, const ObjectId& parent,
                                        const std::string& name, Done<DirChange> done) {
  return call<DirChange>(
      SimRequestKind::kChange,
      [this, parent, name] { return remove(parent, name, SimChanges::Kind::kDirectory); },
      std::move(done));
}

SimBackend::RequestId SimBackend::rename(const CallerPtr& /*caller*/, const ObjectId& from_parent,
                                         const std::string& from_name, const ObjectId& to_parent,
                                         const std::string& to_name, uint32_t flags,
                                         Done<RenamedAnswer> done) {
  const auto serve = [this, from_parent, from_name, to_parent, to_name,
                      flags]() -> Result<RenamedAnswer> {
    MutexLock lock(mutex_);
    const Result<SimNode> from = find(from_parent);
    if (!from.ok()) return from.status();
    const Result<SimNode> to = find(to_parent);
    if (!to.ok()) return to.status();
    const Result<RenamedAnswer> answer =
        changes_.rename(from.value(), from_name, to.value(), to_name, flags);
    if (!answer.ok()) return answer.status();
    return RenamedAnswer{.from = told(answer.value().from), .to = told(answer.value().to)};
  };
  return call<RenamedAnswer>(SimRequestKind::kChange, serve, std::move(done));
}

SimBackend::RequestId SimBackend::setattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                          FileHandle file, const SetAttr& set, Done<Attr> done) {
  const auto serve = [this, id, file, set]() -> Result<Attr> {
    MutexLock lock(mutex_);
    const Result<SimNode> node = file != 0 ? files_.node_of(file) : find(id);
    if (!node.ok()) return node.status();
    return changes_.setattr(node.value(), set);
  };
  return call<Attr>(SimRequestKind::kChange, serve, std::move(done));
}

// --- Extended attributes ---

SimBackend::RequestId SimBackend::getxattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                           const std::string& name, Done<std::string> done) {
  if (!config_.xattr) return refuse(done, ENOSYS);
  const auto serve = [this, id, name]() -> Result<std::string> {
    MutexLock lock(mutex_);
    const Result<SimNode> node = find(id);
    if (!node.ok()) return node.status();
    const SimObject* const object = tree_.stored(node.value().ino);
    if (object == nullptr || !object->xattrs.contains(name)) return Status::error(ENODATA);
    return object->xattrs.at(name);
  };
  return call<std::string>(SimRequestKind::kXattr, serve, std::move(done));
}

SimBackend::RequestId SimBackend::listxattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                            Done<std::string> done) {
  if (!config_.xattr) return refuse(done, ENOSYS);
  const auto serve = [this, id]() -> Result<std::string> {
    MutexLock lock(mutex_);
    const Result<SimNode> node = find(id);
    if (!node.ok()) return node.status();
    std::string names;
    const SimObject* const object = tree_.stored(node.value().ino);
    if (object == nullptr) return names;
    for (const auto& [name, value] : object->xattrs) names.append(name).append(1, '\0');
    return names;
  };
  return call<std::string>(SimRequestKind::kXattr, serve, std::move(done));
}

SimBackend::RequestId SimBackend::setxattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                           const std::string& name, const std::string& value,
                                           int flags, Done<Nothing> done) {
  if (!config_.xattr) return refuse(done, ENOSYS);
  const auto serve = [this, id, name, value, flags]() -> Result<Nothing> {
    MutexLock lock(mutex_);
    const Result<SimNode> node = find(id);
    if (!node.ok()) return node.status();
    const Status status = changes_.setxattr(node.value(), name, value, flags);
    if (!status.ok()) return status;
    return Nothing();
  };
  return call<Nothing>(SimRequestKind::kChange, serve, std::move(done), value.size());
}

SimBackend::RequestId SimBackend::removexattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                              const std::string& name, Done<Nothing> done) {
  if (!config_.xattr) return refuse(done, ENOSYS);
  const auto serve = [this, id, name]() -> Result<Nothing> {
    MutexLock lock(mutex_);
    const Result<SimNode> node = find(id);
    if (!node.ok()) return node.status();
    const Status status = changes_.removexattr(node.value(), name);
    if (!status.ok()) return status;
    return Nothing();
  };
  return call<Nothing>(SimRequestKind::kChange, serve, std::move(done));
}

// --- What other clients do, and the remote itself ---

Result<SimNode> SimBackend::resolve_parent(std::string_view path, std::string* name) const {
  const size_t slash = path.rfind('/');
  *name = path.substr(slash == std::string_view::npos ? 0 : slash + 1);
  return resolve(slash == std::string_view::npos ? std::string_view() : path.substr(0, slash));
}

cache::Status SimBackend::write_elsewhere(std::string_view path, std::string_view bytes,
                                          uint64_t offset) {
  MutexLock lock(mutex_);
  const Result<SimNode> node = resolve(path);
  if (!node.ok()) return node.status();
  const Result<FileHandle> file = files_.open(node.value(), O_WRONLY);
  if (!file.ok()) return file.status();
  const Result<WriteAnswer> written =
      files_.write(file.value(), offset, bytes, StableHow::kFileSync);
  const Result<uint64_t> committed = files_.commit(file.value());
  files_.close(file.value());
  return written.ok() ? committed.status() : written.status();
}

cache::Status SimBackend::truncate_elsewhere(std::string_view path, uint64_t size) {
  MutexLock lock(mutex_);
  const Result<SimNode> node = resolve(path);
  return node.ok() ? files_.truncate(node.value(), size) : node.status();
}

cache::Status SimBackend::create_elsewhere(std::string_view path, std::string_view bytes) {
  {
    MutexLock lock(mutex_);
    std::string name;
    const Result<SimNode> parent = resolve_parent(path, &name);
    if (!parent.ok()) return parent.status();
    const Result<SimChanges::Made> made =
        changes_.make(nullptr, parent.value(), name, {.mode = S_IFREG | 0644});
    if (!made.ok()) return made.status();
  }
  return bytes.empty() ? Status() : write_elsewhere(path, bytes);
}

cache::Status SimBackend::mkdir_elsewhere(std::string_view path) {
  MutexLock lock(mutex_);
  std::string name;
  const Result<SimNode> parent = resolve_parent(path, &name);
  if (!parent.ok()) return parent.status();
  return changes_.make(nullptr, parent.value(), name, {.mode = S_IFDIR | 0755}).status();
}

cache::Status SimBackend::remove_elsewhere(std::string_view path) {
  MutexLock lock(mutex_);
  std::string name;
  const Result<SimNode> parent = resolve_parent(path, &name);
  if (!parent.ok()) return parent.status();
  const Result<SimNode> node = tree_.lookup(parent.value(), name);
  if (!node.ok()) return node.status();
  const auto kind =
      tree_.is_directory(node.value()) ? SimChanges::Kind::kDirectory : SimChanges::Kind::kOther;
  return changes_.remove(parent.value(), name, kind).status();
}

cache::Status SimBackend::rename_elsewhere(std::string_view from, std::string_view to) {
  MutexLock lock(mutex_);
  std::string from_name;
  std::string to_name;
  const Result<SimNode> from_parent = resolve_parent(from, &from_name);
  if (!from_parent.ok()) return from_parent.status();
  const Result<SimNode> to_parent = resolve_parent(to, &to_name);
  if (!to_parent.ok()) return to_parent.status();
  return changes_.rename(from_parent.value(), from_name, to_parent.value(), to_name, 0).status();
}

std::string SimBackend::present_content(std::string_view path) {
  MutexLock lock(mutex_);
  const Result<SimNode> node = resolve(path);
  if (!node.ok()) return {};
  const Result<std::string> bytes =
      tree_.read(node.value(), 0, std::numeric_limits<uint32_t>::max());
  return bytes.ok() ? bytes.value() : std::string();
}

void SimBackend::lose_unstable() {
  MutexLock lock(mutex_);
  files_.lose_uncommitted();
}

}  // namespace fusefs
