// FileMapping: the cached data of one file, as the daemon uses it.
//
// Purpose:        serves reads from data pages, fills what is missing, ahead of sequential readers
//                 too; takes writes into dirty pages and writes them back; forgets what the remote
//                 has changed or truncated.
// Ownership:      one for each file inode, shared with requests under way. Owns its address space.
//                 Refers to the PageCache and the WriteBack, which outlive it. Sources are shared
//                 (file_source.h).
// Thread-safety:  all members from any thread; one ReadStream by any number of readers of one
//                 mapping: it is used under the file's lock.
// Locks:          LockRank::kFile for the state; the page lock around each copy to or from a page,
//                 so that no reader sees half of a page that is being written. Neither is held
//                 while a source is called or waited for.
// Errors:         Status with an errno; see each member. An error of write-back is kept and told
//                 once to each open file (ErrorMark).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "cache/base/clock.h"
#include "cache/base/interrupt.h"
#include "cache/base/result.h"
#include "cache/data/file_source.h"
#include "cache/data/read_stream.h"

namespace cache {

class PageCache;
class WriteBack;
class FileCore;

// How long a call may wait, and what ends it early: ETIMEDOUT, EINTR.
struct DataWait {
  TimePoint deadline = TimePoint::max();  // on std::chrono::steady_clock
  Interrupt* interrupt = nullptr;
};

// Which write-back errors an open file has been told of (the kernel's errseq_t).
struct ErrorMark {
  uint64_t seen = 0;
};

struct FileInfo {
  uint64_t size = 0;  // bytes, as programs see it
  uint64_t pages = 0, dirty_pages = 0, writeback_pages = 0, unstable_pages = 0;
  uint64_t reads = 0, writes = 0;  // requests to the remote
};

class FileMapping {
 public:
  using SourcePtr = std::shared_ptr<FileSource>;

  FileMapping(PageCache& cache, WriteBack& write_back, uint64_t size);
  // What is dirty is lost, so flush() first. Requests under way are cancelled; the remote is not
  // waited for.
  ~FileMapping();
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;

  // Copies [offset, offset + out.size()) up to the end of the file; tells how much that is. Waits
  // for what is missing only; asks ahead as `stream` shows. Errors: what the remote says,
  // ETIMEDOUT, EINTR, EBADF for a source that can't read, ENOMEM.
  Result<size_t> read(ReadStream& stream, const SourcePtr& source, uint64_t offset,
                      std::span<std::byte> out, const DataWait& wait);

  // Into pages that become dirty, from where it is written back through `source`. All of it, or an
  // error and a part from its beginning. A page of which only a part is written, and which the
  // remote has, is filled first (through a source that can't read: that part is written through).
  // Waits where too much is dirty. Grows the file.
  Status write(const SourcePtr& source, uint64_t offset, std::span<const std::byte> bytes,
               const DataWait& wait);

  // Everything that was dirty in [from, to) when it was called is written and, where the remote
  // asks for it, committed. With Durable::kYes also where it does not (fsync): through who wrote
  // last, or through `through` when that one is closed.
  //
  // Errors, the rule: what the remote refused for good (ENOSPC, EIO, ...) is in the error sequence,
  // whoever's write-back met it, and flush() repeats the first that its own requests met. Only
  // ETIMEDOUT and EINTR (it did not get ready; everything is kept and goes on being written) and
  // ENOTCONN (the mapping ends) are flush()'s alone. So a caller reports check_error() when that
  // tells something; else flush()'s status when it is one of those three; else success. A failure
  // of the network is not told at all while it lasts: it is tried again until the deadline. Where
  // the remote has taken a write of any file by then, the wait begins anew: a slow way to it is no
  // dead one.
  enum class Durable : uint8_t { kNo, kYes };
  Status flush(Durable durable, const DataWait& wait, uint64_t from = 0, uint64_t to = UINT64_MAX,
               const SourcePtr& through = {});
  // Begins to write everything dirty and waits for none of it. True: all is under way, in requests
  // made before this returned.
  bool send_all();
  // What is dirty goes to the remote without growing old first, and is committed there; nobody
  // waits for it (a file that was closed). So until the next write().
  void finish_soon();
  // Something else has kept the remote from having what was written: told as one of write-back.
  void note_error(int error);
  // The first write-back error that this open file was not told of yet; then never again. One that
  // nobody has been told of yet is told to files opened later, too. Where it happened the pages
  // are dropped: reads show what the remote has.
  [[nodiscard]] ErrorMark error_mark() const;
  Status check_error(ErrorMark& mark);
  // The same, but that does not count as telling.
  Status error_since(ErrorMark& mark) const;

  // Past the pages, both ways: what is dirty there is written first, and pages that hold the old
  // bytes are gone afterwards (O_DIRECT).
  Result<size_t> read_direct(const SourcePtr& source, uint64_t offset, std::span<std::byte> out,
                             const DataWait& wait);
  Status write_direct(const SourcePtr& source, uint64_t offset, std::span<const std::byte> bytes,
                      const DataWait& wait);

  // Own truncation, in two steps around the remote's: begin_truncate() holds writes back, writes
  // out what is dirty below `size` and lets write-back beyond it end; end_truncate() drops the
  // pages beyond and zeroes the rest of the last one, where the remote did it, and lets writes
  // go on either way. The destructor of the Truncation ends it as failed.
  class Truncation {
   public:
    enum class Remote : uint8_t { kTruncated, kFailed };
    Truncation(std::shared_ptr<FileCore> core, uint64_t size)
        : core_(std::move(core)), size_(size) {}
    ~Truncation() { end_truncate(Remote::kFailed); }
    Truncation(const Truncation&) = delete;
    Truncation& operator=(const Truncation&) = delete;
    void end_truncate(Remote outcome);  // only the first call counts

   private:
    std::shared_ptr<FileCore> core_;  // null: ended
    uint64_t size_;
  };
  Result<std::unique_ptr<Truncation>> begin_truncate(uint64_t size, const DataWait& wait);

  // The remote's file has been seen to be another than what was cached: drops every clean page,
  // waits for write-back. EBUSY: some are dirty; they stay, and the caller tries again after a
  // flush. `size` is what the remote has now; dirty data beyond it keeps the file longer.
  Status invalidate(uint64_t size);
  // The same where only the bytes may be others.
  Status invalidate();
  // The remote's size where nothing else has changed (attributes that came along).
  void set_remote_size(uint64_t size);
  // Forgets everything, dirty pages too: the file is gone, or the mount ends.
  void discard();

  [[nodiscard]] uint64_t size() const;
  // Something is dirty, under write-back or not committed: the remote's size and times are not
  // those of the file.
  [[nodiscard]] bool has_unwritten() const;
  // When a program last wrote here; TimePoint::min(): never.
  [[nodiscard]] TimePoint last_write() const;
  [[nodiscard]] FileInfo info() const;

 private:
  std::shared_ptr<FileCore> core_;
};

}  // namespace cache
