// Protocol: what the back end asks of a version of NFS, in terms of file handles.
//
// Purpose:        versions 3 and 4 as one shape (nfs3.h, nfs4.h).
// Ownership:      refers to the client, which outlives it. Calls under way refer to the protocol's
//                 shared state by reference: the client is stopped before it goes.
// Thread-safety:  all members from any thread.
// Completion:     once, unless cancelled by its id first (Client::cancel); listings, reads and
//                 writes on a completion thread, the others on an I/O thread. Only open() may
//                 complete from inside the member.
// Doubt:          a change whose call had to be sent again, because a connection broke, may have
//                 been done by the first sending: then what the server says of the second (EEXIST,
//                 ENOENT) is told as `doubt` of a success, and is for the asker to look into.
// Errors:         errnos. ESTALE: the handle is of no use any more. kErrBadCookie, kErrTooSmall and
//                 EAGAIN of a listing as in cache/dir/source.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
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
  uint32_t write_bytes = 1u << 20;
};

// ---- Changes ----

// An object to be made under a name that must be new.
struct NewObject {
  Handle directory;
  std::string name;
  uint32_t mode = 0;  // with the type
  uint64_t rdev = 0;
  std::string target;  // of a symbolic link
  // Its first access time: a little after now, by chance. By that a call that was sent twice knows
  // its own work.
  cache::Timespec mark;
};
using NewObjectPtr = std::shared_ptr<const NewObject>;

struct MadeObject {
  FoundObject object;  // an empty handle, or mode 0: not told
  DirChange parent;
  int doubt = 0;  // EEXIST
};

struct RemovedObject {
  DirChange parent;
  int doubt = 0;  // ENOENT
};

struct RenamedObject {
  RenamedAnswer change;
  int doubt = 0;  // ENOENT
};

struct NameIn {
  Handle directory;
  std::string name;
};

// Bytes [from, from + size) of `bytes`, to be written at `offset`.
struct WriteArgs {
  uint64_t offset = 0;
  std::shared_ptr<const std::string> bytes;
  size_t from = 0, size = 0;
  StableHow how = StableHow::kUnstable;
  [[nodiscard]] std::string_view piece() const {
    return std::string_view(*bytes).substr(from, size);
  }
};

// As both versions have it on the wire; DATA_SYNC is 1.
constexpr uint32_t stable_how(StableHow how) { return how == StableHow::kFileSync ? 2 : 0; }

struct Written {
  uint32_t count = 0;
  WriteAnswer answer;
};

// A file that is open, as a protocol knows it: its handle, and whatever state the server keeps.
class OpenFile {
 public:
  OpenFile(Handle handle, uint64_t ino) : handle_(std::move(handle)), ino_(ino) {}
  virtual ~OpenFile() = default;
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  [[nodiscard]] const Handle& handle() const { return handle_; }
  [[nodiscard]] uint64_t ino() const { return ino_; }

 private:
  const Handle handle_;
  const uint64_t ino_;
};
using OpenFilePtr = std::shared_ptr<OpenFile>;

struct CreatedObject {
  MadeObject made;
  OpenFilePtr file;  // null: open it by its name
};

// How to reach a file that is to be opened: by handle and, where that is not enough, by name.
struct OpenPlace {
  Handle handle;
  uint64_t ino = 0;   // 0: not known
  NameIn where;       // only where opens_by_name() wants it
  bool made = false;  // by this caller, just now: may be opened whatever its mode says
};

class Protocol {
 public:
  template <typename T>
  using Done = Backend::Done<T>;

  virtual ~Protocol() = default;
  // Before the client goes: nothing more is sent of the protocol's own accord.
  virtual void stop() {}

  [[nodiscard]] virtual bool names_tell_types() const = 0;  // Backend::names_tell_types()
  virtual void lookup(uint64_t id, const CallerPtr& caller, const Handle& directory,
                      const std::string& name, Done<FoundObject> done) = 0;
  virtual void getattr(uint64_t id, const CallerPtr& caller, const Handle& handle,
                       Done<Attr> done) = 0;
  virtual void readlink(uint64_t id, const CallerPtr& caller, const Handle& handle,
                        Done<std::string> done) = 0;
  virtual void statfs(uint64_t id, const CallerPtr& caller, const Handle& handle,
                      Done<StatfsAnswer> done) = 0;
  virtual void read(uint64_t id, const CallerPtr& caller, const Handle& handle, uint64_t offset,
                    uint32_t size, Done<ReadChunk> done) = 0;
  virtual void list(uint64_t id, const CallerPtr& caller, const Handle& directory,
                    const cache::DirRequest& request,
                    std::function<void(Listed&& listed)> done) = 0;
  virtual void limits(uint64_t id, const CallerPtr& caller, const Handle& root,
                      Done<ServerLimits> done) = 0;

  // Open files. Of `flags` the access mode counts; EACCES where the caller may not open the file
  // so.
  [[nodiscard]] virtual bool opens_by_name(int flags) const = 0;
  virtual void open(uint64_t id, const CallerPtr& caller, const OpenPlace& place, int flags,
                    Done<OpenFilePtr> done) = 0;
  virtual void close(OpenFilePtr file) = 0;
  // Makes a regular file and opens it.
  virtual void create(uint64_t id, const CallerPtr& caller, const NewObjectPtr& object, int flags,
                      Done<CreatedObject> done) = 0;
  // Some of the bytes, at least one.
  virtual void write(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file, WriteArgs args,
                     Done<Written> done) = 0;
  virtual void commit(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file,
                      Done<uint64_t> done) = 0;
  // Backend's locks. open_to_lock(): `place` with a name.
  // NOLINTBEGIN(performance-unnecessary-value-param): as those take them that have locks.
  [[nodiscard]] virtual bool has_locks() const { return false; }
  virtual void open_to_lock(uint64_t /*id*/, const CallerPtr& /*caller*/,
                            const OpenPlace& /*place*/, int /*flags*/, Done<OpenFilePtr> done) {
    done(cache::Status::error(ENOSYS));
  }
  virtual void set_lock(const CallerPtr& /*caller*/, const OpenFilePtr& /*file*/,
                        const FileLock& /*lock*/, Done<Nothing> done) {
    done(cache::Status::error(ENOSYS));
  }
  virtual void test_lock(uint64_t /*id*/, const CallerPtr& /*caller*/, const OpenFilePtr& /*file*/,
                         const FileLock& /*lock*/, Done<FileLock> done) {
    done(cache::Status::error(ENOSYS));
  }
  // NOLINTEND(performance-unnecessary-value-param)
  // `file`: open for writing, or null. Attributes of mode 0: not told.
  virtual void setattr(uint64_t id, const CallerPtr& caller, const Handle& handle,
                       const OpenFilePtr& file, const SetAttr& set, Done<Attr> done) = 0;
  // Files that were unlinked are kept while they are open for writing, or reading.
  [[nodiscard]] virtual bool keeps_unlinked() const = 0;

  // Changes of the tree.
  virtual void make(uint64_t id, const CallerPtr& caller, const NewObjectPtr& object,
                    Done<MadeObject> done) = 0;
  virtual void link(uint64_t id, const CallerPtr& caller, const Handle& handle, const NameIn& to,
                    Done<MadeObject> done) = 0;
  enum class Removed : uint8_t { kDirectory, kOther };
  virtual void remove(uint64_t id, const CallerPtr& caller, const NameIn& name, Removed what,
                      Done<RemovedObject> done) = 0;
  virtual void rename(uint64_t id, const CallerPtr& caller, const NameIn& from, const NameIn& to,
                      Done<RenamedObject> done) = 0;
};

}  // namespace fusefs::nfs
