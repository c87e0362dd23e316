// FileCore, writing into pages.
#include <cstring>
#include <limits>

#include "cache/data/file_waits.h"

namespace cache {
namespace {

constexpr uint64_t kMostSize = std::numeric_limits<int64_t>::max();
constexpr int kMaxWriteTries = 16;  // of one page: then past the pages

}  // namespace

// Inside: no truncation goes on, and the source is known to write-back.
class FileCore::WriterTurn {
 public:
  explicit WriterTurn(FileCore& core) : core_(core) {}
  Status begin(const SourcePtr& source, const DataWait& wait) {
    const uint64_t most = std::max<uint64_t>(source->max_write() / kDataPage, 1);
    {
      const Waker waker(core_, wait);
      MutexLock lock(core_.mutex_);
      while (core_.truncating_) {
        int error = 0;
        if (core_.wait_a_while(wait, &error)) return Status::error(error);
      }
      if (core_.closed_) return Status::error(ENOTCONN);
      ++core_.writers_;
      inside_ = true;
      core_.last_write_ = std::chrono::steady_clock::now();
      core_.finishing_ = false;
      if (core_.writer_ != source) {
        core_.drop_later(std::move(core_.writer_));
        core_.writer_ = source;
        core_.last_writer_ = source;
        core_.most_write_ = most;
      }
    }
    core_.flush_cancels();
    return {};
  }
  ~WriterTurn() {
    if (!inside_) return;
    {
      MutexLock lock(core_.mutex_);
      if (--core_.writers_ == 0) {
        if (!core_.unwritten()) core_.drop_later(std::move(core_.writer_));
        if (core_.truncating_) core_.progress_.notify_all();
      }
    }
    core_.flush_cancels();
  }
  WriterTurn(const WriterTurn&) = delete;
  WriterTurn& operator=(const WriterTurn&) = delete;

 private:
  FileCore& core_;
  bool inside_ = false;
};

Status FileCore::write(const SourcePtr& source, uint64_t offset, std::span<const std::byte> bytes,
                       const DataWait& wait) {
  if (!source->writable()) return Status::error(EBADF);
  if (offset > kMostSize || bytes.size() > kMostSize - offset) return Status::error(EFBIG);
  while (!bytes.empty()) {
    const uint64_t chunk = write_back_->chunk();
    const size_t here = std::min<uint64_t>(bytes.size(), chunk - offset % kDataPage);
    const uint64_t room =
        (offset + here + kDataPage - 1) / kDataPage * kDataPage - offset / kDataPage * kDataPage;
    Status status = write_back_->reserve(room, wait);
    if (!status.ok()) return status;
    status = write_chunk(source, offset, bytes.first(here), wait);
    write_back_->unreserve(room);
    if (!status.ok()) return status;
    offset += here;
    bytes = bytes.subspan(here);
  }
  return {};
}

Status FileCore::write_chunk(const SourcePtr& source, uint64_t offset,
                             std::span<const std::byte> bytes, const DataWait& wait) {
  WriterTurn turn(*this);
  Status status = turn.begin(source, wait);
  while (status.ok() && !bytes.empty()) {
    const size_t here = std::min<size_t>(bytes.size(), kDataPage - offset % kDataPage);
    status = write_page(source, offset, bytes.first(here), wait);
    offset += here;
    bytes = bytes.subspan(here);
  }
  return status;
}

Status FileCore::write_page(const SourcePtr& source, uint64_t offset,
                            std::span<const std::byte> bytes, const DataWait& wait) {
  const uint64_t key = offset / kDataPage;
  for (int tries = 0; tries < kMaxWriteTries; ++tries) {
    const PageRef page = pages_->find(key);
    Status status;
    if (page && page->uptodate()) {
      status = pages_->modify(*page, [&] { copy_in(*page, offset, bytes); });
      if (status.ok() && last_written_page_.exchange(key, std::memory_order_relaxed) != key) {
        page->mark_accessed();
      }
    } else {
      status = write_missing(source, offset, bytes, wait);
    }
    if (status.error_number() != EAGAIN) return status;
  }
  return write_through(source, offset, bytes, wait);
}

// The page lock is held.
void FileCore::copy_in(Page& page, uint64_t offset, std::span<const std::byte> bytes) {
  std::memcpy(page.content() + offset % kDataPage, bytes.data(), bytes.size());
  grow(offset + bytes.size());
}

bool FileCore::covers(uint64_t offset, uint64_t size) const {
  const uint64_t start = offset / kDataPage * kDataPage;
  if (start >= remote_size_) return true;
  return offset == start && (size == kDataPage || offset + size >= remote_size_);
}

// EAGAIN: look again.
Status FileCore::write_missing(const SourcePtr& source, uint64_t offset,
                               std::span<const std::byte> bytes, const DataWait& wait) {
  const uint64_t key = offset / kDataPage;
  PageRef page;
  uint64_t noted = 0;
  int error = 0;
  bool fill_first = false;
  {
    MutexLock lock(mutex_);
    fill_first = find_fill(key) != nullptr || !covers(offset, bytes.size());
    if (!fill_first) {
      noted = pages_->sequence();
      Result<AddressSpace::Grabbed> grabbed = pages_->grab(key);
      error = grabbed.error_number();
      if (error == 0 && !grabbed.value().created) error = EAGAIN;
      if (error == 0) {
        stats_.data_pages.add(1);
        page = std::move(grabbed.value().page);
      }
    }
  }
  if (fill_first) return fill_for_write(source, key, wait);
  if (error == ENOMEM) {
    error = 0;
    wait_for_memory(wait, &error);
    return Status::error(error == 0 ? EAGAIN : error);
  }
  if (error != 0) return Status::error(error);
  return pages_->fill_dirty(*page, noted, [&] { copy_in(*page, offset, bytes); });
}

// EAGAIN: filled, or to be tried again. Through a source that can't read the page is left out.
Status FileCore::fill_for_write(const SourcePtr& source, uint64_t page, const DataWait& wait) {
  if (!source->readable()) return Status::error(EAGAIN);
  FillHold hold(*this);
  std::vector<FillPtr> fills;
  FillPtr fill;
  int error = 0;
  const uint64_t most = std::max<uint64_t>(source->max_read() / kDataPage, 1);
  const Waker waker(*this, wait);
  {
    MutexLock lock(mutex_);
    fill = find_fill(page);
    if (fill == nullptr) {
      ask({source, most, page, page + 1, false}, &fills, &error);
      fill = find_fill(page);
    }
    if (fill != nullptr) ++fill->waiters;
  }
  send(fills);
  if (fill == nullptr) {
    if (error != ENOMEM) return Status::error(EAGAIN);  // it is there by now
    error = 0;
    wait_for_memory(wait, &error);
    return Status::error(error == 0 ? EAGAIN : error);
  }
  hold.adopt(fill);
  const Status status = wait_filled(wait, fill);
  if (status.ok() || status.error_number() == kOvertaken) return Status::error(EAGAIN);
  return status;
}

Status FileCore::write_direct(const SourcePtr& source, uint64_t offset,
                              std::span<const std::byte> bytes, const DataWait& wait) {
  if (!source->writable()) return Status::error(EBADF);
  if (offset > kMostSize || bytes.size() > kMostSize - offset) return Status::error(EFBIG);
  WriterTurn turn(*this);
  const Status status = turn.begin(source, wait);
  return status.ok() ? write_through(source, offset, bytes, wait) : status;
}

Status FileCore::mkwrite(Page& page) {
  // Whoever made it dirty has queued it, and who takes it off the queue looks at it under the page
  // lock, which we hold: our change is in what is written.
  if (page.dirty()) return {};
  MutexLock lock(mutex_);
  if (closed_) return Status::error(ENOTCONN);
  add_dirty(page.key(), page.key() + 1);
  return {};
}

}  // namespace cache
