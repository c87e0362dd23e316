// NFS version 4.0 (RFC 7530): calls and their answers.
//
// Purpose:        each question is one COMPOUND: the object's handle, then what is asked of it. A
//                 listing is preceded by the directory's change attribute, as of before it.
// State:          files are read with the anonymous state id (9.1.4.3); those that are written or
//                 locked are opened at the server (nfs4_opens.h, nfs4_locks.h).
#pragma once

#include <memory>
#include <string>

#include "fusefs/backends/nfs/nfs_listing.h"
#include "fusefs/backends/nfs/nfs_protocol.h"

struct COMPOUND4res;

namespace fusefs::nfs {

class Locks4;
class Opens4;

class Nfs4 final : public Protocol {
 public:
  // `own`: whose the client id is that open files need.
  Nfs4(Client& client, CallerPtr own);
  ~Nfs4() override;

  void stop() override;

  // The handle of the server's root.
  void root(uint64_t id, const CallerPtr& caller, Done<Handle> done);

  [[nodiscard]] bool names_tell_types() const override { return true; }
  void lookup(uint64_t id, const CallerPtr& caller, const Handle& directory,
              const std::string& name, Done<FoundObject> done) override;
  void getattr(uint64_t id, const CallerPtr& caller, const Handle& handle,
               Done<Attr> done) override;
  void readlink(uint64_t id, const CallerPtr& caller, const Handle& handle,
                Done<std::string> done) override;
  void statfs(uint64_t id, const CallerPtr& caller, const Handle& handle,
              Done<StatfsAnswer> done) override;
  void read(uint64_t id, const CallerPtr& caller, const Handle& handle, uint64_t offset,
            uint32_t size, Done<ReadChunk> done) override;
  void list(uint64_t id, const CallerPtr& caller, const Handle& directory,
            const cache::DirRequest& request, std::function<void(Listed&& listed)> done) override;
  void limits(uint64_t id, const CallerPtr& caller, const Handle& root,
              Done<ServerLimits> done) override;

  // nfs4_file.cc; nfs4_change.cc
  [[nodiscard]] bool opens_by_name(int flags) const override;
  void open(uint64_t id, const CallerPtr& caller, const OpenPlace& place, int flags,
            Done<OpenFilePtr> done) override;
  void close(OpenFilePtr file) override;
  void create(uint64_t id, const CallerPtr& caller, const NewObjectPtr& object, int flags,
              Done<CreatedObject> done) override;
  void write(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file, WriteArgs args,
             Done<Written> done) override;
  void commit(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file,
              Done<uint64_t> done) override;
  void setattr(uint64_t id, const CallerPtr& caller, const Handle& handle, const OpenFilePtr& file,
               const SetAttr& set, Done<Attr> done) override;
  [[nodiscard]] bool has_locks() const override { return true; }
  void open_to_lock(uint64_t id, const CallerPtr& caller, const OpenPlace& place, int flags,
                    Done<OpenFilePtr> done) override;
  void set_lock(const CallerPtr& caller, const OpenFilePtr& file, const FileLock& lock,
                Done<Nothing> done) override;
  void test_lock(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file,
                 const FileLock& lock, Done<FileLock> done) override;
  [[nodiscard]] bool keeps_unlinked() const override { return false; }
  void make(uint64_t id, const CallerPtr& caller, const NewObjectPtr& object,
            Done<MadeObject> done) override;
  void link(uint64_t id, const CallerPtr& caller, const Handle& handle, const NameIn& to,
            Done<MadeObject> done) override;
  void remove(uint64_t id, const CallerPtr& caller, const NameIn& name, Removed what,
              Done<RemovedObject> done) override;
  void rename(uint64_t id, const CallerPtr& caller, const NameIn& from, const NameIn& to,
              Done<RenamedObject> done) override;

 private:
  void open_stateless(uint64_t id, const CallerPtr& caller, const OpenPlace& place, int flags,
                      Done<OpenFilePtr> done);
  void make_file(uint64_t id, const CallerPtr& caller, const NewObjectPtr& object,
                 Done<MadeObject> done);
  // EACCES where the caller may not open the file so.
  void check_access(uint64_t id, const CallerPtr& caller, const Handle& handle, int flags,
                    Done<bool> done);

  Client& client_;
  ListingState state_;
  std::unique_ptr<Opens4> opens_;
  std::unique_ptr<Locks4> locks_;
};

// What a new object gets (nfs_protocol.h).
SetAttr first_attributes4(const NewObject& object);

// What an nfsstat4 is here.
int error_of_status4(uint32_t status);

// Checks an answer of PUTFH, GETATTR, READDIR and turns it into entries; for Nfs4 and its fuzzer.
// Errors as ListCall::decode().
int decode_readdir4(const COMPOUND4res& result, Attributes attributes, ChangeTokens& tokens,
                    cache::TimePoint asked, WallTime asked_wall, Listed* listed,
                    uint64_t* wire_bytes);

}  // namespace fusefs::nfs
