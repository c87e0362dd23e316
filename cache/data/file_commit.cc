// FileCore, commits: what the remote has taken, but may still lose.
#include "cache/data/file_waits.h"

namespace cache {

void FileCore::add_unstable(uint64_t first, uint64_t end, uint64_t verifier) {
  const auto same = [&](const auto& entry) { return entry.first == verifier; };
  auto it = std::find_if(unstable_.begin(), unstable_.end(), same);
  if (it == unstable_.end()) it = unstable_.insert(it, {verifier, {}});
  count_pages(stats_.unstable_bytes, it->second.insert(first, end));
  if (unstable_since_ == TimePoint::max()) unstable_since_ = std::chrono::steady_clock::now();
}

void FileCore::remove_unstable(uint64_t first, uint64_t end) {
  uint64_t removed = 0;
  for (auto& [verifier, pages] : unstable_) removed += pages.erase(first, end);
  if (commit_ != nullptr) {
    for (auto& [verifier, pages] : commit_->covered) removed += pages.erase(first, end);
  }
  std::erase_if(unstable_, [](const auto& entry) { return entry.second.empty(); });
  if (unstable_.empty()) unstable_since_ = TimePoint::max();
  uncount_pages(stats_.unstable_bytes, removed);
}

FileCore::SourcePtr FileCore::commit_source(const SourcePtr& through) {
  if (writer_ != nullptr) return writer_;
  return through != nullptr ? through : last_writer_.lock();
}

// One begun after the caller's writes had ended covers them, whoever sent it.
Status FileCore::commit_all(FileMapping::Durable durable, const SourcePtr& through,
                            const DataWait& wait) {
  MutexLock lock(mutex_);
  const bool is_durable = tells_durable_ && undurable_ == committed_;
  if (unstable_.empty() && commit_ == nullptr &&
      (durable == FileMapping::Durable::kNo || is_durable)) {
    return {};
  }
  const uint64_t needed = commits_begun_ + 1;
  for (;;) {
    const Status status = wait_for(wait, [this]() REQUIRES(mutex_) { return commit_ == nullptr; });
    if (!status.ok()) return status;
    if (commits_done_ >= needed) return {};
    if (durable == FileMapping::Durable::kNo && unstable_.empty()) return {};
    int error = 0;
    if (retry_at_ > std::chrono::steady_clock::now()) {
      if (wait_until(wait, retry_at_, &error)) return Status::error(error);
      continue;
    }
    const SourcePtr source = commit_source(through);
    if (source == nullptr) return {};  // nothing was ever written here
    const CommitPtr commit = begin_commit(source);
    lock.unlock();
    send_commit(commit);
    lock.lock();
    const Status ended = wait_for(wait, [&] { return commit->ended; });
    if (!ended.ok()) return ended;
    if (commit->error == 0) return {};
    if (!is_transient(commit->error)) return Status::error(commit->error);
  }
}

FileCore::CommitPtr FileCore::begin_commit(const SourcePtr& source) {
  auto commit = std::make_shared<CommitRequest>();
  commit->source = source;
  commit->number = ++commits_begun_;
  commit->undurable = undurable_;
  commit->covered.swap(unstable_);
  unstable_since_ = TimePoint::max();
  commit_ = commit;
  call_begins();  // for send_commit()
  return commit;
}

void FileCore::send_commit(const CommitPtr& commit) {
  SourcePtr source;
  {
    MutexLock lock(mutex_);
    source = commit->source;
    if (commit->ended) {  // discarded at this moment
      if (--calls_out_ == 0) progress_.notify_all();
      return;
    }
  }
  stats_.data_commits.add();
  const FileSource::RequestId id =
      source->commit([self = shared_from_this(), commit](const Result<uint64_t>& answer) {
        self->commit_answered(commit, answer);
      });
  call_ended(*commit, id);
}

void FileCore::commit_answered(const CommitPtr& commit, const Result<uint64_t>& answer) {
  PageRanges dropped;
  const int error = answer.error_number();
  {
    MutexLock lock(mutex_);
    if (commit->ended) return;
    commit->taking = true;
    call_begins();
    if (error == 0) {
      commit_done(*commit, answer.value());
    } else if (is_transient(error)) {
      stats_.writeback_retries.add();
      back_off();
      for (const auto& [verifier, pages] : commit->covered) {
        for (const auto& [first, end] : pages.ranges()) add_unstable(first, end, verifier);
        uncount_pages(stats_.unstable_bytes, pages.pages());
      }
    } else {
      record_error(error);
      for (const auto& [verifier, pages] : commit->covered) make_clean(pages, &dropped);
    }
    commit->covered.clear();
  }
  drop_pages(dropped);
  {
    MutexLock lock(mutex_);
    if (error == 0) {
      commits_done_ = commit->number;
      committed_ = commit->undurable;
    }
    commit->ended = true;
    commit->error = error;
    drop_later(std::move(commit->source));
    if (commit_ == commit) commit_.reset();
    shrink_to_known();
    reschedule();
    --calls_out_;
    progress_.notify_all();
  }
  flush_cancels();
  write_back_->changed();
}

// Under the mutex, so that no page of these is written again meanwhile: pick() takes it out.
void FileCore::commit_done(CommitRequest& commit, uint64_t verifier) {
  bool lost = false;
  for (const auto& [then, pages] : commit.covered) lost |= then != verifier && !pages.empty();
  rewrites_ = lost ? rewrites_ + 1 : 0;
  const bool hopeless = rewrites_ > kMaxRewrites;
  if (hopeless) {
    record_error(EIO);
    for (const FlushPtr& flush : flushes_) flush->error = EIO;
  }
  for (const auto& [then, pages] : commit.covered) {
    if (then == verifier || hopeless) {
      make_clean(pages, nullptr);
    } else {
      make_dirty(pages);
    }
  }
  if (hopeless) rewrites_ = 0;
  pause_ = {};
}

void FileCore::make_clean(const PageRanges& pages, PageRanges* which) {
  for (const auto& [first, end] : pages.ranges()) {
    if (which != nullptr) which->insert(first, end);
    for (uint64_t key = first; key < end; ++key) {
      if (const PageRef page = pages_->find(key)) page->clear(page_state::kPrivate);
    }
  }
  uncount_pages(stats_.unstable_bytes, pages.pages());
}

void FileCore::make_dirty(const PageRanges& pages) {
  for (const auto& [first, end] : pages.ranges()) {
    for (uint64_t key = first; key < end; ++key) {
      const PageRef page = pages_->find(key);
      if (!page) continue;
      page->mark_dirty();  // before the other flag goes: one of the two keeps it
      page->clear(page_state::kPrivate);
    }
    add_dirty(first, end);
    for (const FlushPtr& flush : flushes_) flush->again(first, end);
  }
  for (const FlushPtr& flush : flushes_) flush->lost = true;
  uncount_pages(stats_.unstable_bytes, pages.pages());
}

void FileCore::drop_pages(const PageRanges& pages) {
  for (const auto& [first, end] : pages.ranges()) {
    for (uint64_t key = first; key < end; ++key) {
      if (const PageRef page = pages_->find(key)) pages_->remove_clean(*page);
    }
  }
}

}  // namespace cache
