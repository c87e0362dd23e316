// Protocol: what the back end asks of a version of NFS, in terms of file handles.
//
// Purpose:        versions 3 and 4 as one shape (nfs3.h, nfs4.h).
// Ownership:      refers to the client, which outlives it. Calls under way refer to the protocol's
//                 shared state by reference: the client is stopped before it goes.
// Thread-safety:  all members from any thread.
// Completion:     once, unless cancelled by its id first (Client::cancel); listings on a completion
//                 thread, the others on an I/O thread. Never from inside the member.
// Errors:         errnos. ESTALE: the handle is of no use any more. kErrBadCookie, kErrTooSmall and
//                 EAGAIN of a listing as in cache/dir/source.h.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "fusefs/backends/backend.h"
#include "fusefs/backends/nfs/nfs_client.h"

namespace fusefs::nfs {

// A file handle: at most 64 bytes in v3, 128 in v4.
using Handle = std::string;

struct FoundObject {
  Handle handle;
  Attr attr;  // mode 0: not told
};

// A child that a listing told the handle of.
struct ListedHandle {
  std::string name;
  uint64_t ino = 0;
  Handle handle;
  bool directory = false;
};

struct Listed {
  cache::DirAnswer answer;
  std::vector<ListedHandle> handles;

  // Handles of directories will be wanted for listing those; handles of files only where they are
  // few enough to be kept.
  void keep_worthwhile(size_t few) {
    if (answer.entries.size() <= few) return;
    std::erase_if(handles, [](const ListedHandle& listed) { return !listed.directory; });
  }
};

struct ReadChunk {
  std::string bytes;
  bool eof = false;
};

// What a server allows.
struct ServerLimits {
  uint32_t read_bytes = 1u << 20;
};

class Protocol {
 public:
  template <typename T>
  using Done = Backend::Done<T>;

  virtual ~Protocol() = default;

  [[nodiscard]] virtual bool names_tell_types() const = 0;  // Backend::names_tell_types()
  virtual void lookup(uint64_t id, const CallerPtr& caller, const Handle& directory,
                      const std::string& name, Done<FoundObject> done) = 0;
  virtual void getattr(uint64_t id, const CallerPtr& caller, const Handle& handle,
                       Done<Attr> done) = 0;
  virtual void readlink(uint64_t id, const CallerPtr& caller, const Handle& handle,
                        Done<std::string> done) = 0;
  virtual void statfs(uint64_t id, const CallerPtr& caller, const Handle& handle,
                      Done<StatfsAnswer> done) = 0;
  // EACCES where the caller may not read the file.
  virtual void check_readable(uint64_t id, const CallerPtr& caller, const Handle& handle,
                              Done<bool> done) = 0;
  virtual void read(uint64_t id, const CallerPtr& caller, const Handle& handle, uint64_t offset,
                    uint32_t size, Done<ReadChunk> done) = 0;
  virtual void list(uint64_t id, const CallerPtr& caller, const Handle& directory,
                    const cache::DirRequest& request,
                    std::function<void(Listed&& listed)> done) = 0;
  virtual void limits(uint64_t id, const CallerPtr& caller, const Handle& root,
                      Done<ServerLimits> done) = 0;
};

}  // namespace fusefs::nfs
