// SftpBackend: a directory of a host that SSH reaches.
//
// Purpose:        lists, reads and changes over a child `ssh -s host sftp`, so that ssh_config,
//                 agents, jump hosts, certificates and known hosts work as users have them. An SFTP
//                 codec of our own, because libraries at hand send one READDIR at a time.
// Ownership:      owns the connection with its thread, the listings and the open files.
// Thread-safety:  as backend.h says. Everything happens in the connection's loop, of which callers
//                 take a turn while it is at rest (sftp_client.h).
// Locks:          none of its own; completions run in the loop with none held.
// Errors:         as backend.h says. SFTP's word for most failures is FAILURE: what looks that went
//                 with the request, or the file system's figures, explain; else EIO.
// Changes:        sftp_changes.h, sftp_rename.h, sftp_setattr.h, sftp_file_io.h. SFTP makes regular
//                 files, directories and links only: EPERM for all else. No extended attributes;
//                 no fallocate(2), which promises room on the disk.
// Object ids:     paths relative to the root, components separated by single slashes; "" is the
//                 root. Symbolic links are followed in the root's own path only; below it the
//                 server resolves what a path's parents have become.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <unordered_map>

#include "fusefs/backends/backend.h"
#include "fusefs/backends/sftp/dir_tokens.h"
#include "fusefs/backends/sftp/sftp_changes.h"
#include "fusefs/backends/sftp/sftp_client.h"
#include "fusefs/backends/sftp/sftp_file_io.h"
#include "fusefs/backends/sftp/sftp_files.h"
#include "fusefs/backends/sftp/sftp_listing.h"
#include "fusefs/backends/sftp/sftp_options.h"
#include "fusefs/backends/sftp/sftp_paths.h"
#include "fusefs/backends/sftp/sftp_rename.h"
#include "fusefs/backends/sftp/sftp_setattr.h"
#include "fusefs/backends/sftp/sftp_url.h"

namespace fusefs {

class SftpBackend final : public Backend {
 public:
  // What one answer may hold; a stream reads no more than a few of these ahead.
  static constexpr uint32_t kMaxBatch = 8192;

  SftpBackend(sftp::SftpTarget target, const sftp::SftpOptions& options);
  ~SftpBackend() override;

  Result<LookupAnswer> connect(std::string* error_text) override;

  RequestId lookup(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                   Done<LookupAnswer> done) override;
  RequestId getattr(const CallerPtr& caller, const ObjectId& id, Done<Attr> done) override;
  RequestId readlink(const CallerPtr& caller, const ObjectId& id, Done<std::string> done) override;
  RequestId statfs(const CallerPtr& caller, const ObjectId& id, Done<StatfsAnswer> done) override;

  RequestId open(const CallerPtr& caller, const ObjectId& id, int flags,
                 Done<FileHandle> done) override;
  RequestId read(const CallerPtr& caller, FileHandle file, uint64_t offset, uint32_t size,
                 Done<std::string> done) override;
  void release(FileHandle file) override;
  [[nodiscard]] NewFileAttrs new_file_attrs() const override { return NewFileAttrs::kBehindData; }
  RequestId write(const CallerPtr& caller, FileHandle file, uint64_t offset, std::string bytes,
                  StableHow how, Done<WriteAnswer> done) override;
  // The verifier is always 0: whether the server's machine was started anew nobody tells.
  RequestId fsync(const CallerPtr& caller, FileHandle file, Done<uint64_t> done) override;
  RequestId getattr_open(const CallerPtr& caller, FileHandle file, Done<Attr> done) override;
  RequestId fallocate(const CallerPtr& caller, FileHandle file, int mode, uint64_t offset,
                      uint64_t length, Done<Nothing> done) override;
  RequestId copy_range(const CallerPtr& caller, FileHandle from, uint64_t from_offset,
                       FileHandle to, uint64_t to_offset, uint64_t length,
                       Done<uint64_t> done) override;
  [[nodiscard]] bool counts_links() const override { return false; }

  RequestId create_ahead(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                         uint32_t mode, int flags, Done<CreatedAnswer> done,
                         Done<CreatedAnswer> late) override;
  RequestId create(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                   uint32_t mode, int flags, Done<CreatedAnswer> done) override;
  RequestId mkdir(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                  uint32_t mode, Done<MadeAnswer> done) override;
  RequestId mknod(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                  uint32_t mode, uint64_t rdev, Done<MadeAnswer> done) override;
  RequestId symlink(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                    const std::string& target, Done<MadeAnswer> done) override;
  RequestId link(const CallerPtr& caller, const ObjectId& id, const ObjectId& parent,
                 const std::string& name, Done<MadeAnswer> done) override;
  RequestId unlink(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                   Done<DirChange> done) override;
  RequestId rmdir(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                  Done<DirChange> done) override;
  RequestId rename(const CallerPtr& caller, const ObjectId& from_parent,
                   const std::string& from_name, const ObjectId& to_parent,
                   const std::string& to_name, uint32_t flags, Done<RenamedAnswer> done) override;
  RequestId setattr(const CallerPtr& caller, const ObjectId& id, FileHandle file,
                    const SetAttr& set, Done<Attr> done) override;
  RequestId setxattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                     const std::string& value, int flags, Done<Nothing> done) override;
  RequestId removexattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                        Done<Nothing> done) override;
  [[nodiscard]] ObjectId moved_id(const ObjectId& id, const ObjectId& from,
                                  const ObjectId& to) const override;

  RequestId getxattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                     Done<std::string> done) override;
  RequestId listxattr(const CallerPtr& caller, const ObjectId& id, Done<std::string> done) override;

  RequestId read_dir(const CallerPtr& caller, const ObjectId& directory, cache::DirRequest request,
                     cache::DirSource::Completion done) override;
  [[nodiscard]] cache::CookieKind cookie_kind() const override {
    return cache::CookieKind::kOpaque;
  }
  [[nodiscard]] uint32_t max_batch() const override { return kMaxBatch; }
  [[nodiscard]] ObjectId child_id(const ObjectId& parent, std::string_view name,
                                  uint64_t ino) const override;

  void cancel(RequestId id) override;
  [[nodiscard]] BackendCounters counters() const override { return client_.counters(); }
  [[nodiscard]] std::string description() const override { return target_.url(); }

 private:
  using Answer = sftp::SftpClient::Answer;
  template <typename T>
  using Parse = std::function<Result<T>(const Answer&)>;

  // One request, one answer.
  template <typename T>
  RequestId ask(sftp::Request request, Parse<T> parse, Done<T> done);
  // The attributes of an object. What the server does not know yet is asked for once more.
  template <typename T>
  RequestId ask_attrs(const ObjectId& object, Parse<T> parse, Done<T> done);
  template <typename T>
  void ask_attrs_as(RequestId id, const ObjectId& object, const Parse<T>& parse,
                    const Done<T>& done);
  // One request, waited for.
  template <typename T>
  Result<T> ask_and_wait(sftp::Request request, Parse<T> parse);
  // For calls that are several requests: a completion that runs unless the call was cancelled.
  template <typename T>
  Done<T> unless_cancelled(RequestId id, Done<T> done);
  // Runs `job` in the loop with such a completion.
  template <typename T, typename Job>
  RequestId call(Done<T> done, Job job);
  // The same once nothing is being made ahead, for what changes something. It is not begun where
  // nobody waits for it any more.
  template <typename T, typename Job>
  RequestId call_in_turn(Done<T> done, Job job);
  // As call(), for what answers with an open file: one that nobody wants any more is closed.
  template <typename T, typename Job>
  RequestId call_for_file(Done<T> done, Job job);
  [[nodiscard]] std::string explain(const std::string& path, int error_number) const;

  const sftp::SftpTarget target_;
  sftp::ServerRoot root_;              // constant after connect()
  std::atomic<RequestId> last_id_{0};  // relaxed: only that no two are the same

  sftp::SftpClient client_;
  // ---- the client's loop ----
  sftp::SftpFiles files_;
  sftp::SftpFileIo file_io_;
  sftp::SftpSetattr setattr_;
  sftp::SftpListing listing_;
  sftp::DirTokens tokens_;
  sftp::SftpChanges changes_;
  sftp::SftpRename rename_;
  std::unordered_map<RequestId, sftp::SftpClient::RequestKey> calls_;  // under way; 0: several
};

// The back end for a URL. Null and a line in `error_text` when the URL or an option is wrong.
std::unique_ptr<Backend> make_sftp_backend(const std::string& source, const BackendOptions& options,
                                           std::string* error_text);

}  // namespace fusefs
