#include "tools/stress/name_set.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>

namespace stress {
namespace {

struct CloseFile {
  void operator()(FILE* file) const { (void)std::fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;

}  // namespace

NameSet::NameSet() : slots_(1024, kNotInSet) {}

std::string_view NameSet::name(uint32_t index) const {
  const size_t begin = index == 0 ? 0 : ends_[index - 1];
  return std::string_view(bytes_).substr(begin, ends_[index] - begin);
}

size_t NameSet::slot_of(std::string_view name) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>()(name) & mask;
  while (slots_[slot] != kNotInSet && this->name(slots_[slot]) != name) slot = (slot + 1) & mask;
  return slot;
}

uint32_t NameSet::find(std::string_view name) const { return slots_[slot_of(name)]; }

void NameSet::grow() {
  slots_.assign(slots_.size() * 2, kNotInSet);
  for (uint32_t index = 0; index < size(); ++index) slots_[slot_of(name(index))] = index;
}

bool NameSet::add(std::string_view name) {
  if (2 * ends_.size() >= slots_.size()) grow();
  const size_t slot = slot_of(name);
  if (slots_[slot] != kNotInSet) return false;
  slots_[slot] = size();
  bytes_ += name;
  ends_.push_back(bytes_.size());
  return true;
}

bool NameSet::read_file(const std::string& path, std::string_view prefix) {
  const File file(std::fopen(path.c_str(), "re"));
  if (file == nullptr) return false;
  std::string name;
  for (int c = getc_unlocked(file.get()); c != EOF; c = getc_unlocked(file.get())) {
    if (c != '\0') {
      name += static_cast<char>(c);
      continue;
    }
    if (name.starts_with(prefix)) add(name);
    name.clear();
  }
  return std::ferror(file.get()) == 0;
}

bool NameSet::write_file(const std::string& path) const {
  const File file(std::fopen(path.c_str(), "we"));
  if (file == nullptr) return false;
  for (uint32_t index = 0; index < size(); ++index) {
    const std::string_view text = name(index);
    (void)std::fwrite(text.data(), 1, text.size(), file.get());
    (void)std::putc('\0', file.get());
  }
  return std::fflush(file.get()) == 0 && std::ferror(file.get()) == 0;
}

Figures& Figures::operator+=(const Figures& other) {
  listings += other.listings;
  entries += other.entries;
  duplicates += other.duplicates;
  gaps += other.gaps;
  unexpected += other.unexpected;
  return *this;
}

ListingCheck::ListingCheck(const NameSet& expected, Others others)
    : expected_(expected), others_(others), seen_(expected.size()) {}

void ListingCheck::report(const char* what, std::string_view name) {
  if (problem_.empty()) problem_.append(what).append(": ").append(name);
}

uint32_t ListingCheck::see(std::string_view name) {
  ++figures_.entries;
  const uint32_t index = expected_.find(name);
  if (index == kNotInSet) {
    if (!others_seen_.emplace(name).second) {
      ++figures_.duplicates;
      report("duplicate", name);
    } else if (others_ == Others::kUnexpected && name != "." && name != "..") {
      ++figures_.unexpected;
      report("unexpected", name);
    }
    return index;
  }
  if (seen_[index]) {
    ++figures_.duplicates;
    report("duplicate", name);
  } else {
    seen_[index] = true;
    ++seen_count_;
  }
  return index;
}

void ListingCheck::finish() {
  ++figures_.listings;
  if (seen_count_ == expected_.size()) return;
  figures_.gaps += expected_.size() - seen_count_;
  const auto missing = std::find(seen_.begin(), seen_.end(), false) - seen_.begin();
  report("missing", expected_.name(static_cast<uint32_t>(missing)));
}

void ListingCheck::restart() {
  seen_.assign(seen_.size(), false);
  others_seen_.clear();
  seen_count_ = 0;
}

}  // namespace stress
