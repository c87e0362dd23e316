#include "tools/stress/dir_stream.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace stress {
namespace {

// The kernel's struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
constexpr size_t kOffsetAt = 8, kLengthAt = 16, kNameAt = 19;
constexpr size_t kRoomForAnyName = 280;  // kNameAt + 255 + NUL, rounded up to 8

template <typename T>
T load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

DirStream::~DirStream() {
  if (fd_ >= 0) ::close(fd_);
}

int DirStream::open(const std::string& path) {
  if (fd_ >= 0) ::close(fd_);
  do {
    fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  } while (fd_ < 0 && errno == EINTR);
  return fd_ < 0 ? -errno : 0;
}

int64_t DirStream::fill(size_t bytes) {
  if (buffer_.size() < bytes) buffer_.resize(bytes);
  int64_t got;
  do {
    got = ::syscall(SYS_getdents64, fd_, buffer_.data(), bytes);
  } while (got < 0 && errno == EINTR);
  return got < 0 ? -errno : got;
}

int64_t DirStream::read(size_t bytes, const std::function<void(const DirEntry&)>& visit) {
  int64_t got = fill(bytes);
  if (got == -EINVAL && bytes < kRoomForAnyName) got = fill(kRoomForAnyName);
  if (got <= 0) return got;
  int64_t entries = 0;
  for (int64_t at = 0; at < got; ++entries) {
    const char* entry = buffer_.data() + at;
    visit({entry + kNameAt, load<uint64_t>(entry + kOffsetAt)});
    at += load<uint16_t>(entry + kLengthAt);
  }
  return entries;
}

int DirStream::seek(uint64_t offset) {
  return ::lseek(fd_, static_cast<off_t>(offset), SEEK_SET) < 0 ? -errno : 0;
}

}  // namespace stress
