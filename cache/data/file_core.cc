#include "cache/data/file_core.h"

#include <cstring>

#include "cache/data/file_waits.h"

namespace cache {

FileCore::FileCore(PageCache& cache, std::shared_ptr<WriteBackCore> write_back, uint64_t size)
    : cache_(cache),
      stats_(cache.stats()),
      hooks_(cache.hook_table<DataHooks>()),
      write_back_(std::move(write_back)),
      pages_(std::make_unique<DataSpace>(cache, hooks_, *this)),
      size_(size),
      remote_size_(size) {}

void FileCore::close() {
  {
    MutexLock lock(mutex_);
    closed_ = true;
  }
  discard();
  {
    MutexLock lock(mutex_);
    write_back_->forget(*this);
    // Threads that are inside a source, or work on its answer, come back on their own; nobody
    // waits for the remote here.
    while (calls_out_ > 0) progress_.wait(mutex_);
    drop_unwritten(0);  // what they put back
    drop_later(std::move(writer_));
  }
  flush_cancels();
  pages_.reset();
}

// The order: nothing may be sent any more, then the pages go, so that none is found again.
void FileCore::discard() {
  {
    MutexLock lock(mutex_);
    end_fills(0, closed_ ? ENOTCONN : kOvertaken);
    drop_unwritten(0);
    shrink_to_known();
    reschedule();
    progress_.notify_all();
  }
  flush_cancels();
  pages_->invalidate_all();
  write_back_->changed();
}

// --- waits and requests -------------------------------------------------------------------------

bool FileCore::wait_a_while(const DataWait& wait, int* error) {
  return wait_until(wait, TimePoint::max(), error);
}

// Comes back at `until` as well, as after any progress: the caller looks again.
bool FileCore::wait_until(const DataWait& wait, TimePoint until, int* error) {
  if (closed_) {
    *error = ENOTCONN;
  } else if (wait.interrupt != nullptr && wait.interrupt->triggered()) {
    *error = EINTR;
  } else if (std::min(wait.deadline, until) == TimePoint::max()) {
    progress_.wait(mutex_);
    return false;
  } else if (progress_.wait_until(mutex_, std::min(wait.deadline, until)) ||
             std::chrono::steady_clock::now() < wait.deadline) {
    return false;
  } else {
    *error = ETIMEDOUT;
  }
  return true;
}

// Everything is pinned, dirty or under way at this moment.
void FileCore::wait_for_memory(const DataWait& wait, int* error) {
  write_back_->poke();
  const Waker waker(*this, wait);
  MutexLock lock(mutex_);
  wait_until(wait, std::chrono::steady_clock::now() + kMemoryWait, error);
}

void FileCore::call_ended(FileRequest& request, FileSource::RequestId id) {
  {
    MutexLock lock(mutex_);
    if (!request.ended && !request.taking) {
      request.id = id;
    } else if (request.cancel) {
      cancels_.emplace_back(std::move(request.source), id);
    }
    if (--calls_out_ == 0) progress_.notify_all();
  }
  flush_cancels();
}

void FileCore::end_request(FileRequest& request, int error) {
  request.ended = true;
  request.error = error;
  if (request.id != 0) {
    cancels_.emplace_back(std::move(request.source), request.id);
  } else {
    request.cancel = true;  // by whoever is calling the source just now
  }
}

void FileCore::drop_later(SourcePtr&& source) {
  if (source != nullptr) cancels_.emplace_back(std::move(source), 0);
}

void FileCore::flush_cancels() {
  std::vector<std::pair<SourcePtr, FileSource::RequestId>> cancels;
  {
    MutexLock lock(mutex_);
    if (cancels_.empty()) return;
    cancels.swap(cancels_);
  }
  for (const auto& [source, id] : cancels) {
    if (id != 0) source->cancel(id);
  }
}

// --- sizes --------------------------------------------------------------------------------------

uint64_t FileCore::unwritten_end(uint64_t within) const {
  uint64_t end = dirty_.end();
  for (const WritePtr& write : writes_) end = std::max(end, write->end);
  for (const auto& [verifier, pages] : unstable_) end = std::max(end, pages.end());
  if (commit_ != nullptr) {
    for (const auto& [verifier, pages] : commit_->covered) end = std::max(end, pages.end());
  }
  return std::min(end * kDataPage, within);
}

void FileCore::grow(uint64_t end) {
  if (end <= size()) return;
  MutexLock lock(mutex_);
  if (end > size()) size_.store(end, std::memory_order_release);
}

// What was lost on its way is not part of the file.
void FileCore::shrink_to_known() {
  const uint64_t known = std::max(remote_size_, unwritten_end(size()));
  if (known < size()) size_.store(known, std::memory_order_release);
}

// A smaller size before the pages go, a larger one after: nobody is shown the zeros that stand
// behind the end of what has been read.
Status FileCore::invalidate(uint64_t size) {
  const auto set = [&]() REQUIRES(mutex_) {
    remote_size_ = size;
    size_.store(std::max(size, unwritten_end(size_)), std::memory_order_release);
  };
  {
    MutexLock lock(mutex_);
    if (size < remote_size_) set();
  }
  const Status status = pages_->invalidate_pages();
  MutexLock lock(mutex_);
  if (size > remote_size_) set();
  return status;
}

void FileCore::set_remote_size(uint64_t size) {
  uint64_t old = 0;
  {
    MutexLock lock(mutex_);
    // Told before what is under way arrived.
    if (size == remote_size_ || unwritten() || writers_ > 0 || truncating_) return;
    old = remote_size_;
    if (size < old) {
      remote_size_ = size;
      size_.store(size, std::memory_order_release);
    }
  }
  (void)pages_->invalidate_pages(std::min(size, old) / kDataPage).ok();  // dirty ones stay
  MutexLock lock(mutex_);
  if (size <= remote_size_ || unwritten()) return;
  remote_size_ = size;
  if (size > size_) size_.store(size, std::memory_order_release);
}

// --- truncation ---------------------------------------------------------------------------------

Status FileCore::begin_truncate(uint64_t size, const DataWait& wait) {
  const Waker waker(*this, wait);
  {
    MutexLock lock(mutex_);
    const Status status = wait_for(wait, [this]() REQUIRES(mutex_) { return !truncating_; });
    if (!status.ok()) return status;
    truncating_ = true;
    held_from_ = pages_up_to(size);
  }
  Status status = hold_off(size, wait);
  flush_cancels();
  if (status.ok()) return status;
  MutexLock lock(mutex_);
  truncating_ = false;
  held_from_ = fill_held_from_ = ~uint64_t{0};
  reschedule();
  progress_.notify_all();
  return status;
}

Status FileCore::hold_off(uint64_t size, const DataWait& wait) {
  {
    MutexLock lock(mutex_);
    const Status status = wait_for(wait, [this]() REQUIRES(mutex_) { return writers_ == 0; });
    if (!status.ok()) return status;
  }
  // What the remote refuses is in the error sequence, and no reason to keep the file long.
  const Status written = write_range(0, pages_up_to(size), wait);
  const int error = written.error_number();
  if (error == ETIMEDOUT || error == EINTR || error == ENOTCONN) return written;
  MutexLock lock(mutex_);
  fill_held_from_ = size / kDataPage;
  end_fills(fill_held_from_, kOvertaken);
  return wait_for(wait, [this]() REQUIRES(mutex_) {
    return std::none_of(writes_.begin(), writes_.end(),
                        [this](const WritePtr& write)
                            REQUIRES(mutex_) { return write->end > held_from_; });
  });
}

void FileCore::end_truncate(uint64_t size, FileMapping::Truncation::Remote outcome) {
  const bool done = outcome == FileMapping::Truncation::Remote::kTruncated;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    call_begins();
    if (done) {
      remote_size_ = size;
      size_.store(size, std::memory_order_release);
      last_write_ = std::chrono::steady_clock::now();
      drop_unwritten(held_from_);
    }
  }
  if (done) {
    pages_->truncate(pages_up_to(size));
    zero_tail(size);
  }
  {
    MutexLock lock(mutex_);
    truncating_ = false;
    held_from_ = fill_held_from_ = ~uint64_t{0};
    --calls_out_;
    reschedule();
    progress_.notify_all();
  }
  flush_cancels();
  write_back_->changed();
}

void FileCore::zero_tail(uint64_t size) {
  const uint64_t used = size % kDataPage;
  if (used == 0) return;
  const PageRef page = pages_->find(size / kDataPage);
  if (!page || !page->uptodate()) return;
  cache_.lock_page(*page);
  std::memset(page->content() + used, 0, kDataPage - used);
  cache_.unlock_page(*page);
}

// What lies from this page on is nobody's any more.
void FileCore::drop_unwritten(uint64_t first) {
  constexpr uint64_t kEnd = ~uint64_t{0};
  remove_dirty(first, kEnd);
  remove_unstable(first, kEnd);
  for (const WritePtr& write : std::vector<WritePtr>(writes_)) {
    if (write->first < first || write->taking) continue;
    if (write->copying) {
      write->ended = true;  // its thread takes it off
      continue;
    }
    end_request(*write, ECANCELED);
    end_writeback(*write);
    take_off(*write);
  }
  if (first == 0 && commit_ != nullptr && !commit_->taking) {
    end_request(*commit_, ECANCELED);
    commit_.reset();
  }
}

void FileCore::end_fills(uint64_t first, int error) {
  for (const FillPtr& fill : std::vector<FillPtr>(fills_)) {
    if (fill->end > first) end_fill(fill, error);
  }
  for (const DirectPtr& call : calls_) {
    if (call->end > first && !call->ended) end_request(*call, error);
  }
  progress_.notify_all();
}

// --- errors and figures -------------------------------------------------------------------------

// The first that nobody has been told of stands: ENOSPC is not hidden by what follows from it.
void FileCore::record_error(int error) {
  stats_.writeback_errors.add();
  if (!error_seen_) return;
  error_ = error;
  error_seen_ = false;
  ++error_count_;
}

void FileCore::note_error(int error) {
  MutexLock lock(mutex_);
  record_error(error);
}

ErrorMark FileCore::error_mark() const {
  MutexLock lock(mutex_);
  return {error_seen_ ? error_count_ : error_count_ - 1};
}

Status FileCore::check_error(ErrorMark& mark) {
  MutexLock lock(mutex_);
  if (mark.seen == error_count_) return {};
  mark.seen = error_count_;
  error_seen_ = true;
  return Status::error(error_);
}

Status FileCore::error_since(ErrorMark& mark) const {
  MutexLock lock(mutex_);
  if (mark.seen == error_count_) return {};
  mark.seen = error_count_;
  return Status::error(error_);
}

TimePoint FileCore::last_write() const {
  MutexLock lock(mutex_);
  return last_write_;
}

FileInfo FileCore::info() const {
  FileInfo info;
  info.size = size();
  info.pages = pages_->page_count();
  info.reads = reads_.load(std::memory_order_relaxed);
  info.writes = requests_written_.load(std::memory_order_relaxed);
  MutexLock lock(mutex_);
  info.dirty_pages = dirty_.pages();
  for (const WritePtr& write : writes_) info.writeback_pages += write->end - write->first;
  for (const auto& [verifier, pages] : unstable_) info.unstable_pages += pages.pages();
  if (commit_ != nullptr) {
    for (const auto& [verifier, pages] : commit_->covered) info.unstable_pages += pages.pages();
  }
  return info;
}

}  // namespace cache
