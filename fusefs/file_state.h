// FileState: the cached data of one file inode, and what is known of the remote's file.
//
// Purpose:        owns the cache::FileMapping of an inode; tells the remote's changes from our own;
//                 says what attributes a file has whose data the remote does not have yet.
// Ownership:      shared by the inode, the handles that have it open, and whoever waits for what is
//                 not written yet. Refers to the page cache and the write-back, which outlive it.
// Thread-safety:  all members from any thread.
// Locks:          LockRank::kInode, never across a call into the mapping.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cache/base/mutex.h"
#include "cache/data/file_mapping.h"
#include "fusefs/backends/backend.h"

namespace fusefs {

// CLOCK_REALTIME of this machine.
cache::Timespec wall_clock();

class FileState;

// One open file of a back end, as data pages ask it: under the identity of its opener.
class BackendFileSource final : public cache::FileSource {
 public:
  // `flags`: the access mode that it was opened with. Takes the handle over.
  BackendFileSource(Backend& backend, CallerPtr opener, Backend::FileHandle file, int flags);
  ~BackendFileSource() override { backend_.release(file_); }

  RequestId read(uint64_t offset, uint32_t size, Done<std::string> done) override {
    return backend_.read(opener_, file_, offset, size, std::move(done));
  }
  RequestId write(uint64_t offset, std::string bytes, cache::StableHow how,
                  Done<cache::WriteAnswer> done) override;
  RequestId commit(Done<uint64_t> done) override {
    return backend_.fsync(opener_, file_, std::move(done));
  }
  void cancel(RequestId id) override { backend_.cancel(id); }
  [[nodiscard]] bool readable() const override { return readable_; }
  [[nodiscard]] bool writable() const override { return writable_; }
  [[nodiscard]] uint32_t max_read() const override { return backend_.max_read(); }
  [[nodiscard]] uint32_t max_write() const override { return backend_.max_write(); }

  [[nodiscard]] Backend::FileHandle file() const { return file_; }
  [[nodiscard]] const CallerPtr& opener() const { return opener_; }
  // Whom it reads and writes for, before the first write.
  void serve(std::weak_ptr<FileState> state) { state_ = std::move(state); }

 private:
  Backend& backend_;
  const CallerPtr opener_;
  const Backend::FileHandle file_;
  const bool readable_;
  const bool writable_;
  std::weak_ptr<FileState> state_;
};
using BackendFileSourcePtr = std::shared_ptr<BackendFileSource>;

class FileState : public std::enable_shared_from_this<FileState> {
 public:
  FileState(cache::PageCache& cache, cache::WriteBack& write_back, const Attr& attr);

  cache::FileMapping& data() { return data_; }

  // ---- Coherence ----

  // The remote's attributes, asked for after all that this mount has written was there. Where
  // somebody else has changed the file its pages are gone afterwards, and with the next open the
  // kernel's. True: and its stamps show it, so those who have it open are to be told now.
  bool note_attr(const Attr& attr);
  // ... as they are after a change of ours.
  void adopt(const Attr& attr);
  // This mount is about to change the file: the next attributes are the result. Where these are the
  // first changes since the remote's file was last looked at, the stamps that it had then: before
  // they change, check_unchanged() is to be given those that it has now. Nothing where this mount
  // has just made the file, or knows nothing of its data.
  std::optional<Attr> note_own_change();
  // ... and to write to it.
  std::optional<Attr> note_own_write();
  // Afterwards nothing would tell changes made elsewhere from our own. Where there were such, what
  // is clean goes with the next retry_invalidation(): this may be called by a back end's thread,
  // which must not wait for pages.
  void check_unchanged(const Attr& known, const Result<Attr>& now);
  // The same where writes tell what was before them: one of those that follow must say that it was
  // that; else, with the attributes after them, it was not.
  void expect_before(const Attr& known);
  void note_before(uint64_t stamp);
  // A name of it came or went.
  void adjust_links(int by);
  // There were such changes that no attributes have shown yet.
  [[nodiscard]] bool owns_changes();
  // Changes of this mount's own, counted, and how many of them there were when its data last agreed
  // with the remote's: with fewer, the remote's attributes alone don't tell who made the others.
  [[nodiscard]] uint64_t own_writes();
  [[nodiscard]] bool agrees();
  void note_agreed(uint64_t own_writes);
  // All that is clean is dropped. `size`: the remote's.
  void drop_data(uint64_t size);
  // How often data was dropped because the remote's may be another, and up to which of these the
  // kernel has been told for certain.
  [[nodiscard]] uint64_t drops();
  [[nodiscard]] bool kernel_knows_drops();
  void note_kernel_knows(uint64_t drops);
  // Drops what could not be dropped when it should, as what was dirty. True: there was
  // something; what is dirty still is left for the next time.
  bool retry_invalidation();
  // What the kernel keeps is as right as what is cached here. Asked once an open, which has the
  // kernel drop it otherwise.
  bool kernel_may_keep();
  // What programs see: the attributes last noted, with size and times of what has not been written
  // back yet.
  [[nodiscard]] Attr shown();

  // ---- Times that the kernel keeps (writeback_cache) ----
  //
  // It gives each write a time, and tells it after the data where it is another one than the file
  // had. Where it is not, because file and write are of the same tick of one clock, it tells
  // nothing, and the remote's file would keep the time at which the data came.

  // The kernel has this time of modification from now on.
  void note_kernel_mtime(const cache::Timespec& mtime);
  // Data of the kernel's has come.
  void note_kernel_write();
  // True: that time is held as below, to be told through `source` after the data. Once; not where
  // the remote has it.
  bool hold_kernel_mtime(const BackendFileSourcePtr& source);

  // ---- Attributes of a file that is being made ----
  //
  // Who makes a file (tar, cp, rsync) writes it, sets its times, owner and mode one after the
  // other, and closes it: each a round trip, were the remote told at once. What the owner of a file
  // may always do is held instead, shown to programs as if it were done, and told in one request,
  // with the data, by close and fsync, by another opening, and before any change that is not held.

  // `source` has made the file, which was not there before.
  void made_by(const BackendFileSourcePtr& source);
  // Programs were told that time before the remote has given one: it is held.
  void hold_time(const cache::Timespec& mtime, const BackendFileSourcePtr& source);
  // True: `set` is held. Only while the handle that has made the file is open, by whoever made it.
  bool hold(const SetAttr& set, const CallerPtr& caller);
  // What was written since the remote's attributes were last told keeps the time that it was shown
  // with, whenever the remote gets it: that time is held, unless a later one was set.
  void hold_write_time(const BackendFileSourcePtr& source);
  struct Held {
    SetAttr set;
    BackendFileSourcePtr source;  // to be told through
  };
  // What the remote is to be told; it counts as told from end_telling() on. One at a time.
  std::optional<Held> begin_telling();
  // `told`: or refused; else it did not get ready, and is held again.
  void end_telling(bool told);
  // What was told last is held again: older data was written after it.
  void tell_again();
  [[nodiscard]] bool holds_attrs();
  // Calls it when nobody is telling: at once, or from end_telling().
  void when_told(std::function<void()> then);
  // The remote does not have it all: data, or attributes.
  [[nodiscard]] bool has_untold() { return data_.has_unwritten() || holds_attrs(); }

  // ---- Open files ----

  void opened(const BackendFileSourcePtr& source);
  // True: that was the last one.
  bool closed(const BackendFileSourcePtr& source);
  [[nodiscard]] bool is_open();
  // Any that is open: by it the file is reached when its name is gone.
  BackendFileSourcePtr any_source();

  // The name that it got when it was unlinked while open, on a remote that forgets such files.
  struct HiddenName {
    uint64_t parent = 0;  // node id
    ObjectId directory;
    std::string name;
  };
  void hide(HiddenName hidden);
  std::optional<HiddenName> take_hidden();

 private:
  std::optional<Attr> begin_own_change(bool empty) REQUIRES(mutex_);
  void note_drop(uint64_t size) REQUIRES(mutex_);
  void doubt_data() REQUIRES(mutex_);
  [[nodiscard]] bool may_hold(const SetAttr& set, const CallerPtr& caller) REQUIRES(mutex_);
  void keep_held(const SetAttr& set, const BackendFileSourcePtr& source) REQUIRES(mutex_);

  cache::FileMapping data_;
  cache::Mutex mutex_{cache::LockRank::kInode};
  Attr known_ GUARDED_BY(mutex_);
  bool own_changes_ GUARDED_BY(mutex_) = false;
  uint64_t own_writes_ GUARDED_BY(mutex_) = 1;
  uint64_t agreed_writes_ GUARDED_BY(mutex_) = 0;
  uint64_t drops_ GUARDED_BY(mutex_) = 0;
  uint64_t drops_told_ GUARDED_BY(mutex_) = 0;
  bool kernel_outdated_ GUARDED_BY(mutex_) = false;
  std::optional<uint64_t> invalidate_again_ GUARDED_BY(mutex_);  // the remote's size then
  bool drop_again_ GUARDED_BY(mutex_) = false;                   // ... which is the same
  uint64_t expected_before_ GUARDED_BY(mutex_) = 0;              // 0: nothing
  // Wall clock; not after a time was set.
  cache::Timespec last_write_ GUARDED_BY(mutex_);
  std::optional<cache::Timespec> kernel_mtime_ GUARDED_BY(mutex_);
  bool kernel_wrote_ GUARDED_BY(mutex_) = false;  // since that was noted
  std::weak_ptr<BackendFileSource> maker_ GUARDED_BY(mutex_);
  std::optional<Held> held_ GUARDED_BY(mutex_);
  SetAttr last_told_ GUARDED_BY(mutex_);  // which may have to be told again
  std::weak_ptr<BackendFileSource> told_through_ GUARDED_BY(mutex_);
  bool telling_ GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> told_ GUARDED_BY(mutex_);
  std::vector<BackendFileSourcePtr> sources_ GUARDED_BY(mutex_);
  std::optional<HiddenName> hidden_ GUARDED_BY(mutex_);
};

}  // namespace fusefs
