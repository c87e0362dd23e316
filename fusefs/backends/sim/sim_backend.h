// The simulated remote as a back end: a tree that takes as long to answer as a distant one.
//
// Purpose:        lets people try cookiefs without a server, lets tests bring about every trouble a
//                 remote can make, and is the benchmark's remote.
// Ownership:      owns its tree, its link and its scheduler, whose one thread it joins.
// Thread-safety:  all members may be called from any thread; the destructor not from inside a
//                 completion or a hook.
// Completion:     on the scheduler's thread, with no lock held; calls that concern extended
//                 attributes at once where there are none.
// Changes:        of everything in the tree, kept in memory while the back end lives. Nobody's
//                 permission is checked.
// Errors:         as a file system gives them; ENOSYS for extended attributes but with xattr=yes;
//                 ENOSPC beyond space=; the configured faults.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cache/base/mutex.h"
#include "fusefs/backends/backend.h"
#include "fusefs/backends/sim/sim_changes.h"
#include "fusefs/backends/sim/sim_files.h"
#include "fusefs/backends/sim/sim_link.h"
#include "fusefs/backends/sim/sim_listing.h"
#include "fusefs/backends/sim/sim_scheduler.h"
#include "fusefs/backends/sim/sim_tree.h"
#include "fusefs/backends/sim/sim_url.h"

namespace fusefs {

// Called on the scheduler's thread with no lock held: a hook may change the tree, cut the link or
// start requests.
struct SimHooks {
  using ReadDirHook = std::function<void(const ObjectId& directory, const cache::DirRequest&)>;
  // The request has arrived; its content is yet to be sampled.
  ReadDirHook before_content;
  // The content is sampled, the change token that goes with the answer is not.
  ReadDirHook after_content;
};

class SimBackend final : public Backend {
 public:
  // The config has passed check_sim_config(). `description` is what mounts show.
  SimBackend(const SimConfig& config, SimScheduler::Mode mode, std::string description = "sim:");
  ~SimBackend() override;
  SimBackend(const SimBackend&) = delete;
  SimBackend& operator=(const SimBackend&) = delete;

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
  RequestId getxattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                     Done<std::string> done) override;
  RequestId listxattr(const CallerPtr& caller, const ObjectId& id, Done<std::string> done) override;
  RequestId read_dir(const CallerPtr& caller, const ObjectId& directory, cache::DirRequest request,
                     cache::DirSource::Completion done) override;
  [[nodiscard]] cache::CookieKind cookie_kind() const override;
  [[nodiscard]] uint32_t max_batch() const override { return config_.batch; }
  [[nodiscard]] NewFileAttrs new_file_attrs() const override { return NewFileAttrs::kAfterData; }
  [[nodiscard]] ObjectId child_id(const ObjectId& parent, std::string_view name,
                                  uint64_t ino) const override;
  void cancel(RequestId id) override;
  [[nodiscard]] BackendCounters counters() const override { return link_.counters(); }
  [[nodiscard]] std::string description() const override { return description_; }

  // For tests. Changes take effect at once, at the server; none of this is a request.

  // The clock that delays and churn follow; SimScheduler::Hold, wait_until().
  SimScheduler& scheduler() { return scheduler_; }
  // Entries of `big`: behind all others (with cookies=name: where the name belongs); beside
  // another one; gone. EEXIST, ENOENT, EINVAL; ENOSPC when a gap between two cookies is used up.
  cache::Status add_entry(std::string_view name);
  cache::Status add_entry_near(std::string_view name, std::string_view neighbour, SimSide side);
  cache::Status remove_entry(std::string_view name);
  // An entry with a new name, just before or after another one under every kind of cookies.
  // Tells its name.
  Result<std::string> insert_beside(std::string_view neighbour, SimSide side);

  // What another client does, anywhere in the tree; paths as id_of() has them. Errors as its own
  // requests would have them. write: into a file that is there.
  cache::Status write_elsewhere(std::string_view path, std::string_view bytes, uint64_t offset = 0);
  cache::Status truncate_elsewhere(std::string_view path, uint64_t size);
  cache::Status create_elsewhere(std::string_view path, std::string_view bytes = {});
  cache::Status mkdir_elsewhere(std::string_view path);
  cache::Status remove_elsewhere(std::string_view path);  // a file, or an empty directory
  cache::Status rename_elsewhere(std::string_view from, std::string_view to);

  // The remote reboots: what was written and not committed is lost, the verifier is another.
  void lose_unstable();

  // No request arrives, no answer comes, until restore().
  void cut() { link_.cut(); }
  void restore() { link_.restore(); }
  // Everything in flight fails with ENOTCONN; the link is back after two round trips and 1 ms.
  void disconnect() { link_.disconnect(); }

  void set_hooks(SimHooks hooks);
  [[nodiscard]] uint64_t requests(SimRequestKind kind) const { return link_.requests(kind); }

  // The present truth. `path` as "/big" or "mix/subdir"; empty id: there is nothing.
  [[nodiscard]] ObjectId id_of(std::string_view path) const;
  [[nodiscard]] std::vector<SimListed> contents(const ObjectId& directory);
  [[nodiscard]] Result<Attr> present_attr(const ObjectId& id);
  [[nodiscard]] std::string present_content(std::string_view path);

 private:
  class DirCall;
  template <typename T>
  RequestId call(SimRequestKind kind, std::function<Result<T>()> serve, Done<T> done,
                 uint64_t sent_bytes = 0, std::function<void(const T&)> forget = {});
  // Lists at the server, with the hooks around it.
  cache::DirAnswer list(const ObjectId& directory, const cache::DirRequest& request,
                        const SimDraw& draw);
  void run_hook(SimHooks::ReadDirHook SimHooks::*hook, const ObjectId& directory,
                const cache::DirRequest& request);
  // The object, churned up to now; ESTALE.
  Result<SimNode> find(const ObjectId& id) REQUIRES(mutex_);
  Result<LookupAnswer> look_up(const ObjectId& parent, const std::string& name);
  Result<FileHandle> open_file(const ObjectId& id, int flags);
  Result<MadeAnswer> make(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                          SimChanges::New what);
  Result<CreatedAnswer> create_file(const CallerPtr& caller, const ObjectId& parent,
                                    const std::string& name, uint32_t mode, int flags);
  Result<DirChange> remove(const ObjectId& parent, const std::string& name, SimChanges::Kind kind);
  [[nodiscard]] MadeAnswer answer_of(const SimChanges::Made& made) const REQUIRES(mutex_);
  // What a directory's change tells; nothing with wcc=no.
  [[nodiscard]] DirChange told(const DirChange& change) const;
  [[nodiscard]] Result<SimNode> resolve(std::string_view path) const REQUIRES(mutex_);
  // The directory that a path's last name is in; `name` is that name.
  [[nodiscard]] Result<SimNode> resolve_parent(std::string_view path, std::string* name) const
      REQUIRES(mutex_);
  [[nodiscard]] StatfsAnswer file_system() const;

  const SimConfig config_;
  const std::string description_;
  mutable cache::Mutex mutex_{cache::LockRank::kBackend};
  SimTree tree_ GUARDED_BY(mutex_);
  SimFiles files_ GUARDED_BY(mutex_);
  SimChanges changes_ GUARDED_BY(mutex_);
  std::shared_ptr<const SimHooks> hooks_ GUARDED_BY(mutex_);
  uint64_t next_inserted_ GUARDED_BY(mutex_) = 1;
  SimScheduler scheduler_;
  SimLink link_;
};

// Makes the back end of `sim:` and what follows it. Null and one line in `error_text` when that is
// malformed.
std::unique_ptr<Backend> make_sim_backend(std::string_view url_rest, std::string* error_text);

}  // namespace fusefs
