#include "fusefs/reply_buffers.h"

#include <new>
#include <utility>

namespace fusefs {

std::unique_ptr<std::byte[]> ReplyBuffers::take() {
  {
    cache::MutexLock lock(mutex_);
    if (!kept_.empty()) {
      auto buffer = std::move(kept_.back());
      kept_.pop_back();
      return buffer;
    }
  }
  return std::unique_ptr<std::byte[]>(new (std::nothrow) std::byte[kMaxBytes]);
}

void ReplyBuffers::give_back(std::unique_ptr<std::byte[]> buffer) {
  if (!buffer) return;
  cache::MutexLock lock(mutex_);
  if (kept_.size() < kKept) kept_.push_back(std::move(buffer));
}

}  // namespace fusefs
