// LocalBackend: a directory of this machine as a back end (`file:///path`, or a plain path).
//
// Purpose:        a real filesystem under the cache: for use on slow disks and network mounts, and
//                 for tests against the kernel's own listing.
// Object ids:     the path under the root; "" and "." are the root. No descriptor is held per
//                 object. An object that was renamed elsewhere is gone (ESTALE); after a rename
//                 of one's own, moved_id() tells the new id.
// Owners:         what is made belongs to the caller where the daemon is root, else to the daemon.
// Ownership:      owns the root's descriptor, its I/O threads (io_pool.h), the open files and a
//                 few directory descriptors (dir_fd_cache.h). The destructor joins the threads;
//                 listings that have not started by then are dropped.
// Thread-safety:  connect() comes before everything else; after it, all members may be called
//                 from any thread. Listings complete on an I/O thread, all else in the caller.
// Errors:         errnos as the local filesystem gives them. EAGAIN for a listing when more wait
//                 than the queue's bound.
// Needs:          /proc, for opening and changing objects by descriptor.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "fusefs/backends/backend.h"
#include "fusefs/backends/local/dir_fd_cache.h"
#include "fusefs/backends/local/dir_lister.h"
#include "fusefs/backends/local/io_pool.h"
#include "fusefs/backends/local/local_counters.h"
#include "fusefs/backends/local/open_files.h"
#include "fusefs/backends/local/tree_changes.h"
#include "fusefs/backends/local/tree_root.h"

namespace fusefs {

class LocalBackend final : public Backend {
 public:
  struct Options {
    local::Resolver resolver = local::Resolver::kAuto;
    local::IoPool::Options io;
    size_t kept_descriptors = 32;  // of directories, between two answers of a listing
  };

  LocalBackend(std::string path, const Options& options);
  ~LocalBackend() override;

  Result<LookupAnswer> connect(std::string* error_text) override;

  RequestId lookup(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                   Done<LookupAnswer> done) override;
  RequestId getattr(const CallerPtr& caller, const ObjectId& id, Done<Attr> done) override;
  RequestId readlink(const CallerPtr& caller, const ObjectId& id, Done<std::string> done) override;
  RequestId statfs(const CallerPtr& caller, const ObjectId& id, Done<StatfsAnswer> done) override;

  RequestId open(const CallerPtr& caller, const ObjectId& id, int flags,
                 Done<FileHandle> done) override;
  RequestId read(const CallerPtr& caller, FileHandle file, uint64_t offset, uint32_t size,
                 Done<std::string> done) override;
  void release(FileHandle file) override;
  RequestId write(const CallerPtr& caller, FileHandle file, uint64_t offset, std::string bytes,
                  StableHow how, Done<WriteAnswer> done) override;
  RequestId fsync(const CallerPtr& caller, FileHandle file, Done<uint64_t> done) override;
  RequestId getattr_open(const CallerPtr& caller, FileHandle file, Done<Attr> done) override;
  RequestId fallocate(const CallerPtr& caller, FileHandle file, int mode, uint64_t offset,
                      uint64_t length, Done<Nothing> done) override;
  RequestId copy_range(const CallerPtr& caller, FileHandle from, uint64_t from_offset,
                       FileHandle to, uint64_t to_offset, uint64_t length,
                       Done<uint64_t> done) override;
  [[nodiscard]] bool has_locks() const override { return true; }
  RequestId open_to_lock(const CallerPtr& caller, const ObjectId& id, FileHandle file, int flags,
                         Done<FileHandle> done) override;
  RequestId set_lock(const CallerPtr& caller, FileHandle file, const FileLock& lock,
                     Done<Nothing> done) override;
  RequestId test_lock(const CallerPtr& caller, FileHandle file, const FileLock& lock,
                      Done<FileLock> done) override;

  RequestId create(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                   uint32_t mode, int flags, Done<CreatedAnswer> done) override;
  RequestId mkdir(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                  uint32_t mode, Done<MadeAnswer> done) override;
  RequestId mknod(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                  uint32_t mode, uint64_t rdev, Done<MadeAnswer> done) override;
  RequestId symlink(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                    const std::string& target, Done<MadeAnswer> done) override;
  RequestId link(const CallerPtr& caller, const ObjectId& id, const ObjectId& parent,
                 const std::string& name, Done<MadeAnswer> done) override;
  RequestId unlink(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                   Done<DirChange> done) override;
  RequestId rmdir(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                  Done<DirChange> done) override;
  RequestId rename(const CallerPtr& caller, const ObjectId& from_parent,
                   const std::string& from_name, const ObjectId& to_parent,
                   const std::string& to_name, uint32_t flags, Done<RenamedAnswer> done) override;
  RequestId setattr(const CallerPtr& caller, const ObjectId& id, FileHandle file,
                    const SetAttr& set, Done<Attr> done) override;
  RequestId setxattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                     const std::string& value, int flags, Done<Nothing> done) override;
  RequestId removexattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                        Done<Nothing> done) override;
  [[nodiscard]] ObjectId moved_id(const ObjectId& id, const ObjectId& from,
                                  const ObjectId& to) const override;

  RequestId getxattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                     Done<std::string> done) override;
  RequestId listxattr(const CallerPtr& caller, const ObjectId& id, Done<std::string> done) override;

  RequestId read_dir(const CallerPtr& caller, const ObjectId& directory, cache::DirRequest request,
                     cache::DirSource::Completion done) override;
  [[nodiscard]] bool answers_at_once() const override { return true; }
  [[nodiscard]] cache::CookieKind cookie_kind() const override {
    return cache::CookieKind::kNative;
  }
  [[nodiscard]] uint32_t max_batch() const override { return local::kMaxBatch; }
  [[nodiscard]] ObjectId child_id(const ObjectId& parent, std::string_view name,
                                  uint64_t ino) const override;

  void cancel(RequestId id) override;
  [[nodiscard]] BackendCounters counters() const override { return counters_.read(); }
  [[nodiscard]] std::string description() const override { return path_; }

 private:
  [[nodiscard]] Result<LookupAnswer> do_lookup(const ObjectId& parent,
                                               const std::string& name) const;
  [[nodiscard]] Result<Attr> do_getattr(const ObjectId& id) const;
  [[nodiscard]] Result<std::string> do_readlink(const ObjectId& id) const;
  [[nodiscard]] Result<StatfsAnswer> do_statfs(const ObjectId& id) const;
  // Runs `open` again after closing our own descriptors, where they have run out.
  template <typename T, typename Open>
  [[nodiscard]] Result<T> with_descriptors(Open open);
  [[nodiscard]] Result<FileHandle> do_open(const ObjectId& id, int flags);
  [[nodiscard]] Result<FileHandle> do_open_again(FileHandle file, int flags);
  [[nodiscard]] Result<CreatedAnswer> do_create(const CallerPtr& caller, const ObjectId& parent,
                                                const std::string& name, uint32_t mode, int flags);
  [[nodiscard]] Result<Attr> do_setattr(const ObjectId& id, FileHandle file,
                                        const SetAttr& set) const;
  [[nodiscard]] Result<std::string> do_getxattr(const ObjectId& id, const std::string& name) const;
  [[nodiscard]] Result<std::string> do_listxattr(const ObjectId& id) const;

  const std::string path_;
  local::TreeRoot root_;
  local::LocalCounters counters_;
  local::DirFdCache descriptors_;
  local::DirLister lister_;

  local::OpenFiles files_;
  const local::TreeChanges changes_;
  local::IoPool pool_;  // last: its threads use all of the above
};

// The back end for the directory at `path`, absolute or relative to the working directory. Null
// and a line in `error_text` when no path can be meant; whether it exists is connect()'s to say.
std::unique_ptr<Backend> make_local_backend(std::string path, std::string* error_text);

}  // namespace fusefs
