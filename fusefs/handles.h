// Open handles: what fi->fh points to.
//
// Ownership:      HandleList owns every handle from opendir or open to release, or to the end of
//                 the mount where no release came (an aborted connection). A handle pins its inode.
// Thread-safety:  HandleList: all members from any thread. The kernel never uses a handle after it
//                 released it.
// Locks:          HandleList's is a leaf; handles are destroyed with none held. DirHandle's mutex
//                 is held while its listing is read, also while that waits for the remote: the
//                 kernel reads an open directory one call at a time, so nobody queues there.
#pragma once

#include <algorithm>
#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <memory>
#include <utility>

#include "cache/base/mutex.h"
#include "cache/dir/directory.h"
#include "fusefs/backends/backend.h"
#include "fusefs/dir_state.h"
#include "fusefs/file_state.h"
#include "fusefs/inode_table.h"

namespace fusefs {

class OpenHandle : public boost::intrusive::list_base_hook<> {
 public:
  OpenHandle() = default;
  virtual ~OpenHandle() = default;
  OpenHandle(const OpenHandle&) = delete;
  OpenHandle& operator=(const OpenHandle&) = delete;
  [[nodiscard]] virtual const Inode& object() const = 0;
};

// Where a reader of an open directory is, beyond its cursor.
struct DirPass {
  bool begun = false;
  ListingAge::Attributes attributes = ListingAge::Attributes::kOmit;
  // Every reply since the start linked all that it gave, up to this position; the kernel believes
  // that so long.
  bool links_all = true;
  uint64_t linked_to = 0;
  cache::TimePoint believed_until = cache::TimePoint::max();
  // An entry whose cookie equals kAfterDot or kAfterDotDot was given (dot_entries.h).
  bool entry_at_dot = false;
  bool entry_at_dotdot = false;
};

// A directory listed past the cache: through one of its own, that nobody else reads.
struct RemoteListing {
  RemoteListing(cache::PageCache& cache, Backend& backend, const ObjectId& object,
                const CallerPtr& opener)
      : source(backend, object), directory(cache, source) {
    source.act_for(opener);
    directory.opened();
  }
  ~RemoteListing() { directory.closed(); }
  RemoteListing(const RemoteListing&) = delete;
  RemoteListing& operator=(const RemoteListing&) = delete;

  BackendDirSource source;
  cache::Directory directory;
  cache::DirCursor cursor;
  uint64_t position = 0;
};

class DirHandle final : public OpenHandle {
 public:
  DirHandle(InodeRef inode_in, std::shared_ptr<DirState> dir_in, CallerPtr opener_in)
      : inode(std::move(inode_in)), dir(std::move(dir_in)), opener(std::move(opener_in)) {
    dir->directory().opened();
  }
  ~DirHandle() override { dir->directory().closed(); }
  [[nodiscard]] const Inode& object() const override { return *inode; }

  const InodeRef inode;
  const std::shared_ptr<DirState> dir;
  const CallerPtr opener;
  cache::Mutex mutex{cache::LockRank::kHandle};
  cache::DirCursor cursor GUARDED_BY(mutex);
  DirPass pass GUARDED_BY(mutex);
  std::unique_ptr<RemoteListing> remote GUARDED_BY(mutex);  // null: never asked for
};

// `source` is kept by dirty pages as well: what is not written when the handle is closed still can
// be.
class FileHandle final : public OpenHandle {
 public:
  FileHandle(InodeRef inode_in, std::shared_ptr<FileState> state_in, BackendFileSourcePtr source_in)
      : inode(std::move(inode_in)),
        state(std::move(state_in)),
        source(std::move(source_in)),
        errors(state->data().error_mark()) {
    state->opened(source);
  }
  ~FileHandle() override { state->closed(source); }
  [[nodiscard]] const Inode& object() const override { return *inode; }

  const InodeRef inode;
  const std::shared_ptr<FileState> state;
  const BackendFileSourcePtr source;
  cache::ReadStream stream;  // used under the file's own lock
  cache::Mutex mutex{cache::LockRank::kHandle};
  cache::ErrorMark errors GUARDED_BY(mutex);
  // Not null: closed by one of those who share it, or by all. What sync() has told since: see
  // Lingering.
  std::shared_ptr<cache::ErrorMark> lost GUARDED_BY(mutex);
};

class HandleList {
 public:
  HandleList() = default;
  ~HandleList() { clear(); }
  HandleList(const HandleList&) = delete;
  HandleList& operator=(const HandleList&) = delete;

  // The value for fi->fh.
  uint64_t add(std::unique_ptr<OpenHandle> handle) {
    OpenHandle* const raw = handle.release();
    cache::MutexLock lock(mutex_);
    handles_.push_back(*raw);
    // As OpenHandle*: the way back is the same for both kinds.
    return static_cast<uint64_t>(reinterpret_cast<uintptr_t>(raw));
  }
  template <typename Handle>
  static Handle& get(uint64_t fh) {
    return static_cast<Handle&>(*reinterpret_cast<OpenHandle*>(fh));  // NOLINT: fi->fh is a number
  }
  void close(uint64_t fh) {
    std::unique_ptr<OpenHandle> handle(&get<OpenHandle>(fh));  // outlives the lock
    cache::MutexLock lock(mutex_);
    handles_.erase(handles_.iterator_to(*handle));
  }
  // Something in the directory of that node id is open. They look at all handles.
  [[nodiscard]] bool any_file_in(uint64_t parent) { return any_in(parent, false); }
  [[nodiscard]] bool any_directory_in(uint64_t parent) { return any_in(parent, true); }
  // Unmount: those that were never released.
  void clear() {
    boost::intrusive::list<OpenHandle> left;
    {
      cache::MutexLock lock(mutex_);
      left.swap(handles_);
    }
    left.clear_and_dispose([](OpenHandle* handle) { delete handle; });
  }

 private:
  bool any_in(uint64_t parent, bool directories) {
    cache::MutexLock lock(mutex_);
    return std::any_of(handles_.begin(), handles_.end(), [&](const OpenHandle& handle) {
      const Inode& object = handle.object();
      return object.parent() == parent && object.is_directory() == directories;
    });
  }

  cache::Mutex mutex_{cache::LockRank::kLeaf};
  boost::intrusive::list<OpenHandle> handles_ GUARDED_BY(mutex_);
};

}  // namespace fusefs
