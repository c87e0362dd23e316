#include "tests/support/raw_listing.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace test {
namespace {

// linux_dirent64, field by field: records need not be aligned.
constexpr size_t kOffsetAt = 8;
constexpr size_t kLengthAt = 16;
constexpr size_t kTypeAt = 18;
constexpr size_t kNameAt = 19;

template <typename T>
T load(const char* from) {
  T value{};
  std::memcpy(&value, from, sizeof value);
  return value;
}

}  // namespace

int RawDir::open(const std::string& path) {
  close();
  fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return fd_ < 0 ? -errno : 0;
}

void RawDir::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

int RawDir::read(size_t buffer_bytes, std::vector<RawEntry>* out) {
  buffer_.resize(buffer_bytes);
  const long got = syscall(SYS_getdents64, fd_, buffer_.data(), buffer_bytes);
  if (got < 0) return -errno;
  for (long at = 0; at < got;) {
    const char* const record = buffer_.data() + at;
    out->push_back({.ino = load<uint64_t>(record),
                    .offset = load<int64_t>(record + kOffsetAt),
                    .type = load<uint8_t>(record + kTypeAt),
                    .name = record + kNameAt});
    at += load<uint16_t>(record + kLengthAt);
  }
  return static_cast<int>(got);
}

int RawDir::read_all(size_t buffer_bytes, std::vector<RawEntry>* out) {
  for (;;) {
    const int got = read(buffer_bytes, out);
    if (got <= 0) return got;
  }
}

int64_t RawDir::seek(int64_t offset) {
  const off_t result = lseek(fd_, offset, SEEK_SET);
  return result < 0 ? -errno : result;
}

int64_t RawDir::tell() { return lseek(fd_, 0, SEEK_CUR); }

std::vector<RawEntry> list(const std::string& path, size_t buffer_bytes) {
  std::vector<RawEntry> entries;
  RawDir dir;
  int status = dir.open(path);
  if (status == 0) status = dir.read_all(buffer_bytes, &entries);
  if (status < 0) throw std::runtime_error("can't list " + path + ": " + std::strerror(-status));
  return entries;
}

NameCounts count_names(const std::vector<RawEntry>& entries) {
  NameCounts counts;
  for (const RawEntry& entry : entries) ++counts[entry.name];
  return counts;
}

std::string differences(const std::vector<RawEntry>& entries,
                        const std::vector<std::string>& expected, Others others) {
  NameCounts counts = count_names(entries);
  std::string text;
  const auto note = [&text](const std::string& name, const std::string& what) {
    constexpr size_t kEnough = 500;
    if (text.size() < kEnough) text += "'" + name + "' " + what + "; ";
  };
  const auto expect_once = [&](const std::string& name) {
    const auto found = counts.find(name);
    if (found == counts.end()) return note(name, "missing");
    if (found->second != 1) note(name, std::to_string(found->second) + " times");
    counts.erase(found);
  };
  expect_once(".");
  expect_once("..");
  for (const std::string& name : expected) expect_once(name);
  for (const auto& [name, count] : counts) {
    if (others == Others::kNone || count > 1) note(name, std::to_string(count) + " times extra");
  }
  return text;
}

std::vector<std::string> big_names(uint64_t count, uint32_t length) {
  const std::string prefix = "file-";
  std::vector<std::string> names;
  names.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const std::string number = std::to_string(i);
    names.push_back(prefix + std::string(length - prefix.size() - number.size(), '0') + number);
  }
  return names;
}

}  // namespace test
