// FileCore: the state behind a FileMapping, shared with completions that may come late.
//
// Purpose:        the pages of one file, the requests that fill and write them, its sizes.
// Ownership:      held by the FileMapping and by every request under way. close() ends its use of
//                 the page cache and of the sources; what comes later finds it closed.
// Thread-safety:  all public members from any thread.
// Locks:          mutex_ (LockRank::kFile). Never held while a source is called or destroyed, nor
//                 while a page lock is waited for: who holds the lock of an uptodate page may take
//                 mutex_ (page_mkwrite does).
//
// A page of the file is in one of these states; `dirty_`, `writes_` and `unstable_` say which:
//
//   clean      -> DIRTY      mkwrite(): into dirty_
//   DIRTY      -> UNDER WAY  pick(): out of dirty_, into writes_; what is written to it from then
//                            on, but before copy_pages() locked it, is in the copy, too
//   UNDER WAY  -> clean      write_done(): stable
//              -> UNSTABLE   write_done(): not stable; kPrivate keeps reclaim away
//              -> DIRTY      write_done(): failed for the time being
//              -> dropped    write_done(): refused; the error is recorded
//   UNSTABLE   -> clean      commit_done(): the verifier of the write
//              -> DIRTY      commit_done(): another one: the remote has lost it
//              -> UNDER WAY  pick(): written to since
//
// A page may be UNDER WAY and DIRTY, and UNSTABLE and DIRTY, at once; it is never under way twice.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cache/base/mutex.h"
#include "cache/data/data_hooks.h"
#include "cache/data/file_mapping.h"
#include "cache/data/page_ranges.h"
#include "cache/data/write_back_core.h"
#include "cache/mm/page_cache.h"

namespace cache {

// Ends a request that an invalidation or a truncation has overtaken: its owner asks again. No errno
// of a remote's.
constexpr int kOvertaken = 1 << 20;

// One request to a source, in any of the lists of its FileCore until it has ended.
struct FileRequest {
  std::shared_ptr<FileSource> source;
  FileSource::RequestId id = 0;  // 0: not known (yet)
  bool ended = false;            // what comes later is not looked at
  bool taking = false;           // its answer is being worked on, without the mutex
  bool cancel = false;           // ended before its id was known
  int error = 0;
  uint64_t first = 0, end = 0;  // pages
};

struct FillRequest : FileRequest {
  std::vector<PageRef> pages;  // locked until it ends, pinned until its last waiter has looked
  uint64_t noted = 0;          // the mapping's sequence, before it was sent
  uint64_t remote_size = 0;    // as it was known then
  uint32_t waiters = 0;
  bool ahead = false;  // goes on when nobody waits
  LineUse line;        // what it takes of what may be under way ahead of readers
};

// A request that one thread sends and waits for.
struct DirectRequest : FileRequest {
  uint64_t offset = 0;
  std::string data;     // a read's
  WriteAnswer written;  // a write's
  uint64_t verifier = 0;
};

// What one flush() still waits for.
struct FlushState {
  uint64_t first = 0, end = 0;  // pages it covers
  PageRanges todo;              // to be picked
  uint32_t pending = 0;         // writes under way that it waits for
  int error = 0;
  bool lost = false;     // a commit has told that something must be written once more
  bool commits = false;  // what has been written is committed afterwards

  // Once more; what lies beside it is not waited for: a truncation would hold it back for ever.
  void again(uint64_t from, uint64_t to) { todo.insert(std::max(from, first), std::min(to, end)); }
};

// A wait that ends so long after the last progress.
struct PatientWait : DataWait {
  explicit PatientWait(const DataWait& wait) : DataWait(wait) {
    const TimePoint now = std::chrono::steady_clock::now();
    if (deadline != TimePoint::max()) patience = deadline - now;
  }
  void note_progress() {
    if (deadline != TimePoint::max()) deadline = std::chrono::steady_clock::now() + patience;
  }
  Duration patience{};
};

struct WriteRequest : FileRequest {
  uint64_t offset = 0;
  uint64_t length = 0;  // bytes sent: to the end of the file as it was
  StableHow how = StableHow::kUnstable;
  LineUse line;                // what it takes of what may be under way
  bool copying = false;        // pages are being copied, by a thread that will look at `ended`
  std::vector<PageRef> pages;  // under write-back
  std::vector<std::shared_ptr<FlushState>> flushes;
};

struct CommitRequest : FileRequest {
  uint64_t number = 0;
  uint64_t undurable = 0;  // undurable_, when it began
  // What it covers, by the verifier of the writes.
  std::vector<std::pair<uint64_t, PageRanges>> covered;
};

class FileCore final : public std::enable_shared_from_this<FileCore> {
 public:
  using SourcePtr = FileMapping::SourcePtr;
  enum class Need : uint8_t { kOld, kAll };

  FileCore(PageCache& cache, std::shared_ptr<WriteBackCore> write_back, uint64_t size);
  void close() EXCLUDES(mutex_);

  // file_read.cc
  Result<size_t> read(ReadStream& stream, const SourcePtr& source, uint64_t offset,
                      std::span<std::byte> out, const DataWait& wait) EXCLUDES(mutex_);
  // file_write.cc
  Status write(const SourcePtr& source, uint64_t offset, std::span<const std::byte> bytes,
               const DataWait& wait) EXCLUDES(mutex_);
  Status mkwrite(Page& page) EXCLUDES(mutex_);  // page locked
  // file_flush.cc
  Status flush(FileMapping::Durable durable, const DataWait& wait, uint64_t from, uint64_t to,
               const SourcePtr& through) EXCLUDES(mutex_);
  bool send_all() EXCLUDES(mutex_);
  void finish_soon() EXCLUDES(mutex_);
  // The write-back thread's turn: sends and commits, and tells when it wants the next.
  void background(Need write, Need commit) EXCLUDES(mutex_);
  // file_direct.cc
  Result<size_t> read_direct(const SourcePtr& source, uint64_t offset, std::span<std::byte> out,
                             const DataWait& wait) EXCLUDES(mutex_);
  Status write_direct(const SourcePtr& source, uint64_t offset, std::span<const std::byte> bytes,
                      const DataWait& wait) EXCLUDES(mutex_);
  // file_core.cc
  Status begin_truncate(uint64_t size, const DataWait& wait) EXCLUDES(mutex_);
  void end_truncate(uint64_t size, FileMapping::Truncation::Remote outcome) EXCLUDES(mutex_);
  Status invalidate(uint64_t size) EXCLUDES(mutex_);
  Status invalidate() EXCLUDES(mutex_) { return pages_->invalidate_pages(); }
  void set_remote_size(uint64_t size) EXCLUDES(mutex_);
  void discard() EXCLUDES(mutex_);
  void note_error(int error) EXCLUDES(mutex_);
  [[nodiscard]] ErrorMark error_mark() const EXCLUDES(mutex_);
  Status check_error(ErrorMark& mark) EXCLUDES(mutex_);
  Status error_since(ErrorMark& mark) const EXCLUDES(mutex_);
  [[nodiscard]] uint64_t size() const { return size_.load(std::memory_order_acquire); }
  [[nodiscard]] bool has_unwritten() const {
    return unwritten_pages_.load(std::memory_order_acquire) != 0;
  }
  [[nodiscard]] TimePoint last_write() const EXCLUDES(mutex_);
  [[nodiscard]] FileInfo info() const EXCLUDES(mutex_);

  // Guarded by the mutex of the WriteBackCore: its place in the list of files that are due.
  TimePoint due = TimePoint::max();
  bool listed = false;

 private:
  using FillPtr = std::shared_ptr<FillRequest>;
  using WritePtr = std::shared_ptr<WriteRequest>;
  using DirectPtr = std::shared_ptr<DirectRequest>;
  using CommitPtr = std::shared_ptr<CommitRequest>;
  using FlushPtr = std::shared_ptr<FlushState>;
  struct Reading;    // one read() call
  class FillHold;    // a waiter of a fill
  class Waker;       // ends waits when the caller is interrupted
  class WriterTurn;  // inside: no truncation goes on

  static constexpr int kMaxTries = 4;
  static constexpr int kMaxMemoryTries = 8;
  static constexpr uint32_t kMaxRewrites = 5;  // in a row for verifiers that change

  // file_core.cc: waits and requests.
  // True when the wait must end; says why.
  bool wait_a_while(const DataWait& wait, int* error) REQUIRES(mutex_);
  bool wait_until(const DataWait& wait, TimePoint until, int* error) REQUIRES(mutex_);
  template <typename Ready>
  Status wait_for(const DataWait& wait, const Ready& ready) REQUIRES(mutex_);
  void wait_for_memory(const DataWait& wait, int* error) EXCLUDES(mutex_);
  // Around a call of a source: begin under the mutex, end after it, with the id it gave.
  void call_begins() REQUIRES(mutex_) { ++calls_out_; }
  void call_ended(FileRequest& request, FileSource::RequestId id) EXCLUDES(mutex_);
  // It has ended for its owner; the remote is told unless it knows.
  void end_request(FileRequest& request, int error) REQUIRES(mutex_);
  void cancel_later(FileRequest& request) REQUIRES(mutex_);
  // Calls sources: with no lock held.
  void flush_cancels() EXCLUDES(mutex_);
  void drop_later(SourcePtr&& source) REQUIRES(mutex_);

  [[nodiscard]] bool unwritten() const REQUIRES(mutex_) {
    return !dirty_.empty() || !writes_.empty() || !unstable_.empty() || commit_ != nullptr;
  }
  [[nodiscard]] uint64_t unwritten_end(uint64_t within) const REQUIRES(mutex_);
  void grow(uint64_t end) EXCLUDES(mutex_);
  void shrink_to_known() REQUIRES(mutex_);
  void drop_unwritten(uint64_t first) REQUIRES(mutex_);
  void zero_tail(uint64_t size) EXCLUDES(mutex_);
  Status hold_off(uint64_t size, const DataWait& wait) EXCLUDES(mutex_);
  void end_fills(uint64_t first, int error) REQUIRES(mutex_);

  // file_fill.cc
  [[nodiscard]] FillPtr find_fill(uint64_t page) REQUIRES(mutex_);
  struct Wish {
    SourcePtr source;
    uint64_t most = 1;  // pages a request
    uint64_t first = 0, end = 0;
    bool ahead = false;
  };
  // Grabs what is missing and makes requests for it, to be sent when the mutex has been dropped.
  // Tells up to where it came; *error: why no further.
  uint64_t ask(const Wish& wish, std::vector<FillPtr>* fills, int* error) REQUIRES(mutex_);
  FillPtr begin_fill(const Wish& wish, uint64_t first) REQUIRES(mutex_);
  void send(const std::vector<FillPtr>& fills) EXCLUDES(mutex_);
  void fill_answered(const FillPtr& fill, Result<std::string> answer) EXCLUDES(mutex_);
  // The file ends where an answer ended, unless it has been changed since it was asked.
  struct Asked {
    uint64_t sequence = 0, remote_size = 0;
    uint64_t offset = 0, size = 0;
  };
  void note_answer(const Asked& asked, uint64_t bytes) REQUIRES(mutex_);
  void finish_fill(const FillPtr& fill, int error) REQUIRES(mutex_);
  void end_fill(const FillPtr& fill, int error) REQUIRES(mutex_);
  void leave_fill(const FillPtr& fill) REQUIRES(mutex_);
  [[nodiscard]] uint64_t ahead_limit() const;

  // file_read.cc
  size_t copy_out(Page& page, uint64_t offset, std::span<std::byte> out);
  void read_ahead(Reading& reading, uint64_t offset) EXCLUDES(mutex_);
  Result<size_t> read_missing(Reading& reading, uint64_t at, std::span<std::byte> out)
      EXCLUDES(mutex_);
  Result<size_t> read_uncached(const Reading& reading, uint64_t at, std::span<std::byte> out)
      EXCLUDES(mutex_);
  FillPtr join_fill(Reading& reading, uint64_t page, int* error) REQUIRES(mutex_);
  void drop_idle(const std::vector<FillPtr>& fills) EXCLUDES(mutex_);
  Status wait_filled(const DataWait& wait, const FillPtr& fill) EXCLUDES(mutex_);

  // file_write.cc
  Status write_chunk(const SourcePtr& source, uint64_t offset, std::span<const std::byte> bytes,
                     const DataWait& wait) EXCLUDES(mutex_);
  Status write_page(const SourcePtr& source, uint64_t offset, std::span<const std::byte> bytes,
                    const DataWait& wait) EXCLUDES(mutex_);
  Status write_missing(const SourcePtr& source, uint64_t offset, std::span<const std::byte> bytes,
                       const DataWait& wait) EXCLUDES(mutex_);
  Status fill_for_write(const SourcePtr& source, uint64_t page, const DataWait& wait)
      EXCLUDES(mutex_);
  // The bytes are all that the remote has of this page.
  [[nodiscard]] bool covers(uint64_t offset, uint64_t size) const REQUIRES(mutex_);
  void copy_in(Page& page, uint64_t offset, std::span<const std::byte> bytes) EXCLUDES(mutex_);

  // file_flush.cc
  enum class Sent : uint8_t { kSent, kNothing, kNoRoom };
  Sent send_next(const PageRanges* todo) EXCLUDES(mutex_);
  [[nodiscard]] uint64_t past_under_way(uint64_t page) const REQUIRES(mutex_);
  // What may be sent now as one request: begins in `todo`, and is dirty.
  [[nodiscard]] PageRange find_sendable(const PageRanges& todo) const REQUIRES(mutex_);
  WritePtr pick(const PageRange& range, const LineUse& line) REQUIRES(mutex_);
  // The only request that a commit would be for is made durable itself (as the kernel's NFS client
  // does it): a round trip less.
  [[nodiscard]] StableHow how_to_write(const WriteRequest& write) const REQUIRES(mutex_);
  // Tells where it stopped: at a page that is not dirty after all, or at the end.
  uint64_t copy_pages(WriteRequest& write, uint64_t end, std::string* bytes) EXCLUDES(mutex_);
  bool copy_page(WriteRequest& write, uint64_t key, std::string* bytes) EXCLUDES(mutex_);
  // Keeps what was copied. False: nothing, or the file was discarded meanwhile.
  bool settle(WriteRequest& write, uint64_t copied) REQUIRES(mutex_);
  void send_write(const WritePtr& write, std::string bytes) EXCLUDES(mutex_);
  void write_answered(const WritePtr& write, const Result<WriteAnswer>& answer) EXCLUDES(mutex_);
  void write_refused(WriteRequest& write, int error) EXCLUDES(mutex_);
  void write_done(WriteRequest& write, const WriteAnswer& answer) REQUIRES(mutex_);
  void write_again(WriteRequest& write) REQUIRES(mutex_);
  void note_durable(const WriteAnswer& answer) REQUIRES(mutex_);
  void end_writeback(WriteRequest& write) REQUIRES(mutex_);
  void take_off(WriteRequest& write) REQUIRES(mutex_);
  // Into a gauge and into what is unwritten. What changes from one state to another is added there
  // before it is taken off here: who looks without the mutex never sees it nowhere.
  void count_pages(Gauge& gauge, uint64_t pages) REQUIRES(mutex_);
  void uncount_pages(Gauge& gauge, uint64_t pages) REQUIRES(mutex_);
  void add_dirty(uint64_t first, uint64_t end) REQUIRES(mutex_);
  void remove_dirty(uint64_t first, uint64_t end) REQUIRES(mutex_);
  void back_off() REQUIRES(mutex_);
  void record_error(int error) REQUIRES(mutex_);
  enum class Then : uint8_t { kNothing, kCommit };  // ... once all is written
  [[nodiscard]] FlushPtr begin_flush(uint64_t first, uint64_t end, Then then) REQUIRES(mutex_);
  void end_flush(const FlushPtr& flush) REQUIRES(mutex_);
  Status write_all(const FlushPtr& flush, PatientWait* wait) EXCLUDES(mutex_);
  // Without a commit.
  Status write_range(uint64_t first, uint64_t end, const DataWait& wait) EXCLUDES(mutex_);
  // file_commit.cc
  void add_unstable(uint64_t first, uint64_t end, uint64_t verifier) REQUIRES(mutex_);
  void remove_unstable(uint64_t first, uint64_t end) REQUIRES(mutex_);
  Status commit_all(FileMapping::Durable durable, const SourcePtr& through, const DataWait& wait)
      EXCLUDES(mutex_);
  CommitPtr begin_commit(const SourcePtr& source) REQUIRES(mutex_);
  void send_commit(const CommitPtr& commit) EXCLUDES(mutex_);
  void commit_answered(const CommitPtr& commit, const Result<uint64_t>& answer) EXCLUDES(mutex_);
  void commit_done(CommitRequest& commit, uint64_t verifier) REQUIRES(mutex_);
  // Tells which they were, for who wants to drop them.
  void make_clean(const PageRanges& pages, PageRanges* which) REQUIRES(mutex_);
  void make_dirty(const PageRanges& pages) REQUIRES(mutex_);
  void drop_pages(const PageRanges& pages) EXCLUDES(mutex_);
  [[nodiscard]] SourcePtr commit_source(const SourcePtr& through) REQUIRES(mutex_);
  void reschedule() REQUIRES(mutex_);
  // When what is dirty, or not committed, has waited long enough.
  [[nodiscard]] TimePoint write_due() const REQUIRES(mutex_);
  [[nodiscard]] TimePoint commit_due() const REQUIRES(mutex_);

  // file_direct.cc
  Result<std::string> call_read(const SourcePtr& source, uint64_t offset, uint32_t size,
                                const DataWait& wait) EXCLUDES(mutex_);
  Result<WriteAnswer> call_write(const SourcePtr& source, uint64_t offset, std::string bytes,
                                 const DataWait& wait) EXCLUDES(mutex_);
  Result<uint64_t> call_commit(const SourcePtr& source, const DataWait& wait) EXCLUDES(mutex_);
  template <typename Send>
  Status call_out(const DirectPtr& call, const DataWait& wait, const Send& send) EXCLUDES(mutex_);
  template <typename Keep>
  void call_answered(const DirectPtr& call, int error, const Keep& keep) EXCLUDES(mutex_);
  Status write_durably(const SourcePtr& source, uint64_t offset, std::span<const std::byte> bytes,
                       const DataWait& wait) EXCLUDES(mutex_);
  // Past the pages, for a part of one page or of many; pages that stay get the bytes as well.
  Status write_through(const SourcePtr& source, uint64_t offset, std::span<const std::byte> bytes,
                       const DataWait& wait) EXCLUDES(mutex_);
  Status settle_range(uint64_t from, uint64_t to, const DataWait& wait) EXCLUDES(mutex_);
  void patch(uint64_t offset, std::span<const std::byte> bytes) EXCLUDES(mutex_);

  PageCache& cache_;
  Stats& stats_;
  DataHooks& hooks_;
  const std::shared_ptr<WriteBackCore> write_back_;

  mutable Mutex mutex_{LockRank::kFile};
  CondVar progress_;                  // a request ended, a truncation ended, a writer left
  std::unique_ptr<DataSpace> pages_;  // until close()
  std::atomic<uint64_t> size_;        // as programs see it; changed under the mutex
  uint64_t remote_size_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
  uint32_t calls_out_ GUARDED_BY(mutex_) = 0;  // threads in a source or in an answer
  std::vector<std::pair<SourcePtr, FileSource::RequestId>> cancels_ GUARDED_BY(mutex_);

  std::vector<FillPtr> fills_ GUARDED_BY(mutex_);
  std::vector<DirectPtr> calls_ GUARDED_BY(mutex_);
  std::vector<WritePtr> writes_ GUARDED_BY(mutex_);
  std::vector<FlushPtr> flushes_ GUARDED_BY(mutex_);
  CommitPtr commit_ GUARDED_BY(mutex_);

  std::atomic<uint64_t> unwritten_pages_{0};  // dirty, under way, unstable; changed under the mutex
  PageRanges dirty_ GUARDED_BY(mutex_);
  std::vector<std::pair<uint64_t, PageRanges>> unstable_ GUARDED_BY(mutex_);  // by verifier
  SourcePtr writer_ GUARDED_BY(mutex_);         // while something is unwritten
  uint64_t most_write_ GUARDED_BY(mutex_) = 1;  // pages a request through it
  std::weak_ptr<FileSource> last_writer_ GUARDED_BY(mutex_);
  TimePoint dirty_since_ GUARDED_BY(mutex_) = TimePoint::max();
  TimePoint unstable_since_ GUARDED_BY(mutex_) = TimePoint::max();
  bool finishing_ GUARDED_BY(mutex_) = false;  // see finish_soon()
  TimePoint retry_at_ GUARDED_BY(mutex_) = TimePoint::min();
  Duration pause_ GUARDED_BY(mutex_){};
  uint64_t commits_begun_ GUARDED_BY(mutex_) = 0;
  uint64_t commits_done_ GUARDED_BY(mutex_) = 0;  // the number of the last that succeeded
  // Writes that were not durable when they were answered, and how many of them a commit has
  // covered; and whether the remote says such a thing of any: if not, only a commit is to be relied
  // on.
  uint64_t undurable_ GUARDED_BY(mutex_) = 0;
  uint64_t committed_ GUARDED_BY(mutex_) = 0;
  bool tells_durable_ GUARDED_BY(mutex_) = false;
  uint32_t rewrites_ GUARDED_BY(mutex_) = 0;
  TimePoint last_write_ GUARDED_BY(mutex_) = TimePoint::min();
  std::atomic<uint64_t> last_written_page_{~uint64_t{0}};

  uint32_t writers_ GUARDED_BY(mutex_) = 0;
  bool truncating_ GUARDED_BY(mutex_) = false;
  // While truncating: pages from here on are not written back, not filled.
  uint64_t held_from_ GUARDED_BY(mutex_) = ~uint64_t{0};
  uint64_t fill_held_from_ GUARDED_BY(mutex_) = ~uint64_t{0};

  // errseq_t: the last error, its number, and whether anybody has been told.
  int error_ GUARDED_BY(mutex_) = 0;
  uint64_t error_count_ GUARDED_BY(mutex_) = 0;
  bool error_seen_ GUARDED_BY(mutex_) = true;

  std::atomic<uint64_t> reads_{0}, requests_written_{0};
};

}  // namespace cache
