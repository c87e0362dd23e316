// LocalBackend: a directory of this machine as a back end (`file:///path`, or a plain path).
//
// Purpose:        a real filesystem under the cache: for use on slow disks and network mounts, and
//                 for tests against the kernel's own listing.
// Object ids:     the path under the root; "" and "." are the root. No descriptor is held per
//                 object. An object that was renamed elsewhere is gone (ESTALE).
// Ownership:      owns the root's descriptor, its I/O threads (io_pool.h), the open files and a
//                 few directory descriptors (dir_fd_cache.h). The destructor joins the threads;
//                 listings that have not started by then are dropped.
// Thread-safety:  connect() comes before everything else; after it, all members may be called
//                 from any thread. Listings complete on an I/O thread, all else in the caller.
// Errors:         errnos as the local filesystem gives them. EAGAIN for a listing when more wait
//                 than the queue's bound. Changes are refused (EROFS).
// Needs:          /proc, for reading files and extended attributes by descriptor.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "cache/base/mutex.h"
#include "fusefs/backends/backend.h"
#include "fusefs/backends/local/dir_fd_cache.h"
#include "fusefs/backends/local/dir_lister.h"
#include "fusefs/backends/local/io_pool.h"
#include "fusefs/backends/local/local_counters.h"
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
  using SharedFd = std::shared_ptr<const local::UniqueFd>;

  [[nodiscard]] Result<LookupAnswer> do_lookup(const ObjectId& parent,
                                               const std::string& name) const;
  [[nodiscard]] Result<Attr> do_getattr(const ObjectId& id) const;
  [[nodiscard]] Result<std::string> do_readlink(const ObjectId& id) const;
  [[nodiscard]] Result<StatfsAnswer> do_statfs(const ObjectId& id) const;
  [[nodiscard]] Result<local::UniqueFd> open_file(const ObjectId& id, int flags) const;
  [[nodiscard]] Result<FileHandle> do_open(const ObjectId& id, int flags);
  [[nodiscard]] Result<std::string> do_read(FileHandle file, uint64_t offset, uint32_t size);
  [[nodiscard]] Result<std::string> do_getxattr(const ObjectId& id, const std::string& name) const;
  [[nodiscard]] Result<std::string> do_listxattr(const ObjectId& id) const;

  const std::string path_;
  local::TreeRoot root_;
  local::LocalCounters counters_;
  local::DirFdCache descriptors_;
  local::DirLister lister_;

  cache::Mutex files_mutex_{cache::LockRank::kBackend};
  std::unordered_map<FileHandle, SharedFd> files_ GUARDED_BY(files_mutex_);
  FileHandle next_file_ GUARDED_BY(files_mutex_) = 1;

  local::IoPool pool_;  // last: its threads use all of the above
};

// The back end for the directory at `path`, absolute or relative to the working directory. Null
// and a line in `error_text` when no path can be meant; whether it exists is connect()'s to say.
std::unique_ptr<Backend> make_local_backend(std::string path, std::string* error_text);

}  // namespace fusefs
