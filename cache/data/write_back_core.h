// WriteBackCore: what is behind a WriteBack, shared with those who may come late.
//
// Purpose:        counts what is dirty, lets writers wait for room, and runs the thread that asks
//                 files, the one that is due first, to send what they have. Knows how much may be
//                 under way to the remote, and ahead of readers from it.
// Thread-safety:  all members from any thread.
// Locks:          mutex_ (LockRank::kWriteBack); may be taken under kFile. A file is called with it
//                 dropped.
// Bounds:         reserved + dirty + under way + unstable <= dirty_percent of the cache's present
//                 bound, but that one writer may always go on when there is nothing else;
//                 most_inflight bytes of copies under way, less on a slow line (line_window.h),
//                 but one request always.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "cache/base/clock.h"
#include "cache/base/mutex.h"
#include "cache/data/data_hooks.h"
#include "cache/data/file_mapping.h"
#include "cache/data/line_window.h"
#include "cache/data/write_back.h"
#include "cache/mm/page_cache.h"

namespace cache {

class WriteBackCore : public std::enable_shared_from_this<WriteBackCore> {
 public:
  static constexpr uint64_t kMostAhead = uint64_t{64}
                                         << 20;  // bytes under way ahead of all readers

  WriteBackCore(PageCache& cache, const WriteBackOptions& options);
  void start();
  void stop();

  // Room for so many bytes to be dirtied, at most chunk(); waits for it. ETIMEDOUT, EINTR.
  Status reserve(uint64_t bytes, const DataWait& wait) EXCLUDES(mutex_);
  void unreserve(uint64_t bytes) EXCLUDES(mutex_);
  [[nodiscard]] uint64_t chunk() const;

  // A request's bytes, from before it is copied until it has ended.
  bool take_room(uint64_t bytes, LineUse* use) EXCLUDES(mutex_);
  void give_room(uint64_t bytes) EXCLUDES(mutex_);
  [[nodiscard]] uint64_t write_request() const { return write_request_.load(kRelaxed); }
  // The same ahead of readers, where data_ahead_bytes counts what is under way.
  [[nodiscard]] uint64_t read_window() const { return read_window_.load(kRelaxed); }
  [[nodiscard]] uint64_t read_request() const { return read_request_.load(kRelaxed); }
  void note_read(const LineUse& use) EXCLUDES(mutex_);

  // When the file wants to be asked next; TimePoint::max(): it waits for an answer.
  void schedule(FileCore& file, TimePoint due) EXCLUDES(mutex_);
  void forget(FileCore& file) EXCLUDES(mutex_);
  // Dirty data grew: the thread is woken when it is too much.
  void grown() EXCLUDES(mutex_);
  // Something was written, committed or dropped.
  void changed() EXCLUDES(mutex_);
  // The remote has taken a write of any file; how many there were.
  void note_taken(const LineUse& use) EXCLUDES(mutex_);
  [[nodiscard]] uint64_t taken() const { return taken_.load(std::memory_order_relaxed); }
  // Memory is short because of what is dirty.
  void poke() EXCLUDES(mutex_);

  [[nodiscard]] Duration expire() const { return options_.expire; }
  // Whether the thread has reason to go on with what is not old yet.
  [[nodiscard]] bool urgent() EXCLUDES(mutex_);

 private:
  static constexpr auto kRelaxed = std::memory_order_relaxed;  // figures alone
  using Due = std::set<std::pair<TimePoint, FileCore*>>;

  [[nodiscard]] uint64_t dirty_limit() const;
  [[nodiscard]] uint64_t background_limit() const;
  [[nodiscard]] uint64_t commit_limit() const;
  [[nodiscard]] uint64_t pending() const;  // dirty, under way, not committed; bytes
  [[nodiscard]] bool has_room() const REQUIRES(mutex_) { return inflight_ < writes_.bytes(); }
  void wake() REQUIRES(mutex_);
  [[nodiscard]] bool wait_for_work() EXCLUDES(mutex_);
  std::shared_ptr<FileCore> take_due(TimePoint now, bool urgent) EXCLUDES(mutex_);
  void run();

  PageCache& cache_;
  DataHooks& hooks_;
  const WriteBackOptions options_;
  Mutex mutex_{LockRank::kWriteBack};
  CondVar wake_;
  CondVar room_;
  Due due_ GUARDED_BY(mutex_);
  uint64_t reserved_ GUARDED_BY(mutex_) = 0;
  uint64_t inflight_ GUARDED_BY(mutex_) = 0;
  LineWindow writes_ GUARDED_BY(mutex_);
  LineWindow reads_ GUARDED_BY(mutex_);
  // Their figures, for those who hold no lock.
  std::atomic<uint64_t> write_request_, read_window_, read_request_;
  uint32_t throttled_ GUARDED_BY(mutex_) = 0;
  bool wanted_ GUARDED_BY(mutex_) = false;
  bool poked_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::atomic<uint64_t> taken_{0};
  std::atomic<bool> over_{false};  // the thread has been told that there is too much
  std::thread thread_;
};

}  // namespace cache
