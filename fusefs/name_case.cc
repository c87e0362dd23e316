#include "fusefs/name_case.h"

#include <algorithm>
#include <array>

namespace fusefs {
namespace {

// NetApp, ZFS, btrfs tools, Isilon, and the Windows view of the first.
constexpr std::array<std::string_view, 5> kHidden = {".snapshot", ".snapshots", ".zfs", ".ckpt",
                                                     "~snapshot"};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

}  // namespace

bool may_be_unlisted(std::string_view name) {
  return std::find(kHidden.begin(), kHidden.end(), name) != kHidden.end() ||
         std::any_of(name.begin(), name.end(), [](char c) { return (c & 0x80) != 0; });
}

bool has_letters(std::string_view name) { return std::any_of(name.begin(), name.end(), is_letter); }

std::string in_other_case(std::string_view name) {
  std::string other(name);
  for (char& c : other) {
    if (is_letter(c)) c = static_cast<char>(c ^ 0x20);
  }
  return other;
}

void NameCase::note_there(std::string_view name) {
  if (told_apart(name)) return;  // settled, or of no use as a sample
  cache::MutexLock lock(mutex_);
  sample_ = name;
}

std::optional<std::string> NameCase::sample() const {
  cache::MutexLock lock(mutex_);
  return sample_.empty() ? std::nullopt : std::optional<std::string>(sample_);
}

}  // namespace fusefs
