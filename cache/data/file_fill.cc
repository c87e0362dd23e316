// FileCore, filling: pages grabbed for requests, and what their answers bring.
#include <cstring>

#include "cache/data/file_waits.h"

namespace cache {

// How far ahead of a reader the pages are kept for him.
uint64_t FileCore::ahead_limit() const {
  return std::min(WriteBackCore::kMostAhead, cache_.bound_bytes() / 4);
}

FileCore::FillPtr FileCore::find_fill(uint64_t page) {
  for (const FillPtr& fill : fills_) {
    if (page >= fill->first && page < fill->end) return fill;
  }
  return nullptr;
}

FileCore::FillPtr FileCore::begin_fill(const Wish& wish, uint64_t first) {
  auto fill = std::make_shared<FillRequest>();
  fill->source = wish.source;
  fill->first = fill->end = first;
  fill->noted = pages_->sequence();
  fill->remote_size = remote_size_;
  fill->ahead = wish.ahead;
  fill->line.before = static_cast<uint64_t>(std::max<int64_t>(stats_.data_ahead_bytes.get(), 0));
  fill->line.sent = std::chrono::steady_clock::now();
  fills_.push_back(fill);
  return fill;
}

// Requests end at multiples of their largest size, where others' begin.
uint64_t FileCore::ask(const Wish& wish, std::vector<FillPtr>* fills, int* error) {
  const uint64_t limit = wish.ahead ? std::min(ahead_limit(), write_back_->read_window()) : 0;
  FillPtr fill;
  uint64_t page = wish.first;
  for (; page < std::min(wish.end, fill_held_from_); ++page) {
    if (wish.ahead && static_cast<uint64_t>(stats_.data_ahead_bytes.get()) >= limit) break;
    Result<AddressSpace::Grabbed> grabbed = pages_->grab(page);
    if (!grabbed.ok()) {
      *error = grabbed.error_number();
      break;
    }
    if (!grabbed.value().created) {
      fill = nullptr;
      continue;
    }
    stats_.data_pages.add(1);
    if (fill == nullptr || page % wish.most == 0) {
      fill = begin_fill(wish, page);
      fills->push_back(fill);
    }
    fill->pages.push_back(std::move(grabbed.value().page));
    fill->end = page + 1;
    if (!wish.ahead) continue;
    fill->line.bytes += kDataPage;
    stats_.data_ahead_bytes.add(kDataPage);
  }
  return page;
}

void FileCore::send(const std::vector<FillPtr>& fills) {
  for (const FillPtr& fill : fills) {
    SourcePtr source;
    {
      MutexLock lock(mutex_);
      if (fill->ended) continue;
      source = fill->source;
      call_begins();
    }
    const uint64_t bytes = (fill->end - fill->first) * kDataPage;
    reads_.fetch_add(1, std::memory_order_relaxed);
    stats_.data_read_requests.add();
    stats_.data_read_ahead.add(fill->line.bytes);
    const FileSource::RequestId id =
        source->read(fill->first * kDataPage, static_cast<uint32_t>(bytes),
                     [self = shared_from_this(), fill](Result<std::string> answer) {
                       self->fill_answered(fill, std::move(answer));
                     });
    call_ended(*fill, id);
  }
}

// Nobody else touches a page that is being filled: copied without the mutex.
void FileCore::fill_answered(const FillPtr& fill, Result<std::string> answer) {
  {
    MutexLock lock(mutex_);
    if (fill->ended) return;
    fill->taking = true;
    call_begins();
  }
  int error = answer.error_number();
  if (error == 0) {
    const std::string& bytes = answer.value();
    for (size_t i = 0; i < fill->pages.size() && i * kDataPage < bytes.size(); ++i) {
      const size_t here = std::min<size_t>(bytes.size() - i * kDataPage, kDataPage);
      std::memcpy(fill->pages[i]->content(), bytes.data() + i * kDataPage, here);
    }
    MutexLock lock(mutex_);
    if (fill->line.bytes > 0) write_back_->note_read(fill->line);
    note_answer({fill->noted, fill->remote_size, fill->first * kDataPage,
                 (fill->end - fill->first) * kDataPage},
                bytes.size());
  }
  for (const PageRef& page : fill->pages) {
    if (error != 0 && error != kOvertaken) {
      pages_->fill_failed(*page);
    } else if (!pages_->fill_done(*page, fill->noted)) {
      error = kOvertaken;  // overtaken: who waits asks again
    }
  }
  {
    MutexLock lock(mutex_);
    fill->ended = true;
    finish_fill(fill, error);
    drop_later(std::move(fill->source));
    if (--calls_out_ == 0) progress_.notify_all();
  }
  flush_cancels();
}

void FileCore::note_answer(const Asked& asked, uint64_t bytes) {
  const uint64_t expected = std::min(asked.offset + asked.size, asked.remote_size);
  const uint64_t end = asked.offset + bytes;
  if (end >= expected || asked.remote_size != remote_size_ ||
      asked.sequence != pages_->sequence() || truncating_) {
    return;
  }
  remote_size_ = end;
  shrink_to_known();
}

void FileCore::finish_fill(const FillPtr& fill, int error) {
  fill->error = error;
  std::erase(fills_, fill);
  stats_.data_ahead_bytes.sub(static_cast<int64_t>(fill->line.bytes));
  if (fill->waiters == 0) fill->pages.clear();
  progress_.notify_all();
}

void FileCore::end_fill(const FillPtr& fill, int error) {
  if (fill->ended || fill->taking) return;  // from before what ends it
  for (const PageRef& page : fill->pages) pages_->fill_failed(*page);
  end_request(*fill, error);
  finish_fill(fill, error);
}

// The last one puts the light out, unless somebody is expected.
void FileCore::leave_fill(const FillPtr& fill) {
  if (--fill->waiters > 0) return;
  if (fill->ended) {
    fill->pages.clear();
  } else if (!fill->ahead) {
    end_fill(fill, EINTR);
  }
}

}  // namespace cache
