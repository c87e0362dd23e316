#include "fusefs/file_state.h"

#include <fcntl.h>
#include <time.h>

#include <algorithm>
#include <tuple>

namespace fusefs {

using cache::MutexLock;

namespace {

bool same_stamps(const Attr& a, const Attr& b) {
  return a.size == b.size && a.mtime == b.mtime && a.ctime == b.ctime;
}

// Two looks at the same version of a file. (Other attributes change with ctime.) A token alone
// differs from look to look while the clock is too coarse to promise that nothing has changed.
bool same_version(const Attr& a, const Attr& b) {
  return a.change == b.change && same_stamps(a, b);
}

bool before(const cache::Timespec& a, const cache::Timespec& b) {
  return std::tie(a.seconds, a.nanoseconds) < std::tie(b.seconds, b.nanoseconds);
}

}  // namespace

cache::Timespec wall_clock() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return {.seconds = now.tv_sec, .nanoseconds = static_cast<uint32_t>(now.tv_nsec)};
}

BackendFileSource::BackendFileSource(Backend& backend, CallerPtr opener, Backend::FileHandle file,
                                     int flags)
    : backend_(backend),
      opener_(std::move(opener)),
      file_(file),
      readable_((flags & O_ACCMODE) != O_WRONLY),
      writable_((flags & O_ACCMODE) != O_RDONLY) {}

BackendFileSource::RequestId BackendFileSource::write(uint64_t offset, std::string bytes,
                                                      cache::StableHow how,
                                                      Done<cache::WriteAnswer> done) {
  return backend_.write(
      opener_, file_, offset, std::move(bytes), how,
      [state = state_, done = std::move(done)](const Result<WriteAnswer>& answer) {
        const auto file = answer.ok() ? state.lock() : nullptr;
        if (file) file->note_before(answer.value().before);
        done(answer);
      });
}

FileState::FileState(cache::PageCache& cache, cache::WriteBack& write_back, const Attr& attr)
    : data_(cache, write_back, attr.size), known_(attr) {}

bool FileState::note_attr(const Attr& attr) {
  bool shows = false;
  {
    MutexLock lock(mutex_);
    // What we have written makes a file no longer than it is here.
    const bool ours = std::exchange(own_changes_, false) && attr.size == data_.size();
    const Attr before = std::exchange(known_, attr);
    if (std::exchange(expected_before_, 0) != 0) doubt_data();
    if (same_version(before, attr)) return false;
    shows = !same_stamps(before, attr);
    if (!ours) note_drop(attr.size);
  }
  if (retry_invalidation()) return shows;
  data_.set_remote_size(attr.size);
  return false;
}

void FileState::adopt(const Attr& attr) {
  const bool unwritten = data_.has_unwritten();
  {
    MutexLock lock(mutex_);
    own_changes_ = false;
    if (!unwritten) last_write_ = {};
    if (!unwritten && std::exchange(expected_before_, 0) != 0) doubt_data();
    known_ = attr;
    if (held_) held_->set.apply_to(&known_);
  }
  data_.set_remote_size(attr.size);
}

std::optional<Attr> FileState::begin_own_change(bool empty) {
  const bool first = !std::exchange(own_changes_, true);
  ++own_writes_;
  return first && !empty && maker_.expired() ? std::optional(known_) : std::nullopt;
}

std::optional<Attr> FileState::note_own_change() {
  const bool empty = data_.size() == 0;
  MutexLock lock(mutex_);
  return begin_own_change(empty);
}

std::optional<Attr> FileState::note_own_write() {
  const cache::Timespec now = wall_clock();
  const bool empty = data_.size() == 0;
  MutexLock lock(mutex_);
  const std::optional<Attr> looked = begin_own_change(empty);
  last_write_ = now;
  // What is written later has a later time.
  last_told_.valid &= ~SetAttr::kMtime;
  if (!held_ || !held_->set.has(SetAttr::kMtime)) return looked;
  held_->set.valid &= ~SetAttr::kMtime;
  known_.mtime = now;
  return looked;
}

void FileState::check_unchanged(const Attr& known, const Result<Attr>& now) {
  if (now.ok() && same_stamps(known, now.value())) return;
  MutexLock lock(mutex_);
  doubt_data();
}

void FileState::expect_before(const Attr& known) {
  MutexLock lock(mutex_);
  if (expected_before_ == 0) expected_before_ = file_stamp(known);
}

// Of writes side by side any may be the first.
void FileState::note_before(uint64_t stamp) {
  if (stamp == 0) return;
  MutexLock lock(mutex_);
  if (stamp == expected_before_) expected_before_ = 0;
}

void FileState::doubt_data() {
  kernel_outdated_ = drop_again_ = true;
  ++drops_;
}

void FileState::adjust_links(int by) {
  MutexLock lock(mutex_);
  if (by > 0 || known_.nlink > 0) known_.nlink += static_cast<uint32_t>(by);
}

bool FileState::owns_changes() {
  MutexLock lock(mutex_);
  return own_changes_;
}

uint64_t FileState::own_writes() {
  MutexLock lock(mutex_);
  return own_writes_;
}

bool FileState::agrees() {
  MutexLock lock(mutex_);
  return own_writes_ == agreed_writes_;
}

void FileState::note_agreed(uint64_t own_writes) {
  MutexLock lock(mutex_);
  agreed_writes_ = own_writes;
}

bool FileState::kernel_knows_drops() {
  MutexLock lock(mutex_);
  return drops_ == drops_told_;
}

void FileState::note_kernel_knows(uint64_t drops) {
  MutexLock lock(mutex_);
  drops_told_ = std::max(drops_told_, drops);
}

void FileState::note_drop(uint64_t size) {
  kernel_outdated_ = true;
  invalidate_again_ = size;
  ++drops_;
}

void FileState::drop_data(uint64_t size) {
  {
    MutexLock lock(mutex_);
    note_drop(size);
  }
  retry_invalidation();
}

uint64_t FileState::drops() {
  MutexLock lock(mutex_);
  return drops_;
}

bool FileState::retry_invalidation() {
  std::optional<uint64_t> size;
  {
    MutexLock lock(mutex_);
    if (!invalidate_again_ && !drop_again_) return false;
    size = std::exchange(invalidate_again_, std::nullopt);
    drop_again_ = false;
  }
  if ((size ? data_.invalidate(*size) : data_.invalidate()).ok()) return true;
  // Dirty pages stay; what is clean has gone. Once they are written the rest goes as well.
  MutexLock lock(mutex_);
  if (!invalidate_again_) invalidate_again_ = size;
  drop_again_ |= !size;
  return true;
}

bool FileState::kernel_may_keep() {
  MutexLock lock(mutex_);
  return !std::exchange(kernel_outdated_, false);
}

Attr FileState::shown() {
  const bool unwritten = data_.has_unwritten();
  const uint64_t size = data_.size();
  MutexLock lock(mutex_);
  Attr attr = known_;
  if (!unwritten && !telling_ && !held_) return attr;
  attr.size = size;
  attr.blocks = std::max(attr.blocks, (size + 511) / 512);
  const bool written = unwritten || own_changes_;
  if (written && before(attr.mtime, last_write_)) attr.mtime = attr.ctime = last_write_;
  return attr;
}

void FileState::made_by(const BackendFileSourcePtr& source) {
  MutexLock lock(mutex_);
  maker_ = source;
}

void FileState::hold_time(const cache::Timespec& mtime, const BackendFileSourcePtr& source) {
  SetAttr set;
  set.valid = SetAttr::kMtime;
  set.mtime = mtime;
  MutexLock lock(mutex_);
  keep_held(set, source);
}

bool FileState::may_hold(const SetAttr& set, const CallerPtr& caller) {
  constexpr uint32_t kOwner = SetAttr::kUid | SetAttr::kGid;
  constexpr uint32_t kMay = SetAttr::kMode | kOwner | SetAttr::kAtime | SetAttr::kMtime;
  const BackendFileSourcePtr maker = maker_.lock();
  if (!maker || (set.valid & ~kMay) != 0) return false;
  const bool open = std::find(sources_.begin(), sources_.end(), maker) != sources_.end();
  const bool same = maker->opener() && caller && *maker->opener() == *caller;
  if (!open || !same) return false;
  // The remote may take set-user-ID and the like away, or refuse another owner.
  if (set.has(SetAttr::kMode) && (set.mode & 07000) != 0) return false;
  return (!set.has(SetAttr::kUid) || set.uid == known_.uid) &&
         (!set.has(SetAttr::kGid) || set.gid == known_.gid);
}

bool FileState::hold(const SetAttr& set, const CallerPtr& caller) {
  const cache::Timespec now = wall_clock();
  MutexLock lock(mutex_);
  if (!may_hold(set, caller)) return false;
  keep_held(set, maker_.lock());
  known_.ctime = now;
  return true;
}

void FileState::keep_held(const SetAttr& set, const BackendFileSourcePtr& source) {
  if (!held_) held_.emplace();
  held_->set.merge(set);
  held_->source = source;
  set.apply_to(&known_);
  if (set.has(SetAttr::kMtime)) last_write_ = {};
}

void FileState::hold_write_time(const BackendFileSourcePtr& source) {
  MutexLock lock(mutex_);
  if (!own_changes_ || !before({}, last_write_)) return;
  SetAttr set;
  set.valid = SetAttr::kMtime;
  set.mtime = before(known_.mtime, last_write_) ? last_write_ : known_.mtime;
  known_.ctime = set.mtime;
  keep_held(set, source);
}

std::optional<FileState::Held> FileState::begin_telling() {
  MutexLock lock(mutex_);
  if (telling_ || !held_) return std::nullopt;
  telling_ = true;
  last_told_ = held_->set;
  told_through_ = held_->source;
  return std::exchange(held_, std::nullopt);
}

void FileState::end_telling(bool told) {
  if (!told) tell_again();
  std::vector<std::function<void()>> waiting;
  {
    MutexLock lock(mutex_);
    telling_ = false;
    waiting.swap(told_);
  }
  for (const auto& then : waiting) then();
}

void FileState::tell_again() {
  MutexLock lock(mutex_);
  const BackendFileSourcePtr source = told_through_.lock();
  SetAttr set = std::exchange(last_told_, SetAttr());
  if (!source || set.valid == 0) return;
  if (held_) set.merge(held_->set);
  held_ = Held{set, source};
}

bool FileState::holds_attrs() {
  MutexLock lock(mutex_);
  return telling_ || held_;
}

void FileState::when_told(std::function<void()> then) {
  {
    MutexLock lock(mutex_);
    if (telling_) {
      told_.push_back(std::move(then));
      return;
    }
  }
  then();
}

void FileState::note_kernel_mtime(const cache::Timespec& mtime) {
  MutexLock lock(mutex_);
  kernel_mtime_ = mtime;
  kernel_wrote_ = false;
}

void FileState::note_kernel_write() {
  MutexLock lock(mutex_);
  kernel_wrote_ = true;
}

bool FileState::hold_kernel_mtime(const BackendFileSourcePtr& source) {
  MutexLock lock(mutex_);
  if (!std::exchange(kernel_wrote_, false) || !kernel_mtime_) return false;
  SetAttr set;
  set.valid = SetAttr::kMtime;
  set.mtime = *kernel_mtime_;
  keep_held(set, source);
  return true;
}

void FileState::opened(const BackendFileSourcePtr& source) {
  source->serve(weak_from_this());
  MutexLock lock(mutex_);
  sources_.push_back(source);
}

bool FileState::closed(const BackendFileSourcePtr& source) {
  BackendFileSourcePtr gone;  // outlives the lock
  MutexLock lock(mutex_);
  const auto found = std::find(sources_.begin(), sources_.end(), source);
  if (found == sources_.end()) return false;
  gone = std::move(*found);
  sources_.erase(found);
  return sources_.empty();
}

bool FileState::is_open() {
  MutexLock lock(mutex_);
  return !sources_.empty();
}

BackendFileSourcePtr FileState::any_source() {
  MutexLock lock(mutex_);
  return sources_.empty() ? nullptr : sources_.back();
}

void FileState::hide(HiddenName hidden) {
  MutexLock lock(mutex_);
  hidden_ = std::move(hidden);
}

std::optional<FileState::HiddenName> FileState::take_hidden() {
  MutexLock lock(mutex_);
  return std::exchange(hidden_, std::nullopt);
}

}  // namespace fusefs
