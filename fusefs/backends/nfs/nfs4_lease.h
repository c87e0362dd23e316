// Lease4: the client id that version 4.0 wants before anything is opened, and its lease
// (RFC 7530, 9.1 and 9.5).
//
//   NONE -> ASKING     [prepare], [recover]: SETCLIENTID, SETCLIENTID_CONFIRM
//   ASKING -> KNOWN    [known]
//   ASKING -> NONE     [failed]
//   KNOWN -> ASKING    [recover]    the server knows it no more: it restarted, or the lease ran out
//
// Purpose:        whoever needs the id sends what he has; where the server does not know it (0 is
//                 known to none), he calls recover() and sends again a little later.
// Ownership:      owns a thread, which renews the lease while files are open; stop() joins it, and
//                 comes before the client goes.
// Thread-safety:  all members from any thread.
// Locks:          a leaf; held across no call.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "cache/base/mutex.h"
#include "fusefs/backends/nfs/nfs_client.h"

namespace fusefs::nfs {

class Lease4 {
 public:
  static constexpr std::chrono::seconds kDefaultLease{90};

  struct Identity {
    uint64_t client = 0;
    uint64_t epoch = 0;  // grows with every id
  };

  // `own`: whose the id is. `changed` runs when the server, which had forgotten it, has given
  // another one, with its epoch: whoever noticed it, everything that was open is to be claimed
  // while it takes claims.
  Lease4(Client& client, CallerPtr own, std::function<void(uint64_t)> changed);
  ~Lease4() { stop(); }
  Lease4(const Lease4&) = delete;
  Lease4& operator=(const Lease4&) = delete;

  [[nodiscard]] Identity current();
  // Asks for an id before anybody needs it: if that fails, whoever does asks again.
  void prepare();
  // The server does not know the id of that epoch. 0: a new one is being asked for; else the errno
  // with which that failed.
  int recover(uint64_t epoch);
  // Renews from now on, as long as `wanted` says so.
  void keep(std::function<bool()> wanted);
  void stop();

 private:
  enum class State : uint8_t { kNone, kAsking, kKnown };

  void ask();
  void confirm(uint64_t client, const std::string& verifier);
  void known(uint64_t client, uint32_t lease_seconds);
  void take_id(uint64_t client, uint32_t lease_seconds) REQUIRES(mutex_);
  void failed(int error);
  void run();
  void renew();

  Client& client_;
  const CallerPtr own_;
  const std::function<void(uint64_t)> id_changed_;
  const std::string boot_verifier_;  // of this process
  const std::string name_;

  cache::Mutex mutex_{cache::LockRank::kLeaf};
  cache::CondVar changed_;
  State state_ GUARDED_BY(mutex_) = State::kNone;
  bool awaited_ GUARDED_BY(mutex_) = false;  // a failure is somebody's
  Identity identity_ GUARDED_BY(mutex_);
  int failure_ GUARDED_BY(mutex_) = 0;
  cache::Duration lease_ GUARDED_BY(mutex_){kDefaultLease};
  std::function<bool()> wanted_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_ GUARDED_BY(mutex_);
};

}  // namespace fusefs::nfs
