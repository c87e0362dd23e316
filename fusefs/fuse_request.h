// FuseRequest: one request of the kernel, from its callback to its reply.
//
// Purpose:        exactly one reply for every request, whatever happens in between; and how long it
//                 took, which is recorded before the reply: who has that, finds it counted.
// Ownership:      lives on the stack of the thread that serves the request; the fuse_req_t is
//                 libfuse's, which frees it with the reply.
// Thread-safety:  one thread.
// Locks:          none may be held when replying: a FORGET may follow at once on another worker.
// Errors:         replies give 0, or a negative errno where the kernel no longer wanted the answer
//                 (an interrupted request): then what the answer granted must be taken back.
#pragma once

#include <fuse_lowlevel.h>

#include <cerrno>
#include <cstddef>
#include <new>
#include <utility>

#include "cache/base/clock.h"
#include "fusefs/device_io.h"
#include "fusefs/latency.h"
#include "fusefs/request.h"

namespace fusefs {

class SessionImpl;

class FuseRequest {
 public:
  FuseRequest(fuse_req_t req, Histogram& latency)
      : req_(req), latency_(latency), started_(std::chrono::steady_clock::now()) {}
  ~FuseRequest() { fail(EIO); }
  FuseRequest(const FuseRequest&) = delete;
  FuseRequest& operator=(const FuseRequest&) = delete;

  [[nodiscard]] fuse_req_t raw() const { return req_; }
  // From when on it counts how long it waits: its start, or the last progress.
  [[nodiscard]] cache::TimePoint waits_since() const { return waits_since_; }
  void note_progress() { waits_since_ = std::chrono::steady_clock::now(); }
  [[nodiscard]] uid_t uid() const { return fuse_req_ctx(req_)->uid; }

  // Sends a reply by one of libfuse's fuse_reply_* functions; nothing once there was one.
  template <typename Function, typename... Args>
  int reply(Function function, Args&&... args) {
    if (req_ == nullptr) return 0;
    latency_.record(std::chrono::steady_clock::now() - started_);
    return function(std::exchange(req_, nullptr), std::forward<Args>(args)...);
  }
  void fail(int error_number) { reply(fuse_reply_err, shown(error_number)); }
  void ok() { reply(fuse_reply_err, 0); }
  void fail_or_ok(int error_number) { error_number == 0 ? ok() : fail(error_number); }
  void none() {
    if (req_ != nullptr) fuse_reply_none(std::exchange(req_, nullptr));
  }

 private:
  // The kernel takes errnos below 512 only; anything else is a mistake of a back end's.
  static int shown(int error_number) {
    return error_number > 0 && error_number < 512 ? error_number : EIO;
  }

  fuse_req_t req_;
  Histogram& latency_;
  const cache::TimePoint started_;
  cache::TimePoint waits_since_ = started_;
};

// While a request may wait: its caller's signal, an unmount and the deadline end the wait.
// Must be gone before the reply.
class Waiting {
 public:
  Waiting(SessionImpl& session, FuseRequest& request);
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  [[nodiscard]] const Patience& patience() const { return patience_; }

 private:
  const fuse_req_t req_;
  ActiveCalls::Member member_;
  Patience patience_;
};

Histogram& latency_of(SessionImpl& session, RequestKind kind);

// Runs the body of a callback: no exception crosses into libfuse, and a reply is always sent.
template <RequestKind kind = RequestKind::kOther, typename Body>
void serve(fuse_req_t req, const Body& body) noexcept {
  DeviceIo::note_served();
  SessionImpl& session = *static_cast<SessionImpl*>(fuse_req_userdata(req));
  FuseRequest request(req, latency_of(session, kind));
  try {
    body(session, request);
  } catch (const std::bad_alloc&) {
    request.fail(ENOMEM);
  } catch (...) {
    request.fail(EIO);
  }
}

}  // namespace fusefs
