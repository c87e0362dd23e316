// Changes by version 4.0.
#include <cerrno>
#include <utility>

#include "fusefs/backends/nfs/nfs4.h"

namespace fusefs::nfs {

using cache::Status;

bool Nfs4::opens_by_name(int flags) const { return (flags & 3) != 0; }
void Nfs4::open(uint64_t id, const CallerPtr& caller, const OpenPlace& place, int flags,
                Done<OpenFilePtr> done) {
  if ((flags & 3) != 0) return done(Status::error(EROFS));
  check_access(id, caller, place.handle, flags,
               [file = std::make_shared<OpenFile>(place.handle, place.ino),
                done = std::move(done)](const Result<bool>& permitted) {
                 done(permitted.ok() ? Result<OpenFilePtr>(file) : permitted.status());
               });
}
void Nfs4::close(OpenFilePtr /*file*/) {}
void Nfs4::create(uint64_t, const CallerPtr&, const NewObjectPtr&, int, Done<CreatedObject> done) {
  done(Status::error(EROFS));
}
void Nfs4::write(uint64_t, const CallerPtr&, const OpenFilePtr&, uint64_t,
                 std::shared_ptr<const std::string>, size_t, size_t, Done<Written> done) {
  done(Status::error(EROFS));
}
void Nfs4::commit(uint64_t, const CallerPtr&, const OpenFilePtr&, Done<uint64_t> done) {
  done(Status::error(EROFS));
}
void Nfs4::setattr(uint64_t, const CallerPtr&, const Handle&, const OpenFilePtr&, const SetAttr&,
                   Done<Attr> done) {
  done(Status::error(EROFS));
}
void Nfs4::make(uint64_t, const CallerPtr&, const NewObjectPtr&, Done<MadeObject> done) {
  done(Status::error(EROFS));
}
void Nfs4::link(uint64_t, const CallerPtr&, const Handle&, const NameIn&, Done<MadeObject> done) {
  done(Status::error(EROFS));
}
void Nfs4::remove(uint64_t, const CallerPtr&, const NameIn&, Removed, Done<RemovedObject> done) {
  done(Status::error(EROFS));
}
void Nfs4::rename(uint64_t, const CallerPtr&, const NameIn&, const NameIn&,
                  Done<RenamedObject> done) {
  done(Status::error(EROFS));
}

}  // namespace fusefs::nfs
