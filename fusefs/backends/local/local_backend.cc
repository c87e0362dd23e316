#include "fusefs/backends/local/local_backend.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "fusefs/backends/local/local_attr.h"

namespace fusefs {
namespace {

using local::LocalCounters;
using local::proc_path;
using local::UniqueFd;

// The kernel's bound on an extended attribute's value and on a list of names (XATTR_SIZE_MAX).
constexpr size_t kMaxXattr = 64 << 10;
constexpr size_t kUsualXattr = 256;

std::string connect_error(const std::string& path, int error_number) {
  const std::string quoted = "'" + path + "'";
  switch (error_number) {
    case ENOENT:
      return quoted + " does not exist; give a directory that does";
    case ENOTDIR:
      return quoted + " is not a directory; give a directory";
    case EACCES:
    case EPERM:
      return quoted + " is not permitted to this user; it needs search permission (x) on the path";
    default:
      return quoted + " can't be opened: " + std::strerror(error_number);
  }
}

// Calls `get(buffer, size)`, as getxattr(2) and listxattr(2) work, with a buffer that suffices.
template <typename Get>
Result<std::string> get_xattr_bytes(Get get) {
  for (const size_t size : {kUsualXattr, kMaxXattr}) {
    std::string bytes(size, '\0');
    const ssize_t got = get(bytes.data(), bytes.size());
    if (got >= 0) {
      bytes.resize(static_cast<size_t>(got));
      return bytes;
    }
    if (errno == ENOENT) return Status::error(ENOTSUP);  // no /proc here
    if (errno != ERANGE) return Status::error(errno);
  }
  return Status::error(E2BIG);
}

// The path of `id`'s parent; the root's is the root.
ObjectId parent_path(const ObjectId& id) {
  const size_t slash = id.rfind('/');
  return slash == std::string::npos ? ObjectId() : id.substr(0, slash);
}

// Runs `operation` here and now, and hands its result on.
template <typename T, typename Run>
Backend::RequestId answer_now(LocalCounters& counters, const Backend::Done<T>& done, Run run) {
  Result<T> result = Status::error(EIO);
  {
    LocalCounters::Operation operation(counters);
    result = run();
    operation.note(result.error_number());
  }
  done(std::move(result));
  return 0;
}

cache::DirAnswer busy_answer() {
  cache::DirAnswer answer;
  answer.error = EAGAIN;
  return answer;
}

}  // namespace

LocalBackend::LocalBackend(std::string path, const Options& options)
    : path_(std::move(path)),
      root_(options.resolver),
      descriptors_(options.kept_descriptors),
      lister_(root_, descriptors_),
      changes_(root_),
      pool_(options.io) {}

LocalBackend::~LocalBackend() = default;

Result<LookupAnswer> LocalBackend::connect(std::string* error_text) {
  const Status opened = root_.open_root(path_);
  if (!opened.ok()) {
    *error_text = connect_error(path_, opened.error_number());
    return opened;
  }
  const Result<Attr> attr = do_getattr(ObjectId());
  if (!attr.ok()) {
    *error_text = connect_error(path_, attr.error_number());
    return attr.status();
  }
  return LookupAnswer{ObjectId(), attr.value()};
}

// --- Metadata: answered in the caller ---

Backend::RequestId LocalBackend::lookup(const CallerPtr& /*caller*/, const ObjectId& parent,
                                        const std::string& name, Done<LookupAnswer> done) {
  return answer_now(counters_, done, [&] { return do_lookup(parent, name); });
}

Result<LookupAnswer> LocalBackend::do_lookup(const ObjectId& parent,
                                             const std::string& name) const {
  LookupAnswer answer;
  if (name == "." || name == "..") {  // asked for by servers that export the mount
    answer.id = name == "." ? parent : parent_path(parent);
    Result<Attr> attr = do_getattr(answer.id);
    if (!attr.ok()) return attr.status();
    answer.attr = attr.value();
    return answer;
  }
  const int bad_name = local::check_component(name);
  if (bad_name != 0) return Status::error(bad_name);
  answer.id = local::join_path(parent, name);
  if (answer.id.size() >= PATH_MAX) return Status::error(ENAMETOOLONG);
  // The parent first, so that ENOENT means the name and ESTALE the parent.
  const Result<UniqueFd> directory = root_.open_path(parent);
  if (!directory.ok()) return directory.status();
  const Result<Attr> attr =
      local::stat_at(directory.value().get(), name.c_str(), local::now_realtime());
  if (!attr.ok()) return attr.status();
  answer.attr = attr.value();
  return answer;
}

ObjectId LocalBackend::child_id(const ObjectId& parent, std::string_view name,
                                uint64_t /*ino*/) const {
  if (local::check_component(name) != 0) return ObjectId();
  ObjectId id = local::join_path(parent, name);
  return id.size() < PATH_MAX ? id : ObjectId();
}

Backend::RequestId LocalBackend::getattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                         Done<Attr> done) {
  return answer_now(counters_, done, [&] { return do_getattr(id); });
}

Result<Attr> LocalBackend::do_getattr(const ObjectId& id) const {
  const Result<UniqueFd> fd = root_.open_path(id);
  if (!fd.ok()) return fd.status();
  return local::stat_fd(fd.value().get());
}

Backend::RequestId LocalBackend::readlink(const CallerPtr& /*caller*/, const ObjectId& id,
                                          Done<std::string> done) {
  return answer_now(counters_, done, [&] { return do_readlink(id); });
}

Result<std::string> LocalBackend::do_readlink(const ObjectId& id) const {
  const Result<UniqueFd> fd = root_.open_path(id);
  if (!fd.ok()) return fd.status();
  std::string target(PATH_MAX, '\0');
  const ssize_t got = ::readlinkat(fd.value().get(), "", target.data(), target.size());
  // By descriptor, the kernel says ENOENT of what is not a link.
  if (got < 0) return Status::error(errno == ENOENT ? EINVAL : errno);
  target.resize(static_cast<size_t>(got));
  return target;
}

Backend::RequestId LocalBackend::statfs(const CallerPtr& /*caller*/, const ObjectId& id,
                                        Done<StatfsAnswer> done) {
  return answer_now(counters_, done, [&] { return do_statfs(id); });
}

Result<StatfsAnswer> LocalBackend::do_statfs(const ObjectId& id) const {
  const Result<UniqueFd> fd = root_.open_path(id);
  if (!fd.ok()) return fd.status();
  struct statvfs told = {};
  if (::fstatvfs(fd.value().get(), &told) != 0) return Status::error(errno);
  StatfsAnswer answer;
  answer.block_size = told.f_frsize != 0 ? told.f_frsize : told.f_bsize;
  answer.blocks = told.f_blocks;
  answer.blocks_free = told.f_bfree;
  answer.blocks_available = told.f_bavail;
  answer.files = told.f_files;
  answer.files_free = told.f_ffree;
  answer.name_max = static_cast<uint32_t>(told.f_namemax);
  return answer;
}

Backend::RequestId LocalBackend::getxattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                          const std::string& name, Done<std::string> done) {
  return answer_now(counters_, done, [&] { return do_getxattr(id, name); });
}

Result<std::string> LocalBackend::do_getxattr(const ObjectId& id, const std::string& name) const {
  if (name.find('\0') != std::string::npos) return Status::error(EINVAL);
  const Result<UniqueFd> fd = root_.open_path(id);
  if (!fd.ok()) return fd.status();
  const std::string path = proc_path(fd.value());
  return get_xattr_bytes([&](char* buffer, size_t size) {
    return ::getxattr(path.c_str(), name.c_str(), buffer, size);
  });
}

Backend::RequestId LocalBackend::listxattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                           Done<std::string> done) {
  return answer_now(counters_, done, [&] { return do_listxattr(id); });
}

Result<std::string> LocalBackend::do_listxattr(const ObjectId& id) const {
  const Result<UniqueFd> fd = root_.open_path(id);
  if (!fd.ok()) return fd.status();
  const std::string path = proc_path(fd.value());
  return get_xattr_bytes(
      [&](char* buffer, size_t size) { return ::listxattr(path.c_str(), buffer, size); });
}

// --- Files ---

Backend::RequestId LocalBackend::open(const CallerPtr& /*caller*/, const ObjectId& id, int flags,
                                      Done<FileHandle> done) {
  return answer_now(counters_, done, [&] { return do_open(id, flags); });
}

template <typename T, typename Open>
Result<T> LocalBackend::with_descriptors(Open open) {
  Result<T> opened = open();
  if (opened.error_number() != EMFILE && opened.error_number() != ENFILE) return opened;
  descriptors_.clear();  // ours may be the ones that are missing
  return open();
}

Result<Backend::FileHandle> LocalBackend::do_open(const ObjectId& id, int flags) {
  Result<UniqueFd> opened = with_descriptors<UniqueFd>([&] { return changes_.open(id, flags); });
  if (!opened.ok()) return opened.status();
  return files_.add(std::move(opened).value());
}

Backend::RequestId LocalBackend::read(const CallerPtr& /*caller*/, FileHandle file, uint64_t offset,
                                      uint32_t size, Done<std::string> done) {
  return answer_now(counters_, done, [&] { return files_.read(file, offset, size); });
}

void LocalBackend::release(FileHandle file) { files_.release(file); }

Backend::RequestId LocalBackend::write(const CallerPtr& /*caller*/, FileHandle file,
                                       uint64_t offset, std::string bytes, StableHow /*how*/,
                                       Done<WriteAnswer> done) {
  return answer_now(counters_, done, [&] { return files_.write(file, offset, bytes); });
}

Backend::RequestId LocalBackend::fsync(const CallerPtr& /*caller*/, FileHandle file,
                                       Done<uint64_t> done) {
  return answer_now(counters_, done, [&] { return files_.fsync(file); });
}

Backend::RequestId LocalBackend::getattr_open(const CallerPtr& /*caller*/, FileHandle file,
                                              Done<Attr> done) {
  return answer_now(counters_, done, [&] { return files_.getattr(file); });
}

Backend::RequestId LocalBackend::fallocate(const CallerPtr& /*caller*/, FileHandle file, int mode,
                                           uint64_t offset, uint64_t length, Done<Nothing> done) {
  return answer_now(counters_, done, [&] { return files_.fallocate(file, mode, offset, length); });
}

Backend::RequestId LocalBackend::copy_range(const CallerPtr& /*caller*/, FileHandle from,
                                            uint64_t from_offset, FileHandle to, uint64_t to_offset,
                                            uint64_t length, Done<uint64_t> done) {
  return answer_now(counters_, done,
                    [&] { return files_.copy_range(from, from_offset, to, to_offset, length); });
}

Result<Backend::FileHandle> LocalBackend::do_open_again(FileHandle file, int flags) {
  Result<UniqueFd> opened =
      with_descriptors<UniqueFd>([&] { return files_.open_again(file, flags); });
  if (!opened.ok()) return opened.status();
  return files_.add(std::move(opened).value());
}

Backend::RequestId LocalBackend::open_to_lock(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                                              FileHandle file, int flags, Done<FileHandle> done) {
  return answer_now(counters_, done, [&] { return do_open_again(file, flags); });
}

Backend::RequestId LocalBackend::set_lock(const CallerPtr& /*caller*/, FileHandle file,
                                          const FileLock& lock, Done<Nothing> done) {
  return answer_now(counters_, done, [&] { return files_.set_lock(file, lock); });
}

Backend::RequestId LocalBackend::test_lock(const CallerPtr& /*caller*/, FileHandle file,
                                           const FileLock& lock, Done<FileLock> done) {
  return answer_now(counters_, done, [&] { return files_.test_lock(file, lock); });
}

// --- Changes of the tree ---

Result<CreatedAnswer> LocalBackend::do_create(const CallerPtr& caller, const ObjectId& parent,
                                              const std::string& name, uint32_t mode, int flags) {
  Result<local::CreatedFile> created = with_descriptors<local::CreatedFile>(
      [&] { return changes_.create(caller, parent, name, mode, flags); });
  if (!created.ok()) return created.status();
  CreatedAnswer answer;
  answer.entry = std::move(created.value().made.entry);
  answer.parent = created.value().made.parent;
  answer.file = files_.add(std::move(created.value().fd));
  return answer;
}

Backend::RequestId LocalBackend::create(const CallerPtr& caller, const ObjectId& parent,
                                        const std::string& name, uint32_t mode, int flags,
                                        Done<CreatedAnswer> done) {
  return answer_now(counters_, done, [&] { return do_create(caller, parent, name, mode, flags); });
}

Backend::RequestId LocalBackend::mkdir(const CallerPtr& caller, const ObjectId& parent,
                                       const std::string& name, uint32_t mode,
                                       Done<MadeAnswer> done) {
  return answer_now(counters_, done, [&] { return changes_.mkdir(caller, parent, name, mode); });
}

Backend::RequestId LocalBackend::mknod(const CallerPtr& caller, const ObjectId& parent,
                                       const std::string& name, uint32_t mode, uint64_t rdev,
                                       Done<MadeAnswer> done) {
  return answer_now(counters_, done,
                    [&] { return changes_.mknod(caller, parent, name, mode, rdev); });
}

Backend::RequestId LocalBackend::symlink(const CallerPtr& caller, const ObjectId& parent,
                                         const std::string& name, const std::string& target,
                                         Done<MadeAnswer> done) {
  return answer_now(counters_, done,
                    [&] { return changes_.symlink(caller, parent, name, target); });
}

Backend::RequestId LocalBackend::link(const CallerPtr& /*caller*/, const ObjectId& id,
                                      const ObjectId& parent, const std::string& name,
                                      Done<MadeAnswer> done) {
  return answer_now(counters_, done, [&] { return changes_.link(id, parent, name); });
}

Backend::RequestId LocalBackend::unlink(const CallerPtr& /*caller*/, const ObjectId& parent,
                                        const std::string& name, Done<DirChange> done) {
  return answer_now(counters_, done, [&] { return changes_.remove(parent, name, 0); });
}

Backend::RequestId LocalBackend::rmdir(const CallerPtr& /*caller*/, const ObjectId& parent,
                                       const std::string& name, Done<DirChange> done) {
  return answer_now(counters_, done, [&] { return changes_.remove(parent, name, AT_REMOVEDIR); });
}

Backend::RequestId LocalBackend::rename(const CallerPtr& /*caller*/, const ObjectId& from_parent,
                                        const std::string& from_name, const ObjectId& to_parent,
                                        const std::string& to_name, uint32_t flags,
                                        Done<RenamedAnswer> done) {
  return answer_now(counters_, done, [&] {
    return changes_.rename(from_parent, from_name, to_parent, to_name, flags);
  });
}

Result<Attr> LocalBackend::do_setattr(const ObjectId& id, FileHandle file,
                                      const SetAttr& set) const {
  if (file == 0) return changes_.setattr(id, nullptr, set);
  const Result<local::OpenFiles::SharedFd> fd = files_.find(file);
  if (!fd.ok()) return fd.status();
  return changes_.setattr(id, fd.value().get(), set);
}

Backend::RequestId LocalBackend::setattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                         FileHandle file, const SetAttr& set, Done<Attr> done) {
  return answer_now(counters_, done, [&] { return do_setattr(id, file, set); });
}

Backend::RequestId LocalBackend::setxattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                          const std::string& name, const std::string& value,
                                          int flags, Done<Nothing> done) {
  return answer_now(counters_, done, [&] { return changes_.setxattr(id, name, value, flags); });
}

Backend::RequestId LocalBackend::removexattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                             const std::string& name, Done<Nothing> done) {
  return answer_now(counters_, done, [&] { return changes_.removexattr(id, name); });
}

ObjectId LocalBackend::moved_id(const ObjectId& id, const ObjectId& from,
                                const ObjectId& to) const {
  if (from.empty() || id.compare(0, from.size(), from) != 0) return ObjectId();
  if (id.size() == from.size()) return to;
  return id[from.size()] == '/' ? to + id.substr(from.size()) : ObjectId();
}

// --- Listings: answered on the I/O threads ---

Backend::RequestId LocalBackend::read_dir(const CallerPtr& /*caller*/, const ObjectId& directory,
                                          cache::DirRequest request,
                                          cache::DirSource::Completion done) {
  auto operation = std::make_shared<LocalCounters::Operation>(counters_);
  auto refuse = [done, operation](const local::IoPool::Cancelled&) {
    operation->finish();
    done(busy_answer());
  };
  auto run = [this, directory, request = std::move(request), done = std::move(done),
              operation = std::move(operation)](const local::IoPool::Cancelled& cancelled) {
    std::optional<cache::DirAnswer> answer = lister_.list(directory, request, cancelled);
    if (!answer.has_value()) return;
    operation->note(answer->error);
    operation->finish();
    done(std::move(*answer));
  };
  return pool_.submit(std::move(run), std::move(refuse));
}

void LocalBackend::cancel(RequestId id) { pool_.cancel(id); }

std::unique_ptr<Backend> make_local_backend(std::string path, std::string* error_text) {
  if (path.empty() || path.find('\0') != std::string::npos) {
    *error_text = "no directory given; give its path, as in /srv/data or file:///srv/data";
    return nullptr;
  }
  return std::make_unique<LocalBackend>(std::move(path), LocalBackend::Options());
}

}  // namespace fusefs
