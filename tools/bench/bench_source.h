// BenchSource: a remote of N numbered names that answers at once, for benchmarks in the process.
//
// Purpose:        fills a Directory without a daemon, a protocol or a delay.
// Ownership:      owns the thread that answers; outlives the Directory that asks it.
// Thread-safety:  all members from any thread.
// Locks:          LockRank::kBackend around the queue; none while a completion runs.
// Bound:          a Directory asks one request at a time a fill, so the queue stays short.
#pragma once

#include <cstdint>
#include <deque>
#include <thread>
#include <utility>

#include "cache/base/mutex.h"
#include "cache/dir/source.h"

namespace bench {

class BenchSource final : public cache::DirSource {
 public:
  BenchSource(uint64_t entries, uint32_t batch);
  ~BenchSource() override;
  BenchSource(const BenchSource&) = delete;
  BenchSource& operator=(const BenchSource&) = delete;

  RequestId read_dir(cache::DirRequest request, Completion done) override;
  void cancel(RequestId) override {}
  [[nodiscard]] cache::CookieKind cookie_kind() const override {
    return cache::CookieKind::kNative;
  }
  [[nodiscard]] uint32_t max_batch() const override { return batch_; }

 private:
  [[nodiscard]] cache::DirAnswer answer(const cache::DirRequest& request) const;
  void run();

  const uint64_t entries_;
  const uint32_t batch_;
  cache::Mutex mutex_{cache::LockRank::kBackend};
  cache::CondVar changed_;
  std::deque<std::pair<cache::DirRequest, Completion>> queue_ GUARDED_BY(mutex_);
  RequestId last_id_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace bench
