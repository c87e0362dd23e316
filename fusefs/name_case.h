// NameCase: whether the remote tells two names apart that a listing tells apart.
//
// Purpose:        a complete listing that lacks a name proves that there is no such file, but only
//                 where names are what their bytes are. Windows, macOS and some file systems of
//                 Linux take README for readme; macOS and ZFS take accented letters for others of
//                 the same look; file servers have directories that no listing shows (.snapshot).
//                 So a name with bytes beyond ASCII, and those known to be hidden, are always asked
//                 for; of letters a directory is tried once: is there a file under one of its names
//                 written in the other case?
// Thread-safety:  all members from any thread.
// Locks:          a leaf, within each call.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cache/base/mutex.h"

namespace fusefs {

// A file of that name may be there though the listing lacks it.
[[nodiscard]] bool may_be_unlisted(std::string_view name);
// It has one of A to Z, a to z.
[[nodiscard]] bool has_letters(std::string_view name);
[[nodiscard]] std::string in_other_case(std::string_view name);

class NameCase {
 public:
  // Whether this name is told from those that differ in the case of their letters alone; none: not
  // known.
  [[nodiscard]] std::optional<bool> told_apart(std::string_view name) const {
    if (!has_letters(name)) return true;
    const Known known = known_.load(std::memory_order_relaxed);
    return known == Known::kNo ? std::nullopt : std::optional<bool>(known == Known::kTold);
  }
  void settle(bool told_apart) {
    known_.store(told_apart ? Known::kTold : Known::kNotTold, std::memory_order_relaxed);
  }
  // A directory that was made in that one: what is known of it holds here.
  void inherit(const NameCase& parent) {
    known_.store(parent.known_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
  // A name that is there now, of which the remote may be asked later.
  void note_there(std::string_view name);
  [[nodiscard]] std::optional<std::string> sample() const;

 private:
  enum class Known : uint8_t { kNo, kTold, kNotTold };

  std::atomic<Known> known_{Known::kNo};  // relaxed: read alone
  mutable cache::Mutex mutex_{cache::LockRank::kLeaf};
  std::string sample_ GUARDED_BY(mutex_);
};

}  // namespace fusefs
