// NfsBackend: an export of an NFS server as a back end (`nfs://server/export`).
//
// Object ids:     the path under the root and the object's number there: "a/b", NUL, 8 bytes; the
//                 root is empty. A listing can so name its entries without a request each, and a
//                 handle that was forgotten (handle_cache.h) is found again by LOOKUPs; if another
//                 object has taken the name, the number tells (ESTALE). An object that was renamed
//                 elsewhere is reached as long as its handle is remembered.
// Identity:       every request has its caller's user, group and first 16 further groups; with
//                 squash, uid= or gid= all have one. The handles that one caller's lookups brought
//                 serve others, too, as the kernel's dentries do: the server judges every request.
// Ownership:      owns the client (connections, threads); the destructor ends it first, so that no
//                 completion runs any more.
// Thread-safety:  connect() comes before everything else; after it, all members from any thread.
// Locks:          LockRank::kBackend for the open files; never held across a call.
// Errors:         errnos as the server gives them; ESTALE and a bad handle are tried once more by
//                 path. hard and soft: nfs_client.h. Changes are refused (EROFS).
#pragma once

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
  using HandleDone = Done<nfs::Handle>;

  [[nodiscard]] CallerPtr identity(const CallerPtr& caller) const;
  // The handle of an object: remembered, or looked up.
  void resolve(RequestId id, const CallerPtr& caller, const ObjectId& object, HandleDone done);
  // Asks something of an object's handle; once more, after looking the path up again, where the
  // handle turned out to be stale.
  template <typename T>
  void ask(RequestId id, const CallerPtr& caller, const ObjectId& object,
           std::function<void(const nfs::Handle& handle, Done<T> done)> question, Done<T> done);
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
  nfs::HandleCache handles_{kHandles};

  cache::Mutex files_mutex_{cache::LockRank::kBackend};
  std::unordered_map<FileHandle, ObjectId> files_ GUARDED_BY(files_mutex_);
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
