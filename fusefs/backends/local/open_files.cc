#include "fusefs/backends/local/open_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "fusefs/backends/local/local_attr.h"
#include "fusefs/backends/local/tree_changes.h"

namespace fusefs::local {
namespace {

using cache::MutexLock;
using cache::Result;
using cache::Status;

constexpr size_t kReadStep = 1 << 20;
// The most that one call copies, so that a caller can be interrupted: a second of a slow disk's
// time.
constexpr uint64_t kCopyBound = 256 << 20;
constexpr uint64_t kLargestOffset = std::numeric_limits<off_t>::max();

// Whether [offset, offset + length) is a range that a file can have.
bool in_range(uint64_t offset, uint64_t length) {
  return offset <= kLargestOffset && length <= kLargestOffset - offset;
}

short flock_type(LockType type) {
  if (type == LockType::kNone) return F_UNLCK;
  return type == LockType::kRead ? F_RDLCK : F_WRLCK;
}

struct flock native(const FileLock& lock) {
  struct flock out {};
  out.l_type = flock_type(lock.type);
  out.l_whence = SEEK_SET;
  out.l_start = static_cast<off_t>(std::min(lock.start, kLargestOffset));
  // 0: to the end, wherever that comes to be.
  out.l_len = lock.end >= kLargestOffset ? 0 : static_cast<off_t>(lock.end - lock.start + 1);
  return out;
}

int flock_operation(LockType type) {
  if (type == LockType::kNone) return LOCK_UN;
  return (type == LockType::kRead ? LOCK_SH : LOCK_EX) | LOCK_NB;
}

int copy_error(int error_number) {
  // Other filesystems, or a kernel without the call: the asker reads and writes instead.
  return error_number == EXDEV || error_number == ENOSYS ? EOPNOTSUPP : error_number;
}

}  // namespace

OpenFiles::Handle OpenFiles::add(UniqueFd fd) {
  auto file = std::make_shared<const UniqueFd>(std::move(fd));
  MutexLock lock(mutex_);
  const Handle handle = next_++;
  files_.emplace(handle, std::move(file));
  return handle;
}

Result<OpenFiles::SharedFd> OpenFiles::find(Handle file) const {
  MutexLock lock(mutex_);
  const auto found = files_.find(file);
  if (found == files_.end()) return Status::error(EBADF);
  return found->second;
}

void OpenFiles::release(Handle file) {
  SharedFd closed;  // after the lock, and after whatever still uses it
  MutexLock lock(mutex_);
  const auto found = files_.find(file);
  if (found == files_.end()) return;
  closed = std::move(found->second);
  files_.erase(found);
}

Result<std::string> OpenFiles::read(Handle file, uint64_t offset, uint32_t size) const {
  const Result<SharedFd> fd = find(file);
  if (!fd.ok()) return fd.status();
  std::string bytes;
  while (bytes.size() < size) {
    const uint64_t from = offset + bytes.size();
    if (from > kLargestOffset) break;
    const size_t had = bytes.size();
    bytes.resize(had + std::min(kReadStep, size - had));
    const ssize_t got = ::pread(fd.value()->get(), bytes.data() + had, bytes.size() - had,
                                static_cast<off_t>(from));
    const int error_number = errno;
    bytes.resize(had + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && error_number == EINTR) continue;
    if (got < 0) return Status::error(error_number);
    if (got == 0) break;
  }
  return bytes;
}

Result<WriteAnswer> OpenFiles::write(Handle file, uint64_t offset, const std::string& bytes) const {
  const Result<SharedFd> fd = find(file);
  if (!fd.ok()) return fd.status();
  if (!in_range(offset, bytes.size())) return Status::error(EFBIG);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t put = ::pwrite(fd.value()->get(), bytes.data() + done, bytes.size() - done,
                                 static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Status::error(errno);
    if (put == 0) return Status::error(EIO);  // no filesystem does; not for ever
    done += static_cast<size_t>(put);
  }
  return WriteAnswer();
}

Result<uint64_t> OpenFiles::fsync(Handle file) const {
  const Result<SharedFd> fd = find(file);
  if (!fd.ok()) return fd.status();
  if (::fsync(fd.value()->get()) != 0) return Status::error(errno);
  return uint64_t{0};
}

Result<Attr> OpenFiles::getattr(Handle file) const {
  const Result<SharedFd> fd = find(file);
  if (!fd.ok()) return fd.status();
  return stat_fd(fd.value()->get());
}

Result<Nothing> OpenFiles::fallocate(Handle file, int mode, uint64_t offset,
                                     uint64_t length) const {
  const Result<SharedFd> fd = find(file);
  if (!fd.ok()) return fd.status();
  if (!in_range(offset, length)) return Status::error(EFBIG);
  int failed;
  do {
    failed = ::fallocate(fd.value()->get(), mode, static_cast<off_t>(offset),
                         static_cast<off_t>(length));
  } while (failed != 0 && errno == EINTR);
  if (failed != 0) return Status::error(errno);
  return Nothing();
}

Result<UniqueFd> OpenFiles::open_again(Handle file, int flags) const {
  const Result<SharedFd> fd = find(file);
  if (!fd.ok()) return fd.status();
  UniqueFd again(::open(proc_path(*fd.value()).c_str(), (flags & O_ACCMODE) | O_CLOEXEC));
  if (!again.valid()) return Status::error(errno);
  return again;
}

Result<Nothing> OpenFiles::set_lock(Handle file, const FileLock& lock) const {
  const Result<SharedFd> fd = find(file);
  if (!fd.ok()) return fd.status();
  struct flock range = native(lock);
  const int failed = lock.kind == LockKind::kWholeFile
                         ? ::flock(fd.value()->get(), flock_operation(lock.type))
                         : ::fcntl(fd.value()->get(), F_OFD_SETLK, &range);
  if (failed == 0) return Nothing();
  return Status::error(errno == EACCES || errno == EWOULDBLOCK ? EAGAIN : errno);
}

Result<FileLock> OpenFiles::test_lock(Handle file, const FileLock& lock) const {
  const Result<SharedFd> fd = find(file);
  if (!fd.ok()) return fd.status();
  struct flock range = native(lock);
  if (::fcntl(fd.value()->get(), F_OFD_GETLK, &range) != 0) return Status::error(errno);
  FileLock found;
  if (range.l_type == F_UNLCK) return found;
  found.type = range.l_type == F_RDLCK ? LockType::kRead : LockType::kWrite;
  found.start = static_cast<uint64_t>(range.l_start);
  if (range.l_len > 0) found.end = found.start + static_cast<uint64_t>(range.l_len) - 1;
  found.pid = range.l_pid > 0 ? static_cast<uint32_t>(range.l_pid) : 0;
  return found;
}

Result<uint64_t> OpenFiles::copy_range(Handle from, uint64_t from_offset, Handle to,
                                       uint64_t to_offset, uint64_t length) const {
  const Result<SharedFd> source = find(from);
  const Result<SharedFd> target = find(to);
  if (!source.ok()) return source.status();
  if (!target.ok()) return target.status();
  if (from_offset > kLargestOffset) return uint64_t{0};
  length = std::min({length, kLargestOffset - from_offset, kCopyBound});
  if (!in_range(to_offset, length)) return Status::error(EFBIG);
  auto in = static_cast<off_t>(from_offset);
  auto out = static_cast<off_t>(to_offset);
  uint64_t copied = 0;
  while (copied < length) {
    const ssize_t got = ::copy_file_range(source.value()->get(), &in, target.value()->get(), &out,
                                          length - copied, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && copied == 0) return Status::error(copy_error(errno));
    if (got <= 0) break;  // the end of the file, or an error that the next call meets again
    copied += static_cast<uint64_t>(got);
  }
  return copied;
}

}  // namespace fusefs::local
