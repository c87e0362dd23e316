#include "fusefs/device_io.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace fusefs {
namespace {

// 0: not an INIT that offers it.
uint64_t offers_parallel(const void* request, size_t size) {
  fuse_in_header header;
  if (size < sizeof header) return 0;
  std::memcpy(&header, request, sizeof header);
  if (header.opcode != FUSE_INIT) return 0;
  fuse_init_in init{};
  std::memcpy(&init, static_cast<const char*>(request) + sizeof header,
              std::min(size - sizeof header, sizeof init));  // older kernels send less
  return (init.flags & FUSE_PARALLEL_DIROPS) != 0 ? header.unique : 0;
}

// What this thread has read and not looked at yet. libfuse cancels workers that wait in read(2),
// and glibc may end one there that has got a request already: the buffer tells. One that libfuse
// serves by itself leaves its mark until the next; an answer that the kernel does not wait for is
// refused, and does no harm.
struct Unserved {
  int fd = -1;
  uint64_t unique = 0;                      // 0: none
  const fuse_in_header* reading = nullptr;  // into that, which is libfuse's; null: not

  ~Unserved() {
    const uint64_t last = reading != nullptr ? reading->unique : unique;
    if (last == 0) return;
    fuse_out_header answer{};
    answer.len = sizeof answer;
    answer.error = -ENOTCONN;
    answer.unique = last;
    static_cast<void>(::write(fd, &answer, sizeof answer) == sizeof answer);
  }
};
thread_local Unserved unserved;

}  // namespace

void DeviceIo::note_served() { unserved.unique = 0; }

ssize_t DeviceIo::read(int fd, void* buffer, size_t size) {
  if (size < sizeof(fuse_in_header)) return ::read(fd, buffer, size);  // libfuse never does
  auto* const header = static_cast<fuse_in_header*>(buffer);
  std::memset(header, 0, sizeof *header);
  unserved.fd = fd;
  unserved.reading = header;
  const ssize_t got = ::read(fd, buffer, size);
  unserved.reading = nullptr;
  unserved.unique = got > 0 ? header->unique : 0;
  if (got < 0 && errno == ECONNABORTED) errno = ENODEV;
  if (got > 0 && init_.load(std::memory_order_relaxed) == kAwaited) {
    init_.store(offers_parallel(buffer, static_cast<size_t>(got)), std::memory_order_relaxed);
  }
  return got;
}

ssize_t DeviceIo::write(int fd, const iovec* parts, int count) {
  note_served();
  const uint64_t init = init_.load(std::memory_order_relaxed);
  fuse_out_header header;
  fuse_init_out answer{};
  if (init == 0 || count != 2 || parts[0].iov_len != sizeof header ||
      parts[1].iov_len > sizeof answer) {
    return writev(fd, parts, count);
  }
  std::memcpy(&header, parts[0].iov_base, sizeof header);
  if (header.unique != init || header.error != 0) return writev(fd, parts, count);
  init_.store(0, std::memory_order_relaxed);
  std::memcpy(&answer, parts[1].iov_base, parts[1].iov_len);
  answer.flags |= FUSE_PARALLEL_DIROPS;
  const iovec patched[2] = {parts[0], {.iov_base = &answer, .iov_len = parts[1].iov_len}};
  return writev(fd, patched, 2);
}

}  // namespace fusefs
