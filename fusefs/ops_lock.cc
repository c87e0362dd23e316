// Locks that hold against other users of the remote: fcntl(2)'s of ranges, flock(2)'s of files.
//
// A lock is a point at which caches agree: what was written here is at the remote before a lock is
// given up, and whoever gets one sees what others wrote before they gave up theirs. A lock that is
// waited for is asked for again and again, with pauses that grow, since no remote calls back; one
// that somebody of this mount holds is waited for without asking.
//
// All of it runs on threads of its own (JobThreads): a waiter would hold up a worker, and the
// kernel is told to forget pages, for which it may need one.
#include "fusefs/ops_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <utility>

#include "fusefs/fuse_request.h"
#include "fusefs/handles.h"
#include "fusefs/ops.h"
#include "fusefs/session_impl.h"

namespace fusefs {
namespace {

using Key = FileLocks::Key;
using HolderPtr = FileLocks::HolderPtr;
using TurnPtr = FileLocks::TurnPtr;
using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{20};
constexpr milliseconds kLongestPause{500};

// What one request of the kernel's is about.
struct Asked {
  FileHandle& handle;
  uint64_t number;  // of that
  Key key;
  FileLock lock;
};

LockType type_of(int type) {
  if (type == F_UNLCK) return LockType::kNone;
  return type == F_RDLCK ? LockType::kRead : LockType::kWrite;
}

FileLock range_of(const struct flock& lock) {
  FileLock range;
  range.kind = LockKind::kRange;
  range.type = type_of(lock.l_type);
  range.start = static_cast<uint64_t>(lock.l_start);
  if (lock.l_len > 0) range.end = range.start + static_cast<uint64_t>(lock.l_len) - 1;
  range.pid = static_cast<uint32_t>(lock.l_pid);
  return range;
}

struct flock to_flock(const FileLock& lock) {
  struct flock out {};
  out.l_whence = SEEK_SET;
  out.l_type = F_UNLCK;
  if (lock.type == LockType::kNone) return out;
  out.l_type = lock.type == LockType::kRead ? F_RDLCK : F_WRLCK;
  out.l_start = static_cast<off_t>(lock.start);
  // To the end is 0; so is what is longer than a file can be.
  const bool whole = lock.end >= static_cast<uint64_t>(INT64_MAX);
  out.l_len = whole ? 0 : static_cast<off_t>(lock.end - lock.start + 1);
  out.l_pid = static_cast<pid_t>(lock.pid);
  return out;
}

// ---- Caches that agree --------------------------------------------------------------------------

// The kernel's pages of the file go, written first where they are dirty.
void have_kernel_forget(SessionImpl& session, const Inode& inode, FileState& state) {
  const uint64_t drops = state.drops();
  if (session.notifier().inval_inode_now(inode.nodeid())) state.note_kernel_knows(drops);
}

// What was written and set here is at the remote afterwards. What it refuses, fsync and close tell.
Status put_away(SessionImpl& session, FuseRequest& request, const FileHandle& handle) {
  FileState& state = *handle.state;
  if (!state.has_untold()) return {};
  const auto passing = [](Status status) {
    return is_passing(status.error_number()) ? status : Status();
  };
  Status told = passing(session.flush(request, state, cache::FileMapping::Durable::kNo));
  if (told.ok()) told = passing(session.tell_attrs(request, *handle.inode, state));
  return told;
}

// After a lock was got: what others wrote while they held one is read from the remote. The
// attributes tell who has written only where it was not us.
Status learn(SessionImpl& session, FuseRequest& request, const FileHandle& handle) {
  FileState& state = *handle.state;
  const uint64_t own_writes = state.own_writes();
  const bool certain = state.agrees();
  const Result<Attr> attr = session.fetch_remote_attr(request, *handle.inode);
  if (!attr.ok()) return attr.status();
  if (!certain || state.has_untold()) state.drop_data(attr.value().size);
  state.note_agreed(own_writes);
  return {};
}

// The kernel's pages where ours went, and the size that it knows in any case.
void have_kernel_agree(SessionImpl& session, const FileHandle& handle) {
  if (!handle.state->kernel_knows_drops()) {
    have_kernel_forget(session, *handle.inode, *handle.state);
  } else {
    session.notifier().inval_attributes_now(handle.inode->nodeid());
  }
}

// ---- Setting ------------------------------------------------------------------------------------

// That somebody may not open it so, or finds it no more, means nothing to those who lock.
Status as_lock_error(const Status& status) {
  switch (status.error_number()) {
    case EACCES:
    case EPERM:
    case ENOENT:
    case EROFS:
      return Status::error(ENOLCK);
    default:
      return status;
  }
}

// For both, so that a lock that is shared can become exclusive; where that is not permitted, as the
// program has opened the file.
Status open_holder(SessionImpl& session, FuseRequest& request, const Asked& asked,
                   FileLocks::Holder& holder) {
  Backend& backend = session.backend();
  const BackendFileSource& source = *asked.handle.source;
  const int own = !source.writable() ? O_RDONLY : source.readable() ? O_RDWR : O_WRONLY;
  Status status = Status::error(EBADF);
  for (const int flags : {O_RDWR, own}) {
    const auto file = session.ask<Backend::FileHandle>(
        request,
        [&](Backend::Done<Backend::FileHandle> done) {
          return backend.open_to_lock(source.opener(), session.inodes().object(*asked.handle.inode),
                                      source.file(), flags, std::move(done));
        },
        [&backend](Backend::FileHandle&& late) { backend.release(late); });
    if (file.ok()) {
      holder.set_file(file.value());
      return {};
    }
    status = file.status();
    if (is_passing(status.error_number()) || flags == own) break;
  }
  return as_lock_error(status);
}

// The turn lasts until it is answered.
Backend::RequestId set_in_turn(Backend& backend, const TurnPtr& turn, const FileLock& lock,
                               Backend::Done<Nothing> done) {
  const HolderPtr& holder = turn->holder();
  return backend.set_lock(holder->opener(), holder->file(), lock,
                          [turn, done = std::move(done)](Result<Nothing> set) { done(set); });
}

// A range as it was before: its pieces are set one after the other, while the turn lasts.
void set_back(Backend& backend, const TurnPtr& turn, std::vector<FileLock> pieces) {
  if (pieces.empty()) return;
  const FileLock piece = pieces.back();
  pieces.pop_back();
  set_in_turn(backend, turn, piece,
              [&backend, turn, pieces = std::move(pieces)](const Result<Nothing>& /*done*/) {
                set_back(backend, turn, pieces);
              });
}

Status ask_lock(SessionImpl& session, FuseRequest& request, const TurnPtr& turn,
                const FileLock& lock) {
  Backend& backend = session.backend();
  FileLocks& locks = session.locks();
  const HolderPtr& holder = turn->holder();
  const auto answer = session.ask<Nothing>(
      request,
      [&](Backend::Done<Nothing> done) {
        return set_in_turn(backend, turn, lock, std::move(done));
      },
      // Got for nobody: the program asks again, once the turn is over.
      [&backend, &locks, turn, lock](Nothing&&) {
        if (lock.type == LockType::kNone) return;
        set_back(backend, turn, locks.held_of(turn->holder(), lock));
      });
  if (answer.error_number() != EOWNERDEAD) return answer.status();
  locks.note_lost(holder);
  return Status::error(ENOLCK);
}

Result<TurnPtr> take_turn(SessionImpl& session, FuseRequest& request, const Asked& asked) {
  const Waiting waiting(session, request);
  return session.locks().take_turn(asked.key, asked.handle.source->opener(), asked.number,
                                   waiting.patience());
}

// The turn must be over when the kernel is told: to do it, that may want something written, and who
// would write it may wait for the turn.
Status take_lock(SessionImpl& session, FuseRequest& request, const Asked& asked) {
  FileLocks& locks = session.locks();
  const auto turn = take_turn(session, request, asked);
  if (!turn.ok()) return turn.status();
  const HolderPtr& holder = turn.value()->holder();
  if (holder->file() == 0) {
    if (Status opened = open_holder(session, request, asked, *holder); !opened.ok()) return opened;
  }
  Status status = ask_lock(session, request, turn.value(), asked.lock);
  if (!status.ok()) return status;
  status = learn(session, request, asked.handle);
  if (status.ok()) {
    locks.note_set(holder, asked.lock);
  } else {
    set_back(session.backend(), turn.value(), locks.held_of(holder, asked.lock));
  }
  return status;
}

Status acquire(SessionImpl& session, FuseRequest& request, const Asked& asked) {
  FileLocks& locks = session.locks();
  const FileHandle& handle = asked.handle;
  if (locks.conflict(asked.key, asked.lock)) return Status::error(EAGAIN);
  if (asked.lock.type == LockType::kRead) {
    // One that is made weaker lets others in.
    const HolderPtr holder = locks.find(asked.key);
    if (holder != nullptr && locks.holds_write(holder)) {
      have_kernel_forget(session, *handle.inode, *handle.state);
    }
  }
  if (Status told = put_away(session, request, handle); !told.ok()) return told;
  Status status = take_lock(session, request, asked);
  if (status.ok()) have_kernel_agree(session, handle);
  return status;
}

Status give_up(SessionImpl& session, FuseRequest& request, const Asked& asked) {
  FileLocks& locks = session.locks();
  const FileHandle& handle = asked.handle;
  const HolderPtr holder = locks.find(asked.key);
  if (holder == nullptr) return {};
  // What is written through a mapping is in the kernel's pages alone.
  if (locks.holds_write(holder)) have_kernel_forget(session, *handle.inode, *handle.state);
  if (Status told = put_away(session, request, handle); !told.ok()) return told;
  const auto turn = take_turn(session, request, asked);
  if (!turn.ok()) return turn.status();
  if (turn.value()->holder()->file() == 0) return {};
  const Status status = ask_lock(session, request, turn.value(), asked.lock);
  // It is sent until it is answered: who asks meets it there, if not here.
  locks.note_set(turn.value()->holder(), asked.lock);
  return status.error_number() == ENOLCK ? Status() : status;
}

Status set_once(SessionImpl& session, FuseRequest& request, const Asked& asked) {
  return asked.lock.type == LockType::kNone ? give_up(session, request, asked)
                                            : acquire(session, request, asked);
}

enum class IfTaken : uint8_t { kFail, kWait };

bool is_lock(const Asked& asked) { return asked.lock.type != LockType::kNone; }

Status set(SessionImpl& session, FuseRequest& request, const Asked& asked, IfTaken if_taken) {
  FileLocks& locks = session.locks();
  for (milliseconds pause = kFirstPause;; pause = std::min(pause * 2, kLongestPause)) {
    const uint64_t seen = locks.changes(asked.key.nodeid);
    request.note_progress();
    Status status = set_once(session, request, asked);
    const int error = status.error_number();
    // Who waits for a lock waits for the remote as well.
    const bool waits = error == EAGAIN || (error == ETIMEDOUT && is_lock(asked));
    if (!waits || if_taken == IfTaken::kFail) return status;
    const Waiting waiting(session, request);
    status =
        locks.wait(asked.key.nodeid, seen, session.now() + pause, *waiting.patience().interrupt);
    if (!status.ok()) return status;
  }
}

void submit_set(fuse_req_t req, fuse_ino_t ino, const fuse_file_info& fi, const FileLock& lock,
                IfTaken if_taken) {
  auto& handle = HandleList::get<FileHandle>(fi.fh);
  const Key key = {.nodeid = ino, .owner = fi.lock_owner, .kind = lock.kind};
  serve_apart(req, [=, &handle, number = fi.fh](SessionImpl& session, FuseRequest& request) {
    const Asked asked = {.handle = handle, .number = number, .key = key, .lock = lock};
    request.fail_or_ok(set(session, request, asked, if_taken).error_number());
  });
}

void operation_setlk(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, struct flock* lock,
                     int sleep) {
  submit_set(req, ino, *fi, range_of(*lock), sleep != 0 ? IfTaken::kWait : IfTaken::kFail);
}

void operation_flock(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, int operation) {
  FileLock lock;
  lock.kind = LockKind::kWholeFile;
  if ((operation & LOCK_SH) != 0) lock.type = LockType::kRead;
  if ((operation & LOCK_EX) != 0) lock.type = LockType::kWrite;
  lock.pid = static_cast<uint32_t>(fuse_req_ctx(req)->pid);
  submit_set(req, ino, *fi, lock, (operation & LOCK_NB) != 0 ? IfTaken::kFail : IfTaken::kWait);
}

// ---- Testing ------------------------------------------------------------------------------------

void test(SessionImpl& session, FuseRequest& request, const Asked& asked) {
  FileLock found;
  if (const auto met = session.locks().conflict(asked.key, asked.lock)) {
    found = *met;
  } else {
    const HolderPtr holder = session.locks().find(asked.key);
    const BackendFileSource& source = *asked.handle.source;
    TurnPtr turn;
    if (holder != nullptr) {
      const Waiting waiting(session, request);
      auto taken = session.locks().take_turn(holder, waiting.patience());
      if (!taken.ok()) return request.fail(taken.error_number());
      turn = std::move(taken).value();
    }
    const bool own = turn != nullptr && holder->file() != 0;
    const auto answer = session.ask<FileLock>(request, [&](Backend::Done<FileLock> done) {
      return session.backend().test_lock(source.opener(), own ? holder->file() : source.file(),
                                         asked.lock, std::move(done));
    });
    if (!answer.ok()) return request.fail(answer.error_number());
    found = answer.value();
  }
  const struct flock shown = to_flock(found);
  request.reply(fuse_reply_lock, &shown);
}

void operation_getlk(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, struct flock* lock) {
  auto& handle = HandleList::get<FileHandle>(fi->fh);
  const Key key = {.nodeid = ino, .owner = fi->lock_owner};
  serve_apart(req, [&handle, number = fi->fh, key, range = range_of(*lock)](SessionImpl& session,
                                                                            FuseRequest& request) {
    test(session, request, {.handle = handle, .number = number, .key = key, .lock = range});
  });
}

// ---- Closing ------------------------------------------------------------------------------------

// For nobody who waits: once the data is at the remote, however long that takes. What is left at
// the unmount goes with the holders, which is after everything was written.
void end_apart(SessionImpl& session, const std::shared_ptr<FileState>& state,
               const HolderPtr& holder) {
  session.lock_threads().run([&session, state, holder] {
    ActiveCalls::Member member(session.calls());
    Patience patience;
    int error = ETIMEDOUT;
    while (error == ETIMEDOUT && state->data().has_unwritten()) {
      patience = session.patience(member.interrupt());
      error = state->data()
                  .flush(cache::FileMapping::Durable::kNo, session.data_wait(patience))
                  .error_number();
      if (error == EINTR || error == ENOTCONN) return;
    }
    patience = session.patience(member.interrupt());
    const auto turn = session.locks().take_turn(holder, patience);
    if (!turn.ok()) return;
    static_cast<void>(
        call_backend<Nothing>(session.backend(), patience, [&](Backend::Done<Nothing> done) {
          FileLock all;
          all.kind = holder->key().kind;
          return set_in_turn(session.backend(), turn.value(), all, std::move(done));
        }));
    session.locks().remove(holder);
  });
}

}  // namespace

void serve_apart(fuse_req_t req, std::function<void(SessionImpl&, FuseRequest&)> body) noexcept {
  DeviceIo::note_served();
  SessionImpl& session = *static_cast<SessionImpl*>(fuse_req_userdata(req));
  try {
    const bool begun =
        session.lock_threads().run([req, body = std::move(body)] { serve(req, body); });
    if (!begun) fuse_reply_err(req, ENOTCONN);  // the mount ends
  } catch (const std::bad_alloc&) {
    fuse_reply_err(req, ENOMEM);
  }
}

bool holds_locks(SessionImpl& session, uint64_t nodeid, const fuse_file_info& closed) {
  return session.locks().find({.nodeid = nodeid, .owner = closed.lock_owner}) != nullptr;
}

void end_locks(SessionImpl& session, FuseRequest& request, FileHandle& handle,
               const fuse_file_info& closed) {
  FileLocks& locks = session.locks();
  const Asked all = {.handle = handle,
                     .number = closed.fh,
                     .key = {.nodeid = handle.inode->nodeid(), .owner = closed.lock_owner},
                     .lock = FileLock()};
  const HolderPtr holder = locks.find(all.key);
  if (holder != nullptr && locks.holds_any(holder)) {
    const bool there = put_away(session, request, handle).ok();
    const auto turn = there ? take_turn(session, request, all) : Result<TurnPtr>(TurnPtr());
    if (!there || !turn.ok()) return end_apart(session, handle.state, holder);
    static_cast<void>(ask_lock(session, request, turn.value(), all.lock));
    locks.note_set(turn.value()->holder(), all.lock);
  }
  locks.remove_idle(all.key.nodeid);
}

void end_locks_of_closed(SessionImpl& session, FileHandle& handle, uint64_t number) {
  FileLocks& locks = session.locks();
  for (const HolderPtr& holder : locks.of_handle(handle.inode->nodeid(), number)) {
    if (locks.holds_any(holder) && handle.state->data().has_unwritten()) {
      end_apart(session, handle.state, holder);
    } else {
      locks.remove(holder);
    }
  }
}

void add_lock_operations(fuse_lowlevel_ops* operations) {
  operations->setlk = operation_setlk;
  operations->getlk = operation_getlk;
  operations->flock = operation_flock;
}

}  // namespace fusefs
