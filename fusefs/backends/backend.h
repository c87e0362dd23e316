// The back-end interface: a remote tree, as the daemon asks for it.
//
// Purpose:        one shape for sim, local, nfs and sftp. Back ends know this and cache/dir's
//                 source interface, never FUSE, never one another.
// Ownership:      the session owns its back end; a back end owns its connections and threads and
//                 has joined them all when its destructor returns (completions that have not run
//                 by then are dropped).
// Thread-safety:  all members may be called from any thread.
// Completion:     `done` runs exactly once, on any thread, possibly before the call returns
//                 (read_dir: never before it returns), unless the request is cancelled first; a
//                 completion holds no lock of the back end's.
// Errors:         errnos in Result/Status, as a local filesystem would give them. ESTALE: the
//                 object is gone. ENOSYS: this back end can't do the operation at all.
// Callers:        every call says on whose behalf it is made, where the back end wants to know;
//                 those that make an object always do, since it is to be the caller's.
// Changes:        are sent once. Where a reply was lost and the request had to be sent again, an
//                 EEXIST, ENOENT or the like that the first sending may have caused is looked into
//                 before it is told. One that is cancelled or times out may have happened.
//                 A read-only back end overrides none of the changing operations: EROFS.
#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/base/hash.h"
#include "cache/base/result.h"
#include "cache/data/file_source.h"
#include "cache/dir/attr.h"
#include "cache/dir/source.h"
#include "fusefs/backends/backend_options.h"
#include "fusefs/backends/file_lock.h"

namespace fusefs {

using cache::Attr;
using cache::Result;
using cache::StableHow;
using cache::Status;
using cache::WriteAnswer;

// Of what tells one version of a file from another: size and times. Never 0.
inline uint64_t file_stamp(const Attr& attr) {
  uint64_t stamp = attr.size;
  for (const cache::Timespec& time : {attr.mtime, attr.ctime}) {
    stamp = cache::mix64(stamp ^ static_cast<uint64_t>(time.seconds));
    stamp = cache::mix64(stamp + time.nanoseconds);
  }
  return stamp | 1;
}

// A back end's own name of an object: opaque, stable while the object lives, at most 4096 bytes
// (sim: a number; local: a path under the root; nfs: a file handle; sftp: a path).
using ObjectId = std::string;

// Whose request it is, as the kernel tells it. What many callers share (a directory's listing) goes
// under the identity of the one who read it last.
struct Caller {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> groups;  // supplementary
  bool operator==(const Caller&) const = default;
};
// Null: the daemon itself, or a back end that does not want to know.
using CallerPtr = std::shared_ptr<const Caller>;

struct LookupAnswer {
  ObjectId id;
  Attr attr;
};

struct StatfsAnswer {
  uint64_t block_size = 4096;  // bytes
  uint64_t blocks = 0, blocks_free = 0, blocks_available = 0;
  uint64_t files = 0, files_free = 0;
  uint32_t name_max = 255;
};

// What became of a directory's change token (Attr::change) by one change of ours. Where `before` is
// the token that a listing has, nobody else changed the directory in between: the listing may be
// changed in place, and has the token `after` then. 0: not told.
struct DirChange {
  uint64_t before = 0;
  uint64_t after = 0;
  std::optional<Attr> attr = {};  // the directory's afterwards, where they came along
};

// An object that was made, and the directory it was made in.
struct MadeAnswer {
  LookupAnswer entry;
  DirChange parent;
};

struct CreatedAnswer {
  LookupAnswer entry;
  DirChange parent;
  uint64_t file = 0;   // Backend::FileHandle, open
  bool ahead = false;  // the remote has not answered yet: see create_ahead()
};

struct RenamedAnswer {
  DirChange from, to;  // the same where both directories are one
};

// What setattr() is to change.
struct SetAttr {
  static constexpr uint32_t kMode = 1, kUid = 2, kGid = 4, kSize = 8, kAtime = 16, kMtime = 32;
  static constexpr uint32_t kAtimeNow = 64, kMtimeNow = 128;  // the remote's own clock
  uint32_t valid = 0;
  uint32_t mode = 0;  // permission bits
  uint32_t uid = 0, gid = 0;
  uint64_t size = 0;
  cache::Timespec atime, mtime;
  [[nodiscard]] bool has(uint32_t what) const { return (valid & what) != 0; }
  // What a later one sets counts.
  void merge(const SetAttr& later) {
    valid |= later.valid;
    if (later.has(kMode)) mode = later.mode;
    if (later.has(kUid)) uid = later.uid;
    if (later.has(kGid)) gid = later.gid;
    if (later.has(kSize)) size = later.size;
    if (later.has(kAtime)) atime = later.atime;
    if (later.has(kMtime)) mtime = later.mtime;
  }
  // To attributes whose ctime is that of the change: all but a size.
  void apply_to(Attr* attr) const {
    if (has(kMode)) attr->mode = (attr->mode & S_IFMT) | (mode & 07777);
    if (has(kUid)) attr->uid = uid;
    if (has(kGid)) attr->gid = gid;
    if (has(kAtime)) attr->atime = atime;
    if (has(kMtime)) attr->mtime = mtime;
    if (has(kAtimeNow)) attr->atime = attr->ctime;
    if (has(kMtimeNow)) attr->mtime = attr->ctime;
  }
};

// When the remote is told the attributes that a program sets on a file it is making (FileState).
enum class NewFileAttrs : uint8_t {
  kAtOnce,
  kAfterData,   // all in one request, once what was written has been answered
  kBehindData,  // ... right behind it: what goes through one handle is done in the order asked
};

// Nothing but that it worked.
struct Nothing {};

// Counters every back end keeps; read at any time.
struct BackendCounters {
  uint64_t requests = 0;  // sent to the remote
  uint64_t inflight = 0;
  uint64_t inflight_peak = 0;
  uint64_t errors = 0;  // answers that were failures of the remote or of the way to it
};

class Backend {
 public:
  using RequestId = uint64_t;  // 0: completed already, nothing to cancel
  template <typename T>
  using Done = std::function<void(Result<T>)>;
  using FileHandle = uint64_t;

  virtual ~Backend() = default;

  // Reaches the remote and learns the root. Blocking, within the back end's own deadline. On
  // failure `error_text` says in one line what is wrong and what would be right.
  virtual Result<LookupAnswer> connect(std::string* error_text) = 0;

  virtual RequestId lookup(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                           Done<LookupAnswer> done) = 0;
  virtual RequestId getattr(const CallerPtr& caller, const ObjectId& id, Done<Attr> done) = 0;
  virtual RequestId readlink(const CallerPtr& caller, const ObjectId& id,
                             Done<std::string> done) = 0;
  virtual RequestId statfs(const CallerPtr& caller, const ObjectId& id,
                           Done<StatfsAnswer> done) = 0;

  // Open files. A file is read and written as its opener, whoever does it: the kernel reads ahead
  // and writes back for nobody. Of `flags` the access mode counts, and O_TRUNC, where the session
  // passes it. `read` gives fewer bytes than asked for only at the end of the file. A handle stays
  // good when the file is renamed; see keeps_unlinked().
  virtual RequestId open(const CallerPtr& caller, const ObjectId& id, int flags,
                         Done<FileHandle> done) = 0;
  virtual RequestId read(const CallerPtr& caller, FileHandle file, uint64_t offset, uint32_t size,
                         Done<std::string> done) = 0;
  virtual void release(FileHandle file) = 0;

  // What a read-only back end leaves as it is takes its arguments as those do that keep them.
  // NOLINTBEGIN(performance-unnecessary-value-param)

  // All of the bytes, or an error. What was written is in the remote's own hands (a daemon that is
  // killed loses nothing), but for WriteAnswer::stable.
  virtual RequestId write(const CallerPtr& /*caller*/, FileHandle /*file*/, uint64_t /*offset*/,
                          std::string /*bytes*/, StableHow /*how*/, Done<WriteAnswer> done) {
    return refuse(done);
  }
  // Durable on the remote's disk, as far as it can promise that; tells WriteAnswer's verifier.
  virtual RequestId fsync(const CallerPtr& /*caller*/, FileHandle /*file*/, Done<uint64_t> done) {
    return refuse(done);
  }
  // Attributes of an open file, whatever has become of its name. ENOSYS: ask by id.
  virtual RequestId getattr_open(const CallerPtr& /*caller*/, FileHandle /*file*/,
                                 Done<Attr> done) {
    return refuse(done, ENOSYS);
  }
  // fallocate(2) and copy_file_range(2); EOPNOTSUPP where the remote has no such thing. The session
  // has written and dropped what it held of these ranges. copy: how many bytes were copied. Durable
  // where the remote's writes say that they are (WriteAnswer).
  virtual RequestId fallocate(const CallerPtr& /*caller*/, FileHandle /*file*/, int /*mode*/,
                              uint64_t /*offset*/, uint64_t /*length*/, Done<Nothing> done) {
    return refuse(done);
  }
  virtual RequestId copy_range(const CallerPtr& /*caller*/, FileHandle /*from*/,
                               uint64_t /*from_offset*/, FileHandle /*to*/, uint64_t /*to_offset*/,
                               uint64_t /*length*/, Done<uint64_t> done) {
    return refuse(done);
  }
  // Advisory locks that hold against whoever else uses the remote. False: it has none, and those of
  // this mount's programs are the kernel's business.
  [[nodiscard]] virtual bool has_locks() const { return false; }
  // Opens a file in order to lock it: each holder of locks has one of his own, and release() ends
  // them. `file`: one of the same object that is open already, and so that it may be opened like
  // that; `flags` as open().
  virtual RequestId open_to_lock(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                                 FileHandle /*file*/, int /*flags*/, Done<FileHandle> done) {
    return refuse(done, ENOSYS);
  }
  // Takes a lock, or gives it up (LockType::kNone). Nobody waits for it: EAGAIN where somebody
  // else's is in the way. Those of one holder are set one after the other. EOWNERDEAD: the remote
  // has lost what was held here; nothing is any more.
  virtual RequestId set_lock(const CallerPtr& /*caller*/, FileHandle /*file*/,
                             const FileLock& /*lock*/, Done<Nothing> done) {
    return refuse(done, ENOSYS);
  }
  // Tells what would be in its way; LockType::kNone: nothing. `file`: of open_to_lock(), whose own
  // locks are not; or of open().
  virtual RequestId test_lock(const CallerPtr& /*caller*/, FileHandle /*file*/,
                              const FileLock& /*lock*/, Done<FileLock> done) {
    return refuse(done, ENOSYS);
  }
  // The most bytes of a read or write that one request carries, or is worth asking for at once.
  [[nodiscard]] virtual uint32_t max_read() const { return 1u << 20; }
  [[nodiscard]] virtual uint32_t max_write() const { return 1u << 20; }
  // False: a file that was unlinked can't be reached by its handle any more (NFS version 3). The
  // session then renames one that is open instead, and unlinks it after the last close.
  [[nodiscard]] virtual bool keeps_unlinked() const { return true; }
  [[nodiscard]] virtual NewFileAttrs new_file_attrs() const { return NewFileAttrs::kAtOnce; }
  // False: `nlink` of what is no directory says nothing (SFTP). The session then counts the names
  // that it knows of.
  [[nodiscard]] virtual bool counts_links() const { return true; }
  // How to learn what an open file is right before it is written to.
  enum class BeforeWrite : uint8_t {
    kAsk,   // requests of a file are served in their order
    kTold,  // by the answers of writes, as a file_stamp()
    kWait,  // requests may pass each other, and answers don't tell
  };
  [[nodiscard]] virtual BeforeWrite before_write() const { return BeforeWrite::kAsk; }

  // Changes of the tree. `mode` has the umask applied. An existing name: EEXIST.
  // Makes a regular file and opens it; `flags` as open(). With O_EXCL the name must be new; without
  // it a file that is there is opened.
  virtual RequestId create(const CallerPtr& /*caller*/, const ObjectId& /*parent*/,
                           const std::string& /*name*/, uint32_t /*mode*/, int /*flags*/,
                           Done<CreatedAnswer> done) {
    return refuse(done);
  }
  // The same for a name that is known not to be there, without waiting for the remote, where enough
  // is known of what it will say: `done` is told what that would be (`ahead`), and the handle can
  // be used. Then `late` is called, once, with the remote's own answer, without a file; its
  // `parent` is what `done` was told, or nothing where that was wrong: somebody else has changed
  // the directory meanwhile, or the file got another mode or owner. Or with what kept it from
  // making the file: every use of the handle fails with ESTALE after that. A back end that can't,
  // or not now, does what create() does, and never calls `late`.
  virtual RequestId create_ahead(const CallerPtr& caller, const ObjectId& parent,
                                 const std::string& name, uint32_t mode, int flags,
                                 Done<CreatedAnswer> done, Done<CreatedAnswer> /*late*/) {
    return create(caller, parent, name, mode, flags, std::move(done));
  }
  virtual RequestId mkdir(const CallerPtr& /*caller*/, const ObjectId& /*parent*/,
                          const std::string& /*name*/, uint32_t /*mode*/, Done<MadeAnswer> done) {
    return refuse(done);
  }
  // `mode` with the type: regular files, pipes, sockets, devices.
  virtual RequestId mknod(const CallerPtr& /*caller*/, const ObjectId& /*parent*/,
                          const std::string& /*name*/, uint32_t /*mode*/, uint64_t /*rdev*/,
                          Done<MadeAnswer> done) {
    return refuse(done);
  }
  virtual RequestId symlink(const CallerPtr& /*caller*/, const ObjectId& /*parent*/,
                            const std::string& /*name*/, const std::string& /*target*/,
                            Done<MadeAnswer> done) {
    return refuse(done);
  }
  virtual RequestId link(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                         const ObjectId& /*parent*/, const std::string& /*name*/,
                         Done<MadeAnswer> done) {
    return refuse(done);
  }
  virtual RequestId unlink(const CallerPtr& /*caller*/, const ObjectId& /*parent*/,
                           const std::string& /*name*/, Done<DirChange> done) {
    return refuse(done);
  }
  virtual RequestId rmdir(const CallerPtr& /*caller*/, const ObjectId& /*parent*/,
                          const std::string& /*name*/, Done<DirChange> done) {
    return refuse(done);
  }
  // `flags`: 0, RENAME_NOREPLACE or RENAME_EXCHANGE; EINVAL where the remote can't do that one.
  virtual RequestId rename(const CallerPtr& /*caller*/, const ObjectId& /*from_parent*/,
                           const std::string& /*from_name*/, const ObjectId& /*to_parent*/,
                           const std::string& /*to_name*/, uint32_t /*flags*/,
                           Done<RenamedAnswer> done) {
    return refuse(done);
  }
  // Tells the attributes afterwards. `file` is an open handle of the object, or 0.
  virtual RequestId setattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                            FileHandle /*file*/, const SetAttr& /*set*/, Done<Attr> done) {
    return refuse(done);
  }
  // `flags`: XATTR_CREATE, XATTR_REPLACE.
  virtual RequestId setxattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                             const std::string& /*name*/, const std::string& /*value*/,
                             int /*flags*/, Done<Nothing> done) {
    return refuse(done);
  }
  virtual RequestId removexattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                                const std::string& /*name*/, Done<Nothing> done) {
    return refuse(done);
  }

  // NOLINTEND(performance-unnecessary-value-param)

  // The id that the object `id` has now that the object `from` (it, or a directory above it) has
  // become `to`. Empty: it is not concerned. Back ends whose ids hold paths override it.
  [[nodiscard]] virtual ObjectId moved_id(const ObjectId& /*id*/, const ObjectId& /*from*/,
                                          const ObjectId& /*to*/) const {
    return {};
  }

  // Extended attributes; ENOSYS where the back end has none.
  virtual RequestId getxattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                             Done<std::string> done) = 0;
  virtual RequestId listxattr(const CallerPtr& caller, const ObjectId& id,
                              Done<std::string> done) = 0;  // NUL-separated

  // Entries of one directory, as cache/dir/source.h says it.
  virtual RequestId read_dir(const CallerPtr& caller, const ObjectId& directory,
                             cache::DirRequest request, cache::DirSource::Completion done) = 0;
  [[nodiscard]] virtual cache::CookieKind cookie_kind() const = 0;
  [[nodiscard]] virtual uint32_t max_batch() const = 0;

  // False: a listing without attributes does not tell which entries are directories, and programs
  // that want to know ask for each.
  [[nodiscard]] virtual bool names_tell_types() const { return true; }

  // The id of a child that a listing told, without asking the remote: what READDIRPLUS needs.
  // Empty: this back end needs a lookup.
  [[nodiscard]] virtual ObjectId child_id(const ObjectId& parent, std::string_view name,
                                          uint64_t ino) const = 0;

  virtual void cancel(RequestId id) = 0;

  // True: calls are to come with their callers. Else finding out who calls is not worth its cost.
  [[nodiscard]] virtual bool wants_callers() const { return false; }

  // True: it answers from within the call, so nothing is gained by asking ahead.
  [[nodiscard]] virtual bool answers_at_once() const { return false; }

  [[nodiscard]] virtual BackendCounters counters() const = 0;
  // What `mount` and `stats` show as the source, without secrets.
  [[nodiscard]] virtual std::string description() const = 0;
  // How long an answer may take before its asker gives up, where the back end knows better than
  // the mount's `timeout=`; 0: no opinion.
  [[nodiscard]] virtual uint64_t suggested_timeout_ms() const { return 0; }

 protected:
  template <typename T>
  static RequestId refuse(const Done<T>& done, int error_number = EROFS) {
    done(Status::error(error_number));
    return 0;
  }
};

// Makes a back end from a mount source: a URL or a path. Null and one line in `error_text` (what
// is wrong and what would be right) when the source is malformed or does not know an option.
std::unique_ptr<Backend> make_backend(const std::string& source, const BackendOptions& options,
                                      std::string* error_text);

// The options that the back end of that source knows; none where the source is malformed.
BackendOptionSpecs backend_option_specs(const std::string& source);

}  // namespace fusefs
