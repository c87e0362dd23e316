// NfsBackend: an export of an NFS server as a back end (`nfs://server/export`).
//
// Object ids:     the path under the root and the object's number there: "a/b", NUL, 8 bytes; the
//                 root is empty. A listing can so name its entries without a request each, and a
//                 handle that was forgotten (handle_cache.h) is found again by LOOKUPs; if another
//                 object has taken the name, the number tells (ESTALE). An object that was renamed
//                 elsewhere is reached as long as its handle is remembered. What this mount renamed
//                 gets a new id (moved_id()). Open files go by their handles.
// Identity:       every request has its caller's user, group and first 16 further groups; with
//                 squash, uid= or gid= all have one. The handles that one caller's lookups brought
//                 serve others, too, as the kernel's dentries do: the server judges every request.
// Ownership:      owns the client (connections, threads); the destructor ends it first, so that no
//                 completion runs any more.
// Thread-safety:  connect() comes before everything else; after it, all members from any thread.
// Locks:          LockRank::kBackend for the open files; never held across a call.
// Errors:         errnos as the server gives them; ESTALE and a bad handle are tried once more by
//                 path. hard and soft: nfs_client.h. What NFS 3 and 4.0 have not: EOPNOTSUPP
//                 (extended attributes, fallocate, copies); flags of rename: EINVAL.
// Changes:        a change whose reply was lost is sent again; EEXIST and ENOENT are then looked
//                 into (nfs_protocol.h): a new object is ours if it has the access time that we
//                 gave it, a removed one is gone, a renamed one has its number.
#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "cache/base/mutex.h"
#include "fusefs/backends/backend.h"
#include "fusefs/backends/nfs/handle_cache.h"
#include "fusefs/backends/nfs/nfs_client.h"
#include "fusefs/backends/nfs/nfs_options.h"
#include "fusefs/backends/nfs/nfs_protocol.h"
#include "fusefs/backends/nfs/nfs_url.h"

namespace fusefs {

class NfsBackend final : public Backend {
 public:
  static constexpr size_t kHandles = 32768;
  static constexpr uint32_t kMaxBatch = 32768;
  static constexpr std::chrono::seconds kConnectTime{30};

  NfsBackend(nfs::NfsUrl url, const nfs::NfsOptions& options);
  ~NfsBackend() override;

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

  // nfs_backend_file.cc
  RequestId write(const CallerPtr& caller, FileHandle file, uint64_t offset, std::string bytes,
                  StableHow how, Done<WriteAnswer> done) override;
  RequestId fsync(const CallerPtr& caller, FileHandle file, Done<uint64_t> done) override;
  RequestId getattr_open(const CallerPtr& caller, FileHandle file, Done<Attr> done) override;
  RequestId fallocate(const CallerPtr& /*caller*/, FileHandle /*file*/, int /*mode*/,
                      uint64_t /*offset*/, uint64_t /*length*/, Done<Nothing> done) override {
    return refuse(done, EOPNOTSUPP);
  }
  RequestId copy_range(const CallerPtr& /*caller*/, FileHandle /*from*/, uint64_t /*from_offset*/,
                       FileHandle /*to*/, uint64_t /*to_offset*/, uint64_t /*length*/,
                       Done<uint64_t> done) override {
    return refuse(done, EOPNOTSUPP);
  }
  [[nodiscard]] bool has_locks() const override { return protocol_->has_locks(); }
  RequestId open_to_lock(const CallerPtr& caller, const ObjectId& id, FileHandle file, int flags,
                         Done<FileHandle> done) override;
  RequestId set_lock(const CallerPtr& caller, FileHandle file, const FileLock& lock,
                     Done<Nothing> done) override;
  RequestId test_lock(const CallerPtr& caller, FileHandle file, const FileLock& lock,
                      Done<FileLock> done) override;
  [[nodiscard]] uint32_t max_read() const override { return read_bytes_; }
  [[nodiscard]] uint32_t max_write() const override { return write_bytes_; }
  [[nodiscard]] bool keeps_unlinked() const override { return protocol_->keeps_unlinked(); }
  [[nodiscard]] BeforeWrite before_write() const override {
    return told_before_.load(std::memory_order_relaxed) ? BeforeWrite::kTold : BeforeWrite::kWait;
  }
  [[nodiscard]] NewFileAttrs new_file_attrs() const override { return NewFileAttrs::kAfterData; }

  // nfs_backend_change.cc
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
  RequestId setxattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                     const std::string& /*name*/, const std::string& /*value*/, int /*flags*/,
                     Done<Nothing> done) override {
    return refuse(done, EOPNOTSUPP);
  }
  RequestId removexattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                        const std::string& /*name*/, Done<Nothing> done) override {
    return refuse(done, EOPNOTSUPP);
  }
  [[nodiscard]] ObjectId moved_id(const ObjectId& id, const ObjectId& from,
                                  const ObjectId& to) const override;

  RequestId getxattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                     Done<std::string> done) override;
  RequestId listxattr(const CallerPtr& caller, const ObjectId& id, Done<std::string> done) override;

  RequestId read_dir(const CallerPtr& caller, const ObjectId& directory, cache::DirRequest request,
                     cache::DirSource::Completion done) override;
  [[nodiscard]] cache::CookieKind cookie_kind() const override {
    return cache::CookieKind::kNative;
  }
  [[nodiscard]] uint32_t max_batch() const override { return kMaxBatch; }
  [[nodiscard]] bool names_tell_types() const override { return protocol_->names_tell_types(); }
  [[nodiscard]] ObjectId child_id(const ObjectId& parent, std::string_view name,
                                  uint64_t ino) const override;

  void cancel(RequestId id) override;
  [[nodiscard]] bool wants_callers() const override;
  [[nodiscard]] BackendCounters counters() const override;
  [[nodiscard]] std::string description() const override { return nfs::url_text(url_); }
  [[nodiscard]] uint64_t suggested_timeout_ms() const override;

 private:
  class Way;
  class ReadJob;
  class WriteJob;
  using HandleDone = Done<nfs::Handle>;

  [[nodiscard]] CallerPtr identity(const CallerPtr& caller) const;
  // The handle of an object: remembered, or looked up.
  void resolve(RequestId id, const CallerPtr& caller, const ObjectId& object, HandleDone done);
  // Asks something of an object's handle; once more, after looking the path up again, where the
  // handle turned out to be stale.
  template <typename T>
  void ask(RequestId id, const CallerPtr& caller, const ObjectId& object,
           std::function<void(const nfs::Handle& handle, Done<T> done)> question, Done<T> done);
  // A child with its attributes.
  void find_child(RequestId id, const CallerPtr& who, const nfs::Handle& directory,
                  const std::string& name, Done<nfs::FoundObject> done);

  // nfs_backend_file.cc
  FileHandle keep_file(nfs::OpenFilePtr file);
  // Keeps what was opened, and tells its number.
  Done<nfs::OpenFilePtr> keeping(Done<FileHandle> done);
  nfs::OpenFilePtr find_file(FileHandle file);
  // Opens, truncates where the flags say so.
  void open_place(RequestId id, const CallerPtr& who, const nfs::OpenPlace& place, int flags,
                  Done<nfs::OpenFilePtr> done);
  // The same place with its name, by which it can be opened.
  void with_name(RequestId id, const CallerPtr& who, const std::string& path,
                 const nfs::OpenPlace& place, Done<nfs::OpenPlace> done);
  void open_object(RequestId id, const CallerPtr& who, const ObjectId& object, int flags,
                   Done<nfs::OpenFilePtr> done);

  // nfs_backend_change.cc
  RequestId make_object(const CallerPtr& caller, const ObjectId& parent, nfs::NewObject draft,
                        Done<MadeAnswer> done);
  // What a server left out is looked up, and what it left in doubt looked into.
  void settle_made(RequestId id, const CallerPtr& who, const nfs::NewObjectPtr& object,
                   const Result<nfs::MadeObject>& made, Done<nfs::MadeObject> done);
  void settle_linked(RequestId id, const CallerPtr& who, const nfs::NameIn& to, uint64_t ino,
                     const Result<nfs::MadeObject>& made, Done<nfs::MadeObject> done);
  LookupAnswer enter(const std::string& path, const nfs::FoundObject& found);
  void create_new(RequestId id, const CallerPtr& who, const nfs::NewObjectPtr& object, int flags,
                  Done<nfs::CreatedObject> done);
  void open_existing(RequestId id, const CallerPtr& who, const ObjectId& parent,
                     const std::string& name, int flags, Done<CreatedAnswer> done);
  RequestId remove(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                   nfs::Protocol::Removed what, Done<DirChange> done);
  struct Renaming;
  void find_source(const std::shared_ptr<Renaming>& renaming, Done<uint64_t> done);
  void send_rename(const std::shared_ptr<Renaming>& renaming, const nfs::NameIn& from,
                   const nfs::NameIn& to, Done<nfs::RenamedObject> done);

  void remember(std::string_view directory, const std::vector<nfs::ListedHandle>& handles);
  Result<LookupAnswer> find_root(const std::vector<std::string>& below, nfs::Handle start,
                                 const std::string& exported, std::string* error_text);
  // Starts a question and waits for its answer, until connect()'s deadline.
  template <typename T>
  Result<T> wait_for(const std::function<void(RequestId id, Done<T> done)>& start,
                     cache::TimePoint deadline);

  const nfs::NfsUrl url_;
  const nfs::NfsOptions options_;
  CallerPtr self_;  // the one identity, where there is one
  nfs::Handle root_;
  uint32_t read_bytes_ = 0;
  uint32_t write_bytes_ = 0;
  std::atomic<bool> told_before_{true};  // by the last write's answer
  nfs::HandleCache handles_{kHandles};

  cache::Mutex files_mutex_{cache::LockRank::kBackend};
  std::unordered_map<FileHandle, nfs::OpenFilePtr> files_ GUARDED_BY(files_mutex_);
  FileHandle next_file_ GUARDED_BY(files_mutex_) = 1;

  std::unique_ptr<nfs::Protocol> protocol_;
  std::unique_ptr<nfs::Client> client_;  // ended first
};

// The back end for what follows "nfs:". Null and a line in `error_text` when that is malformed.
std::unique_ptr<Backend> make_nfs_backend(std::string_view url_rest, const BackendOptions& options,
                                          std::string* error_text);

// The options that NFS sources know.
BackendOptionSpecs nfs_options();

}  // namespace fusefs
