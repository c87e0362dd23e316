// FileLock and LockRanges: advisory locks, as a back end is asked for them.
//
// Purpose:        one shape for fcntl(2)'s locks of ranges and flock(2)'s of whole files; and which
//                 ranges one holder has, as POSIX splits and joins them.
// Thread-safety:  none of its own.
// Source:         fcntl(2), "Advisory record locking": a lock that its holder sets replaces what he
//                 held there before.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace fusefs {

enum class LockKind : uint8_t { kRange, kWholeFile };
enum class LockType : uint8_t { kNone, kRead, kWrite };

struct FileLock {
  static constexpr uint64_t kToTheEnd = UINT64_MAX;
  LockKind kind = LockKind::kRange;
  LockType type = LockType::kNone;
  uint64_t start = 0;
  uint64_t end = kToTheEnd;  // the last byte of it
  uint32_t pid = 0;          // of whom it is; 0: not known
};

class LockRanges {
 public:
  // kNone: gives up what lies in it.
  void set(const FileLock& lock);
  void clear() { held_.clear(); }
  // The first that would keep somebody else from getting `lock`.
  [[nodiscard]] std::optional<FileLock> conflict(const FileLock& lock) const;
  // The range of `lock` as it is held: one piece after the other, those of no lock as well.
  [[nodiscard]] std::vector<FileLock> pieces(const FileLock& lock) const;
  [[nodiscard]] bool empty() const { return held_.empty(); }
  // In order, apart from one another, or of different types.
  [[nodiscard]] const std::vector<FileLock>& held() const { return held_; }

 private:
  std::vector<FileLock> held_;
};

}  // namespace fusefs
