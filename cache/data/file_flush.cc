// FileCore, write-back: from dirty pages to the remote.
#include <cstring>

#include "cache/data/file_waits.h"

namespace cache {
namespace {

constexpr auto kFirstPause = std::chrono::milliseconds(50);
constexpr auto kLongestPause = std::chrono::seconds(5);
constexpr int kUncommittedAge = 5;  // times `expire`: a commit costs the remote a disk's time

}  // namespace

bool is_transient(int error) {
  switch (error) {
    case EAGAIN:
    case EINTR:
    case ETIMEDOUT:
    case ECONNRESET:
    case ECONNREFUSED:
    case ECONNABORTED:
    case ENOTCONN:
    case EPIPE:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
    case ENETRESET:
    case ENOMEM:
    case ENOBUFS:
      return true;
    default:
      return false;
  }
}

// --- what is dirty ------------------------------------------------------------------------------

void FileCore::count_pages(Gauge& gauge, uint64_t pages) {
  gauge.add(static_cast<int64_t>(pages * kDataPage));
  unwritten_pages_.fetch_add(pages, std::memory_order_acq_rel);
}

void FileCore::uncount_pages(Gauge& gauge, uint64_t pages) {
  gauge.sub(static_cast<int64_t>(pages * kDataPage));
  unwritten_pages_.fetch_sub(pages, std::memory_order_acq_rel);
}

void FileCore::add_dirty(uint64_t first, uint64_t end) {
  const bool begins = dirty_.empty();
  const uint64_t added = dirty_.insert(first, end);
  if (added == 0) return;
  count_pages(stats_.dirty_bytes, added);
  if (begins) {
    dirty_since_ = std::chrono::steady_clock::now();
    reschedule();
  }
  write_back_->grown();
}

void FileCore::remove_dirty(uint64_t first, uint64_t end) {
  const uint64_t removed = dirty_.erase(first, end);
  uncount_pages(stats_.dirty_bytes, removed);
  if (dirty_.empty()) dirty_since_ = TimePoint::max();
  for (const FlushPtr& flush : flushes_) flush->todo.erase(first, end);
}

// --- sending ------------------------------------------------------------------------------------

// A page is never under way twice: the older answer could be the later one.
uint64_t FileCore::past_under_way(uint64_t page) const {
  for (bool moved = true; moved;) {
    moved = false;
    for (const WritePtr& write : writes_) {
      if (page < write->first || page >= write->end) continue;
      page = write->end;
      moved = true;
    }
  }
  return page;
}

PageRange FileCore::find_sendable(const PageRanges& todo) const {
  for (uint64_t from = 0;;) {
    const std::optional<PageRange> wanted = todo.next(from);
    if (!wanted || wanted->first >= held_from_) return {};
    const std::optional<PageRange> dirty = dirty_.next(wanted->first);
    if (!dirty) return {};
    const uint64_t first = dirty->first >= wanted->end ? wanted->end : past_under_way(dirty->first);
    if (first != dirty->first) {
      from = first;
      continue;
    }
    if (first >= held_from_) return {};  // the caller's `todo` may be of a moment ago
    // What follows and is dirty as well goes along; requests end where others' begin.
    const uint64_t most = std::min(most_write_, write_back_->write_request() / kDataPage);
    uint64_t end = std::min({dirty->end, held_from_, (first / most + 1) * most});
    for (const WritePtr& write : writes_) {
      if (write->first > first) end = std::min(end, write->first);
    }
    return {first, end};
  }
}

FileCore::WritePtr FileCore::pick(const PageRange& range, const LineUse& line) {
  auto write = std::make_shared<WriteRequest>();
  write->source = writer_;
  write->first = range.first;
  write->end = range.end;
  write->offset = range.first * kDataPage;
  write->line = line;
  write->copying = true;
  for (const FlushPtr& flush : flushes_) {
    if (!flush->todo.overlaps(range.first, range.end)) continue;
    write->flushes.push_back(flush);
    ++flush->pending;
  }
  count_pages(stats_.writeback_bytes, range.size());
  remove_dirty(range.first, range.end);
  remove_unstable(range.first, range.end);
  write->how = how_to_write(*write);
  writes_.push_back(write);
  return write;
}

StableHow FileCore::how_to_write(const WriteRequest& write) const {
  const bool alone = dirty_.empty() && writes_.empty() && unstable_.empty() && commit_ == nullptr;
  const bool commits =
      finishing_ || std::any_of(write.flushes.begin(), write.flushes.end(),
                                [](const FlushPtr& flush) { return flush->commits; });
  return alone && commits ? StableHow::kFileSync : StableHow::kUnstable;
}

FileCore::Sent FileCore::send_next(const PageRanges* todo) {
  WritePtr write;
  uint64_t end = 0;
  {
    MutexLock lock(mutex_);
    if (closed_ || writer_ == nullptr) return Sent::kNothing;
    if (retry_at_ > std::chrono::steady_clock::now()) return Sent::kNothing;
    const PageRange range = find_sendable(todo != nullptr ? *todo : dirty_);
    if (range.size() == 0) return Sent::kNothing;
    LineUse line;
    if (!write_back_->take_room(range.size() * kDataPage, &line)) {
      reschedule();  // the thread goes on when there is room
      return Sent::kNoRoom;
    }
    write = pick(range, line);
    end = write->end;
    call_begins();
  }
  std::string bytes;
  bytes.reserve((end - write->first) * kDataPage);
  const uint64_t copied = copy_pages(*write, end, &bytes);
  bool sends = false;
  {
    MutexLock lock(mutex_);
    write->length = bytes.size();
    sends = settle(*write, copied);
    if (!sends && --calls_out_ == 0) progress_.notify_all();
  }
  flush_cancels();
  if (sends) send_write(write, std::move(bytes));
  return Sent::kSent;
}

uint64_t FileCore::copy_pages(WriteRequest& write, uint64_t end, std::string* bytes) {
  for (uint64_t key = write.first; key < end; ++key) {
    if (!copy_page(write, key, bytes)) return key;
  }
  return end;
}

bool FileCore::copy_page(WriteRequest& write, uint64_t key, std::string* bytes) {
  PageRef page = pages_->find(key);
  if (!page) return false;
  if (!page->uptodate()) {
    // Either just being written for the first time, or filled: then it is not dirty, and nobody
    // waits for a remote here.
    MutexLock lock(mutex_);
    if (find_fill(key) != nullptr) return false;
  }
  cache_.lock_page(*page);
  const uint64_t start = key * kDataPage;
  const uint64_t size = this->size();
  const bool copies =
      page->mapping() == pages_.get() && size > start && pages_->begin_writeback(*page);
  if (copies) {
    page->clear(page_state::kPrivate);
    const uint64_t count = std::min(kDataPage, size - start);
    bytes->append(reinterpret_cast<const char*>(page->content()), count);
  }
  cache_.unlock_page(*page);
  if (copies) write.pages.push_back(std::move(page));
  return copies;
}

bool FileCore::settle(WriteRequest& write, uint64_t copied) {
  write.copying = false;
  const uint64_t end = write.end;
  if (copied < end && !write.ended) {
    // The page there is not dirty after all: truncated, or its write failed. The rest is.
    write.end = copied;
    if (copied + 1 < end) {
      add_dirty(copied + 1, end);
      for (const FlushPtr& flush : write.flushes) flush->again(copied + 1, end);
    }
    uncount_pages(stats_.writeback_bytes, end - copied);
  }
  if (!write.ended && write.end > write.first) return true;
  end_writeback(write);
  take_off(write);
  drop_later(std::move(write.source));
  return false;
}

void FileCore::send_write(const WritePtr& write, std::string bytes) {
  SourcePtr source;
  uint64_t offset = 0;
  {
    MutexLock lock(mutex_);
    offset = write->offset;
    source = write->source;
    if (write->ended) {  // discarded at this moment
      --calls_out_;
      progress_.notify_all();
      return;
    }
  }
  requests_written_.fetch_add(1, std::memory_order_relaxed);
  stats_.data_writes.add();
  const FileSource::RequestId id =
      source->write(offset, std::move(bytes), write->how,
                    [self = shared_from_this(), write](const Result<WriteAnswer>& answer) {
                      self->write_answered(write, answer);
                    });
  call_ended(*write, id);
}

// --- answers ------------------------------------------------------------------------------------

void FileCore::write_answered(const WritePtr& write, const Result<WriteAnswer>& answer) {
  {
    MutexLock lock(mutex_);
    if (write->ended) return;
    write->taking = true;
    call_begins();
  }
  const int error = answer.error_number();
  if (error != 0 && !is_transient(error)) write_refused(*write, error);
  {
    MutexLock lock(mutex_);
    if (answer.ok()) {
      write_done(*write, answer.value());
    } else if (is_transient(error)) {
      write_again(*write);
    }
    write->ended = true;
    take_off(*write);
    drop_later(std::move(write->source));
    reschedule();
    --calls_out_;
    progress_.notify_all();
  }
  flush_cancels();
}

void FileCore::write_done(WriteRequest& write, const WriteAnswer& answer) {
  // Before the pages may be reclaimed: who misses them then asks the remote.
  remote_size_ = std::max(remote_size_, write.offset + write.length);
  pause_ = {};
  retry_at_ = TimePoint::min();
  write_back_->note_taken(write.line);
  note_durable(answer);
  if (!answer.stable) {
    add_unstable(write.first, write.end, answer.verifier);
    for (const PageRef& page : write.pages) page->set(page_state::kPrivate);
  }
  end_writeback(write);
}

void FileCore::note_durable(const WriteAnswer& answer) {
  if (answer.durable) {
    tells_durable_ = true;
  } else {
    ++undurable_;
  }
}

void FileCore::write_again(WriteRequest& write) {
  stats_.writeback_retries.add();
  back_off();
  for (const PageRef& page : write.pages) page->mark_dirty();
  add_dirty(write.first, write.end);
  for (const FlushPtr& flush : write.flushes) flush->again(write.first, write.end);
  end_writeback(write);
}

// The pages go, but for those written to since: reads show what the remote has.
void FileCore::write_refused(WriteRequest& write, int error) {
  std::vector<PageRef> pages;
  {
    MutexLock lock(mutex_);
    record_error(error);
    for (const FlushPtr& flush : write.flushes) {
      if (flush->error == 0) flush->error = error;
    }
    for (const PageRef& page : write.pages) pages.push_back(page.duplicate());
    end_writeback(write);
  }
  for (const PageRef& page : pages) pages_->remove_clean(*page);
}

void FileCore::end_writeback(WriteRequest& write) {
  for (const PageRef& page : write.pages) cache_.end_writeback(*page);
  write.pages.clear();
}

// It is nobody's hindrance any more.
void FileCore::take_off(WriteRequest& write) {
  uncount_pages(stats_.writeback_bytes, write.end - write.first);
  for (const FlushPtr& flush : write.flushes) --flush->pending;
  write.flushes.clear();
  std::erase_if(writes_, [&](const WritePtr& other) { return other.get() == &write; });
  shrink_to_known();
  write_back_->give_room(write.line.bytes);
  progress_.notify_all();
}

void FileCore::back_off() {
  const TimePoint now = std::chrono::steady_clock::now();
  if (now < retry_at_) return;  // one of many that were under way
  pause_ =
      pause_ == Duration{} ? Duration(kFirstPause) : std::min<Duration>(pause_ * 2, kLongestPause);
  retry_at_ = now + pause_;
}

// --- the thread ---------------------------------------------------------------------------------

void FileCore::reschedule() {
  if (closed_) return;
  if (!unwritten()) {
    finishing_ = false;
    write_back_->forget(*this);
    if (writers_ == 0) drop_later(std::move(writer_));
    return;
  }
  TimePoint next = TimePoint::max();
  if (find_sendable(dirty_).size() > 0) next = std::max(retry_at_, write_due());
  for (const FlushPtr& flush : flushes_) {
    if (find_sendable(flush->todo).size() > 0) next = std::min(next, retry_at_);
  }
  if (!unstable_.empty() && commit_ == nullptr) {
    next = std::min(next, std::max(retry_at_, commit_due()));
  }
  write_back_->schedule(*this, next);
}

TimePoint FileCore::write_due() const {
  return finishing_ ? dirty_since_ : dirty_since_ + write_back_->expire();
}

// One commit for all that is being finished.
TimePoint FileCore::commit_due() const {
  const bool last = finishing_ && dirty_.empty() && writes_.empty();
  return last ? unstable_since_ : unstable_since_ + kUncommittedAge * write_back_->expire();
}

void FileCore::background(Need write, Need commit) {
  bool old = false;
  bool flushed = false;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    call_begins();
    old = dirty_since_ != TimePoint::max() && write_due() <= std::chrono::steady_clock::now();
    for (const FlushPtr& flush : flushes_) flushed |= !flush->todo.empty();
  }
  if (old || flushed) {
    while (send_next(nullptr) == Sent::kSent) {
    }
  } else if (write == Need::kAll) {
    while (write_back_->urgent() && send_next(nullptr) == Sent::kSent) {
    }
  }
  CommitPtr due_commit;
  {
    MutexLock lock(mutex_);
    const TimePoint now = std::chrono::steady_clock::now();
    const bool is_old = unstable_since_ != TimePoint::max() && commit_due() <= now;
    if (!closed_ && !unstable_.empty() && commit_ == nullptr && retry_at_ <= now &&
        (is_old || commit == Need::kAll)) {
      if (const SourcePtr source = commit_source({})) due_commit = begin_commit(source);
    }
  }
  if (due_commit != nullptr) send_commit(due_commit);
  {
    MutexLock lock(mutex_);
    reschedule();
    if (--calls_out_ == 0) progress_.notify_all();
  }
  flush_cancels();
}

// --- flush --------------------------------------------------------------------------------------

FileCore::FlushPtr FileCore::begin_flush(uint64_t first, uint64_t end, Then then) {
  auto flush = std::make_shared<FlushState>();
  flush->commits = then == Then::kCommit;
  flush->first = first;
  flush->end = end;
  for (uint64_t from = first;;) {
    const std::optional<PageRange> dirty = dirty_.next(from);
    if (!dirty || dirty->first >= end) break;
    flush->todo.insert(dirty->first, std::min(dirty->end, end));
    from = dirty->end;
  }
  for (const WritePtr& write : writes_) {
    if (write->first >= end || write->end <= first) continue;
    write->flushes.push_back(flush);
    ++flush->pending;
  }
  flushes_.push_back(flush);
  return flush;
}

void FileCore::end_flush(const FlushPtr& flush) {
  std::erase(flushes_, flush);
  for (const WritePtr& write : writes_) std::erase(write->flushes, flush);
}

// Sends side by side, as many as may be under way, and waits for what this flush covers.
Status FileCore::write_all(const FlushPtr& flush, PatientWait* wait) {
  // Of other files as well: what was sent before ours is answered before.
  uint64_t taken = write_back_->taken();
  for (;;) {
    PageRanges todo;
    {
      MutexLock lock(mutex_);
      todo = flush->todo;
    }
    while (!todo.empty() && send_next(&todo) == Sent::kSent) {
      MutexLock lock(mutex_);
      todo = flush->todo;
    }
    MutexLock lock(mutex_);
    if (flush->todo.empty() && flush->pending == 0) return {};
    const bool pausing = !flush->todo.empty() && retry_at_ > std::chrono::steady_clock::now();
    int error = 0;
    if (!wait_until(*wait, pausing ? retry_at_ : TimePoint::max(), &error)) continue;
    const uint64_t before = std::exchange(taken, write_back_->taken());
    if (error != ETIMEDOUT || before == taken) return Status::error(error);
    wait->note_progress();
  }
}

void FileCore::finish_soon() {
  MutexLock lock(mutex_);
  finishing_ = true;
  reschedule();
}

bool FileCore::send_all() {
  while (send_next(nullptr) == Sent::kSent) {
  }
  MutexLock lock(mutex_);
  // One that another thread is still copying may be sent at any time.
  return dirty_.empty() && std::none_of(writes_.begin(), writes_.end(),
                                        [](const WritePtr& write) { return write->copying; });
}

Status FileCore::write_range(uint64_t first, uint64_t end, const DataWait& wait) {
  FlushPtr flush;
  {
    MutexLock lock(mutex_);
    if (!dirty_.overlaps(first, end) &&
        std::none_of(writes_.begin(), writes_.end(), [&](const WritePtr& write) {
          return write->first < end && first < write->end;
        })) {
      return {};
    }
    flush = begin_flush(first, end, Then::kNothing);
  }
  PatientWait patient(wait);
  Status status = write_all(flush, &patient);
  MutexLock lock(mutex_);
  end_flush(flush);
  if (status.ok() && flush->error != 0) status = Status::error(flush->error);
  return status;
}

Status FileCore::flush(FileMapping::Durable durable, const DataWait& wait, uint64_t from,
                       uint64_t to, const SourcePtr& through) {
  if (from >= to) return {};
  const Waker waker(*this, wait);
  FlushPtr flush;
  {
    MutexLock lock(mutex_);
    flush = begin_flush(from / kDataPage, pages_up_to(to), Then::kCommit);
  }
  PatientWait patient(wait);
  Status status;
  for (bool more = true; more && status.ok();) {
    {
      MutexLock lock(mutex_);
      flush->lost = false;
    }
    status = write_all(flush, &patient);
    if (status.ok()) status = commit_all(durable, through, patient);
    MutexLock lock(mutex_);
    more = flush->lost;  // and by now perhaps written again by the thread, but not committed
  }
  {
    MutexLock lock(mutex_);
    end_flush(flush);
    if (status.ok() && flush->error != 0) status = Status::error(flush->error);
  }
  flush_cancels();
  return status;
}

}  // namespace cache
