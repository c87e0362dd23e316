// One request of the simulated remote but a listing: what is asked there, and who is told.
//
// Purpose:        shared by the sources of SimBackend.
// Thread-safety:  as SimExchange.
#pragma once

#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "fusefs/backends/sim/sim_backend.h"

namespace fusefs {
namespace sim {

// What messages weigh on the wire, about as NFS has them.
constexpr uint64_t kHeaderBytes = 128;
constexpr uint64_t kEntryBytes = 24;
constexpr uint64_t kAttrBytes = 84;

inline ObjectId id_from(uint64_t ino) {
  ObjectId id(sizeof ino, '\0');
  std::memcpy(id.data(), &ino, sizeof ino);
  return id;
}

inline std::optional<uint64_t> ino_of(const ObjectId& id) {
  uint64_t ino = 0;
  if (id.size() != sizeof ino) return std::nullopt;
  std::memcpy(&ino, id.data(), sizeof ino);
  return ino;
}

template <typename T>
uint64_t extra_bytes(const T&) {
  return kAttrBytes;
}
inline uint64_t extra_bytes(const std::string& bytes) { return bytes.size(); }

template <typename T>
class Call final : public SimExchange {
 public:
  using Server = std::function<Result<T>(const SimDraw&)>;
  using Forget = std::function<void(const T&)>;

  // `sent_bytes` go the other way on the same wire. `forget` is told what was answered and nobody
  // got: the asker has gone, or the way back was lost.
  Call(Server server, Backend::Done<T> done, uint64_t sent_bytes, Forget forget)
      : server_(std::move(server)),
        done_(std::move(done)),
        sent_bytes_(sent_bytes),
        forget_(std::move(forget)) {}
  ~Call() override { forget(); }

  uint64_t serve(const SimDraw& draw) override {
    result_.emplace(server_(draw));
    return sent_bytes_ + kHeaderBytes + (result_->ok() ? extra_bytes(result_->value()) : 0);
  }
  void deliver(int error) override {
    if (error != 0) {
      forget();
      done_(Status::error(error));
      return;
    }
    Result<T> result = std::move(*result_);
    result_.reset();
    done_(std::move(result));
  }

 private:
  void forget() {
    if (result_ && result_->ok() && forget_) forget_(result_->value());
    result_.reset();
  }

  const Server server_;
  const Backend::Done<T> done_;
  const uint64_t sent_bytes_;
  const Forget forget_;
  std::optional<Result<T>> result_;
};

}  // namespace sim

template <typename T>
SimBackend::RequestId SimBackend::call(SimRequestKind kind, std::function<Result<T>()> serve,
                                       Done<T> done, uint64_t sent_bytes,
                                       std::function<void(const T&)> forget) {
  auto server = [this, serve = std::move(serve)](const SimDraw& draw) {
    if (draw.fault == SimFault::kReboot) lose_unstable();
    return serve();
  };
  return link_.submit(kind, std::make_unique<sim::Call<T>>(std::move(server), std::move(done),
                                                           sent_bytes, std::move(forget)));
}

}  // namespace fusefs
