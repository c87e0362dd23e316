// FileCore, reading: from pages, and what to do where one is missing.
#include <cstring>

#include "cache/data/file_waits.h"
#include "cache/mm/use_trace.h"

namespace cache {

struct FileCore::Reading {
  Reading(FileCore& core, ReadStream& at, const SourcePtr& from, const DataWait& how)
      : stream(at), source(from), wait(how), hold(core) {}
  ReadStream& stream;
  const SourcePtr& source;
  const DataWait& wait;
  uint64_t end = 0;          // of what is read
  uint64_t most = 1;         // pages a request
  bool first_is_new = true;  // use of the first page
  std::vector<FillPtr> asked;
  FillHold hold;  // of the fill waited for last: its pages can't be reclaimed before they are read
  int tries = 0;  // in a row, for one page
};

Result<size_t> FileCore::read(ReadStream& stream, const SourcePtr& source, uint64_t offset,
                              std::span<std::byte> out, const DataWait& wait) {
  if (!source->readable()) return Status::error(EBADF);
  const uint64_t size = this->size();
  if (offset >= size) return size_t{0};
  out = out.first(std::min<uint64_t>(out.size(), size - offset));
  Reading reading(*this, stream, source, wait);
  reading.end = offset + out.size();
  const uint64_t largest = std::min<uint64_t>(source->max_read(), write_back_->read_request());
  reading.most = std::max<uint64_t>(largest / kDataPage, 1);
  read_ahead(reading, offset);
  size_t done = 0;
  uint64_t hits = 0;
  while (done < out.size()) {
    const uint64_t at = offset + done;
    const uint64_t key = at / kDataPage;
    const auto piece = out.subspan(done, std::min(out.size() - done, kDataPage - at % kDataPage));
    const PageRef page = pages_->find(key);
    size_t got = page ? copy_out(*page, at, piece) : 0;
    if (got > 0) {
      if (reading.tries == 0) ++hits;
      if (at > offset || reading.first_is_new) page->mark_accessed();
      trace_use(pages_->id(), key);
    } else {
      if (at >= this->size()) break;
      Result<size_t> missing = read_missing(reading, at, out.subspan(done));
      if (!missing.ok()) {
        drop_idle(reading.asked);
        return missing.status();
      }
      got = missing.value();
      if (got == 0) continue;
    }
    done += got;
    reading.tries = 0;
  }
  stats_.data_hits.add(hits);
  return done;
}

// Under the page lock: no reader sees half of what is written. The size is looked at again, for a
// page that was read after a truncation has zeros where the file ended before.
size_t FileCore::copy_out(Page& page, uint64_t offset, std::span<std::byte> out) {
  if (!page.uptodate()) return 0;
  cache_.lock_page(page);
  size_t count = 0;
  if (page.mapping() == pages_.get()) {
    const uint64_t size = this->size();
    count = offset < size ? std::min<uint64_t>(out.size(), size - offset) : 0;
    std::memcpy(out.data(), page.content() + offset % kDataPage, count);
  }
  cache_.unlock_page(page);
  return count;
}

// What is read itself may be a part of it: a small file takes one request.
void FileCore::read_ahead(Reading& reading, uint64_t offset) {
  const ReadStream::Limits limits{size(), reading.most * kDataPage, ahead_limit()};
  std::vector<FillPtr> fills;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    reading.first_is_new =
        reading.stream.is_new_use(offset / kDataPage, (reading.end - 1) / kDataPage);
    const ReadStream::Ahead range = reading.stream.on_read(offset, reading.end - offset, limits);
    if (range.empty()) return;
    for (uint32_t i = 0; i < range.count; ++i) {
      const ReadStream::Ahead one = range.at(i);
      const uint64_t end = pages_up_to(std::min(one.to, remote_size_));
      int error = 0;  // no memory: shows when the pages are read
      const uint64_t reached =
          ask({reading.source, reading.most, one.from / kDataPage, end, true}, &fills, &error);
      if (reached >= end) continue;
      if (range.stride == 0) {
        reading.stream.asked_until(reached * kDataPage);
      } else {
        reading.stream.asked_ranges(range, i);
      }
      break;
    }
    for (const FillPtr& fill : fills) {
      if (range.stride != 0 || fill->first * kDataPage >= reading.end) continue;
      fill->ahead = false;
      reading.asked.push_back(fill);
    }
  }
  send(fills);
}

FileCore::FillPtr FileCore::join_fill(Reading& reading, uint64_t page, int* error) {
  FillPtr fill = find_fill(page);
  if (fill == nullptr) {
    const uint64_t end = pages_up_to(std::min(reading.end, std::max(remote_size_, uint64_t{1})));
    ask({reading.source, reading.most, page, end, false}, &reading.asked, error);
    fill = find_fill(page);
    if (fill != nullptr) *error = 0;
  }
  if (fill != nullptr) ++fill->waiters;
  return fill;
}

// Tells how many bytes it served; 0: look again.
Result<size_t> FileCore::read_missing(Reading& reading, uint64_t at, std::span<std::byte> out) {
  const uint64_t key = at / kDataPage;
  if (++reading.tries > kMaxTries) return read_uncached(reading, at, out);
  if (reading.tries == 1) stats_.data_misses.add();
  reading.hold.reset();
  FillPtr fill;
  SourcePtr through;
  int error = 0;
  const size_t sent = reading.asked.size();
  const Waker waker(*this, reading.wait);
  {
    MutexLock lock(mutex_);
    const Status gate =
        wait_for(reading.wait, [&]() REQUIRES(mutex_) { return fill_held_from_ > key; });
    if (!gate.ok()) return gate;
    const uint64_t size = this->size();
    if (at >= size) return size_t{0};
    if (key * kDataPage >= remote_size_) {  // a hole that the remote does not know yet
      const size_t zeros = std::min({out.size(), kDataPage - at % kDataPage, size - at});
      std::memset(out.data(), 0, zeros);
      return zeros;
    }
    const bool there = find_fill(key) != nullptr || pages_->find(key);
    if (!there && reading.stream.was_asked(at)) {
      reading.stream.lost(at);
      stats_.data_read_wasted.add(kDataPage);
    }
    fill = join_fill(reading, key, &error);
    if (fill != nullptr) through = fill->source;
  }
  send({reading.asked.begin() + static_cast<ptrdiff_t>(sent), reading.asked.end()});
  if (fill == nullptr) {
    if (error == ENOMEM) return read_uncached(reading, at, out);
    // Somebody is writing it at this moment, or it has come meanwhile.
    if (const PageRef page = pages_->find(key); page && !page->uptodate()) {
      cache_.wait_unlocked(*page);
    }
    return size_t{0};
  }
  reading.hold.adopt(fill);
  const Status status = wait_filled(reading.wait, fill);
  if (status.ok() || status.error_number() == kOvertaken) return size_t{0};
  // Asked for in another's name: who is here asks for himself.
  const int why = status.error_number();
  const bool own = why == EINTR || why == ETIMEDOUT || why == ENOTCONN;
  if (!own && through != reading.source) return size_t{0};
  return status;
}

Status FileCore::wait_filled(const DataWait& wait, const FillPtr& fill) {
  MutexLock lock(mutex_);
  const Status status = wait_for(wait, [&] { return fill->ended; });
  if (!status.ok() || fill->error == 0) return status;
  return Status::error(fill->error);
}

// What this reader asked for and nobody waits for.
void FileCore::drop_idle(const std::vector<FillPtr>& fills) {
  {
    MutexLock lock(mutex_);
    for (const FillPtr& fill : fills) {
      if (fill->waiters == 0 && !fill->ahead) end_fill(fill, EINTR);
    }
  }
  flush_cancels();
}

// Changes overtook the fills, or there is no memory: past the pages, up to the next that is there.
Result<size_t> FileCore::read_uncached(const Reading& reading, uint64_t at,
                                       std::span<std::byte> out) {
  uint64_t end = (at / kDataPage + 1) * kDataPage;
  const uint64_t most = at + reading.most * kDataPage;
  while (end < std::min(at + out.size(), most) && !pages_->find(end / kDataPage)) end += kDataPage;
  const uint64_t wanted = std::min<uint64_t>({out.size(), end - at, most - at});
  Result<std::string> answer =
      call_read(reading.source, at, static_cast<uint32_t>(wanted), reading.wait);
  if (answer.error_number() == kOvertaken) return size_t{0};
  if (!answer.ok()) return answer.status();
  const uint64_t size = this->size();
  const size_t count = at < size ? std::min<uint64_t>(wanted, size - at) : 0;
  const size_t told = std::min(count, answer.value().size());
  std::memcpy(out.data(), answer.value().data(), told);
  std::memset(out.data() + told, 0, count - told);
  return count;
}

}  // namespace cache
