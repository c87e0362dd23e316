#include "fusefs/backends/nfs/nfs4_lease.h"

#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "fusefs/backends/nfs/nfs4_wire.h"

namespace fusefs::nfs {

using cache::MutexLock;
using cache::Status;

namespace {

std::string random_bytes(size_t count) {
  std::string bytes(count, '\0');
  if (getrandom(bytes.data(), count, 0) != static_cast<ssize_t>(count)) {
    const auto now = static_cast<uint64_t>(wall_now());
    for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>(now >> (i % 8 * 8));
  }
  return bytes;
}

struct Asked {
  uint64_t client = 0;
  std::string verifier;
};

RawCall<Asked>::Spec ask_call(const std::string& verifier, const std::string& name) {
  return {.procedure = kCompound4Raw,
          .encode =
              [verifier, name] {
                Ops4 ops;
                // No callbacks: a server gives no delegations then.
                XdrWriter& ask = ops.op(Op4::kSetclientid).raw(verifier).opaque(name);
                ask.u32(0).opaque("tcp").opaque("0.0.0.0.0.0").u32(0);
                return ops.bytes();
              },
          .decode = [](XdrReader& in, bool /*repeated*/) -> Result<Asked> {
            Results4 results(in);
            if (!results.next(Op4::kSetclientid))
              return Status::error(error_of_change4(results.status()));
            Asked asked;
            asked.client = in.u64();
            asked.verifier = in.bytes(8);
            return asked;
          }};
}

RawCall<uint32_t>::Spec confirm_call(uint64_t client, const std::string& verifier) {
  return {.procedure = kCompound4Raw,
          .encode =
              [client, verifier] {
                Ops4 ops;
                ops.op(Op4::kSetclientidConfirm).u64(client).raw(verifier);
                return ops.plain(Op4::kPutrootfh).getattr(lease_bits()).bytes();
              },
          .decode = [](XdrReader& in, bool /*repeated*/) -> Result<uint32_t> {
            Results4 results(in);
            if (!results.next(Op4::kSetclientidConfirm))
              return Status::error(error_of_change4(results.status()));
            DecodedAttr decoded;
            results.next(Op4::kPutrootfh);
            results.next_attributes(&decoded);
            return decoded.lease_seconds;
          }};
}

// Whether the server knows the id.
RawCall<bool>::Spec renew_call(uint64_t client) {
  return {.procedure = kCompound4Raw,
          .encode =
              [client] {
                Ops4 ops;
                ops.op(Op4::kRenew).u64(client);
                return ops.bytes();
              },
          .decode = [](XdrReader& in, bool /*repeated*/) -> Result<bool> {
            Results4 results(in);
            if (results.next(Op4::kRenew)) return true;
            const uint32_t status = results.status();
            if (status == kStaleClientid4 || status == kExpired4) return false;
            return Status::error(error_of_change4(status));
          }};
}

}  // namespace

Lease4::Lease4(Client& client, CallerPtr own, std::function<void(uint64_t)> changed)
    : client_(client),
      own_(std::move(own)),
      id_changed_(std::move(changed)),
      boot_verifier_(random_bytes(8)),
      name_("cookiefs/" + std::to_string(getpid()) + "/" + random_bytes(16)) {}

// ---- The id -------------------------------------------------------------------------------------

Lease4::Identity Lease4::current() {
  MutexLock lock(mutex_);
  return identity_;
}

void Lease4::prepare() {
  {
    MutexLock lock(mutex_);
    if (state_ != State::kNone) return;
    state_ = State::kAsking;
  }
  ask();
}

int Lease4::recover(uint64_t epoch) {
  {
    MutexLock lock(mutex_);
    if (stopping_) return EIO;
    if (const int error = std::exchange(failure_, 0)) return error;
    if (state_ == State::kKnown && identity_.epoch != epoch) return 0;
    awaited_ = true;
    if (state_ == State::kAsking) return 0;
    state_ = State::kAsking;
  }
  ask();
  return 0;
}

void Lease4::ask() {
  client_.submit(client_.new_id(),
                 std::make_shared<RawCall<Asked>>(
                     own_, ask_call(boot_verifier_, name_), [this](const Result<Asked>& asked) {
                       if (!asked.ok()) return failed(asked.error_number());
                       confirm(asked.value().client, asked.value().verifier);
                     }));
}

void Lease4::confirm(uint64_t client, const std::string& verifier) {
  client_.submit(client_.new_id(), std::make_shared<RawCall<uint32_t>>(
                                       own_, confirm_call(client, verifier),
                                       [this, client](const Result<uint32_t>& lease_seconds) {
                                         if (!lease_seconds.ok())
                                           return failed(lease_seconds.error_number());
                                         known(client, lease_seconds.value());
                                       }));
}

void Lease4::known(uint64_t client, uint32_t lease_seconds) {
  uint64_t epoch = 0;
  {
    MutexLock lock(mutex_);
    take_id(client, lease_seconds);
    epoch = identity_.epoch;
  }
  if (epoch > 1) id_changed_(epoch);
}

void Lease4::take_id(uint64_t client, uint32_t lease_seconds) {
  state_ = State::kKnown;
  identity_.client = client;
  ++identity_.epoch;
  failure_ = 0;
  awaited_ = false;
  if (lease_seconds != 0) lease_ = std::chrono::seconds(std::min<uint32_t>(lease_seconds, 86400));
}

void Lease4::failed(int error) {
  spdlog::warn("nfs: server {} gives no client id (error {})", client_.options().host, error);
  MutexLock lock(mutex_);
  state_ = State::kNone;
  failure_ = std::exchange(awaited_, false) ? error : 0;
}

// ---- Its lease ----------------------------------------------------------------------------------

void Lease4::keep(std::function<bool()> wanted) {
  MutexLock lock(mutex_);
  if (stopping_ || thread_.joinable()) return;
  wanted_ = std::move(wanted);
  thread_ = std::thread([this] { run(); });
}

void Lease4::run() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    // Twice a lease at least, whatever one renewal meets.
    changed_.wait_until(mutex_, std::chrono::steady_clock::now() + lease_ / 3);
    if (stopping_) return;
    const std::function<bool()> wanted = wanted_;
    lock.unlock();
    if (wanted()) renew();
    lock.lock();
  }
}

void Lease4::renew() {
  const Identity identity = current();
  client_.submit(client_.new_id(),
                 std::make_shared<RawCall<bool>>(own_, renew_call(identity.client),
                                                 [this, identity](const Result<bool>& known_yet) {
                                                   if (!known_yet.ok() || known_yet.value()) return;
                                                   recover(identity.epoch);
                                                 }));
}

void Lease4::stop() {
  std::thread thread;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    thread.swap(thread_);
  }
  if (thread.joinable()) thread.join();
}

}  // namespace fusefs::nfs
