// ReplyBuffers: room for directory replies, reused.
//
// Purpose:        a reply may be 1 MiB; taking that from the system for each would cost more than
//                 encoding it. A buffer is taken only when there are entries to put into it, so
//                 requests that wait for the remote hold none.
// Ownership:      owns the buffers at rest, at most kKept of them (bounding what stays resident);
//                 a Lease owns its buffer and gives it back.
// Thread-safety:  all members from any thread.
// Locks:          a leaf.
// Errors:         null when there is no memory.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cache/base/mutex.h"

namespace fusefs {

class ReplyBuffers {
 public:
  static constexpr size_t kMaxBytes = size_t{1} << 20;  // no reply is larger
  static constexpr size_t kKept = 4;

  class Lease {
   public:
    explicit Lease(ReplyBuffers& owner) : owner_(owner) {}
    ~Lease() { owner_.give_back(std::move(buffer_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    // kMaxBytes, uninitialised; the same at every call. Null: no memory.
    std::byte* get() {
      if (!buffer_) buffer_ = owner_.take();
      return buffer_.get();
    }

   private:
    ReplyBuffers& owner_;
    std::unique_ptr<std::byte[]> buffer_;
  };

  ReplyBuffers() { kept_.reserve(kKept); }

 private:
  std::unique_ptr<std::byte[]> take();
  void give_back(std::unique_ptr<std::byte[]> buffer);

  cache::Mutex mutex_{cache::LockRank::kLeaf};
  std::vector<std::unique_ptr<std::byte[]>> kept_ GUARDED_BY(mutex_);
};

}  // namespace fusefs
