// Opens4: the files that are open on a server of version 4.0, and the state that it keeps of each
// (RFC 7530, 9.1.4 to 9.1.11, 9.6.3, 9.10).
//
// An open:        OPEN by directory and name, OPEN_CONFIRM where the owner is new to the server,
//                 CLOSE. Each open file has an owner of its own, so that opens don't wait for one
//                 another; owners of closed files are used again, since the server knows them.
// Sequence ids:   an owner has one call under way at a time. Its number grows with every answer but
//                 those that RFC 7530, 9.1.7 names. An owner whose answer never came is thrown
//                 away.
// Lost replies:   the same call with the same number is answered as before by the server.
// Lost state:     (the server restarted, the lease ran out) a call that meets it is sent again
//                 later, while the file is opened anew: reclaimed, or by its name. Where the name
//                 leads elsewhere by now, the file goes on by its handle alone (anonymous state
//                 id).
// Ownership:      shared by calls under way; stop() comes before the client goes.
// Thread-safety:  all members from any thread.
// Locks:          leaves; held across no call.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "cache/base/mutex.h"
#include "fusefs/backends/nfs/nfs4_lease.h"
#include "fusefs/backends/nfs/nfs4_wire.h"
#include "fusefs/backends/nfs/nfs_protocol.h"

namespace fusefs::nfs {

struct Owner4 {
  std::string name;
  uint32_t sequence = 0;
};
using OwnerPtr4 = std::shared_ptr<Owner4>;

class File4;

// The locks of a file that was opened for them; see nfs4_locks.h. All but the first three belong to
// whoever has the turn.
struct LockState4 {
  cache::Mutex mutex{cache::LockRank::kLeaf};
  bool busy GUARDED_BY(mutex) = false;
  std::deque<std::function<void(const std::shared_ptr<File4>&)>> waiting GUARDED_BY(mutex);

  std::string owner;
  uint32_t sequence = 0;
  StateId4 state;
  bool known = false;       // the server has given `state`
  bool uncertain = false;   // ... and what it holds now is not known
  bool lost = false;        // some of `ranges`, and nobody has been told
  uint64_t generation = 0;  // of the file's own state, to which this belongs
  LockRanges ranges;
  std::vector<FileLock> restore;  // of them, those that are to be reclaimed
};

// A file with state.
class File4 final : public OpenFile {
 public:
  struct Opened {
    StateId4 state;
    OwnerPtr4 owner;     // null: anonymous
    uint64_t epoch = 0;  // of the client id (Lease4)
  };

  File4(Handle handle, uint64_t ino, NameIn where, uint32_t share, CallerPtr opener, Opened opened)
      : OpenFile(std::move(handle), ino),
        where_(std::move(where)),
        share_(share),
        opener_(std::move(opener)),
        opened_(std::move(opened)) {}

  [[nodiscard]] const NameIn& where() const { return where_; }
  [[nodiscard]] uint32_t share() const { return share_; }
  [[nodiscard]] const CallerPtr& opener() const { return opener_; }

  [[nodiscard]] StateId4 state();
  [[nodiscard]] Opened opened();
  // Counts up whenever it was opened anew, and how it was the last time.
  [[nodiscard]] uint64_t generation();
  [[nodiscard]] bool reclaimed();
  LockState4& locking() { return locking_; }
  // True: the caller is to open it anew. `used`: the state that the server did not know.
  bool begin_recovery(const StateId4& used);
  // Without an owner it goes on anonymously. False: it was closed meanwhile, and wants nothing.
  enum class Reopened : uint8_t { kReclaimed, kByName };
  bool end_recovery(Opened opened, Reopened how);
  // What is to be closed. Nothing more is opened for it.
  Opened close();

 private:
  const NameIn where_;
  const uint32_t share_;
  const CallerPtr opener_;
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  Opened opened_ GUARDED_BY(mutex_);
  bool recovering_ GUARDED_BY(mutex_) = false;
  bool closed_ GUARDED_BY(mutex_) = false;
  uint64_t generation_ GUARDED_BY(mutex_) = 1;
  bool reclaimed_ GUARDED_BY(mutex_) = false;
  LockState4 locking_;
};
using FilePtr4 = std::shared_ptr<File4>;

class Opens4 {
 public:
  template <typename T>
  using Done = Backend::Done<T>;
  static constexpr size_t kMaxIdleOwners = 256;
  static constexpr std::chrono::seconds kCloseTime{2};

  Opens4(Client& client, ChangeTokens& tokens, CallerPtr own);
  ~Opens4() { stop(); }
  Opens4(const Opens4&) = delete;
  Opens4& operator=(const Opens4&) = delete;

  // Asks for a client id, so that the first open finds one. `reopened` hears of files that were
  // opened anew.
  void start(std::function<void(const FilePtr4&)> reopened) {
    reopened_ = std::move(reopened);
    lease_.prepare();
  }
  // Waits a little for CLOSEs; then nothing more is sent.
  void stop();

  struct Wish {
    NameIn where;
    uint32_t share = 0;
    NewObjectPtr create;  // null: the file must be there
    Handle reclaim;       // not empty: by this handle, after the server restarted
  };
  // The answer's `file` is a File4; null where it is in doubt whether it was made.
  void open(uint64_t id, const CallerPtr& caller, const Wish& wish, Done<CreatedObject> done);
  // A file without state, where none can be had.
  FilePtr4 anonymous(const OpenPlace& place, uint32_t share, const CallerPtr& caller);
  void close(const FilePtr4& file);

  // For calls in the client's name that are no opens. renew_identity(): as Lease4::recover().
  [[nodiscard]] Lease4::Identity identity() { return lease_.current(); }
  int renew_identity(uint64_t epoch) { return lease_.recover(epoch); }
  [[nodiscard]] std::string new_lock_owner();

  // What a status of a call that used `used` means: kErrLater where the state is being recovered.
  int judge(const FilePtr4& file, const StateId4& used, uint32_t status);

 private:
  class Attempt;
  friend class Attempt;
  using AttemptPtr = std::shared_ptr<Attempt>;

  void attempt_open(uint64_t id, const CallerPtr& caller, const Wish& wish, Done<AttemptPtr> done);
  void confirm(uint64_t id, const AttemptPtr& attempt, Done<AttemptPtr> done);
  FilePtr4 enter(FilePtr4 file);
  void finish_recovery(const FilePtr4& file, bool reclaim, const Result<AttemptPtr>& attempt);
  void recover(const FilePtr4& file, bool reclaim);
  void recover_all(uint64_t epoch);
  void close_state(const Handle& handle, const CallerPtr& caller, const File4::Opened& opened);
  OwnerPtr4 take_owner(const CallerPtr& caller);
  void give_back(const CallerPtr& caller, OwnerPtr4 owner);

  Client& client_;
  ChangeTokens& tokens_;
  std::function<void(const FilePtr4&)> reopened_;  // constant after start()

  cache::Mutex mutex_{cache::LockRank::kLeaf};
  cache::CondVar changed_;
  const std::string owner_prefix_;
  uint64_t owners_ GUARDED_BY(mutex_) = 0;
  std::unordered_map<uint32_t, std::vector<OwnerPtr4>> idle_ GUARDED_BY(mutex_);  // by user
  size_t idle_count_ GUARDED_BY(mutex_) = 0;
  std::unordered_map<const File4*, std::weak_ptr<File4>> files_ GUARDED_BY(mutex_);
  size_t closing_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
  Lease4 lease_;  // ended first
};

}  // namespace fusefs::nfs
