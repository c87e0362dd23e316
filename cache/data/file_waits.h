// What the parts of FileCore share that wait. Included by them only.
#pragma once

#include <algorithm>
#include <utility>

#include "cache/data/file_core.h"

namespace cache {

// While it lives an interrupt of the caller wakes who waits for the file's progress.
class FileCore::Waker {
 public:
  Waker(FileCore& core, const DataWait& wait) : interrupt_(wait.interrupt) {
    if (interrupt_ == nullptr) return;
    interrupt_->set_waker([weak = core.weak_from_this()] {
      if (const auto alive = weak.lock()) {
        MutexLock lock(alive->mutex_);
        alive->progress_.notify_all();
      }
    });
  }
  ~Waker() {
    if (interrupt_ != nullptr) interrupt_->set_waker(nullptr);
  }
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;

 private:
  Interrupt* const interrupt_;
};

// A waiter of a fill: its pages stay pinned, and its request goes on, while one is there.
class FileCore::FillHold {
 public:
  explicit FillHold(FileCore& core) : core_(core) {}
  ~FillHold() { reset(); }
  FillHold(const FillHold&) = delete;
  FillHold& operator=(const FillHold&) = delete;

  // Takes over one that the caller counted among the waiters.
  void adopt(FillPtr fill) { fill_ = std::move(fill); }
  void reset() {
    const FillPtr fill = std::exchange(fill_, nullptr);
    if (fill == nullptr) return;
    {
      MutexLock lock(core_.mutex_);
      core_.leave_fill(fill);
    }
    core_.flush_cancels();
  }
  [[nodiscard]] const FillPtr& fill() const { return fill_; }

 private:
  FileCore& core_;
  FillPtr fill_;
};

// Until ready(), which is called under the mutex.
template <typename Ready>
Status FileCore::wait_for(const DataWait& wait, const Ready& ready) {
  int error = 0;
  while (!ready()) {
    if (wait_a_while(wait, &error)) return Status::error(error);
  }
  return {};
}

constexpr uint64_t pages_up_to(uint64_t size) { return size / kDataPage + (size % kDataPage != 0); }

}  // namespace cache
