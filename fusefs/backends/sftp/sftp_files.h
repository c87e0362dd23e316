// SftpFiles: open files.
//
// Purpose:        keeps a handle on the server for every open file, and opens it again where the
//                 connection was lost: by the path that it has by then, never truncated nor made,
//                 and only as long as size and modification time are what they were, so that no
//                 reader gets half of one file and half of another. What is being made elsewhere
//                 may have its file here before it is there: whatever is done with that waits.
// Our own changes are allowed for: what they made of size and time is noted when they are answered.
//                 Where an answer was lost with the connection, what they may have made counts as
//                 unchanged: any later time, and any size up to where they would have reached.
//                 (SFTP tells nothing else by which to know a file again.)
// Renames:        of ours move the paths of what is open (moved()). What was unlinked, or replaced
//                 by a rename, is read and written on while the connection stands; then ESTALE.
// Ownership:      owns the table; handles are closed with release().
// Thread-safety:  the client's loop only. Completions run on it.
// Errors:         as the server says; ESTALE: the file was unlinked, replaced or changed by
//                 somebody else while the connection was lost.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "cache/base/result.h"
#include "fusefs/backends/backend.h"
#include "fusefs/backends/sftp/request_group.h"
#include "fusefs/backends/sftp/sftp_client.h"
#include "fusefs/backends/sftp/sftp_paths.h"

namespace fusefs::sftp {

class SftpFiles {
 public:
  using FileHandle = Backend::FileHandle;
  template <typename T>
  using Done = std::function<void(Result<T>)>;

  // What a change may do to a file: sizes that it may have then, and whether its time may be any.
  struct Effect {
    uint64_t least = ~uint64_t{0}, most = 0;
    bool any_time = false;
  };
  // What is known of a file that is open, by whatever many handles.
  struct Object {
    ObjectId id;
    FileAttrs attrs;  // as seen last, with all of our own changes that were answered
    bool unlinked = false;
    uint32_t open = 0;  // files in the table
    // Changes of ours that are under way, or whose outcome nobody knows, and what they may do.
    uint32_t changing = 0;
    bool unsure = false;
    Effect effect;
  };
  using ObjectPtr = std::shared_ptr<Object>;

  struct File {
    ObjectPtr object;
    uint32_t access = kOpenRead;  // kOpenRead, kOpenWrite
    std::string handle;
    uint64_t connection = 0;
    bool released = false;
    bool opening = false;
    bool failed = false;                            // it was never made
    std::vector<std::function<void(int)>> waiting;  // until it is open again

    [[nodiscard]] bool readable() const { return (access & kOpenRead) != 0; }
    [[nodiscard]] bool writable() const { return (access & kOpenWrite) != 0; }
  };
  using FilePtr = std::shared_ptr<File>;

  // How often something is begun anew because the connection was lost.
  static constexpr uint32_t kMaxAttempts = 8;

  SftpFiles(SftpClient& client, const ServerRoot& root) : client_(client), root_(root) {}

  // `flags`: kOpenRead, kOpenWrite, kOpenTruncate.
  void open(const ObjectId& id, uint32_t flags, Done<FileHandle> done);
  // A file that was opened elsewhere, on the present connection; kOpenExclusive: and made.
  FileHandle adopt(const ObjectId& id, uint32_t flags, const FileAttrs& attrs,
                   const std::string& handle);
  // A file that is being opened elsewhere, and what it will be; fulfil() or fail() follows.
  FileHandle promise(const ObjectId& id, uint32_t flags, const FileAttrs& attrs);
  void fulfil(const FilePtr& file, const FileAttrs& attrs, const std::string& handle);
  void fail(const FilePtr& file);
  // EBADF to whoever waits for it.
  void release(FileHandle file);
  [[nodiscard]] FilePtr find(FileHandle file) const;
  // Calls `done` with 0 when the file's handle is good, at once where it is; else with an errno.
  void with_handle(const FilePtr& file, std::function<void(int error)> done);
  void clear();

  // ---- What we do to files ----

  static void begin_change(Object& object, const Effect& effect);
  // And has ended: with these attributes, or (null) nobody knows.
  static void end_change(Object& object, const FileAttrs* after);
  // Attributes that were asked for by a handle of it, or right after a change of ours.
  static void note(Object& object, const FileAttrs& attrs);
  // What is open under that id, if anything.
  [[nodiscard]] ObjectPtr object(const ObjectId& id) const;
  void moved(const ObjectId& from, const ObjectId& to);
  void unlinked(const ObjectId& id);

 private:
  void open_on_server(const FilePtr& file, uint32_t flags, uint32_t attempt);
  void on_open(const FilePtr& file, uint32_t flags, const GroupAnswer& answer);
  void explain_open(const FilePtr& file, uint32_t flags, const GroupAnswer& answer);
  void opened(const FilePtr& file, int error);
  FileHandle enter(const FilePtr& file);
  [[nodiscard]] ObjectPtr object_of(const ObjectId& id, uint32_t flags, const FileAttrs& attrs);
  static bool unchanged(const Object& object, const FileAttrs& now);
  void close(const std::string& handle, uint64_t connection);

  SftpClient& client_;
  const ServerRoot& root_;
  std::unordered_map<FileHandle, FilePtr> files_;
  std::unordered_map<ObjectId, ObjectPtr> objects_;  // of them, those that have their names
  FileHandle last_ = 0;
};

}  // namespace fusefs::sftp
