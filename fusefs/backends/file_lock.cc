#include "fusefs/backends/file_lock.h"

#include <algorithm>
#include <utility>

namespace fusefs {

void LockRanges::set(const FileLock& lock) {
  std::vector<FileLock> left;
  left.reserve(held_.size() + 2);
  for (const FileLock& old : held_) {
    if (old.end < lock.start || old.start > lock.end) {
      left.push_back(old);
      continue;
    }
    if (old.start < lock.start) {
      left.push_back(old);
      left.back().end = lock.start - 1;
    }
    if (old.end > lock.end) {
      left.push_back(old);
      left.back().start = lock.end + 1;
    }
  }
  if (lock.type != LockType::kNone) left.push_back(lock);
  std::sort(left.begin(), left.end(),
            [](const FileLock& a, const FileLock& b) { return a.start < b.start; });
  held_.clear();
  for (const FileLock& one : left) {
    const bool joins = !held_.empty() && held_.back().type == one.type &&
                       held_.back().end != FileLock::kToTheEnd && held_.back().end + 1 == one.start;
    if (joins) {
      held_.back().end = one.end;
    } else {
      held_.push_back(one);
    }
  }
}

std::optional<FileLock> LockRanges::conflict(const FileLock& lock) const {
  for (const FileLock& old : held_) {
    const bool meets = old.start <= lock.end && old.end >= lock.start;
    if (meets && (old.type == LockType::kWrite || lock.type == LockType::kWrite)) return old;
  }
  return std::nullopt;
}

std::vector<FileLock> LockRanges::pieces(const FileLock& lock) const {
  std::vector<FileLock> result;
  FileLock rest = lock;  // what comes after the pieces so far
  rest.type = LockType::kNone;
  for (const FileLock& old : held_) {
    if (old.end < rest.start) continue;
    if (old.start > lock.end) break;
    if (old.start > rest.start) {
      result.push_back(rest);
      result.back().end = old.start - 1;
    }
    result.push_back(old);
    result.back().start = std::max(old.start, rest.start);
    result.back().end = std::min(old.end, lock.end);
    if (old.end >= lock.end) return result;
    rest.start = old.end + 1;
  }
  result.push_back(rest);
  return result;
}

}  // namespace fusefs
