// Changes of the tree by version 4.0 (RFC 7530, 16). What is open: nfs4_opens.h.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <utility>

#include "fusefs/backends/nfs/nfs4.h"
#include "fusefs/backends/nfs/nfs4_opens.h"
#include "fusefs/backends/nfs/nfs4_wire.h"

namespace fusefs::nfs {
namespace {

using cache::Status;

template <typename T>
void call_raw(Client& client, uint64_t id, const CallerPtr& caller,
              const std::function<std::string()>& encode,
              std::function<Result<T>(XdrReader& in, bool repeated)> decode,
              Backend::Done<T> done) {
  client.submit(id,
                std::make_shared<RawCall<T>>(
                    caller,
                    typename RawCall<T>::Spec{
                        .procedure = kCompound4Raw, .encode = encode, .decode = std::move(decode)},
                    std::move(done)));
}

void put_type(XdrWriter& out, const NewObject& object) {
  enum : uint32_t { kDirectory = 2, kBlock = 3, kCharacter = 4, kLink = 5, kSocket = 6, kPipe = 7 };
  if (S_ISDIR(object.mode)) {
    out.u32(kDirectory);
  } else if (S_ISLNK(object.mode)) {
    out.u32(kLink).opaque(object.target);
  } else if (S_ISBLK(object.mode) || S_ISCHR(object.mode)) {
    out.u32(S_ISBLK(object.mode) ? kBlock : kCharacter);
    out.u32(major(object.rdev)).u32(minor(object.rdev));
  } else {
    out.u32(S_ISSOCK(object.mode) ? kSocket : kPipe);
  }
}

std::string encode_new4(const NewObject& object) {
  Ops4 ops;
  ops.put(object.directory).get_number();
  XdrWriter& create = ops.op(Op4::kCreate);
  put_type(create, object);
  put_set_attributes(create.opaque(object.name), first_attributes4(object));
  return ops.plain(Op4::kGetfh).get_whole().bytes();
}

// In doubt: see nfs_protocol.h.
bool is_doubt(uint32_t status, int doubted, bool repeated) {
  return repeated && error_of_change4(status) == doubted;
}

}  // namespace

SetAttr first_attributes4(const NewObject& object) {
  SetAttr set;
  set.valid = SetAttr::kMode | SetAttr::kAtime;
  set.mode = object.mode;
  set.atime = object.mark;
  return set;
}

void Nfs4::make(uint64_t id, const CallerPtr& caller, const NewObjectPtr& object,
                Done<MadeObject> done) {
  if (S_ISREG(object->mode)) return make_file(id, caller, object, std::move(done));
  const AskedAt asked;
  call_raw<MadeObject>(
      client_, id, caller, [object] { return encode_new4(*object); },
      [this, asked](XdrReader& in, bool repeated) -> Result<MadeObject> {
        Results4 results(in);
        MadeObject made;
        DecodedAttr directory, attributes;
        results.next(Op4::kPutfh);
        results.next_attributes(&directory);
        if (results.next(Op4::kCreate)) {
          const ChangeInfo4 info = read_change_info(in);
          skip_bitmap(in);
          made.parent = dir_change4(directory.attr.ino, info, state_.tokens);
        }
        results.next_handle(&made.object.handle);
        if (results.next_attributes(&attributes)) {
          made.object.attr = dated(attributes, state_.tokens, asked);
          state_.tokens.note_made({.attr = made.object.attr, .change = attributes.change});
        }
        if (results.status() == kOk4) return made;
        if (!is_doubt(results.status(), EEXIST, repeated))
          return Status::error(error_of_change4(results.status()));
        made.doubt = EEXIST;
        return made;
      },
      std::move(done));
}

// Regular files are made by OPEN only.
void Nfs4::make_file(uint64_t id, const CallerPtr& caller, const NewObjectPtr& object,
                     Done<MadeObject> done) {
  create(id, caller, object, O_WRONLY,
         [this, done = std::move(done)](const Result<CreatedObject>& created) {
           if (!created.ok()) return done(created.status());
           if (created.value().file != nullptr) close(created.value().file);
           done(created.value().made);
         });
}

void Nfs4::link(uint64_t id, const CallerPtr& caller, const Handle& handle, const NameIn& to,
                Done<MadeObject> done) {
  const AskedAt asked;
  call_raw<MadeObject>(
      client_, id, caller,
      [handle, to] {
        Ops4 ops;
        ops.put(handle).plain(Op4::kSavefh).put(to.directory).get_number();
        ops.op(Op4::kLink).opaque(to.name);
        return ops.plain(Op4::kRestorefh).get_whole().bytes();
      },
      [this, asked, handle](XdrReader& in, bool repeated) -> Result<MadeObject> {
        Results4 results(in);
        MadeObject made;
        made.object.handle = handle;
        DecodedAttr directory, attributes;
        results.next(Op4::kPutfh);
        results.next(Op4::kSavefh);
        results.next(Op4::kPutfh);
        results.next_attributes(&directory);
        if (results.next(Op4::kLink))
          made.parent = dir_change4(directory.attr.ino, read_change_info(in), state_.tokens);
        results.next(Op4::kRestorefh);
        if (results.next_attributes(&attributes))
          made.object.attr = dated(attributes, state_.tokens, asked);
        if (results.status() == kOk4) return made;
        if (!is_doubt(results.status(), EEXIST, repeated))
          return Status::error(error_of_change4(results.status()));
        made.doubt = EEXIST;
        return made;
      },
      std::move(done));
}

// REMOVE takes directories and others alike: what it is to be is checked on the way.
void Nfs4::remove(uint64_t id, const CallerPtr& caller, const NameIn& name, Removed what,
                  Done<RemovedObject> done) {
  const bool directory_wanted = what == Removed::kDirectory;
  const Op4 check = directory_wanted ? Op4::kVerify : Op4::kNverify;
  call_raw<RemovedObject>(
      client_, id, caller,
      [name, check] {
        Ops4 ops;
        ops.put(name.directory).lookup(name.name);
        put_directory_type(ops.op(check));
        ops.put(name.directory).get_number();
        ops.op(Op4::kRemove).opaque(name.name);
        return ops.bytes();
      },
      [this, check](XdrReader& in, bool repeated) -> Result<RemovedObject> {
        Results4 results(in);
        RemovedObject removed;
        DecodedAttr directory;
        results.next(Op4::kPutfh);
        results.next(Op4::kLookup);
        results.next(check);
        if (results.status() == kSame4) return Status::error(EISDIR);
        if (results.status() == kNotSame4) return Status::error(ENOTDIR);
        results.next(Op4::kPutfh);
        results.next_attributes(&directory);
        if (results.next(Op4::kRemove))
          removed.parent = dir_change4(directory.attr.ino, read_change_info(in), state_.tokens);
        if (results.status() == kOk4) return removed;
        if (!is_doubt(results.status(), ENOENT, repeated))
          return Status::error(error_of_change4(results.status()));
        removed.doubt = ENOENT;
        return removed;
      },
      std::move(done));
}

void Nfs4::rename(uint64_t id, const CallerPtr& caller, const NameIn& from, const NameIn& to,
                  Done<RenamedObject> done) {
  const bool one_directory = from.directory == to.directory;
  call_raw<RenamedObject>(
      client_, id, caller,
      [from, to] {
        Ops4 ops;
        ops.put(from.directory).get_number().plain(Op4::kSavefh).put(to.directory).get_number();
        ops.op(Op4::kRename).opaque(from.name).opaque(to.name);
        return ops.bytes();
      },
      [this, one_directory](XdrReader& in, bool repeated) -> Result<RenamedObject> {
        Results4 results(in);
        RenamedObject renamed;
        DecodedAttr source, target;
        results.next(Op4::kPutfh);
        results.next_attributes(&source);
        results.next(Op4::kSavefh);
        results.next(Op4::kPutfh);
        results.next_attributes(&target);
        if (results.next(Op4::kRename)) {
          RenamedAnswer& change = renamed.change;
          change.from = dir_change4(source.attr.ino, read_change_info(in), state_.tokens);
          const ChangeInfo4 info = read_change_info(in);
          // Told twice, the second time it is no change any more.
          change.to =
              one_directory ? change.from : dir_change4(target.attr.ino, info, state_.tokens);
        }
        if (results.status() == kOk4) return renamed;
        if (!is_doubt(results.status(), ENOENT, repeated))
          return Status::error(error_of_change4(results.status()));
        renamed.doubt = ENOENT;
        return renamed;
      },
      std::move(done));
}

}  // namespace fusefs::nfs
