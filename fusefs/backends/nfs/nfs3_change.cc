// Changes by version 3, by the bytes (RFC 1813, 3.3).
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "fusefs/backends/nfs/nfs3.h"
#include "fusefs/backends/nfs/nfs_limits.h"
#include "fusefs/backends/nfs/xdr_writer.h"

namespace fusefs::nfs {
namespace {

using cache::Status;
using cache::Timespec;

constexpr uint32_t kVersion = 3;

// Procedures.
constexpr RawProcedure kSetattr3{kVersion, 2};
constexpr RawProcedure kWrite3{kVersion, 7};
constexpr RawProcedure kCreate3{kVersion, 8};
constexpr RawProcedure kMkdir3{kVersion, 9};
constexpr RawProcedure kSymlink3{kVersion, 10};
constexpr RawProcedure kMknod3{kVersion, 11};
constexpr RawProcedure kRemove3{kVersion, 12};
constexpr RawProcedure kRmdir3{kVersion, 13};
constexpr RawProcedure kRename3{kVersion, 14};
constexpr RawProcedure kLink3{kVersion, 15};
constexpr RawProcedure kCommit3{kVersion, 21};

// ---- Arguments ----------------------------------------------------------------------------------

enum TimeHow : uint32_t { kDontChange = 0, kServerTime = 1, kClientTime = 2 };

void put_time(XdrWriter& out, TimeHow how, const Timespec& time) {
  out.u32(how);
  if (how != kClientTime) return;
  out.u32(static_cast<uint32_t>(std::clamp<int64_t>(time.seconds, 0, UINT32_MAX)));
  out.u32(time.nanoseconds);
}

TimeHow time_how(const SetAttr& set, uint32_t now, uint32_t given) {
  if (set.has(now)) return kServerTime;
  return set.has(given) ? kClientTime : kDontChange;
}

void put_optional(XdrWriter& out, const SetAttr& set, uint32_t what, uint32_t value) {
  out.u32(set.has(what) ? 1 : 0);
  if (set.has(what)) out.u32(value);
}

void put_sattr(XdrWriter& out, const SetAttr& set) {
  put_optional(out, set, SetAttr::kMode, set.mode & 07777);
  put_optional(out, set, SetAttr::kUid, set.uid);
  put_optional(out, set, SetAttr::kGid, set.gid);
  out.u32(set.has(SetAttr::kSize) ? 1 : 0);
  if (set.has(SetAttr::kSize)) out.u64(set.size);
  put_time(out, time_how(set, SetAttr::kAtimeNow, SetAttr::kAtime), set.atime);
  put_time(out, time_how(set, SetAttr::kMtimeNow, SetAttr::kMtime), set.mtime);
}

SetAttr first_attributes(const NewObject& object) {
  SetAttr set;
  set.valid = SetAttr::kMode | SetAttr::kAtime;
  set.mode = object.mode;
  set.atime = object.mark;
  return set;
}

RawProcedure procedure_for(uint32_t mode) {
  if (S_ISREG(mode)) return kCreate3;
  if (S_ISDIR(mode)) return kMkdir3;
  return S_ISLNK(mode) ? kSymlink3 : kMknod3;
}

void put_node(XdrWriter& out, const NewObject& object) {
  enum : uint32_t { kBlock = 3, kCharacter = 4, kSocket = 6, kPipe = 7 };
  const bool device = S_ISBLK(object.mode) || S_ISCHR(object.mode);
  if (device) {
    out.u32(S_ISBLK(object.mode) ? kBlock : kCharacter);
  } else {
    out.u32(S_ISSOCK(object.mode) ? kSocket : kPipe);
  }
  put_sattr(out, first_attributes(object));
  if (device) out.u32(major(object.rdev)).u32(minor(object.rdev));
}

std::string encode_new3(const NewObject& object) {
  constexpr uint32_t kGuarded = 1;
  XdrWriter out;
  out.opaque(object.directory).opaque(object.name);
  if (S_ISREG(object.mode)) {
    put_sattr(out.u32(kGuarded), first_attributes(object));
  } else if (S_ISDIR(object.mode)) {
    put_sattr(out, first_attributes(object));
  } else if (S_ISLNK(object.mode)) {
    put_sattr(out, first_attributes(object));
    out.opaque(object.target);
  } else {
    put_node(out, object);
  }
  return out.bytes();
}

// ---- Results ------------------------------------------------------------------------------------

Timespec read_time3(XdrReader& in) {
  const int64_t seconds = in.u32();
  return {seconds, std::min<uint32_t>(in.u32(), kNanoseconds - 1)};
}

// wcc_data
struct Wcc {
  bool before_told = false;
  Attr before;  // size and times only
  bool after_told = false;
  Attr after;
};

Wcc read_wcc(XdrReader& in) {
  Wcc wcc;
  wcc.before_told = in.flag();
  if (wcc.before_told) {
    wcc.before.size = in.u64();
    wcc.before.mtime = read_time3(in);
    wcc.before.ctime = read_time3(in);
  }
  wcc.after_told = in.flag();
  if (wcc.after_told) wcc.after = read_attr3(in);
  return wcc;
}

DirChange read_dir_change(XdrReader& in, ChangeTokens& tokens) {
  Wcc wcc = read_wcc(in);
  if (!in.ok() || !wcc.before_told || !wcc.after_told) return {};
  wcc.before.ino = wcc.after.ino;
  return tokens.changed({.attr = wcc.before, .change = 0}, {.attr = wcc.after, .change = 0});
}

Attr read_dated_attr(XdrReader& in, ChangeTokens& tokens, const ListingTimes& times) {
  Attr attr;
  attr.mode = 0;
  if (!in.flag()) return attr;
  attr = read_attr3(in);
  attr.change = tokens.token(attr, 0, times.asked, times.asked_wall);
  return attr;
}

// Numbers of listings mean nothing here.
int error_of_change(uint32_t status) {
  const int error = error_of_status3(status);
  return error == cache::kErrBadCookie || error == cache::kErrTooSmall ? EIO : error;
}

}  // namespace

template <typename T>
void Nfs3::call_raw(uint64_t id, const CallerPtr& caller, typename RawCall<T>::Spec spec,
                    Done<T> done) {
  client_.submit(id, std::make_shared<RawCall<T>>(caller, std::move(spec), std::move(done)));
}

// ---- The tree -----------------------------------------------------------------------------------

void Nfs3::make(uint64_t id, const CallerPtr& caller, const NewObjectPtr& object,
                Done<MadeObject> done) {
  const ListingTimes asked = times_now();
  call_raw<MadeObject>(
      id, caller,
      {.procedure = procedure_for(object->mode),
       .encode = [object] { return encode_new3(*object); },
       .decode = [this, asked](XdrReader& in, bool repeated) -> Result<MadeObject> {
         const int error = error_of_change(in.u32());
         MadeObject made;
         if (error == EEXIST && repeated) {
           read_wcc(in);
           made.doubt = error;
           return made;
         }
         if (error != 0) return Status::error(error);
         if (in.flag()) made.object.handle = in.opaque(kMaxHandle3);
         made.object.attr = read_dated_attr(in, state_.tokens, asked);
         state_.tokens.note_made({.attr = made.object.attr, .change = 0});
         made.parent = read_dir_change(in, state_.tokens);
         return made;
       }},
      std::move(done));
}

void Nfs3::link(uint64_t id, const CallerPtr& caller, const Handle& handle, const NameIn& to,
                Done<MadeObject> done) {
  const ListingTimes asked = times_now();
  call_raw<MadeObject>(
      id, caller,
      {.procedure = kLink3,
       .encode =
           [handle, to] {
             return XdrWriter().opaque(handle).opaque(to.directory).opaque(to.name).bytes();
           },
       .decode = [this, handle, asked](XdrReader& in, bool repeated) -> Result<MadeObject> {
         const int error = error_of_change(in.u32());
         MadeObject made;
         if (error != 0 && !(error == EEXIST && repeated)) return Status::error(error);
         made.object.handle = handle;
         made.object.attr = read_dated_attr(in, state_.tokens, asked);
         if (error == 0) {
           made.parent = read_dir_change(in, state_.tokens);
         } else {
           made.doubt = error;
         }
         return made;
       }},
      std::move(done));
}

void Nfs3::remove(uint64_t id, const CallerPtr& caller, const NameIn& name, Removed what,
                  Done<RemovedObject> done) {
  call_raw<RemovedObject>(
      id, caller,
      {.procedure = what == Removed::kDirectory ? kRmdir3 : kRemove3,
       .encode = [name] { return XdrWriter().opaque(name.directory).opaque(name.name).bytes(); },
       .decode = [this](XdrReader& in, bool repeated) -> Result<RemovedObject> {
         const int error = error_of_change(in.u32());
         if (error == ENOENT && repeated) return RemovedObject{.parent = {}, .doubt = error};
         if (error != 0) return Status::error(error);
         return RemovedObject{.parent = read_dir_change(in, state_.tokens), .doubt = 0};
       }},
      std::move(done));
}

void Nfs3::rename(uint64_t id, const CallerPtr& caller, const NameIn& from, const NameIn& to,
                  Done<RenamedObject> done) {
  const bool one_directory = from.directory == to.directory;
  call_raw<RenamedObject>(
      id, caller,
      {.procedure = kRename3,
       .encode =
           [from, to] {
             XdrWriter out;
             out.opaque(from.directory).opaque(from.name);
             return out.opaque(to.directory).opaque(to.name).bytes();
           },
       .decode = [this, one_directory](XdrReader& in, bool repeated) -> Result<RenamedObject> {
         const int error = error_of_change(in.u32());
         if (error == ENOENT && repeated) return RenamedObject{.change = {}, .doubt = error};
         if (error != 0) return Status::error(error);
         RenamedObject renamed;
         renamed.change.from = read_dir_change(in, state_.tokens);
         if (one_directory) {
           // Told twice, the second time it is no change any more.
           renamed.change.to = renamed.change.from;
           read_wcc(in);
         } else {
           renamed.change.to = read_dir_change(in, state_.tokens);
         }
         return renamed;
       }},
      std::move(done));
}

void Nfs3::setattr(uint64_t id, const CallerPtr& caller, const Handle& handle,
                   const OpenFilePtr& /*file*/, const SetAttr& set, Done<Attr> done) {
  const ListingTimes asked = times_now();
  call_raw<Attr>(id, caller,
                 {.procedure = kSetattr3,
                  .encode =
                      [handle, set] {
                        constexpr uint32_t kNoGuard = 0;
                        XdrWriter out;
                        put_sattr(out.opaque(handle), set);
                        return out.u32(kNoGuard).bytes();
                      },
                  .decode = [this, asked](XdrReader& in, bool /*repeated*/) -> Result<Attr> {
                    if (const int error = error_of_change(in.u32())) return Status::error(error);
                    Attr attr = read_wcc(in).after;
                    attr.change = state_.tokens.token(attr, 0, asked.asked, asked.asked_wall);
                    return attr;
                  }},
                 std::move(done));
}

// ---- Files --------------------------------------------------------------------------------------

void Nfs3::open(uint64_t id, const CallerPtr& caller, const OpenPlace& place, int flags,
                Done<OpenFilePtr> done) {
  auto file = std::make_shared<OpenFile>(place.handle, place.ino);
  if (place.made) return done(std::move(file));
  check_access(id, caller, place.handle, flags,
               [file = std::move(file), done = std::move(done)](const Result<bool>& permitted) {
                 done(permitted.ok() ? Result<OpenFilePtr>(file) : permitted.status());
               });
}

void Nfs3::create(uint64_t id, const CallerPtr& caller, const NewObjectPtr& object, int /*flags*/,
                  Done<CreatedObject> done) {
  make(id, caller, object, [done = std::move(done)](Result<MadeObject> made) {
    if (!made.ok()) return done(made.status());
    const FoundObject& found = made.value().object;
    OpenFilePtr file;
    if (made.value().doubt == 0 && !found.handle.empty() && found.attr.mode != 0) {
      file = std::make_shared<OpenFile>(found.handle, found.attr.ino);
    }
    done(CreatedObject{.made = std::move(made).value(), .file = std::move(file)});
  });
}

void Nfs3::write(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file, WriteArgs args,
                 Done<Written> done) {
  const size_t size = args.size;
  call_raw<Written>(
      id, caller,
      {.procedure = kWrite3,
       .encode =
           [file, args = std::move(args)] {
             XdrWriter out;
             out.reserve(args.size + 128);
             out.opaque(file->handle()).u64(args.offset).u32(static_cast<uint32_t>(args.size));
             out.u32(stable_how(args.how)).opaque(args.piece());
             return out.take();
           },
       .decode = [size](XdrReader& in, bool /*repeated*/) -> Result<Written> {
         if (const int error = error_of_change(in.u32())) return Status::error(error);
         const Wcc wcc = read_wcc(in);
         Written written;
         if (wcc.before_told) written.answer.before = file_stamp(wcc.before);
         written.count = in.u32();
         const uint32_t how = in.u32();
         written.answer.stable = how != stable_how(StableHow::kUnstable);
         written.answer.durable = how == stable_how(StableHow::kFileSync);
         written.answer.verifier = in.verifier();
         const bool some = written.count > 0 && written.count <= size;
         return some ? Result<Written>(written) : Status::error(EIO);
       },
       .weight = Call::Weight::kHeavy},
      std::move(done));
}

void Nfs3::commit(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file,
                  Done<uint64_t> done) {
  call_raw<uint64_t>(
      id, caller,
      {.procedure = kCommit3,
       .encode = [file] { return XdrWriter().opaque(file->handle()).u64(0).u32(0).bytes(); },
       .decode = [](XdrReader& in, bool /*repeated*/) -> Result<uint64_t> {
         if (const int error = error_of_change(in.u32())) return Status::error(error);
         read_wcc(in);
         return in.verifier();
       },
       .weight = Call::Weight::kHeavy},
      std::move(done));
}

}  // namespace fusefs::nfs
