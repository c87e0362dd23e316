// Open files by version 4.0: by name, with the state of nfs4_opens.h.
#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "fusefs/backends/nfs/nfs4.h"
#include "fusefs/backends/nfs/nfs4_locks.h"
#include "fusefs/backends/nfs/nfs4_opens.h"
#include "fusefs/backends/nfs/nfs4_wire.h"

namespace fusefs::nfs {
namespace {

using cache::Status;

uint32_t share_of(int flags) {
  enum : uint32_t { kRead = 1, kWrite = 2, kBoth = 3 };
  if ((flags & O_ACCMODE) == O_RDONLY) return kRead;
  return (flags & O_ACCMODE) == O_WRONLY ? kWrite : kBoth;
}

FilePtr4 stateful(const OpenFilePtr& file) { return std::dynamic_pointer_cast<File4>(file); }

// The state that a call was last sent with. One thread at a time has the call.
using UsedState = std::shared_ptr<StateId4>;

const StateId4& use_state(const FilePtr4& file, const UsedState& used) {
  *used = file == nullptr ? StateId4() : file->state();
  return *used;
}

}  // namespace

Nfs4::Nfs4(Client& client, CallerPtr own)
    : client_(client),
      opens_(std::make_unique<Opens4>(client, state_.tokens, std::move(own))),
      locks_(std::make_unique<Locks4>(client, *opens_)) {
  opens_->start([this](const FilePtr4& file) { locks_->restore(file); });
}

Nfs4::~Nfs4() = default;

void Nfs4::stop() {
  locks_->stop();
  opens_->stop();
}

bool Nfs4::opens_by_name(int flags) const { return (flags & O_ACCMODE) != O_RDONLY; }

// ---- Opening ------------------------------------------------------------------------------------

// For reading, and where the name leads to nothing or to another file: by the handle alone.
void Nfs4::open_stateless(uint64_t id, const CallerPtr& caller, const OpenPlace& place, int flags,
                          Done<OpenFilePtr> done) {
  OpenFilePtr file;
  if ((flags & O_ACCMODE) == O_RDONLY) {
    file = std::make_shared<OpenFile>(place.handle, place.ino);
  } else {
    file = opens_->anonymous(place, share_of(flags), caller);
  }
  if (place.made) return done(std::move(file));
  check_access(id, caller, place.handle, flags,
               [file, done = std::move(done)](const Result<bool>& permitted) {
                 done(permitted.ok() ? Result<OpenFilePtr>(file) : permitted.status());
               });
}

void Nfs4::open(uint64_t id, const CallerPtr& caller, const OpenPlace& place, int flags,
                Done<OpenFilePtr> done) {
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  if (!writes || place.where.directory.empty()) {
    return open_stateless(id, caller, place, flags, std::move(done));
  }
  const Opens4::Wish wish{
      .where = place.where, .share = share_of(flags), .create = nullptr, .reclaim = {}};
  opens_->open(
      id, caller, wish,
      [this, id, caller, place, flags, done = std::move(done)](const Result<CreatedObject>& open) {
        const int error = open.error_number();
        if (error == ENOENT || (error == EACCES && place.made)) {
          return open_stateless(id, caller, place, flags, done);
        }
        if (!open.ok()) return done(open.status());
        const OpenFilePtr& file = open.value().file;
        if (place.ino != 0 && file->ino() != place.ino) {
          close(file);
          return open_stateless(id, caller, place, flags, done);
        }
        done(file);
      });
}

void Nfs4::close(OpenFilePtr file) {
  const FilePtr4 open = stateful(file);
  if (open == nullptr) return;
  // What it holds is given up first: a server may refuse to close it otherwise.
  locks_->let_go(open, [this](const FilePtr4& mine) { opens_->close(mine); });
}

// ---- Locks --------------------------------------------------------------------------------------

void Nfs4::open_to_lock(uint64_t id, const CallerPtr& caller, const OpenPlace& place, int flags,
                        Done<OpenFilePtr> done) {
  opens_->open(id, caller,
               {.where = place.where, .share = share_of(flags), .create = nullptr, .reclaim = {}},
               [this, place, done = std::move(done)](const Result<CreatedObject>& open) {
                 if (!open.ok()) return done(open.status());
                 const OpenFilePtr& file = open.value().file;
                 if (place.ino == 0 || file->ino() == place.ino) return done(file);
                 close(file);
                 done(Status::error(ESTALE));
               });
}

void Nfs4::set_lock(const CallerPtr& caller, const OpenFilePtr& file, const FileLock& lock,
                    Done<Nothing> done) {
  locks_->set(caller, stateful(file), lock, std::move(done));
}

void Nfs4::test_lock(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file,
                     const FileLock& lock, Done<FileLock> done) {
  locks_->test(id, caller, file, lock, std::move(done));
}

void Nfs4::create(uint64_t id, const CallerPtr& caller, const NewObjectPtr& object, int flags,
                  Done<CreatedObject> done) {
  opens_->open(id, caller,
               {.where = {.directory = object->directory, .name = object->name},
                .share = share_of(flags),
                .create = object,
                .reclaim = {}},
               std::move(done));
}

// ---- Contents -----------------------------------------------------------------------------------

void Nfs4::write(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file, WriteArgs args,
                 Done<Written> done) {
  const size_t size = args.size;
  const FilePtr4 open = stateful(file);
  if (open == nullptr) return done(Status::error(EBADF));
  const auto used = std::make_shared<StateId4>();
  RawCall<Written>::Spec spec{
      .procedure = kCompound4Raw,
      .encode =
          [open, used, args = std::move(args)] {
            Ops4 ops;
            ops.reserve(args.size + 256);
            ops.put(open->handle()).getattr(stamp_bits());
            XdrWriter& out = ops.op(Op4::kWrite);
            put_stateid(out, use_state(open, used));
            out.u64(args.offset).u32(stable_how(args.how)).opaque(args.piece());
            return ops.bytes();
          },
      .decode = [this, open, used, size](XdrReader& in, bool /*repeated*/) -> Result<Written> {
        Results4 results(in);
        results.next(Op4::kPutfh);
        DecodedAttr before;
        const bool told = results.next_attributes(&before);
        if (!results.next(Op4::kWrite))
          return Status::error(opens_->judge(open, *used, results.status()));
        Written written;
        if (told) written.answer.before = file_stamp(before.attr);
        written.count = in.u32();
        const uint32_t how = in.u32();
        written.answer.stable = how != stable_how(StableHow::kUnstable);
        written.answer.durable = how == stable_how(StableHow::kFileSync);
        written.answer.verifier = in.verifier();
        const bool some = written.count > 0 && written.count <= size;
        return some ? Result<Written>(written) : Status::error(EIO);
      },
      .weight = Call::Weight::kHeavy};
  client_.submit(id, std::make_shared<RawCall<Written>>(caller, std::move(spec), std::move(done)));
}

void Nfs4::commit(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file,
                  Done<uint64_t> done) {
  RawCall<uint64_t>::Spec spec{.procedure = kCompound4Raw,
                               .encode =
                                   [file] {
                                     Ops4 ops;
                                     ops.put(file->handle()).op(Op4::kCommit).u64(0).u32(0);
                                     return ops.bytes();
                                   },
                               .decode = [](XdrReader& in, bool /*repeated*/) -> Result<uint64_t> {
                                 Results4 results(in);
                                 results.next(Op4::kPutfh);
                                 if (!results.next(Op4::kCommit))
                                   return Status::error(error_of_change4(results.status()));
                                 return in.verifier();
                               },
                               .weight = Call::Weight::kHeavy};
  client_.submit(id, std::make_shared<RawCall<uint64_t>>(caller, std::move(spec), std::move(done)));
}

void Nfs4::setattr(uint64_t id, const CallerPtr& caller, const Handle& handle,
                   const OpenFilePtr& file, const SetAttr& set, Done<Attr> done) {
  const FilePtr4 open = set.has(SetAttr::kSize) ? stateful(file) : nullptr;
  const auto used = std::make_shared<StateId4>();
  const cache::TimePoint asked = std::chrono::steady_clock::now();
  const WallTime wall = wall_now();
  RawCall<Attr>::Spec spec{
      .procedure = kCompound4Raw,
      .encode =
          [open, used, handle, set] {
            Ops4 ops;
            ops.put(handle);
            XdrWriter& out = ops.op(Op4::kSetattr);
            put_stateid(out, use_state(open, used));
            put_set_attributes(out, set);
            return ops.get_whole().bytes();
          },
      .decode = [this, open, used, asked, wall](XdrReader& in, bool /*repeated*/) -> Result<Attr> {
        Results4 results(in);
        results.next(Op4::kPutfh);
        const bool done_so = results.next(Op4::kSetattr);
        // Told whether or not it could be done.
        if (results.ran()) skip_bitmap(in);
        if (!done_so) {
          const uint32_t status = results.status();
          return Status::error(open != nullptr ? opens_->judge(open, *used, status)
                                               : error_of_change4(status));
        }
        DecodedAttr decoded;
        if (!results.next_attributes(&decoded))
          return Status::error(error_of_change4(results.status()));
        Attr attr = decoded.attr;
        attr.change = state_.tokens.token(attr, decoded.change, asked, wall);
        return attr;
      }};
  client_.submit(id, std::make_shared<RawCall<Attr>>(caller, std::move(spec), std::move(done)));
}

}  // namespace fusefs::nfs
