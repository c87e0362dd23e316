// Call: one remote procedure call, from its submission to its completion.
//
// Purpose:        what the client (nfs_client.h) needs to know of a call in order to send it, to
//                 send it again where the connection broke or the server asks for patience, and to
//                 end it.
// Ownership:      shared by the client and, while it is under way, a connection. What its
//                 completion captured is released with it.
// Thread-safety:  send() and take() on the I/O thread that has the call, never two at once;
//                 finish() once, on any thread, with no lock held. Sending one again is always
//                 right; those that change something look at repeated() to read the answer.
// Errors:         errnos. kErrLater from take(): the same call again, after a pause that grows;
//                 kErrAgain: at once (the call has changed what it asks for).
#pragma once

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "cache/base/clock.h"
#include "fusefs/backends/backend.h"
#include "fusefs/backends/nfs/rpc.h"
#include "fusefs/backends/nfs/xdr_reader.h"

namespace fusefs::nfs {

constexpr int kErrLater = 100101;
constexpr int kErrAgain = 100102;

class Call {
 public:
  enum class Weight : uint8_t {
    kLight,  // small both ways: tells the round trip, completes on the I/O thread
    kHeavy,  // completes on a thread of its own, while the next answer is being received
  };

  Call(CallerPtr caller, Weight weight) : caller_(std::move(caller)), weight_(weight) {}
  virtual ~Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Encodes the call. False: it can't be encoded.
  virtual bool send(RpcContext& rpc, RpcReply reply) = 0;
  // Takes the answer over. 0: finish(0) is to follow; kErrLater, kErrAgain: the same again.
  virtual int take(const void* result) = 0;
  // Completes; with an error of the client's, or 0 and what was taken.
  virtual void finish(int error) = 0;

  [[nodiscard]] const CallerPtr& caller() const { return caller_; }
  [[nodiscard]] Weight weight() const { return weight_; }
  // A connection broke after the call was given to it: it may have been done already. For take().
  [[nodiscard]] bool repeated() const { return repeated_; }

 private:
  friend class Client;
  const CallerPtr caller_;
  const Weight weight_;

  // The client's, under its lock.
  uint64_t id_ = 0;
  cache::TimePoint submitted_;
  cache::TimePoint not_before_;
  uint32_t pauses_ = 0;  // how often the server asked for patience
  bool repeated_ = false;
};
using CallPtr = std::shared_ptr<Call>;

// A call whose arguments and result fit into two functions.
template <typename T>
class SimpleCall final : public Call {
 public:
  using Send = std::function<bool(RpcContext& rpc, const CallerPtr& caller, RpcReply reply)>;
  // Status kErrLater, kErrAgain: see above.
  using Decode = std::function<Result<T>(const void* result)>;

  SimpleCall(CallerPtr caller, Weight weight, Send send, Decode decode, Backend::Done<T> done)
      : Call(std::move(caller), weight),
        send_(std::move(send)),
        decode_(std::move(decode)),
        done_(std::move(done)) {}

  bool send(RpcContext& rpc, RpcReply reply) override {
    return send_(rpc, caller(), std::move(reply));
  }
  int take(const void* result) override {
    result_.emplace(decode_(result));
    const int error = result_->error_number();
    return error == kErrLater || error == kErrAgain ? error : 0;
  }
  void finish(int error) override {
    done_(error != 0 || !result_ ? Result<T>(Status::error(error)) : std::move(*result_));
  }

 private:
  const Send send_;
  const Decode decode_;
  const Backend::Done<T> done_;
  std::optional<Result<T>> result_;
};

// A call whose arguments and results are encoded and decoded here (RpcContext::call_raw): those
// that change something.
template <typename T>
class RawCall final : public Call {
 public:
  struct Spec {
    RawProcedure procedure;
    // Once for each sending. Arguments may be large: what is to be written is in them.
    std::function<std::string()> encode;
    // `repeated`: see Call. Statuses kErrLater, kErrAgain as SimpleCall's.
    std::function<Result<T>(XdrReader& in, bool repeated)> decode;
    Weight weight = Weight::kLight;
  };

  RawCall(CallerPtr caller, Spec spec, Backend::Done<T> done)
      : Call(std::move(caller), spec.weight), spec_(std::move(spec)), done_(std::move(done)) {}

  bool send(RpcContext& rpc, RpcReply reply) override {
    return rpc.call_raw(spec_.procedure, spec_.encode(), caller(), std::move(reply));
  }
  int take(const void* result) override {
    XdrReader in(*static_cast<const std::string_view*>(result));
    result_.emplace(spec_.decode(in, repeated()));
    if (result_->ok() && !in.ok()) result_.emplace(cache::Status::error(EIO));
    const int error = result_->error_number();
    return error == kErrLater || error == kErrAgain ? error : 0;
  }
  void finish(int error) override {
    done_(error != 0 || !result_ ? Result<T>(Status::error(error)) : std::move(*result_));
  }

 private:
  const Spec spec_;
  const Backend::Done<T> done_;
  std::optional<Result<T>> result_;
};

}  // namespace fusefs::nfs
