// MeasuredBackend: a back end whose answers are timed, whoever asks.
//
// Purpose:        the one place where requests to the remote are measured: operations, listings and
//                 walks ahead all come through here.
// Ownership:      owns the back end it stands before; the histograms outlive it.
// Thread-safety:  as backend.h says; a completion records and then runs the asker's own.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "fusefs/backends/backend.h"
#include "fusefs/latency.h"

namespace fusefs {

class MeasuredBackend final : public Backend {
 public:
  MeasuredBackend(std::unique_ptr<Backend> backend, Latencies& latencies)
      : backend_(std::move(backend)), latencies_(latencies) {}

  Result<LookupAnswer> connect(std::string* error_text) override {
    return backend_->connect(error_text);
  }
  RequestId lookup(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                   Done<LookupAnswer> done) override {
    return backend_->lookup(caller, parent, name, timed(RemoteKind::kLookup, std::move(done)));
  }
  RequestId getattr(const CallerPtr& caller, const ObjectId& id, Done<Attr> done) override {
    return backend_->getattr(caller, id, timed(RemoteKind::kGetattr, std::move(done)));
  }
  RequestId readlink(const CallerPtr& caller, const ObjectId& id, Done<std::string> done) override {
    return backend_->readlink(caller, id, timed(RemoteKind::kOther, std::move(done)));
  }
  RequestId statfs(const CallerPtr& caller, const ObjectId& id, Done<StatfsAnswer> done) override {
    return backend_->statfs(caller, id, timed(RemoteKind::kOther, std::move(done)));
  }
  RequestId open(const CallerPtr& caller, const ObjectId& id, int flags,
                 Done<FileHandle> done) override {
    return backend_->open(caller, id, flags, timed(RemoteKind::kOpen, std::move(done)));
  }
  RequestId read(const CallerPtr& caller, FileHandle file, uint64_t offset, uint32_t size,
                 Done<std::string> done) override {
    return backend_->read(caller, file, offset, size, timed(RemoteKind::kRead, std::move(done)));
  }
  void release(FileHandle file) override { backend_->release(file); }
  RequestId write(const CallerPtr& caller, FileHandle file, uint64_t offset, std::string bytes,
                  StableHow how, Done<WriteAnswer> done) override {
    return backend_->write(caller, file, offset, std::move(bytes), how,
                           timed(RemoteKind::kWrite, std::move(done)));
  }
  RequestId fsync(const CallerPtr& caller, FileHandle file, Done<uint64_t> done) override {
    return backend_->fsync(caller, file, timed(RemoteKind::kWrite, std::move(done)));
  }
  RequestId getattr_open(const CallerPtr& caller, FileHandle file, Done<Attr> done) override {
    return backend_->getattr_open(caller, file, timed(RemoteKind::kGetattr, std::move(done)));
  }
  RequestId fallocate(const CallerPtr& caller, FileHandle file, int mode, uint64_t offset,
                      uint64_t length, Done<Nothing> done) override {
    return backend_->fallocate(caller, file, mode, offset, length,
                               timed(RemoteKind::kWrite, std::move(done)));
  }
  RequestId copy_range(const CallerPtr& caller, FileHandle from, uint64_t from_offset,
                       FileHandle to, uint64_t to_offset, uint64_t length,
                       Done<uint64_t> done) override {
    return backend_->copy_range(caller, from, from_offset, to, to_offset, length,
                                timed(RemoteKind::kWrite, std::move(done)));
  }
  [[nodiscard]] bool has_locks() const override { return backend_->has_locks(); }
  RequestId open_to_lock(const CallerPtr& caller, const ObjectId& id, FileHandle file, int flags,
                         Done<FileHandle> done) override {
    return backend_->open_to_lock(caller, id, file, flags,
                                  timed(RemoteKind::kOpen, std::move(done)));
  }
  RequestId set_lock(const CallerPtr& caller, FileHandle file, const FileLock& lock,
                     Done<Nothing> done) override {
    return backend_->set_lock(caller, file, lock, timed(RemoteKind::kOther, std::move(done)));
  }
  RequestId test_lock(const CallerPtr& caller, FileHandle file, const FileLock& lock,
                      Done<FileLock> done) override {
    return backend_->test_lock(caller, file, lock, timed(RemoteKind::kOther, std::move(done)));
  }
  [[nodiscard]] uint32_t max_read() const override { return backend_->max_read(); }
  [[nodiscard]] uint32_t max_write() const override { return backend_->max_write(); }
  [[nodiscard]] bool keeps_unlinked() const override { return backend_->keeps_unlinked(); }
  [[nodiscard]] NewFileAttrs new_file_attrs() const override { return backend_->new_file_attrs(); }
  [[nodiscard]] bool counts_links() const override { return backend_->counts_links(); }
  [[nodiscard]] BeforeWrite before_write() const override { return backend_->before_write(); }
  RequestId create(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                   uint32_t mode, int flags, Done<CreatedAnswer> done) override {
    return backend_->create(caller, parent, name, mode, flags,
                            timed(RemoteKind::kChange, std::move(done)));
  }
  RequestId create_ahead(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                         uint32_t mode, int flags, Done<CreatedAnswer> done,
                         Done<CreatedAnswer> late) override {
    // The remote's own answer is what is timed.
    const auto asked = std::chrono::steady_clock::now();
    Histogram& latency = latencies_.of(RemoteKind::kChange);
    return backend_->create_ahead(
        caller, parent, name, mode, flags,
        [&latency, asked, done = std::move(done)](Result<CreatedAnswer> answer) {
          const bool ahead = answer.ok() && answer.value().ahead;
          if (!ahead) latency.record(std::chrono::steady_clock::now() - asked);
          done(std::move(answer));
        },
        timed(RemoteKind::kChange, std::move(late)));
  }
  RequestId mkdir(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                  uint32_t mode, Done<MadeAnswer> done) override {
    return backend_->mkdir(caller, parent, name, mode, timed(RemoteKind::kChange, std::move(done)));
  }
  RequestId mknod(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                  uint32_t mode, uint64_t rdev, Done<MadeAnswer> done) override {
    return backend_->mknod(caller, parent, name, mode, rdev,
                           timed(RemoteKind::kChange, std::move(done)));
  }
  RequestId symlink(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                    const std::string& target, Done<MadeAnswer> done) override {
    return backend_->symlink(caller, parent, name, target,
                             timed(RemoteKind::kChange, std::move(done)));
  }
  RequestId link(const CallerPtr& caller, const ObjectId& id, const ObjectId& parent,
                 const std::string& name, Done<MadeAnswer> done) override {
    return backend_->link(caller, id, parent, name, timed(RemoteKind::kChange, std::move(done)));
  }
  RequestId unlink(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                   Done<DirChange> done) override {
    return backend_->unlink(caller, parent, name, timed(RemoteKind::kChange, std::move(done)));
  }
  RequestId rmdir(const CallerPtr& caller, const ObjectId& parent, const std::string& name,
                  Done<DirChange> done) override {
    return backend_->rmdir(caller, parent, name, timed(RemoteKind::kChange, std::move(done)));
  }
  RequestId rename(const CallerPtr& caller, const ObjectId& from_parent,
                   const std::string& from_name, const ObjectId& to_parent,
                   const std::string& to_name, uint32_t flags, Done<RenamedAnswer> done) override {
    return backend_->rename(caller, from_parent, from_name, to_parent, to_name, flags,
                            timed(RemoteKind::kChange, std::move(done)));
  }
  RequestId setattr(const CallerPtr& caller, const ObjectId& id, FileHandle file,
                    const SetAttr& set, Done<Attr> done) override {
    return backend_->setattr(caller, id, file, set, timed(RemoteKind::kChange, std::move(done)));
  }
  RequestId setxattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                     const std::string& value, int flags, Done<Nothing> done) override {
    return backend_->setxattr(caller, id, name, value, flags,
                              timed(RemoteKind::kChange, std::move(done)));
  }
  RequestId removexattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                        Done<Nothing> done) override {
    return backend_->removexattr(caller, id, name, timed(RemoteKind::kChange, std::move(done)));
  }
  [[nodiscard]] ObjectId moved_id(const ObjectId& id, const ObjectId& from,
                                  const ObjectId& to) const override {
    return backend_->moved_id(id, from, to);
  }
  RequestId getxattr(const CallerPtr& caller, const ObjectId& id, const std::string& name,
                     Done<std::string> done) override {
    return backend_->getxattr(caller, id, name, timed(RemoteKind::kOther, std::move(done)));
  }
  RequestId listxattr(const CallerPtr& caller, const ObjectId& id,
                      Done<std::string> done) override {
    return backend_->listxattr(caller, id, timed(RemoteKind::kOther, std::move(done)));
  }
  RequestId read_dir(const CallerPtr& caller, const ObjectId& directory, cache::DirRequest request,
                     cache::DirSource::Completion done) override {
    return backend_->read_dir(caller, directory, std::move(request),
                              timed(RemoteKind::kReaddir, std::move(done)));
  }

  [[nodiscard]] cache::CookieKind cookie_kind() const override { return backend_->cookie_kind(); }
  [[nodiscard]] uint32_t max_batch() const override { return backend_->max_batch(); }
  [[nodiscard]] bool names_tell_types() const override { return backend_->names_tell_types(); }
  [[nodiscard]] ObjectId child_id(const ObjectId& parent, std::string_view name,
                                  uint64_t ino) const override {
    return backend_->child_id(parent, name, ino);
  }
  void cancel(RequestId id) override { backend_->cancel(id); }
  [[nodiscard]] bool wants_callers() const override { return backend_->wants_callers(); }
  [[nodiscard]] bool answers_at_once() const override { return backend_->answers_at_once(); }
  [[nodiscard]] BackendCounters counters() const override { return backend_->counters(); }
  [[nodiscard]] std::string description() const override { return backend_->description(); }
  [[nodiscard]] uint64_t suggested_timeout_ms() const override {
    return backend_->suggested_timeout_ms();
  }

 private:
  template <typename Answer>
  std::function<void(Answer)> timed(RemoteKind kind, std::function<void(Answer)> done) {
    return [&latency = latencies_.of(kind), asked = std::chrono::steady_clock::now(),
            done = std::move(done)](Answer answer) {
      latency.record(std::chrono::steady_clock::now() - asked);
      done(std::forward<Answer>(answer));
    };
  }

  const std::unique_ptr<Backend> backend_;
  Latencies& latencies_;
};

}  // namespace fusefs
