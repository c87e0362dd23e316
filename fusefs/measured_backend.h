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
