#include "tools/bench/bench_source.h"

#include <dirent.h>

#include <algorithm>
#include <cstdio>
#include <string_view>

namespace bench {

using cache::DirAnswer;
using cache::DirRequest;
using cache::MutexLock;

BenchSource::BenchSource(uint64_t entries, uint32_t batch)
    : entries_(entries), batch_(batch), thread_([this] { run(); }) {}

BenchSource::~BenchSource() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

cache::DirSource::RequestId BenchSource::read_dir(DirRequest request, Completion done) {
  MutexLock lock(mutex_);
  queue_.emplace_back(std::move(request), std::move(done));
  changed_.notify_all();
  return ++last_id_;
}

DirAnswer BenchSource::answer(const DirRequest& request) const {
  DirAnswer answer;
  const uint64_t first = std::min(request.after.cookie, entries_);
  const uint64_t end =
      first + std::min({uint64_t{request.max_entries}, uint64_t{batch_}, entries_ - first});
  answer.entries.reserve(end - first);
  for (uint64_t i = first; i < end; ++i) {
    char name[32];
    const int length =
        std::snprintf(name, sizeof name, "file-%019llu", static_cast<unsigned long long>(i));
    answer.add({name, static_cast<size_t>(length)}, i + 2, DT_REG, i + 1);
  }
  answer.eof = end == entries_;
  answer.change = 1;
  return answer;
}

void BenchSource::run() {
  MutexLock lock(mutex_);
  for (;;) {
    while (queue_.empty() && !stopping_) changed_.wait(mutex_);
    if (stopping_) return;
    auto [request, done] = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    done(answer(request));
    done = nullptr;  // what it captured goes before the next one is waited for
    lock.lock();
  }
}

}  // namespace bench
