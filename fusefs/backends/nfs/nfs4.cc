#include "fusefs/backends/nfs/nfs4.h"

#include <fcntl.h>
#include <nfsc/libnfs-zdr.h>
// The above first: the next needs its types.
#include <nfsc/libnfs-raw-nfs4.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "fusefs/backends/nfs/nfs4_attr.h"
#include "fusefs/backends/nfs/nfs_limits.h"
#include "fusefs/backends/nfs/wire_enum.h"

namespace fusefs::nfs {
namespace {

using cache::DirAnswer;
using cache::Status;

constexpr size_t kMaxOperations = 4;

// What libnfs encodes is not changed by it.
char* mutable_bytes(const std::string& bytes) { return const_cast<char*>(bytes.data()); }  // NOLINT

// ---- Building compounds -------------------------------------------------------------------------

class Compound {
 public:
  Compound& put_root() {
    next(OP_PUTROOTFH);
    return *this;
  }
  Compound& put(const Handle& handle) {
    nfs_argop4& operation = next(OP_PUTFH);
    operation.nfs_argop4_u.opputfh.object.nfs_fh4_len = static_cast<u_int>(handle.size());
    operation.nfs_argop4_u.opputfh.object.nfs_fh4_val = mutable_bytes(handle);
    return *this;
  }
  Compound& lookup(const std::string& name) {
    nfs_argop4& operation = next(OP_LOOKUP);
    operation.nfs_argop4_u.oplookup.objname.utf8string_len = static_cast<u_int>(name.size());
    operation.nfs_argop4_u.oplookup.objname.utf8string_val = mutable_bytes(name);
    return *this;
  }
  Compound& get_handle() {
    next(OP_GETFH);
    return *this;
  }
  Compound& getattr(AttrBits& bits) {
    set(next(OP_GETATTR).nfs_argop4_u.opgetattr.attr_request, bits);
    return *this;
  }
  Compound& access(uint32_t wanted) {
    next(OP_ACCESS).nfs_argop4_u.opaccess.access = wanted;
    return *this;
  }
  Compound& readlink() {
    next(OP_READLINK);
    return *this;
  }
  Compound& read(uint64_t offset, uint32_t size) {
    READ4args& args = next(OP_READ).nfs_argop4_u.opread;  // all zero: the anonymous state id
    args.offset = offset;
    args.count = size;
    return *this;
  }
  Compound& readdir(const READDIR4args& args, AttrBits& bits) {
    READDIR4args& wire = next(OP_READDIR).nfs_argop4_u.opreaddir;
    wire = args;
    set(wire.attr_request, bits);
    return *this;
  }
  bool send(RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
    COMPOUND4args args{};
    args.argarray.argarray_len = static_cast<u_int>(count_);
    args.argarray.argarray_val = operations_.data();
    return rpc.call(Procedure::kCompound4, &args, who, std::move(reply));
  }

 private:
  nfs_argop4& next(nfs_opnum4 operation) {
    nfs_argop4& added = operations_.at(count_++);
    added.argop = operation;
    return added;
  }
  static void set(bitmap4& wire, AttrBits& bits) {
    wire.bitmap4_len = static_cast<u_int>(bits.size());
    wire.bitmap4_val = bits.data();
  }

  std::array<nfs_argop4, kMaxOperations> operations_{};
  size_t count_ = 0;
};

// ---- Reading answers ----------------------------------------------------------------------------

// The result of operation `index`, which must be of that kind; null: another, or none.
const nfs_resop4* result_of(const COMPOUND4res& answer, size_t index, nfs_opnum4 operation) {
  if (index >= answer.resarray.resarray_len || answer.resarray.resarray_val == nullptr) {
    return nullptr;
  }
  const nfs_resop4& result = answer.resarray.resarray_val[index];
  return wire_number(result.resop) == operation ? &result : nullptr;
}

// 0: all operations of the compound have succeeded.
int error_of(const COMPOUND4res& answer) { return error_of_status4(wire_number(answer.status)); }

bool decode(const fattr4& wire, DecodedAttr* decoded) {
  if (wire.attrmask.bitmap4_len > 8) return false;
  if (wire.attrmask.bitmap4_len > 0 && wire.attrmask.bitmap4_val == nullptr) return false;
  if (wire.attr_vals.attrlist4_len > 0 && wire.attr_vals.attrlist4_val == nullptr) return false;
  return decode_attr4({wire.attrmask.bitmap4_val, wire.attrmask.bitmap4_len},
                      {wire.attr_vals.attrlist4_val, wire.attr_vals.attrlist4_len}, decoded);
}

// The attributes that operation `index` got. False: none.
bool attributes_at(const COMPOUND4res& answer, size_t index, DecodedAttr* decoded) {
  const nfs_resop4* const result = result_of(answer, index, OP_GETATTR);
  return result != nullptr && wire_number(result->nfs_resop4_u.opgetattr.status) == NFS4_OK &&
         decode(result->nfs_resop4_u.opgetattr.GETATTR4res_u.resok4.obj_attributes, decoded);
}

std::optional<Handle> handle_at(const COMPOUND4res& answer, size_t index) {
  const nfs_resop4* const result = result_of(answer, index, OP_GETFH);
  if (result == nullptr || wire_number(result->nfs_resop4_u.opgetfh.status) != NFS4_OK)
    return std::nullopt;
  const nfs_fh4& wire = result->nfs_resop4_u.opgetfh.GETFH4res_u.resok4.object;
  const bool good =
      wire.nfs_fh4_len > 0 && wire.nfs_fh4_len <= NFS4_FHSIZE && wire.nfs_fh4_val != nullptr;
  return good ? std::optional<Handle>(Handle(wire.nfs_fh4_val, wire.nfs_fh4_len)) : std::nullopt;
}

template <typename T>
void submit(Client& client, uint64_t id, const CallerPtr& caller, typename SimpleCall<T>::Send send,
            std::function<Result<T>(const COMPOUND4res& answer)> decode_answer,
            Backend::Done<T> done, Call::Weight weight = Call::Weight::kLight) {
  client.submit(id,
                std::make_shared<SimpleCall<T>>(
                    caller, weight, std::move(send),
                    [decode_answer = std::move(decode_answer)](const void* result) -> Result<T> {
                      const auto& answer = *static_cast<const COMPOUND4res*>(result);
                      if (const int error = error_of(answer)) return Status::error(error);
                      return decode_answer(answer);
                    },
                    std::move(done)));
}

}  // namespace

int error_of_status4(uint32_t status) {
  switch (status) {
    case NFS4_OK:
      return 0;
    case NFS4ERR_PERM:
    case NFS4ERR_NOENT:
    case NFS4ERR_IO:
    case NFS4ERR_NXIO:
    case NFS4ERR_ACCESS:
    case NFS4ERR_EXIST:
    case NFS4ERR_XDEV:
    case NFS4ERR_NOTDIR:
    case NFS4ERR_ISDIR:
    case NFS4ERR_INVAL:
    case NFS4ERR_FBIG:
    case NFS4ERR_NOSPC:
    case NFS4ERR_ROFS:
    case NFS4ERR_MLINK:
      return static_cast<int>(status);  // the same numbers as Linux'
    case NFS4ERR_NAMETOOLONG:
      return ENAMETOOLONG;
    case NFS4ERR_NOTEMPTY:
      return ENOTEMPTY;
    case NFS4ERR_DQUOT:
      return EDQUOT;
    case NFS4ERR_STALE:
    case NFS4ERR_BADHANDLE:
    case NFS4ERR_FHEXPIRED:
    case NFS4ERR_NOFILEHANDLE:
      return ESTALE;
    case NFS4ERR_BAD_COOKIE:
    case NFS4ERR_NOT_SAME:
      return cache::kErrBadCookie;
    case NFS4ERR_NOTSUPP:
    case NFS4ERR_ATTRNOTSUPP:
      return ENOTSUP;
    case NFS4ERR_TOOSMALL:
    case NFS4ERR_RESOURCE:
      return cache::kErrTooSmall;
    case NFS4ERR_SERVERFAULT:
      return EREMOTEIO;
    case NFS4ERR_BADTYPE:
    case NFS4ERR_BADCHAR:
    case NFS4ERR_BADNAME:
      return EINVAL;
    case NFS4ERR_DELAY:
    case NFS4ERR_GRACE:
      return kErrLater;
    case NFS4ERR_WRONGSEC:
    case NFS4ERR_DENIED:
      return EACCES;
    case NFS4ERR_MOVED:
      return EREMOTE;
    case NFS4ERR_SYMLINK:
      return ENOTDIR;
    case NFS4ERR_MINOR_VERS_MISMATCH:
      return EPROTONOSUPPORT;
    default:
      return EIO;
  }
}

// ---- Simple calls -------------------------------------------------------------------------------

void Nfs4::root(uint64_t id, const CallerPtr& caller, Done<Handle> done) {
  submit<Handle>(
      client_, id, caller,
      [](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        return Compound().put_root().get_handle().send(rpc, who, std::move(reply));
      },
      [](const COMPOUND4res& answer) -> Result<Handle> {
        std::optional<Handle> handle = handle_at(answer, 1);
        return handle ? Result<Handle>(std::move(*handle)) : Status::error(EIO);
      },
      std::move(done));
}

void Nfs4::lookup(uint64_t id, const CallerPtr& caller, const Handle& directory,
                  const std::string& name, Done<FoundObject> done) {
  const AskedAt asked;
  submit<FoundObject>(
      client_, id, caller,
      [directory, name](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        AttrBits bits = whole_attr_bits();
        return Compound().put(directory).lookup(name).get_handle().getattr(bits).send(
            rpc, who, std::move(reply));
      },
      [this, asked](const COMPOUND4res& answer) -> Result<FoundObject> {
        std::optional<Handle> handle = handle_at(answer, 2);
        DecodedAttr decoded;
        if (!handle || !attributes_at(answer, 3, &decoded)) return Status::error(EIO);
        return FoundObject{.handle = std::move(*handle),
                           .attr = dated(decoded, state_.tokens, asked)};
      },
      std::move(done));
}

void Nfs4::getattr(uint64_t id, const CallerPtr& caller, const Handle& handle, Done<Attr> done) {
  const AskedAt asked;
  submit<Attr>(
      client_, id, caller,
      [handle](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        AttrBits bits = whole_attr_bits();
        return Compound().put(handle).getattr(bits).send(rpc, who, std::move(reply));
      },
      [this, asked](const COMPOUND4res& answer) -> Result<Attr> {
        DecodedAttr decoded;
        if (!attributes_at(answer, 1, &decoded)) return Status::error(EIO);
        return dated(decoded, state_.tokens, asked);
      },
      std::move(done));
}

void Nfs4::readlink(uint64_t id, const CallerPtr& caller, const Handle& handle,
                    Done<std::string> done) {
  submit<std::string>(
      client_, id, caller,
      [handle](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        return Compound().put(handle).readlink().send(rpc, who, std::move(reply));
      },
      [](const COMPOUND4res& answer) -> Result<std::string> {
        const nfs_resop4* const result = result_of(answer, 1, OP_READLINK);
        if (result == nullptr) return Status::error(EIO);
        const linktext4& link = result->nfs_resop4_u.opreadlink.READLINK4res_u.resok4.link;
        if (link.utf8string_val == nullptr) return Status::error(EIO);
        return std::string(link.utf8string_val, link.utf8string_len);
      },
      std::move(done));
}

void Nfs4::statfs(uint64_t id, const CallerPtr& caller, const Handle& handle,
                  Done<StatfsAnswer> done) {
  submit<StatfsAnswer>(
      client_, id, caller,
      [handle](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        AttrBits bits = statfs_bits();
        return Compound().put(handle).getattr(bits).send(rpc, who, std::move(reply));
      },
      [](const COMPOUND4res& answer) -> Result<StatfsAnswer> {
        DecodedAttr decoded;
        if (!attributes_at(answer, 1, &decoded)) return Status::error(EIO);
        return decoded.figures;
      },
      std::move(done));
}

void Nfs4::check_access(uint64_t id, const CallerPtr& caller, const Handle& handle, int flags,
                        Done<bool> done) {
  // A program that may only be executed is read to execute it.
  const uint32_t reading = (flags & O_ACCMODE) == O_WRONLY ? 0 : ACCESS4_READ | ACCESS4_EXECUTE;
  const uint32_t writing = (flags & O_ACCMODE) == O_RDONLY ? 0 : ACCESS4_MODIFY;
  submit<bool>(
      client_, id, caller,
      [handle, reading, writing](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        return Compound().put(handle).access(reading | writing).send(rpc, who, std::move(reply));
      },
      [reading, writing](const COMPOUND4res& answer) -> Result<bool> {
        const nfs_resop4* const result = result_of(answer, 1, OP_ACCESS);
        if (result == nullptr) return Status::error(EIO);
        const uint32_t may = result->nfs_resop4_u.opaccess.ACCESS4res_u.resok4.access;
        const bool permitted = (reading == 0 || (may & reading) != 0) && (may & writing) == writing;
        return permitted ? Result<bool>(true) : Status::error(EACCES);
      },
      std::move(done));
}

void Nfs4::limits(uint64_t id, const CallerPtr& caller, const Handle& root_handle,
                  Done<ServerLimits> done) {
  submit<ServerLimits>(
      client_, id, caller,
      [root_handle](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        AttrBits bits = limits_bits();
        return Compound().put(root_handle).getattr(bits).send(rpc, who, std::move(reply));
      },
      [](const COMPOUND4res& answer) -> Result<ServerLimits> {
        DecodedAttr decoded;
        if (!attributes_at(answer, 1, &decoded)) return Status::error(EIO);
        ServerLimits limits;
        if (decoded.max_read != 0) {
          limits.read_bytes = std::clamp<uint32_t>(decoded.max_read, 512, kMaxReplyBytes);
        }
        if (decoded.max_write != 0) {
          limits.write_bytes = std::clamp<uint32_t>(decoded.max_write, 512, kMaxReplyBytes);
        }
        return limits;
      },
      std::move(done));
}

void Nfs4::read(uint64_t id, const CallerPtr& caller, const Handle& handle, uint64_t offset,
                uint32_t size, Done<ReadChunk> done) {
  submit<ReadChunk>(
      client_, id, caller,
      [handle, offset, size](RpcContext& rpc, const CallerPtr& who, RpcReply reply) {
        return Compound().put(handle).read(offset, size).send(rpc, who, std::move(reply));
      },
      [size](const COMPOUND4res& answer) -> Result<ReadChunk> {
        const nfs_resop4* const result = result_of(answer, 1, OP_READ);
        if (result == nullptr) return Status::error(EIO);
        const READ4resok& ok = result->nfs_resop4_u.opread.READ4res_u.resok4;
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

// One entry; false: it is none that could be passed on.
bool take_entry(const entry4& entry, Attributes attributes, ChangeTokens& tokens,
                const AskedAt& asked, Listed* listed) {
  DirAnswer& answer = listed->answer;
  DecodedAttr decoded;
  if (entry.name.utf8string_len > 0 && entry.name.utf8string_val == nullptr) return false;
  if (!decode(entry.attrs, &decoded)) return false;
  const std::string_view name(entry.name.utf8string_val, entry.name.utf8string_len);
  const bool told = decoded.read_error == 0 && decoded.attr.mode != 0;
  // As lookups and stat have it; where only names are asked for, as the directory has it.
  uint64_t ino = decoded.attr.ino;
  if (ino == 0 || (!told && decoded.mounted_on != 0)) ino = decoded.mounted_on;
  answer.add(name, ino, dirent_type(decoded.type_mode), entry.cookie);
  if (attributes == Attributes::kNo) return true;
  Attr attr;
  attr.mode = 0;
  answer.attrs.push_back(told ? dated(decoded, tokens, asked) : attr);
  if (!told || decoded.handle.empty()) return true;
  listed->handles.push_back(
      {std::string(name), ino, std::move(decoded.handle), S_ISDIR(decoded.attr.mode)});
  return true;
}

}  // namespace

int decode_readdir4(const COMPOUND4res& result, Attributes attributes, ChangeTokens& tokens,
                    cache::TimePoint asked_when, WallTime asked_wall, Listed* listed,
                    uint64_t* wire_bytes) {
  if (const int error = error_of(result)) return error;
  const AskedAt asked{.when = asked_when, .wall = asked_wall};
  DecodedAttr directory;
  const nfs_resop4* const listing = result_of(result, 2, OP_READDIR);
  if (listing == nullptr || !attributes_at(result, 1, &directory)) return EIO;
  const READDIR4resok& ok = listing->nfs_resop4_u.opreaddir.READDIR4res_u.resok4;
  DirAnswer& answer = listed->answer;
  answer.change = tokens.listing_token(directory.attr, directory.change, asked.when, asked.wall);
  std::memcpy(&answer.verifier, ok.cookieverf, sizeof answer.verifier);
  answer.eof = ok.reply.eof != 0;
  answer.has_attrs = attributes == Attributes::kYes;
  for (const entry4* entry = ok.reply.entries; entry != nullptr; entry = entry->nextentry) {
    if (answer.entries.size() == kMaxListedEntries) return EIO;
    if (!take_entry(*entry, attributes, tokens, asked, listed)) return EIO;
    *wire_bytes +=
        36 + (entry->name.utf8string_len + 3) / 4 * 4 + entry->attrs.attr_vals.attrlist4_len;
  }
  listed->keep_worthwhile(ListCall::kFewEntries);
  return 0;
}

namespace {

class ListCall4 final : public ListCall {
 public:
  using ListCall::ListCall;

  bool send(RpcContext& rpc, RpcReply reply) override {
    note_asked();
    sent_attributes_ = attributes();
    const uint64_t verifier = request().after.cookie == 0 ? 0 : request().verifier;
    READDIR4args args{};
    args.cookie = request().after.cookie;
    std::memcpy(args.cookieverf, &verifier, sizeof verifier);
    args.dircount = bytes();
    args.maxcount = bytes();
    AttrBits own = whole_attr_bits();
    AttrBits wanted = sent_attributes_ == Attributes::kYes ? listed_attr_bits() : name_only_bits();
    return Compound()
        .put(directory())
        .getattr(own)
        .readdir(args, wanted)
        .send(rpc, caller(), std::move(reply));
  }

 protected:
  int decode(const void* result, Listed* listed, uint64_t* wire_bytes) override {
    return decode_readdir4(*static_cast<const COMPOUND4res*>(result), sent_attributes_,
                           state().tokens, asked(), asked_wall(), listed, wire_bytes);
  }

 private:
  Attributes sent_attributes_ = Attributes::kNo;
};

}  // namespace

void Nfs4::list(uint64_t id, const CallerPtr& caller, const Handle& directory,
                const cache::DirRequest& request, std::function<void(Listed&& listed)> done) {
  client_.submit(id, std::make_shared<ListCall4>(client_, state_, caller, directory, request,
                                                 std::move(done)));
}

}  // namespace fusefs::nfs
