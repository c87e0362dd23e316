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
using local::UniqueFd;

// The kernel's bound on an extended attribute's value and on a list of names (XATTR_SIZE_MAX).
constexpr size_t kMaxXattr = 64 << 10;
constexpr size_t kUsualXattr = 256;
constexpr size_t kReadStep = 1 << 20;

// The name of an open descriptor's object: following it can't be raced by a rename.
std::string proc_path(const UniqueFd& fd) { return "/proc/self/fd/" + std::to_string(fd.get()); }

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

Result<UniqueFd> LocalBackend::open_file(const ObjectId& id, int flags) const {
  if ((flags & O_ACCMODE) != O_RDONLY) return Status::error(EROFS);
  const Result<UniqueFd> named = root_.open_path(id);
  if (!named.ok()) return named.status();
  const Result<Attr> attr = local::stat_fd(named.value().get());
  if (!attr.ok()) return attr.status();
  // The kernel opens pipes and devices itself. Only a file is opened here: by its descriptor, so
  // that nothing that blocks or acts when opened can take its place in between.
  if (S_ISDIR(attr.value().mode)) return Status::error(EISDIR);
  if (!S_ISREG(attr.value().mode)) return Status::error(EINVAL);
  UniqueFd file(::open(proc_path(named.value()).c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!file.valid()) return Status::error(errno);
  return file;
}

Result<Backend::FileHandle> LocalBackend::do_open(const ObjectId& id, int flags) {
  Result<UniqueFd> opened = open_file(id, flags);
  if (opened.error_number() == EMFILE || opened.error_number() == ENFILE) {
    descriptors_.clear();  // ours may be the ones that are missing
    opened = open_file(id, flags);
  }
  if (!opened.ok()) return opened.status();
  auto file = std::make_shared<const UniqueFd>(std::move(opened).value());
  cache::MutexLock lock(files_mutex_);
  const FileHandle handle = next_file_++;
  files_.emplace(handle, std::move(file));
  return handle;
}

Backend::RequestId LocalBackend::read(const CallerPtr& /*caller*/, FileHandle file, uint64_t offset,
                                      uint32_t size, Done<std::string> done) {
  return answer_now(counters_, done, [&] { return do_read(file, offset, size); });
}

Result<std::string> LocalBackend::do_read(FileHandle file, uint64_t offset, uint32_t size) {
  SharedFd fd;
  {
    cache::MutexLock lock(files_mutex_);
    const auto found = files_.find(file);
    if (found == files_.end()) return Status::error(EBADF);
    fd = found->second;
  }
  std::string bytes;
  while (bytes.size() < size) {
    const uint64_t from = offset + bytes.size();
    if (from > static_cast<uint64_t>(std::numeric_limits<off_t>::max())) break;
    const size_t had = bytes.size();
    bytes.resize(had + std::min(kReadStep, size - had));
    const ssize_t got =
        ::pread(fd->get(), bytes.data() + had, bytes.size() - had, static_cast<off_t>(from));
    const int error_number = errno;
    bytes.resize(had + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && error_number == EINTR) continue;
    if (got < 0) return Status::error(error_number);
    if (got == 0) break;
  }
  return bytes;
}

void LocalBackend::release(FileHandle file) {
  SharedFd closed;  // after the lock, and after a read that still runs
  cache::MutexLock lock(files_mutex_);
  const auto found = files_.find(file);
  if (found == files_.end()) return;
  closed = std::move(found->second);
  files_.erase(found);
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
