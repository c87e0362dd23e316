#include "fusefs/backends/nfs/nfs4_opens.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "fusefs/backends/nfs/nfs4.h"

namespace fusefs::nfs {

using cache::MutexLock;
using cache::Status;

namespace {

constexpr uint32_t kConfirm = 2;  // OPEN4_RESULT_CONFIRM

bool operator==(const StateId4& a, const StateId4& b) {
  return a.sequence == b.sequence && a.other == b.other;
}

// open_delegation4: none is wanted, and servers give none without a callback path.
void skip_delegation(XdrReader& in) {
  enum : uint32_t { kNone = 0, kRead = 1, kWrite = 2 };
  const uint32_t type = in.u32();
  if (type == kNone) return;
  if (type != kRead && type != kWrite) return in.fail();
  read_stateid(in);
  in.skip(4);  // recall
  if (type == kWrite) {
    in.skip(4);  // how the space is limited
    in.skip(8);
  }
  in.skip(12);  // of the access control entry
  in.opaque(1024);
}

uint32_t user_of(const CallerPtr& caller) { return caller ? caller->uid : geteuid(); }

}  // namespace

// ---- Files --------------------------------------------------------------------------------------

StateId4 File4::state() {
  MutexLock lock(mutex_);
  return opened_.state;
}

File4::Opened File4::opened() {
  MutexLock lock(mutex_);
  return opened_;
}

uint64_t File4::generation() {
  MutexLock lock(mutex_);
  return generation_;
}

bool File4::reclaimed() {
  MutexLock lock(mutex_);
  return reclaimed_;
}

bool File4::begin_recovery(const StateId4& used) {
  MutexLock lock(mutex_);
  if (closed_ || recovering_ || opened_.owner == nullptr || !(opened_.state == used)) return false;
  return recovering_ = true;
}

bool File4::end_recovery(Opened opened, Reopened how) {
  MutexLock lock(mutex_);
  recovering_ = false;
  if (closed_) return false;
  ++generation_;
  reclaimed_ = how == Reopened::kReclaimed;
  opened_ = std::move(opened);
  return true;
}

File4::Opened File4::close() {
  MutexLock lock(mutex_);
  closed_ = true;
  return std::exchange(opened_, {});
}

// ---- Owners -------------------------------------------------------------------------------------

OwnerPtr4 Opens4::take_owner(const CallerPtr& caller) {
  MutexLock lock(mutex_);
  std::vector<OwnerPtr4>& idle = idle_[user_of(caller)];
  if (!idle.empty()) {
    OwnerPtr4 owner = std::move(idle.back());
    idle.pop_back();
    --idle_count_;
    return owner;
  }
  return std::make_shared<Owner4>(Owner4{.name = "open " + std::to_string(++owners_)});
}

void Opens4::give_back(const CallerPtr& caller, OwnerPtr4 owner) {
  MutexLock lock(mutex_);
  if (owner == nullptr || idle_count_ >= kMaxIdleOwners) return;
  idle_[user_of(caller)].push_back(std::move(owner));
  ++idle_count_;
}

// ---- Opening ------------------------------------------------------------------------------------

// One OPEN and its OPEN_CONFIRM. Used by the thread that has its call. What was opened for nobody,
// because its asker went away, is closed with it.
class Opens4::Attempt {
 public:
  Attempt(Opens4& opens, CallerPtr caller, Wish wish)
      : opens_(opens),
        caller_(std::move(caller)),
        wish_(std::move(wish)),
        owner_(opens.take_owner(caller_)) {}
  ~Attempt() {
    if (claimed_ || in_flight_) return;
    if (opened_) {
      // Not from here: whoever drops the call may hold the client's lock.
      opens_.client_.post([&opens = opens_, handle = handle_, caller = caller_,
                           opened = File4::Opened{.state = state_, .owner = owner_}] {
        opens.close_state(handle, caller, opened);
      });
    } else {
      opens_.give_back(caller_, owner_);
    }
  }
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  std::string encode_open();
  Result<bool> decode_open(XdrReader& in, bool repeated);
  std::string encode_confirm();
  Result<bool> decode_confirm(XdrReader& in);

  [[nodiscard]] bool opened() const { return opened_; }
  [[nodiscard]] bool wants_confirmation() const { return opened_ && unconfirmed_; }
  [[nodiscard]] const MadeObject& made() const { return made_; }
  [[nodiscard]] const Handle& handle() const { return handle_; }
  [[nodiscard]] const CallerPtr& caller() const { return caller_; }
  File4::Opened claim() {
    claimed_ = true;
    return {.state = state_, .owner = owner_, .epoch = epoch_};
  }

 private:
  void put_open(XdrWriter& out, uint64_t client) const;
  bool take_open(Results4& results, XdrReader& in, uint64_t directory);
  Result<bool> failed(uint32_t status, bool repeated);

  Opens4& opens_;
  const CallerPtr caller_;
  const Wish wish_;
  OwnerPtr4 owner_;
  uint64_t epoch_ = 0;
  int bad_sequences_ = 0;
  bool in_flight_ = false;  // whether the owner's number was used is not known
  cache::TimePoint asked_;
  WallTime asked_wall_ = 0;

  bool opened_ = false;
  bool unconfirmed_ = false;
  bool claimed_ = false;
  StateId4 state_;
  Handle handle_;
  MadeObject made_;
};

void Opens4::Attempt::put_open(XdrWriter& out, uint64_t client) const {
  enum : uint32_t { kNoCreate = 0, kCreate = 1 };
  enum : uint32_t { kGuarded = 1 };
  enum : uint32_t { kClaimNull = 0, kClaimPrevious = 1 };
  constexpr uint32_t kDenyNone = 0, kNoDelegation = 0;
  out.u32(owner_->sequence).u32(wish_.share).u32(kDenyNone);
  out.u64(client).opaque(opens_.owner_prefix_ + owner_->name);
  if (wish_.create != nullptr) {
    put_set_attributes(out.u32(kCreate).u32(kGuarded), first_attributes4(*wish_.create));
  } else {
    out.u32(kNoCreate);
  }
  if (wish_.reclaim.empty()) {
    out.u32(kClaimNull).opaque(wish_.where.name);
  } else {
    out.u32(kClaimPrevious).u32(kNoDelegation);
  }
}

std::string Opens4::Attempt::encode_open() {
  const Lease4::Identity identity = opens_.lease_.current();
  epoch_ = identity.epoch;
  in_flight_ = true;
  asked_ = std::chrono::steady_clock::now();
  asked_wall_ = wall_now();
  Ops4 ops;
  ops.put(wish_.reclaim.empty() ? wish_.where.directory : wish_.reclaim).get_number();
  put_open(ops.op(Op4::kOpen), identity.client);
  return ops.plain(Op4::kGetfh).get_whole().bytes();
}

// After the OPEN itself: its results, and what follows it.
bool Opens4::Attempt::take_open(Results4& results, XdrReader& in, uint64_t directory) {
  state_ = read_stateid(in);
  const ChangeInfo4 info = read_change_info(in);
  unconfirmed_ = (in.u32() & kConfirm) != 0;
  skip_bitmap(in);
  skip_delegation(in);
  DecodedAttr decoded;
  results.next_handle(&handle_);
  const bool whole = results.next_attributes(&decoded);
  opened_ = in.ok();
  if (!whole) return false;
  made_.object = {.handle = handle_, .attr = decoded.attr};
  made_.object.attr.change =
      opens_.tokens_.token(decoded.attr, decoded.change, asked_, asked_wall_);
  if (wish_.create != nullptr) made_.parent = dir_change4(directory, info, opens_.tokens_);
  return true;
}

Result<bool> Opens4::Attempt::decode_open(XdrReader& in, bool repeated) {
  Results4 results(in);
  DecodedAttr directory;
  results.next(Op4::kPutfh);
  results.next_attributes(&directory);
  const bool open = results.next(Op4::kOpen);
  in_flight_ = false;
  if (results.ran() && counts_sequence4(results.status())) ++owner_->sequence;
  if (open && take_open(results, in, directory.attr.ino)) return true;
  return failed(results.status(), repeated);
}

Result<bool> Opens4::Attempt::failed(uint32_t status, bool repeated) {
  constexpr int kMostBadSequences = 3;
  if (status == kStaleClientid4 || status == kExpired4) {
    const int error = opens_.lease_.recover(epoch_);
    return Status::error(error != 0 ? error : kErrLater);
  }
  if (status == kBadSeqid4 && ++bad_sequences_ <= kMostBadSequences) {
    owner_ = opens_.take_owner(caller_);
    return Status::error(kErrAgain);
  }
  const int error = error_of_change4(status);
  if (error == EEXIST && repeated && wish_.create != nullptr) {
    made_.doubt = error;
    return false;
  }
  return Status::error(error != 0 ? error : EIO);
}

std::string Opens4::Attempt::encode_confirm() {
  in_flight_ = true;
  Ops4 ops;
  ops.put(handle_);
  XdrWriter& out = ops.op(Op4::kOpenConfirm);
  put_stateid(out, state_);
  out.u32(owner_->sequence);
  return ops.bytes();
}

Result<bool> Opens4::Attempt::decode_confirm(XdrReader& in) {
  Results4 results(in);
  results.next(Op4::kPutfh);
  const bool confirmed = results.next(Op4::kOpenConfirm);
  in_flight_ = false;
  if (results.ran() && counts_sequence4(results.status())) ++owner_->sequence;
  if (confirmed) {
    state_ = read_stateid(in);
    unconfirmed_ = false;
    return true;
  }
  opened_ = false;  // the server lets go of it by itself
  return Status::error(error_of_change4(results.status()));
}

void Opens4::attempt_open(uint64_t id, const CallerPtr& caller, const Wish& wish,
                          Done<AttemptPtr> done) {
  const auto attempt = std::make_shared<Attempt>(*this, caller, wish);
  RawCall<bool>::Spec spec{
      .procedure = kCompound4Raw,
      .encode = [attempt] { return attempt->encode_open(); },
      .decode = [attempt](XdrReader& in,
                          bool repeated) { return attempt->decode_open(in, repeated); }};
  client_.submit(id, std::make_shared<RawCall<bool>>(
                         caller, std::move(spec),
                         [this, id, attempt, done = std::move(done)](const Result<bool>& opened) {
                           if (!opened.ok()) return done(opened.status());
                           if (attempt->wants_confirmation()) return confirm(id, attempt, done);
                           done(attempt);
                         }));
}

void Opens4::confirm(uint64_t id, const AttemptPtr& attempt, Done<AttemptPtr> done) {
  RawCall<bool>::Spec spec{
      .procedure = kCompound4Raw,
      .encode = [attempt] { return attempt->encode_confirm(); },
      .decode = [attempt](XdrReader& in,
                          bool /*repeated*/) { return attempt->decode_confirm(in); }};
  const CallerPtr& caller = attempt->caller();
  client_.submit(id, std::make_shared<RawCall<bool>>(
                         caller, std::move(spec),
                         [attempt, done = std::move(done)](const Result<bool>& confirmed) {
                           done(confirmed.ok() ? Result<AttemptPtr>(attempt) : confirmed.status());
                         }));
}

FilePtr4 Opens4::enter(FilePtr4 file) {
  {
    MutexLock lock(mutex_);
    files_.emplace(file.get(), file);
  }
  lease_.keep([this] {
    MutexLock lock(mutex_);
    return !files_.empty();
  });
  return file;
}

void Opens4::open(uint64_t id, const CallerPtr& caller, const Wish& wish,
                  Done<CreatedObject> done) {
  attempt_open(id, caller, wish,
               [this, caller, wish, done = std::move(done)](const Result<AttemptPtr>& result) {
                 if (!result.ok()) return done(result.status());
                 Attempt& attempt = *result.value();
                 CreatedObject created{.made = attempt.made(), .file = nullptr};
                 if (attempt.opened()) {
                   created.file = enter(
                       std::make_shared<File4>(attempt.handle(), created.made.object.attr.ino,
                                               wish.where, wish.share, caller, attempt.claim()));
                 }
                 done(std::move(created));
               });
}

std::string Opens4::new_lock_owner() {
  MutexLock lock(mutex_);
  return owner_prefix_ + "lock " + std::to_string(++owners_);
}

FilePtr4 Opens4::anonymous(const OpenPlace& place, uint32_t share, const CallerPtr& caller) {
  return std::make_shared<File4>(place.handle, place.ino, place.where, share, caller,
                                 File4::Opened());
}

// ---- Closing ------------------------------------------------------------------------------------

void Opens4::close(const FilePtr4& file) {
  {
    MutexLock lock(mutex_);
    files_.erase(file.get());
  }
  const File4::Opened opened = file->close();
  if (opened.owner != nullptr) close_state(file->handle(), file->opener(), opened);
}

void Opens4::close_state(const Handle& handle, const CallerPtr& caller,
                         const File4::Opened& opened) {
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
    ++closing_;
  }
  RawCall<bool>::Spec spec{.procedure = kCompound4Raw,
                           .encode =
                               [handle, opened] {
                                 Ops4 ops;
                                 ops.put(handle);
                                 put_stateid(ops.op(Op4::kClose).u32(opened.owner->sequence),
                                             opened.state);
                                 return ops.bytes();
                               },
                           .decode = [opened](XdrReader& in, bool /*repeated*/) -> Result<bool> {
                             Results4 results(in);
                             results.next(Op4::kPutfh);
                             if (!results.next(Op4::kClose))
                               return Status::error(error_of_change4(results.status()));
                             read_stateid(in);
                             ++opened.owner->sequence;
                             return true;
                           }};
  client_.submit(client_.new_id(),
                 std::make_shared<RawCall<bool>>(
                     caller, std::move(spec), [this, caller, opened](const Result<bool>& closed) {
                       // An owner whose state is not certain is not used again.
                       if (closed.ok()) give_back(caller, opened.owner);
                       MutexLock lock(mutex_);
                       --closing_;
                       changed_.notify_all();
                     }));
}

void Opens4::stop() {
  {
    const auto deadline = std::chrono::steady_clock::now() + kCloseTime;
    MutexLock lock(mutex_);
    while (closing_ > 0 && !stopping_ && changed_.wait_until(mutex_, deadline)) {
    }
    stopping_ = true;
  }
  lease_.stop();
}

// ---- Recovery -----------------------------------------------------------------------------------

int Opens4::judge(const FilePtr4& file, const StateId4& used, uint32_t status) {
  if (!is_state_lost4(status)) return error_of_change4(status);
  if (used == StateId4()) return EIO;
  if (status == kExpired4 || status == kStaleClientid4) {
    if (const int error = lease_.recover(lease_.current().epoch)) return error;
  }
  // Not every status tells whether it has restarted or the lease ran out: a claim is refused where
  // there is nothing to be claimed.
  if (file->begin_recovery(used)) recover(file, true);
  return kErrLater;
}

// The client has another id since that epoch began.
void Opens4::recover_all(uint64_t epoch) {
  std::vector<FilePtr4> files;
  {
    MutexLock lock(mutex_);
    for (const auto& [key, file] : files_) {
      if (FilePtr4 open = file.lock()) files.push_back(std::move(open));
    }
  }
  for (const FilePtr4& file : files) {
    const File4::Opened opened = file->opened();
    if (opened.epoch < epoch && file->begin_recovery(opened.state)) recover(file, true);
  }
}

void Opens4::recover(const FilePtr4& file, bool reclaim) {
  const Wish wish{.where = file->where(),
                  .share = file->share(),
                  .create = nullptr,
                  .reclaim = reclaim ? file->handle() : Handle()};
  attempt_open(client_.new_id(), file->opener(), wish,
               [this, file, reclaim](const Result<AttemptPtr>& attempt) {
                 finish_recovery(file, reclaim, attempt);
               });
}

void Opens4::finish_recovery(const FilePtr4& file, bool reclaim,
                             const Result<AttemptPtr>& attempt) {
  // The server is past the time in which it takes claims, or knows of no such open.
  if (!attempt.ok() && reclaim) return recover(file, false);
  const bool same = attempt.ok() && attempt.value()->opened() &&
                    attempt.value()->made().object.attr.ino == file->ino();
  if (!same) {
    file->end_recovery({}, File4::Reopened::kByName);
    if (reopened_) reopened_(file);
    return;
  }
  const File4::Opened opened = attempt.value()->claim();
  const auto how = reclaim ? File4::Reopened::kReclaimed : File4::Reopened::kByName;
  if (!file->end_recovery(opened, how)) {
    return close_state(file->handle(), file->opener(), opened);
  }
  if (reopened_) reopened_(file);
}

Opens4::Opens4(Client& client, ChangeTokens& tokens, CallerPtr own)
    : client_(client),
      tokens_(tokens),
      owner_prefix_(std::to_string(getpid()) + " "),
      lease_(client, std::move(own), [this](uint64_t epoch) { recover_all(epoch); }) {}

}  // namespace fusefs::nfs
