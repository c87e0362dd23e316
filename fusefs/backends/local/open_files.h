// OpenFiles: the files that are open, and what is done with their data.
//
// Purpose:        a handle is a number that stays good until it is released, whatever becomes of
//                 the file's name.
// Ownership:      owns the descriptors; one that is in use outlives its release.
// Thread-safety:  all members may be called from any thread.
// Errors:         EBADF: no such handle, or not open for that; others as the kernel gives them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "cache/base/mutex.h"
#include "fusefs/backends/backend.h"
#include "fusefs/backends/local/unique_fd.h"

namespace fusefs::local {

class OpenFiles {
 public:
  using Handle = Backend::FileHandle;
  using SharedFd = std::shared_ptr<const UniqueFd>;

  Handle add(UniqueFd fd);
  [[nodiscard]] cache::Result<SharedFd> find(Handle file) const;
  void release(Handle file);

  // Fewer bytes than asked for only at the end of the file.
  [[nodiscard]] cache::Result<std::string> read(Handle file, uint64_t offset, uint32_t size) const;
  // All of the bytes, or an error.
  [[nodiscard]] cache::Result<WriteAnswer> write(Handle file, uint64_t offset,
                                                 const std::string& bytes) const;
  [[nodiscard]] cache::Result<uint64_t> fsync(Handle file) const;
  [[nodiscard]] cache::Result<Attr> getattr(Handle file) const;
  [[nodiscard]] cache::Result<Nothing> fallocate(Handle file, int mode, uint64_t offset,
                                                 uint64_t length) const;
  // Another opening of the same file; of `flags` the access mode counts.
  [[nodiscard]] cache::Result<UniqueFd> open_again(Handle file, int flags) const;
  // Locks belong to the opening (F_OFD_SETLK, flock): what `file` holds is no obstacle to it.
  [[nodiscard]] cache::Result<Nothing> set_lock(Handle file, const FileLock& lock) const;
  [[nodiscard]] cache::Result<FileLock> test_lock(Handle file, const FileLock& lock) const;
  // Fewer bytes than asked for also where it is much. EOPNOTSUPP: the kernel can't copy between
  // these two.
  [[nodiscard]] cache::Result<uint64_t> copy_range(Handle from, uint64_t from_offset, Handle to,
                                                   uint64_t to_offset, uint64_t length) const;

 private:
  mutable cache::Mutex mutex_{cache::LockRank::kBackend};
  std::unordered_map<Handle, SharedFd> files_ GUARDED_BY(mutex_);
  Handle next_ GUARDED_BY(mutex_) = 1;
};

}  // namespace fusefs::local
