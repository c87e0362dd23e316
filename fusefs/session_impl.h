// SessionImpl: what the operations of one mount share.
//
// Purpose:        the object graph behind libfuse's userdata pointer, and the few steps that many
//                 operations have in common.
// Ownership:      owns the back end, the page cache, the inodes, the handles and the threads of the
//                 session. Destroyed in the order that session.h tells.
// Thread-safety:  members that have locks of their own from any worker; the rest is constant once
//                 the loop runs.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cache/base/clock.h"
#include "cache/base/mutex.h"
#include "cache/data/write_back.h"
#include "cache/mm/page_cache.h"
#include "cache/mm/pressure.h"
#include "fusefs/backends/backend.h"
#include "fusefs/caller_cache.h"
#include "fusefs/device_io.h"
#include "fusefs/event_log.h"
#include "fusefs/file_locks.h"
#include "fusefs/file_state.h"
#include "fusefs/fuse_request.h"
#include "fusefs/handles.h"
#include "fusefs/inode_table.h"
#include "fusefs/job_threads.h"
#include "fusefs/latency.h"
#include "fusefs/made_ahead.h"
#include "fusefs/metrics_server.h"
#include "fusefs/miss_credit.h"
#include "fusefs/notify.h"
#include "fusefs/options.h"
#include "fusefs/reply_buffers.h"
#include "fusefs/request.h"
#include "fusefs/stats_json.h"
#include "fusefs/tree_ahead.h"

namespace fusefs {

class SessionImpl {
 public:
  SessionImpl(const Options& options, std::unique_ptr<Backend> backend, const LookupAnswer& root);
  ~SessionImpl();
  SessionImpl(const SessionImpl&) = delete;
  SessionImpl& operator=(const SessionImpl&) = delete;

  bool mount(std::string* error);
  int run(const std::function<void()>& ready);

  // ---- for the operations ----
  const Options& options() const { return options_; }
  Backend& backend() { return *backend_; }
  cache::PageCache& cache() { return *cache_; }
  InodeTable& inodes() { return *inodes_; }
  HandleList& handles() { return handles_; }
  ActiveCalls& calls() { return calls_; }
  ReplyBuffers& buffers() { return buffers_; }
  Notifier& notifier() { return notifier_; }
  DeviceIo& device() { return device_; }
  TreeAhead& tree_ahead() { return *tree_ahead_; }
  LinkHint& link_hint() { return link_; }
  MissCredits& misses() { return misses_; }
  // Locks are the remote's, rather than the kernel's own.
  [[nodiscard]] bool remote_locks() const { return remote_locks_; }
  FileLocks& locks() { return locks_; }
  JobThreads& lock_threads() { return lock_threads_; }
  Latencies& latencies() { return latencies_; }
  // Names alone lead to objects of this back end: what loses its name loses its id.
  [[nodiscard]] bool ids_are_names() const { return ids_are_names_; }
  // An object that loses a name loses the id of that name; it may have others.
  [[nodiscard]] bool ids_hold_names() const { return ids_hold_names_; }
  // An object got a second name through this mount: names that go may be one of several.
  void note_link() { links_made_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool links_made() const { return links_made_.load(std::memory_order_relaxed); }
  // A name has gone of which it is not known what it led to: some open file has a link less.
  void note_lost_name() { lost_name_at_.store(now(), std::memory_order_relaxed); }
  // Counts up from 1.
  uint64_t next_number() { return numbers_.fetch_add(1, std::memory_order_relaxed) + 1; }
  // As asked for, and as the kernel can be trusted with it.
  [[nodiscard]] bool kernel_keeps_listings() const { return kernel_listings_; }

  [[nodiscard]] cache::TimePoint now() const { return clock_.now(); }
  [[nodiscard]] double ttl_seconds() const;
  // What is left of the time for which the kernel may keep an answer that was asked for then.
  [[nodiscard]] double seconds_left(cache::TimePoint asked) const;
  [[nodiscard]] cache::TimePoint deadline(const FuseRequest& request) const {
    return request.waits_since() + timeout_;
  }

  // Who made the request, where the back end wants to know; else null, at no cost.
  CallerPtr caller(const FuseRequest& request) {
    return backend_->wants_callers() ? find_caller(request) : nullptr;
  }

  // Who makes a change, also where the back end otherwise does not want to know.
  CallerPtr changer(const FuseRequest& request);

  // One back-end call that this request waits for; see call_backend().
  template <typename T, typename Start>
  Result<T> ask(FuseRequest& request, const Start& start,
                typename PendingCall<T>::Dispose dispose = nullptr) {
    const Waiting waiting(*this, request);
    return call_backend<T>(*backend_, waiting.patience(), start, std::move(dispose));
  }

  // What the remote says of a name.
  Result<LookupAnswer> look_up(FuseRequest& request, const ObjectId& parent,
                               const std::string& name) {
    return ask<LookupAnswer>(request, [&](Backend::Done<LookupAnswer> done) {
      return backend_->lookup(caller(request), parent, name, std::move(done));
    });
  }

  // Attributes as the remote has them, kept from then on. ESTALE: another object is there now.
  Result<Attr> fetch_attr(FuseRequest& request, const Inode& inode);
  // The same of the remote's file, whatever has been written here and is not there yet.
  Result<Attr> fetch_remote_attr(FuseRequest& request, const Inode& inode);
  // A file that is about to be changed: whether it still has these stamps, which nothing waits for.
  // `through`: null where it is not open.
  void look_once_more(const CallerPtr& caller, const Inode& inode,
                      const std::shared_ptr<FileState>& file, const BackendFileSourcePtr& through,
                      const Attr& looked);
  // What could not be dropped yet of data that the remote has otherwise; the kernel's as well.
  void retry_invalidation(const Inode& inode, FileState& file) {
    if (file.retry_invalidation()) notifier_.inval_inode(inode.nodeid());
  }
  // Before each write: notes that it is an own one, and looks where that is due.
  void begin_writing(FuseRequest& request, const FileHandle& handle);
  // Attributes less than ttl old, from the inode or else from the remote.
  Result<TimedAttr> fresh_attr(FuseRequest& request, const Inode& inode);
  // A directory's change token: from attributes less than ttl old, or else from the remote.
  Status confirm_token(FuseRequest& request, const Inode& inode, DirState& dir);
  // Keeps attributes that the remote gave, unless younger ones are known, or the object has been
  // changed through this mount since; a directory whose token changed loses its listing, a file
  // that somebody else has changed its data. Of a file with changes of our own under way only
  // kCertain ones are taken: those asked for when nothing was left to be written.
  enum class Told : uint8_t { kByTheWay, kCertain };
  void keep_attr(const Inode& inode, const Attr& attr, cache::TimePoint asked,
                 Told told = Told::kByTheWay);
  // Attributes that an answer brought along, or better ones where those are outdated: the remote is
  // asked once more only then.
  Result<TimedAttr> settle_attr(FuseRequest& request, const Inode& inode, const TimedAttr& told);
  // After a change of ours, with the attributes that it told.
  void keep_own(const Inode& inode, const Attr& attr);

  // What programs should read at a time (st_blksize). For a long directory that is kMaxBytes of
  // ReplyBuffers: readdir(3) of glibc asks for so much, which takes half of the time per entry.
  uint32_t block_size(const Inode& inode, const Attr& attr);
  // `attr` as the kernel is told it. An inode number that the remote does not tell is the node id;
  // a count of links that it does not tell, that of the names known.
  struct stat to_stat(const Inode& inode, const Attr& attr);
  // The state of a directory, made at its first opening.
  std::shared_ptr<DirState> obtain_dir(const Inode& inode);
  // The same of a file; `attr` is what is known of it.
  std::shared_ptr<FileState> obtain_file(const Inode& inode, const Attr& attr);
  // How long work may wait that no request has asked for.
  [[nodiscard]] Patience patience(cache::Interrupt& interrupt) const {
    return {.deadline = clock_.now() + timeout_, .interrupt = &interrupt};
  }
  // How long a request may wait for data.
  cache::DataWait data_wait(const Patience& patience) const {
    return {.deadline = patience.deadline, .interrupt = patience.interrupt};
  }
  // FileMapping::flush() of all of the file. Afterwards the request may wait as long again: the
  // remote has taken much, and is not dead.
  Status flush(FuseRequest& request, FileState& file, cache::FileMapping::Durable durable,
               const cache::FileMapping::SourcePtr& through = {});
  // The attributes that `file` holds are told to the remote, if there are any. What was written
  // before they were set must be there already, or be on its way before them.
  Status tell_attrs(FuseRequest& request, const Inode& inode, FileState& file);
  // The data first.
  Status settle_attrs(FuseRequest& request, const Inode& inode, FileState& file);
  // ... waiting for nothing. What was written before must be on its way before them, or be there.
  void tell_attrs_later(const Inode& inode, const std::shared_ptr<FileState>& file);
  // A file that was closed before the remote had all of it, and is kept until then. Its closer was
  // told of errors up to `told`; later ones are logged, and counted for sync(). So from the moment
  // that close() returns, before the kernel's RELEASE has come: programs may share the handle.
  struct Lingering {
    InodeRef inode;
    std::shared_ptr<FileState> file;
    BackendFileSourcePtr source;
    cache::ErrorMark told;
    std::shared_ptr<cache::ErrorMark> lost;  // one for each handle; used in drop_lingering()
  };
  void linger(FileHandle& handle);

  // ---- Files that are made ahead (close=nowait) ----
  MadeAhead& made_ahead() { return *made_ahead_; }
  // Not too many files that were closed wait for the remote: each has a handle there.
  bool has_room_ahead();
  // What create_ahead() is given for the remote's own answer.
  Backend::Done<CreatedAnswer> made_ahead_answer(uint64_t number);
  // Until the remote has answered for all that have begun.
  Status wait_until_made(FuseRequest& request);
  // One is not there after all: `inode` may be null.
  void note_not_made(const InodeRef& inode, const MadeAhead::File& file, int error);

  // Waits until the remote has all that was written and set before, of any file. A file of which it
  // takes nothing for `timeout=` ends it: ETIMEDOUT. Tells how many files have lost something since
  // the last one that told, without anybody's having been told by close() or fsync().
  Result<uint64_t> sync(FuseRequest& request);

  [[nodiscard]] std::string stats_text();
  [[nodiscard]] std::vector<std::string> metrics();
  [[nodiscard]] std::string metrics_url() const { return metrics_ ? metrics_->url() : ""; }
  // The remote can't be addressed by what a listing tells: READDIRPLUS is of no use.
  [[nodiscard]] bool children_need_lookup() const {
    return children_need_lookup_.load(std::memory_order_relaxed);  // a hint, found anew if missed
  }
  void note_children_need_lookup() { children_need_lookup_.store(true, std::memory_order_relaxed); }

  // From the init callback.
  void negotiate(fuse_conn_info* connection);

 private:
  CallerPtr find_caller(const FuseRequest& request);
  Result<Attr> ask_attr(FuseRequest& request, const Inode& inode);
  Status tell_attrs(const Patience& patience, const Inode& inode, FileState& file);
  Status wait_until_made(const Patience& patience);
  // Lets those go that the remote has; of the others, tells it the attributes once it has the data.
  void drop_lingering() EXCLUDES(dropping_mutex_);
  void let_go(const Lingering& one) REQUIRES(dropping_mutex_);
  void tell_all_later(const std::vector<InodeTable::OpenedFile>& files);
  // Unmount: what is not written yet goes to the remote, unless that takes nothing for `timeout=`;
  // what does not is told.
  void write_everything();
  DaemonFigures figures();
  int loop();
  void serve_until_idle();
  bool mount_fuse(std::string* error);
  void watch();
  void watch_pressure();
  void stop_watching();
  void log_totals();
  void tear_down();

  const Options options_;
  const cache::RealClock clock_;
  const cache::TimePoint started_ = clock_.now();
  Latencies latencies_;
  std::unique_ptr<Backend> backend_;
  const std::chrono::nanoseconds timeout_;
  const std::string source_;
  std::unique_ptr<cache::PageCache> cache_;
  std::unique_ptr<cache::WriteBack> write_back_;
  std::unique_ptr<EventLog> events_;
  std::unique_ptr<cache::PressureWatcher> pressure_;  // while the loop runs
  std::unique_ptr<InodeTable> inodes_;
  std::shared_ptr<MadeAhead> made_ahead_;
  std::unique_ptr<TreeAhead> tree_ahead_;
  HandleList handles_;
  ActiveCalls calls_;
  ReplyBuffers buffers_;
  CallerCache callers_;
  std::atomic<bool> children_need_lookup_{false};
  WalkHint walk_;
  LinkHint link_;
  MissCredits misses_;
  const bool remote_locks_;
  FileLocks locks_;
  const bool ids_are_names_;
  const bool ids_hold_names_;
  std::atomic<bool> links_made_{false};
  std::atomic<cache::TimePoint> lost_name_at_{cache::TimePoint::min()};  // relaxed: a time alone
  std::atomic<uint64_t> numbers_{0};  // relaxed: only that no two are the same
  bool kernel_listings_ = false;      // constant once the mount works
  bool served_ = false;               // main thread

  DeviceIo device_;
  fuse_session* fuse_ = nullptr;
  JobThreads lock_threads_;
  Notifier notifier_;
  std::unique_ptr<MetricsServer> metrics_;  // where it is wanted
  std::function<void()> ready_;

  pthread_t main_thread_{};
  // Whoever drops waits for who is at it, and finds all that went wrong counted.
  cache::Mutex dropping_mutex_{cache::LockRank::kSession};
  cache::Mutex lingering_mutex_{cache::LockRank::kLeaf};
  std::vector<Lingering> lingering_ GUARDED_BY(lingering_mutex_);
  std::atomic<uint64_t> lost_files_{0};  // that sync() has not told yet

  std::thread watcher_;
  cache::Mutex watch_mutex_{cache::LockRank::kLeaf};
  cache::CondVar watch_changed_;
  bool watching_ GUARDED_BY(watch_mutex_) = false;
};

}  // namespace fusefs
