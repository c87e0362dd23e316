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
// Callers:        every call says on whose behalf it is made, where the back end wants to know.
// Later issues add the changing operations beside these, in the same shape.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cache/base/result.h"
#include "cache/dir/attr.h"
#include "cache/dir/source.h"
#include "fusefs/backends/backend_options.h"

namespace fusefs {

using cache::Attr;
using cache::Result;
using cache::Status;

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

  // Open files, read only. A file is read as its opener, whoever reads: the kernel reads ahead for
  // nobody. `read` gives fewer bytes than asked for only at the end of the file.
  virtual RequestId open(const CallerPtr& caller, const ObjectId& id, int flags,
                         Done<FileHandle> done) = 0;
  virtual RequestId read(const CallerPtr& caller, FileHandle file, uint64_t offset, uint32_t size,
                         Done<std::string> done) = 0;
  virtual void release(FileHandle file) = 0;

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
};

// Makes a back end from a mount source: a URL or a path. Null and one line in `error_text` (what
// is wrong and what would be right) when the source is malformed or does not know an option.
std::unique_ptr<Backend> make_backend(const std::string& source, const BackendOptions& options,
                                      std::string* error_text);

// The options that the back end of that source knows; none where the source is malformed.
BackendOptionSpecs backend_option_specs(const std::string& source);

}  // namespace fusefs
