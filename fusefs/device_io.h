// The functions through which libfuse reads and writes its device (fuse_session_custom_io).
//
// Purpose:        three things that libfuse 3.14 does not do.
//   - A mount that goes away as the kernel hands a request over (ECONNABORTED) ends like any other
//     (ENODEV). libfuse would print it with stdio while its main thread cancels the worker; a
//     thread that is cancelled in the middle of that keeps the stream's lock for ever.
//   - The answer to INIT tells the kernel that it may look up and list in one directory side by
//     side (FUSE_PARALLEL_DIROPS). libfuse before 3.16.2 knows the capability and leaves the flag
//     out of its answer: then every lookup in a directory waits for the one before it.
//   - A request that a worker has read when the loop ends is answered: with ENOTCONN, as its thread
//     ends. libfuse forgets it, and whoever waits for it (the kernel itself, in a notification that
//     has pages written back) would wait for as long as the mount is there.
// Ownership:      none; outlives the session whose device it is.
// Thread-safety:  read and write from any worker. INIT is the first request of all.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace fusefs {

class DeviceIo {
 public:
  // As read(2) and writev(2).
  ssize_t read(int fd, void* buffer, size_t size);
  ssize_t write(int fd, const iovec* parts, int count);
  // What this thread read last is being served.
  static void note_served();

 private:
  static constexpr uint64_t kAwaited = ~uint64_t{0};
  // Which request is an INIT that offers parallel operations and waits for its answer; kAwaited
  // until the first request has come, 0: none any more.
  std::atomic<uint64_t> init_{kAwaited};
};

}  // namespace fusefs
