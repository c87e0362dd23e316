#include "fusefs/backends/nfs/nfs3.h"

#include <fcntl.h>
#include <nfsc/libnfs-zdr.h>
// The above first: the next needs its types.
#include <nfsc/libnfs-raw-nfs.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "fusefs/backends/nfs/nfs_limits.h"
#include "fusefs/backends/nfs/wire_enum.h"
#include "fusefs/backends/nfs/xdr_reader.h"

namespace fusefs::nfs {
namespace {

using cache::DirAnswer;
using cache::Status;

// Arguments point to bytes that are not theirs and that nobody changes.
nfs_fh3 wire_handle(const Handle& handle) {
  nfs_fh3 wire{};
  wire.data.data_len = static_cast<u_int>(handle.size());
  wire.data.data_val = const_cast<char*>(handle.data());  // NOLINT
  return wire;
}

// Nothing where the handle is none.
std::optional<Handle> to_handle(const nfs_fh3& wire) {
  const bool good =
      wire.data.data_len > 0 && wire.data.data_len <= kMaxHandle3 && wire.data.data_val != nullptr;
  if (!good) return std::nullopt;
  return Handle(wire.data.data_val, wire.data.data_len);
}

uint64_t to_verifier(const char* wire) {
  uint64_t verifier = 0;
  static_assert(sizeof verifier == NFS3_COOKIEVERFSIZE);
  std::memcpy(&verifier, wire, sizeof verifier);
  return verifier;
}

// An object's attributes with its token.
Attr dated(Attr attr, ChangeTokens& tokens, const ListingTimes& times) {
  attr.change = tokens.token(attr, 0, times.asked, times.asked_wall);
  return attr;
}

}  // namespace

ListingTimes times_now() {
  return {.asked = std::chrono::steady_clock::now(), .asked_wall = wall_now()};
}

int error_of_status3(uint32_t status) {
  switch (status) {
    case NFS3_OK:
      return 0;
    case NFS3ERR_NAMETOOLONG:
      return ENAMETOOLONG;
    case NFS3ERR_NOTEMPTY:
      return ENOTEMPTY;
    case NFS3ERR_DQUOT:
      return EDQUOT;
    case NFS3ERR_STALE:
    case NFS3ERR_BADHANDLE:
      return ESTALE;
    case NFS3ERR_REMOTE:
      return EREMOTE;
    case NFS3ERR_NOT_SYNC:
      return EIO;
    case NFS3ERR_BAD_COOKIE:
      return cache::kErrBadCookie;
    case NFS3ERR_NOTSUPP:
      return ENOTSUP;
    case NFS3ERR_TOOSMALL:
      return cache::kErrTooSmall;
    case NFS3ERR_SERVERFAULT:
      return EREMOTEIO;
    case NFS3ERR_BADTYPE:
      return EINVAL;
    case NFS3ERR_JUKEBOX:
      return kErrLater;
    case NFS3ERR_PERM:
    case NFS3ERR_NOENT:
    case NFS3ERR_IO:
    case NFS3ERR_NXIO:
    case NFS3ERR_ACCES:
    case NFS3ERR_EXIST:
    case NFS3ERR_XDEV:
    case NFS3ERR_NODEV:
    case NFS3ERR_NOTDIR:
    case NFS3ERR_ISDIR:
    case NFS3ERR_INVAL:
    case NFS3ERR_FBIG:
    case NFS3ERR_NOSPC:
    case NFS3ERR_ROFS:
    case NFS3ERR_MLINK:
      return static_cast<int>(status);  // the same numbers as Linux'
    default:
      return EIO;
  }
}

// ---- Simple calls -------------------------------------------------------------------------------

template <typename T>
void Nfs3::call(uint64_t id, const CallerPtr& caller, typename SimpleCall<T>::Send send,
                typename SimpleCall<T>::Decode decode, Done<T> done, Call::Weight weight) {
  client_.submit(id, std::make_shared<SimpleCall<T>>(caller, weight, std::move(send),
                                                     std::move(decode), std::move(done)));
}

void Nfs3::lookup(uint64_t id, const CallerPtr& caller, const Handle& directory,
                  const std::string& name, Done<FoundObject> done) {
  const ListingTimes asked = times_now();
  call<FoundObject>(
      id, caller,
      [directory, name](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        LOOKUP3args args{};
        args.what.dir = wire_handle(directory);
        args.what.name = const_cast<char*>(name.c_str());  // NOLINT
        return rpc.call(Procedure::kLookup3, &args, who, std::move(reply));
      },
      [this, asked](const void* result) -> Result<FoundObject> {
        const auto& answer = *static_cast<const LOOKUP3res*>(result);
        if (const int error = error_of_status3(wire_number(answer.status)))
          return Status::error(error);
        const LOOKUP3resok& ok = answer.LOOKUP3res_u.resok;
        std::optional<Handle> handle = to_handle(ok.object);
        if (!handle) return Status::error(EIO);
        FoundObject found{.handle = std::move(*handle), .attr = {}};
        found.attr.mode = 0;
        if (ok.obj_attributes.attributes_follow != 0) {
          found.attr =
              dated(to_attr(ok.obj_attributes.post_op_attr_u.attributes), state_.tokens, asked);
        }
        return found;
      },
      std::move(done));
}

void Nfs3::getattr(uint64_t id, const CallerPtr& caller, const Handle& handle, Done<Attr> done) {
  const ListingTimes asked = times_now();
  call<Attr>(
      id, caller,
      [handle](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        GETATTR3args args{.object = wire_handle(handle)};
        return rpc.call(Procedure::kGetattr3, &args, who, std::move(reply));
      },
      [this, asked](const void* result) -> Result<Attr> {
        const auto& answer = *static_cast<const GETATTR3res*>(result);
        if (const int error = error_of_status3(wire_number(answer.status)))
          return Status::error(error);
        return dated(to_attr(answer.GETATTR3res_u.resok.obj_attributes), state_.tokens, asked);
      },
      std::move(done));
}

void Nfs3::readlink(uint64_t id, const CallerPtr& caller, const Handle& handle,
                    Done<std::string> done) {
  call<std::string>(
      id, caller,
      [handle](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        READLINK3args args{.symlink = wire_handle(handle)};
        return rpc.call(Procedure::kReadlink3, &args, who, std::move(reply));
      },
      [](const void* result) -> Result<std::string> {
        const auto& answer = *static_cast<const READLINK3res*>(result);
        if (const int error = error_of_status3(wire_number(answer.status)))
          return Status::error(error);
        const char* const target = answer.READLINK3res_u.resok.data;
        return std::string(target == nullptr ? "" : target);
      },
      std::move(done));
}

void Nfs3::statfs(uint64_t id, const CallerPtr& caller, const Handle& handle,
                  Done<StatfsAnswer> done) {
  call<StatfsAnswer>(
      id, caller,
      [handle](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        FSSTAT3args args{.fsroot = wire_handle(handle)};
        return rpc.call(Procedure::kFsstat3, &args, who, std::move(reply));
      },
      [](const void* result) -> Result<StatfsAnswer> {
        const auto& answer = *static_cast<const FSSTAT3res*>(result);
        if (const int error = error_of_status3(wire_number(answer.status)))
          return Status::error(error);
        const FSSTAT3resok& ok = answer.FSSTAT3res_u.resok;
        StatfsAnswer figures;
        figures.blocks = ok.tbytes / figures.block_size;
        figures.blocks_free = ok.fbytes / figures.block_size;
        figures.blocks_available = ok.abytes / figures.block_size;
        figures.files = ok.tfiles;
        figures.files_free = ok.ffiles;
        return figures;
      },
      std::move(done));
}

void Nfs3::check_access(uint64_t id, const CallerPtr& caller, const Handle& handle, int flags,
                        Done<bool> done) {
  // A program that may only be executed is read to execute it.
  const uint32_t reading = (flags & O_ACCMODE) == O_WRONLY ? 0 : ACCESS3_READ | ACCESS3_EXECUTE;
  const uint32_t writing = (flags & O_ACCMODE) == O_RDONLY ? 0 : ACCESS3_MODIFY;
  call<bool>(
      id, caller,
      [handle, reading, writing](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        ACCESS3args args{.object = wire_handle(handle), .access = reading | writing};
        return rpc.call(Procedure::kAccess3, &args, who, std::move(reply));
      },
      [reading, writing](const void* result) -> Result<bool> {
        const auto& answer = *static_cast<const ACCESS3res*>(result);
        if (const int error = error_of_status3(wire_number(answer.status)))
          return Status::error(error);
        const uint32_t may = answer.ACCESS3res_u.resok.access;
        const bool permitted = (reading == 0 || (may & reading) != 0) && (may & writing) == writing;
        return permitted ? Result<bool>(true) : Status::error(EACCES);
      },
      std::move(done));
}

void Nfs3::limits(uint64_t id, const CallerPtr& caller, const Handle& root,
                  Done<ServerLimits> done) {
  call<ServerLimits>(
      id, caller,
      [root](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        FSINFO3args args{.fsroot = wire_handle(root)};
        return rpc.call(Procedure::kFsinfo3, &args, who, std::move(reply));
      },
      [](const void* result) -> Result<ServerLimits> {
        const auto& answer = *static_cast<const FSINFO3res*>(result);
        if (const int error = error_of_status3(wire_number(answer.status)))
          return Status::error(error);
        constexpr uint32_t kLeast = 512;
        const FSINFO3resok& ok = answer.FSINFO3res_u.resok;
        return ServerLimits{.read_bytes = std::clamp<uint32_t>(ok.rtmax, kLeast, kMaxReplyBytes),
                            .write_bytes = std::clamp<uint32_t>(ok.wtmax, kLeast, kMaxReplyBytes)};
      },
      std::move(done));
}

// ---- Contents -----------------------------------------------------------------------------------

void Nfs3::read(uint64_t id, const CallerPtr& caller, const Handle& handle, uint64_t offset,
                uint32_t size, Done<ReadChunk> done) {
  call<ReadChunk>(
      id, caller,
      [handle, offset, size](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        READ3args args{.file = wire_handle(handle), .offset = offset, .count = size};
        return rpc.call(Procedure::kRead3, &args, who, std::move(reply));
      },
      [size](const void* result) -> Result<ReadChunk> {
        const auto& answer = *static_cast<const READ3res*>(result);
        if (const int error = error_of_status3(wire_number(answer.status)))
          return Status::error(error);
        const READ3resok& ok = answer.READ3res_u.resok;
        if (ok.data.data_len > size || (ok.data.data_len > 0 && ok.data.data_val == nullptr)) {
          return Status::error(EIO);
        }
        return ReadChunk{.bytes = std::string(ok.data.data_val, ok.data.data_len),
                         .eof = ok.eof != 0};
      },
      std::move(done), Call::Weight::kHeavy);
}

// ---- Listings -----------------------------------------------------------------------------------

namespace {

// What stands before the entries; false: the directory could not be listed, or this is no listing.
bool read_listing_header(XdrReader& in, ChangeTokens& tokens, const ListingTimes& times,
                         DirAnswer* answer, int* error) {
  *error = error_of_status3(in.u32());
  if (*error == 0 && in.flag()) {
    answer->change = tokens.listing_token(read_attr3(in), 0, times.asked, times.asked_wall);
  }
  const std::string_view verifier = *error == 0 ? in.bytes(NFS3_COOKIEVERFSIZE) : "";
  if (!in.ok()) *error = EIO;
  if (*error == 0) answer->verifier = to_verifier(verifier.data());
  return *error == 0;
}

// What READDIRPLUS tells beside name, number and cookie.
void read_plus(XdrReader& in, std::string_view name, uint64_t ino, uint64_t cookie,
               ChangeTokens& tokens, const ListingTimes& times, Listed* listed) {
  DirAnswer& answer = listed->answer;
  Attr attr;
  attr.mode = 0;  // not told: whoever needs it looks it up
  if (in.flag()) {
    attr = dated(read_attr3(in), tokens, times);
    // At a mount point the two differ; what is listed must be what a lookup finds.
    if (attr.mode != 0) ino = attr.ino;
  }
  answer.add(name, ino, dirent_type(attr.mode), cookie);
  answer.attrs.push_back(attr);
  const std::string_view handle = in.flag() ? in.opaque(kMaxHandle3) : "";
  const bool directory = S_ISDIR(attr.mode);
  const bool kept = directory || answer.entries.size() <= ListCall::kFewEntries;
  if (!kept || handle.empty()) return;
  listed->handles.push_back({std::string(name), ino, Handle(handle), directory});
}

}  // namespace

int decode_listing3(std::string_view results, Attributes attributes, ChangeTokens& tokens,
                    const ListingTimes& times, Listed* listed, uint64_t* wire_bytes) {
  XdrReader in(results);
  DirAnswer& answer = listed->answer;
  int error = 0;
  if (!read_listing_header(in, tokens, times, &answer, &error)) return error;
  answer.has_attrs = attributes == Attributes::kYes;
  const size_t before = in.rest().size();
  while (in.flag()) {
    if (answer.entries.size() == kMaxListedEntries) return EIO;
    const uint64_t ino = in.u64();
    const std::string_view name = in.opaque(results.size());
    const uint64_t cookie = in.u64();
    if (answer.has_attrs) {
      read_plus(in, name, ino, cookie, tokens, times, listed);
    } else {
      answer.add(name, ino, 0, cookie);
    }
  }
  *wire_bytes = before - in.rest().size();
  answer.eof = in.flag();
  if (!in.ok()) return EIO;
  listed->keep_worthwhile(ListCall::kFewEntries);
  return 0;
}

namespace {

class ListCall3 final : public ListCall {
 public:
  using ListCall::ListCall;

  bool send(RpcContext& rpc, RpcReply reply) override {
    note_asked();
    // A verifier belongs to a cookie; the beginning has none.
    const uint64_t verifier = request().after.cookie == 0 ? 0 : request().verifier;
    sent_attributes_ = attributes();
    if (attributes() == Attributes::kNo) {
      READDIR3args args{};
      args.dir = wire_handle(directory());
      args.cookie = request().after.cookie;
      std::memcpy(args.cookieverf, &verifier, sizeof verifier);
      args.count = bytes();
      return rpc.call(Procedure::kReaddir3, &args, caller(), std::move(reply));
    }
    READDIRPLUS3args args{};
    args.dir = wire_handle(directory());
    args.cookie = request().after.cookie;
    std::memcpy(args.cookieverf, &verifier, sizeof verifier);
    args.dircount = bytes();  // nfs-ganesha takes it for a number of entries
    args.maxcount = bytes();
    return rpc.call(Procedure::kReaddirplus3, &args, caller(), std::move(reply));
  }

 protected:
  int decode(const void* result, Listed* listed, uint64_t* wire_bytes) override {
    return decode_listing3(*static_cast<const std::string_view*>(result), sent_attributes_,
                           state().tokens, {.asked = asked(), .asked_wall = asked_wall()}, listed,
                           wire_bytes);
  }

 private:
  Attributes sent_attributes_ = Attributes::kNo;
};

}  // namespace

void Nfs3::list(uint64_t id, const CallerPtr& caller, const Handle& directory,
                const cache::DirRequest& request, std::function<void(Listed&& listed)> done) {
  client_.submit(id, std::make_shared<ListCall3>(client_, state_, caller, directory, request,
                                                 std::move(done)));
}

}  // namespace fusefs::nfs
