#include "fusefs/device_io.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace fusefs {
namespace {

template <typename T>
bool copy_from(T* out, const void* data, size_t size, size_t offset = 0) {
  if (size < offset + sizeof(T)) return false;
  std::memcpy(out, static_cast<const char*>(data) + offset, sizeof(T));
  return true;
}

// 0: not an INIT that offers it.
uint64_t offers_parallel(const void* request, size_t size) {
  fuse_in_header header;
  if (!copy_from(&header, request, size) || header.opcode != FUSE_INIT) return 0;
  fuse_init_in init{};
  std::memcpy(&init, static_cast<const char*>(request) + sizeof header,
              std::min(size - sizeof header, sizeof init));  // older kernels send less
  return (init.flags & FUSE_PARALLEL_DIROPS) != 0 ? header.unique : 0;
}

}  // namespace

ssize_t DeviceIo::read(int fd, void* buffer, size_t size) {
  const ssize_t got = ::read(fd, buffer, size);
  if (got < 0 && errno == ECONNABORTED) errno = ENODEV;
  if (got <= 0) return got;
  if (const uint64_t init = offers_parallel(buffer, static_cast<size_t>(got)); init != 0) {
    init_.store(init, std::memory_order_relaxed);
  }
  return got;
}

ssize_t DeviceIo::write(int fd, const iovec* parts, int count) {
  const uint64_t init = init_.load(std::memory_order_relaxed);
  if (init == 0 || count != 2) return writev(fd, parts, count);
  fuse_out_header header;
  const bool answer = copy_from(&header, parts[0].iov_base, parts[0].iov_len) &&
                      header.unique == init && header.error == 0;
  char body[sizeof(fuse_init_out)];
  const size_t flags_at = offsetof(fuse_init_out, flags);
  uint32_t flags = 0;
  if (!answer || parts[1].iov_len > sizeof body ||
      !copy_from(&flags, parts[1].iov_base, parts[1].iov_len, flags_at)) {
    return writev(fd, parts, count);
  }
  init_.store(0, std::memory_order_relaxed);
  flags |= FUSE_PARALLEL_DIROPS;
  std::memcpy(body, parts[1].iov_base, parts[1].iov_len);
  std::memcpy(body + flags_at, &flags, sizeof flags);
  const iovec patched[2] = {parts[0], {.iov_base = body, .iov_len = parts[1].iov_len}};
  return writev(fd, patched, 2);
}

}  // namespace fusefs
