#include "fusefs/backends/nfs/nfs4_locks.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace fusefs::nfs {

using cache::MutexLock;
using cache::Status;

namespace {

constexpr uint32_t kReadLock = 1, kWriteLock = 2;  // nfs_lock_type4
constexpr uint64_t kAllBytes = UINT64_MAX;         // as a length
constexpr uint64_t kLastByte = INT64_MAX;          // of what a file can have here

uint32_t wire_type(LockType type) { return type == LockType::kRead ? kReadLock : kWriteLock; }

void put_range(XdrWriter& out, const FileLock& lock) {
  out.u64(lock.start).u64(lock.end >= kLastByte ? kAllBytes : lock.end - lock.start + 1);
}

// LOCK4denied, but for whose it is: a number of another client's.
FileLock read_denied(XdrReader& in) {
  FileLock met;
  met.start = in.u64();
  const uint64_t length = in.u64();
  met.end = length > kAllBytes - met.start ? FileLock::kToTheEnd : met.start + length - 1;
  met.type = in.u32() == kReadLock ? LockType::kRead : LockType::kWrite;
  return met;
}

int error_of_lock4(uint32_t status) {
  switch (status) {
    case kDenied4:
      return EAGAIN;
    case kOpenmode4:
      return EBADF;
    case kDeadlock4:
      return EDEADLK;
    case kBadRange4:
      return EOVERFLOW;
    case kLockRange4:
    case kLockNotsupp4:
    case kResource4:
      return ENOLCK;
    default:
      return error_of_change4(status);
  }
}

}  // namespace

// One LOCK or LOCKU, and the LOCKs that reclaim what was held, where that must come first: a step
// with each sending. Used by the thread that has its call.
class Locks4::Attempt {
 public:
  Attempt(Opens4& opens, FilePtr4 file, const FileLock& lock, Aim aim)
      : opens_(opens), file_(std::move(file)), lock_(lock), aim_(aim) {}

  std::string encode();
  Result<Nothing> decode(XdrReader& in);
  // What became of the last sending is not known: the call was given up.
  [[nodiscard]] bool in_flight() const { return in_flight_; }

 private:
  enum class Step : uint8_t { kNothing, kRestore, kLock, kUnlock };

  void note_new_state();
  [[nodiscard]] Step next_step() const;
  void put_lock(XdrWriter& out, const FileLock& lock) const;
  Result<Nothing> take_lock(Results4& results, XdrReader& in);
  Result<Nothing> take_unlock(Results4& results, XdrReader& in);
  Result<Nothing> failed(uint32_t status);
  Result<Nothing> not_restored();
  void count(const Results4& results);
  void note_lost(const FileLock& lost);

  Opens4& opens_;
  const FilePtr4 file_;
  const FileLock lock_;
  const Aim aim_;
  Step step_ = Step::kNothing;
  File4::Opened opened_;  // as sent
  bool new_owner_ = false;
  bool in_flight_ = false;
  int bad_sequences_ = 0;
};

// The file has been opened anew: its owner of locks is new to the server, and holds nothing there.
void Locks4::Attempt::note_new_state() {
  LockState4& state = file_->locking();
  const uint64_t generation = file_->generation();
  if (state.generation == generation && !state.uncertain) return;
  // What was open by its name alone in between has lost what was held before.
  const bool reclaims =
      file_->reclaimed() && generation == state.generation + 1 && !state.uncertain;
  state.owner = opens_.new_lock_owner();
  state.sequence = 0;
  state.known = state.uncertain = false;
  state.generation = generation;
  state.restore.clear();
  if (reclaims) {
    state.restore = state.ranges.held();
  } else {
    for (const FileLock& held : state.ranges.held()) note_lost(held);
    state.ranges.clear();
  }
}

void Locks4::Attempt::note_lost(const FileLock& lost) {
  if (!std::exchange(file_->locking().lost, true)) {
    spdlog::warn("nfs: a lock of bytes {} to {} of file {} was lost: the server has forgotten it",
                 lost.start, lost.end, file_->ino());
  }
}

Locks4::Attempt::Step Locks4::Attempt::next_step() const {
  const LockState4& state = file_->locking();
  if (opened_.owner == nullptr) return Step::kNothing;  // could not be opened anew
  if (!state.restore.empty()) return Step::kRestore;
  if (aim_ == Aim::kRestore) return Step::kNothing;
  if (lock_.type == LockType::kNone) return state.known ? Step::kUnlock : Step::kNothing;
  return state.lost ? Step::kNothing : Step::kLock;
}

void Locks4::Attempt::put_lock(XdrWriter& out, const FileLock& lock) const {
  enum : uint32_t { kNo = 0, kYes = 1 };
  const LockState4& state = file_->locking();
  out.u32(wire_type(lock.type)).u32(step_ == Step::kRestore ? kYes : kNo);
  put_range(out, lock);
  if (new_owner_) {
    out.u32(kYes).u32(opened_.owner->sequence);
    put_stateid(out, opened_.state);
    out.u32(state.sequence).u64(opens_.identity().client).opaque(state.owner);
  } else {
    put_stateid(out.u32(kNo), state.state);
    out.u32(state.sequence);
  }
}

std::string Locks4::Attempt::encode() {
  opened_ = file_->opened();
  note_new_state();
  const LockState4& state = file_->locking();
  step_ = next_step();
  new_owner_ = !state.known;
  in_flight_ = true;
  Ops4 ops;
  ops.put(file_->handle());
  switch (step_) {
    case Step::kNothing:
      break;
    case Step::kRestore:
      put_lock(ops.op(Op4::kLock), state.restore.back());
      break;
    case Step::kLock:
      put_lock(ops.op(Op4::kLock), lock_);
      break;
    case Step::kUnlock: {
      XdrWriter& out = ops.op(Op4::kLocku).u32(kWriteLock).u32(state.sequence);
      put_stateid(out, state.state);
      put_range(out, lock_);
      break;
    }
  }
  return ops.bytes();
}

void Locks4::Attempt::count(const Results4& results) {
  if (!results.ran() || !counts_sequence4(results.status())) return;
  ++file_->locking().sequence;
  if (new_owner_) ++opened_.owner->sequence;
}

Result<Nothing> Locks4::Attempt::decode(XdrReader& in) {
  in_flight_ = false;
  Results4 results(in);
  if (!results.next(Op4::kPutfh)) return Status::error(error_of_lock4(results.status()));
  switch (step_) {
    case Step::kRestore:
    case Step::kLock:
      return take_lock(results, in);
    case Step::kUnlock:
      return take_unlock(results, in);
    case Step::kNothing:
      break;
  }
  if (aim_ == Aim::kRestore) return Nothing();
  const bool lost = std::exchange(file_->locking().lost, false);
  if (lost) return Status::error(EOWNERDEAD);
  if (lock_.type != LockType::kNone && opened_.owner == nullptr) return Status::error(ENOLCK);
  return Nothing();
}

Result<Nothing> Locks4::Attempt::take_lock(Results4& results, XdrReader& in) {
  LockState4& state = file_->locking();
  const bool got = results.next(Op4::kLock);
  count(results);
  if (!got) return failed(results.status());
  state.state = read_stateid(in);
  state.known = true;
  if (step_ == Step::kRestore) {
    state.restore.pop_back();
    return Status::error(kErrAgain);
  }
  state.ranges.set(lock_);
  return Nothing();
}

Result<Nothing> Locks4::Attempt::take_unlock(Results4& results, XdrReader& in) {
  LockState4& state = file_->locking();
  const bool given_up = results.next(Op4::kLocku);
  count(results);
  if (!given_up) return failed(results.status());
  state.state = read_stateid(in);
  state.ranges.set(lock_);
  return Nothing();
}

Result<Nothing> Locks4::Attempt::failed(uint32_t status) {
  constexpr int kMostBadSequences = 3;
  if (is_state_lost4(status)) return Status::error(opens_.judge(file_, opened_.state, status));
  if (status == kBadSeqid4 && ++bad_sequences_ <= kMostBadSequences) {
    file_->locking().uncertain = true;
    return Status::error(kErrAgain);
  }
  const int error = error_of_lock4(status);
  if (error == kErrLater || step_ != Step::kRestore) return Status::error(error);
  return not_restored();
}

Result<Nothing> Locks4::Attempt::not_restored() {
  LockState4& state = file_->locking();
  FileLock lost = state.restore.back();
  state.restore.pop_back();
  note_lost(lost);
  lost.type = LockType::kNone;
  state.ranges.set(lost);
  return Status::error(kErrAgain);
}

// ---- Turns --------------------------------------------------------------------------------------

void Locks4::take_turn(const FilePtr4& file, Turn turn) {
  LockState4& state = file->locking();
  {
    MutexLock lock(state.mutex);
    if (std::exchange(state.busy, true)) {
      state.waiting.push_back(std::move(turn));
      return;
    }
  }
  turn(file);
}

void Locks4::end_turn(const FilePtr4& file) {
  LockState4& state = file->locking();
  Turn next;
  {
    MutexLock lock(state.mutex);
    if (state.waiting.empty()) {
      state.busy = false;
      return;
    }
    next = std::move(state.waiting.front());
    state.waiting.pop_front();
  }
  next(file);
}

void Locks4::attempt(const CallerPtr& caller, const FilePtr4& file, const FileLock& lock, Aim aim,
                     Done<Nothing> done) {
  const auto attempt = std::make_shared<Attempt>(opens_, file, lock, aim);
  RawCall<Nothing>::Spec spec{
      .procedure = kCompound4Raw,
      .encode = [attempt] { return attempt->encode(); },
      .decode = [attempt](XdrReader& in, bool /*repeated*/) { return attempt->decode(in); }};
  client_.submit(client_.new_id(),
                 std::make_shared<RawCall<Nothing>>(
                     caller, std::move(spec),
                     [attempt, file, done = std::move(done)](const Result<Nothing>& result) {
                       if (attempt->in_flight()) file->locking().uncertain = true;
                       done(result);
                     }));
}

void Locks4::set(const CallerPtr& caller, const FilePtr4& file, const FileLock& lock,
                 Done<Nothing> done) {
  if (file == nullptr) return done(Status::error(EBADF));
  take_turn(file, [this, caller, lock, done = std::move(done)](const FilePtr4& mine) {
    attempt(caller, mine, lock, Aim::kSet, [mine, done](const Result<Nothing>& result) {
      end_turn(mine);
      done(result);
    });
  });
}

void Locks4::restore(const FilePtr4& file) {
  take_turn(file, [this](const FilePtr4& mine) {
    if (mine->locking().ranges.empty()) return end_turn(mine);
    attempt(mine->opener(), mine, FileLock(), Aim::kRestore,
            [mine](const Result<Nothing>& /*result*/) { end_turn(mine); });
  });
}

void Locks4::let_go(const FilePtr4& file, Turn then) {
  {
    MutexLock lock(mutex_);
    ++letting_go_;
  }
  take_turn(file, [this, then = std::move(then)](const FilePtr4& mine) {
    if (mine->locking().ranges.empty()) return gone(mine, then);
    attempt(mine->opener(), mine, FileLock(), Aim::kSet,
            [this, mine, then](const Result<Nothing>& /*result*/) { gone(mine, then); });
  });
}

void Locks4::gone(const FilePtr4& file, const Turn& then) {
  then(file);
  forget_owner(file);
  end_turn(file);
  MutexLock lock(mutex_);
  --letting_go_;
  changed_.notify_all();
}

// The server need not remember it any longer.
void Locks4::forget_owner(const FilePtr4& file) {
  const LockState4& state = file->locking();
  if (state.sequence == 0) return;
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
  }
  RawCall<Nothing>::Spec spec{
      .procedure = kCompound4Raw,
      .encode =
          [client = opens_.identity().client, owner = state.owner] {
            Ops4 ops;
            ops.op(Op4::kReleaseLockowner).u64(client).opaque(owner);
            return ops.bytes();
          },
      .decode = [](XdrReader& /*in*/, bool /*repeated*/) -> Result<Nothing> { return Nothing(); }};
  client_.submit(client_.new_id(),
                 std::make_shared<RawCall<Nothing>>(file->opener(), std::move(spec),
                                                    [](const Result<Nothing>& /*result*/) {}));
}

void Locks4::stop() {
  const auto deadline = std::chrono::steady_clock::now() + kGiveUpTime;
  MutexLock lock(mutex_);
  while (letting_go_ > 0 && !stopping_ && changed_.wait_until(mutex_, deadline)) {
  }
  stopping_ = true;
}

// ---- Testing ------------------------------------------------------------------------------------

void Locks4::test(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file,
                  const FileLock& lock, Done<FileLock> done) {
  const auto stateful = std::dynamic_pointer_cast<File4>(file);
  if (stateful == nullptr) return ask(id, caller, file, {}, lock, std::move(done));
  take_turn(stateful, [this, id, caller, lock, done = std::move(done)](const FilePtr4& mine) {
    const std::string owner = mine->locking().owner;
    end_turn(mine);
    ask(id, caller, mine, owner, lock, done);
  });
}

void Locks4::ask(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file,
                 const std::string& owner, const FileLock& lock, Done<FileLock> done) {
  const auto epoch = std::make_shared<uint64_t>(0);
  RawCall<FileLock>::Spec spec{
      .procedure = kCompound4Raw,
      .encode =
          [this, file, owner = owner.empty() ? opens_.new_lock_owner() : owner, epoch, lock] {
            const Lease4::Identity identity = opens_.identity();
            *epoch = identity.epoch;
            Ops4 ops;
            ops.put(file->handle());
            XdrWriter& out = ops.op(Op4::kLockt).u32(wire_type(lock.type));
            put_range(out, lock);
            out.u64(identity.client).opaque(owner);
            return ops.bytes();
          },
      .decode = [this, epoch](XdrReader& in, bool /*repeated*/) -> Result<FileLock> {
        Results4 results(in);
        results.next(Op4::kPutfh);
        if (results.next(Op4::kLockt)) return FileLock();
        const uint32_t status = results.status();
        if (status == kDenied4 && results.ran()) return read_denied(in);
        if (status == kStaleClientid4 || status == kExpired4) {
          const int error = opens_.renew_identity(*epoch);
          return Status::error(error != 0 ? error : kErrLater);
        }
        return Status::error(error_of_lock4(status));
      }};
  client_.submit(id, std::make_shared<RawCall<FileLock>>(caller, std::move(spec), std::move(done)));
}

}  // namespace fusefs::nfs
