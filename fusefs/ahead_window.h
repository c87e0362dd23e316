// AheadWindow: how many directories to fetch ahead of a walk (tree_ahead.h), and the figures of it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fusefs {

// None before a walk is recognised, twice as many with each
// that was right, half with each that was wrong or in vain. Pure; no thread-safety of its own.
class AheadWindow {
 public:
  static constexpr uint32_t kRow = 2;  // in order, one after the other: a walk
  static constexpr uint32_t kFirst = 4;

  explicit AheadWindow(uint32_t most) : most_(most) {}

  void hit() {
    if (++row_ < kRow) return;
    size_ = std::min(std::max(size_ * 2, kFirst), most_);
  }
  // Somebody opened a directory that nothing pointed to.
  void miss() {
    row_ = 0;
    size_ /= 2;
  }
  // One that was fetched was not wanted.
  void wasted() { size_ /= 2; }
  [[nodiscard]] uint32_t size() const { return size_; }

 private:
  const uint32_t most_;
  uint32_t row_ = 0;
  uint32_t size_ = 0;
};

// Directories.
struct WalkFigures {
  uint64_t fetched = 0, used = 0, wasted = 0;
  uint32_t window = 0;
};

}  // namespace fusefs
