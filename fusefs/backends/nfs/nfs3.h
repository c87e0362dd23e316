// NFS version 3 (RFC 1813): calls and their answers.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "fusefs/backends/nfs/nfs_listing.h"
#include "fusefs/backends/nfs/nfs_protocol.h"

namespace fusefs::nfs {

class Nfs3 final : public Protocol {
 public:
  explicit Nfs3(Client& client) : client_(client) {}

  [[nodiscard]] bool names_tell_types() const override { return false; }
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

  // nfs3_change.cc
  [[nodiscard]] bool opens_by_name(int /*flags*/) const override { return false; }
  void open(uint64_t id, const CallerPtr& caller, const OpenPlace& place, int flags,
            Done<OpenFilePtr> done) override;
  void close(OpenFilePtr /*file*/) override {}  // the server knows of none
  void create(uint64_t id, const CallerPtr& caller, const NewObjectPtr& object, int flags,
              Done<CreatedObject> done) override;
  void write(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file, WriteArgs args,
             Done<Written> done) override;
  void commit(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file,
              Done<uint64_t> done) override;
  void setattr(uint64_t id, const CallerPtr& caller, const Handle& handle, const OpenFilePtr& file,
               const SetAttr& set, Done<Attr> done) override;
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
  // EACCES where the caller may not open the file so.
  void check_access(uint64_t id, const CallerPtr& caller, const Handle& handle, int flags,
                    Done<bool> done);
  template <typename T>
  void call(uint64_t id, const CallerPtr& caller, typename SimpleCall<T>::Send send,
            typename SimpleCall<T>::Decode decode, Done<T> done,
            Call::Weight weight = Call::Weight::kLight);

  template <typename T>
  void call_raw(uint64_t id, const CallerPtr& caller, typename RawCall<T>::Spec spec, Done<T> done);

  Client& client_;
  ListingState state_;
};

// What an nfsstat3 is here.
int error_of_status3(uint32_t status);

// Turns the results of READDIR, or READDIRPLUS, as they stand in a reply (RFC 1813, 3.3.16 and 17)
// into entries; for Nfs3 and its fuzzer. Errors as ListCall::decode(); EIO: they are malformed.
struct ListingTimes {
  cache::TimePoint asked;
  WallTime asked_wall = 0;
};
ListingTimes times_now();
int decode_listing3(std::string_view results, Attributes attributes, ChangeTokens& tokens,
                    const ListingTimes& times, Listed* listed, uint64_t* wire_bytes);

}  // namespace fusefs::nfs
