// FileCore, past the pages: O_DIRECT, and what has no room or no way in.
#include <cstring>

#include "cache/data/file_waits.h"

namespace cache {

// Sends one request and waits for it. A read that reaches beyond a truncation waits for that, and
// is overtaken by one that begins.
template <typename Send>
Status FileCore::call_out(const DirectPtr& call, const DataWait& wait, const Send& send) {
  const Waker waker(*this, wait);
  {
    MutexLock lock(mutex_);
    const Status gate =
        wait_for(wait, [&]() REQUIRES(mutex_) { return fill_held_from_ >= call->end; });
    if (!gate.ok()) return gate;
    calls_.push_back(call);
    call_begins();
  }
  const FileSource::RequestId id = send();
  call_ended(*call, id);
  Status status;
  {
    MutexLock lock(mutex_);
    status = wait_for(wait, [&] { return call->ended; });
    if (!status.ok() && !call->ended) end_request(*call, status.error_number());
    if (status.ok() && call->error != 0) status = Status::error(call->error);
    std::erase(calls_, call);
  }
  flush_cancels();
  return status;
}

template <typename Keep>
void FileCore::call_answered(const DirectPtr& call, int error, const Keep& keep) {
  MutexLock lock(mutex_);
  if (call->ended) return;
  if (error == 0) keep();
  call->error = error;
  call->ended = true;
  progress_.notify_all();
}

Result<std::string> FileCore::call_read(const SourcePtr& source, uint64_t offset, uint32_t size,
                                        const DataWait& wait) {
  auto call = std::make_shared<DirectRequest>();
  call->source = source;
  call->first = offset / kDataPage;
  call->end = pages_up_to(offset + size);
  reads_.fetch_add(1, std::memory_order_relaxed);
  stats_.data_read_requests.add();
  const Status status = call_out(call, wait, [&] {
    return source->read(offset, size, [self = shared_from_this(), call](Result<std::string> got) {
      self->call_answered(call, got.error_number(), [&] { call->data = std::move(got).value(); });
    });
  });
  if (!status.ok()) return status;
  return std::move(call->data);
}

Result<WriteAnswer> FileCore::call_write(const SourcePtr& source, uint64_t offset,
                                         std::string bytes, const DataWait& wait) {
  auto call = std::make_shared<DirectRequest>();
  call->source = source;
  requests_written_.fetch_add(1, std::memory_order_relaxed);
  stats_.data_writes.add();
  const Status status = call_out(call, wait, [&] {
    return source->write(offset, std::move(bytes), StableHow::kFileSync,
                         [self = shared_from_this(), call](const Result<WriteAnswer>& got) {
                           self->call_answered(call, got.error_number(),
                                               [&] { call->written = got.value(); });
                         });
  });
  if (!status.ok()) return status;
  MutexLock lock(mutex_);
  note_durable(call->written);
  return call->written;
}

Result<uint64_t> FileCore::call_commit(const SourcePtr& source, const DataWait& wait) {
  auto call = std::make_shared<DirectRequest>();
  call->source = source;
  stats_.data_commits.add();
  const Status status = call_out(call, wait, [&] {
    return source->commit([self = shared_from_this(), call](const Result<uint64_t>& got) {
      self->call_answered(call, got.error_number(), [&] { call->verifier = got.value(); });
    });
  });
  if (!status.ok()) return status;
  return call->verifier;
}

// The bytes are in nobody's keeping afterwards: what the remote may lose is committed at once.
Status FileCore::write_durably(const SourcePtr& source, uint64_t offset,
                               std::span<const std::byte> bytes, const DataWait& wait) {
  for (uint32_t tries = 0; tries <= kMaxRewrites; ++tries) {
    const Result<WriteAnswer> written =
        call_write(source, offset,
                   std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), wait);
    if (!written.ok() || written.value().stable) return written.status();
    const Result<uint64_t> verifier = call_commit(source, wait);
    if (!verifier.ok() || verifier.value() == written.value().verifier) return verifier.status();
  }
  return Status::error(EIO);
}

// A page that is there gets the bytes as well, one that is being filled goes.
void FileCore::patch(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t here = std::min<size_t>(bytes.size(), kDataPage - offset % kDataPage);
    while (const PageRef page = pages_->find(offset / kDataPage)) {
      constexpr uint64_t kUnwritten =
          page_state::kDirty | page_state::kWriteback | page_state::kPrivate;
      if ((page->state() & kUnwritten) == 0) {
        if (pages_->remove_clean(*page)) break;
        continue;
      }
      // Written to meanwhile, or on its way with the old bytes: it goes once more.
      const Status status =
          pages_->modify(*page, [&] { copy_in(*page, offset, bytes.first(here)); });
      if (status.error_number() != EAGAIN) break;
    }
    offset += here;
    bytes = bytes.subspan(here);
  }
}

// What goes past the pages must not pass what is still on its way, or may yet be lost there.
Status FileCore::settle_range(uint64_t from, uint64_t to, const DataWait& wait) {
  const uint64_t first = from / kDataPage;
  const uint64_t end = pages_up_to(to);
  bool unsettled = false;
  {
    MutexLock lock(mutex_);
    unsettled = dirty_.overlaps(first, end) || commit_ != nullptr;
    for (const WritePtr& write : writes_) unsettled |= write->first < end && first < write->end;
    for (const auto& [verifier, pages] : unstable_) unsettled |= pages.overlaps(first, end);
  }
  return unsettled ? flush(FileMapping::Durable::kNo, wait, from, to, {}) : Status();
}

Status FileCore::write_through(const SourcePtr& source, uint64_t offset,
                               std::span<const std::byte> bytes, const DataWait& wait) {
  const uint64_t most = std::max<uint64_t>(source->max_write(), kDataPage);
  stats_.data_written_through.add(bytes.size());
  while (!bytes.empty()) {
    const size_t here = std::min<uint64_t>(bytes.size(), most);
    const uint64_t end = offset + here;
    Status status = settle_range(offset, end, wait);
    if (status.ok()) status = write_durably(source, offset, bytes.first(here), wait);
    if (!status.ok()) return status;
    {
      MutexLock lock(mutex_);
      remote_size_ = std::max(remote_size_, end);
      if (end > size()) size_.store(end, std::memory_order_release);
    }
    patch(offset, bytes.first(here));
    offset = end;
    bytes = bytes.subspan(here);
  }
  return {};
}

Result<size_t> FileCore::read_direct(const SourcePtr& source, uint64_t offset,
                                     std::span<std::byte> out, const DataWait& wait) {
  if (!source->readable()) return Status::error(EBADF);
  if (offset >= size()) return size_t{0};
  const uint64_t asked = std::min<uint64_t>(out.size(), size() - offset);
  const Status written = settle_range(offset, offset + asked, wait);
  if (!written.ok()) return written;
  size_t done = 0;
  while (done < asked) {
    const uint64_t at = offset + done;
    const uint64_t most =
        std::min<uint64_t>(asked - done, std::max<uint64_t>(source->max_read(), 1));
    Result<std::string> got = call_read(source, at, static_cast<uint32_t>(most), wait);
    if (got.error_number() == kOvertaken) continue;
    if (!got.ok()) return got.status();
    const uint64_t size = this->size();
    const size_t count = at < size ? std::min<uint64_t>(most, size - at) : 0;
    const size_t told = std::min(count, got.value().size());
    std::memcpy(out.data() + done, got.value().data(), told);
    done += told;
    if (told == most) continue;
    // The remote ends here. What the file has beyond was written around a hole.
    MutexLock lock(mutex_);
    if (!unwritten()) break;
    std::memset(out.data() + done, 0, count - told);
    done += count - told;
    if (count < most) break;
  }
  return done;
}

}  // namespace cache
