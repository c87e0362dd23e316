// The source of one open file's data: what data pages ask of a remote.
//
// Purpose:        the only thing that cache/data knows of back ends and protocols. One object for
//                 each open file: it carries the handle and whose identity requests have.
// Ownership:      shared by the open file and, while they last, its fills and the dirty pages that
//                 were written through it: data that could not be written yet keeps its way open.
// Thread-safety:  all members may be called from any thread, with no lock held by the caller that
//                 the completion takes.
// Completion:     `done` runs exactly once, on any thread, possibly before the call returns, unless
//                 the request is cancelled first.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "cache/base/result.h"

namespace cache {

// What a remote says of a write.
struct WriteAnswer {
  // False: the remote may still lose it (NFS: UNSTABLE) until a commit() that tells the same
  // verifier. True: it will not, as far as a commit() has any meaning there.
  bool stable = true;
  uint64_t verifier = 0;  // of the remote's life; another one: what was not stable may be lost
  // It is on the remote's disk, and so is everything else that was changed there: only writes that
  // say otherwise need a commit() (NFS).
  bool durable = false;
  // What the file was right before, to be compared by whoever made the source; 0: not told.
  uint64_t before = 0;
};

// Of a write (RFC 1813, stable_how): whether a commit is to follow. A remote may do more than it
// is asked for, or less: its answer tells.
enum class StableHow : uint8_t { kUnstable, kFileSync };

// The network, or the remote for the time being: to be tried again. Everything else is its last
// word.
[[nodiscard]] bool is_transient(int error);

class FileSource {
 public:
  using RequestId = uint64_t;  // 0: completed already, nothing to cancel
  template <typename T>
  using Done = std::function<void(Result<T>)>;

  virtual ~FileSource() = default;

  // Fewer bytes than asked for only at the end of the file.
  virtual RequestId read(uint64_t offset, uint32_t size, Done<std::string> done) = 0;
  // All of the bytes, or an error: then any part of them may have been written. May be repeated.
  virtual RequestId write(uint64_t offset, std::string bytes, StableHow how,
                          Done<WriteAnswer> done) = 0;
  // Makes durable what has been written before; tells the verifier of the remote's present life.
  virtual RequestId commit(Done<uint64_t> done) = 0;
  virtual void cancel(RequestId id) = 0;

  [[nodiscard]] virtual bool readable() const = 0;  // else read() answers EBADF
  [[nodiscard]] virtual bool writable() const = 0;  // else write() answers EBADF
  // The most that a request is worth asking for, bytes, at least a page.
  [[nodiscard]] virtual uint32_t max_read() const = 0;
  [[nodiscard]] virtual uint32_t max_write() const = 0;
};

}  // namespace cache
