// Compounds of version 4.0 by the bytes (RFC 7530, 16), for calls that change something.
//
// Purpose:        Ops4 writes the arguments of a COMPOUND, an operation after another; Results4
//                 reads its results in the same order.
// Thread-safety:  none of its own.
// Errors:         Results4: the status of the operation that failed; malformed results are told by
//                 the reader (xdr_reader.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fusefs/backends/nfs/nfs4_attr.h"
#include "fusefs/backends/nfs/nfs_attr.h"
#include "fusefs/backends/nfs/nfs_protocol.h"
#include "fusefs/backends/nfs/xdr_reader.h"
#include "fusefs/backends/nfs/xdr_writer.h"

namespace fusefs::nfs {

enum class Op4 : uint32_t {
  kClose = 4,
  kCommit = 5,
  kCreate = 6,
  kGetattr = 9,
  kGetfh = 10,
  kLink = 11,
  kLock = 12,
  kLockt = 13,
  kLocku = 14,
  kLookup = 15,
  kNverify = 17,
  kOpen = 18,
  kOpenConfirm = 20,
  kPutfh = 22,
  kPutrootfh = 24,
  kRemove = 28,
  kRename = 29,
  kRenew = 30,
  kRestorefh = 31,
  kSavefh = 32,
  kSetattr = 34,
  kSetclientid = 35,
  kSetclientidConfirm = 36,
  kVerify = 37,
  kWrite = 38,
  kReleaseLockowner = 39,
};

// Statuses that mean more here than an errno.
enum Status4 : uint32_t {
  kOk4 = 0,
  kSame4 = 10009,
  kDenied4 = 10010,
  kExpired4 = 10011,
  kClidInuse4 = 10017,
  kResource4 = 10018,
  kMoved4 = 10019,
  kNofilehandle4 = 10020,
  kStaleClientid4 = 10022,
  kStaleStateid4 = 10023,
  kOldStateid4 = 10024,
  kBadStateid4 = 10025,
  kBadSeqid4 = 10026,
  kNotSame4 = 10027,
  kLockRange4 = 10028,
  kBadxdr4 = 10036,
  kOpenmode4 = 10038,
  kBadRange4 = 10042,
  kLockNotsupp4 = 10043,
  kDeadlock4 = 10045,
  kAdminRevoked4 = 10047,
};

constexpr RawProcedure kCompound4Raw{.version = 4, .number = 1};

// What the server knows an open file by. All zero: none, and so anonymous.
struct StateId4 {
  uint32_t sequence = 0;
  std::string other = std::string(12, '\0');
};
StateId4 read_stateid(XdrReader& in);

class Ops4 {
 public:
  Ops4();
  // The operation's arguments are to follow.
  XdrWriter& op(Op4 number) {
    ++count_;
    return body_.u32(static_cast<uint32_t>(number));
  }
  Ops4& put(const Handle& handle) {
    op(Op4::kPutfh).opaque(handle);
    return *this;
  }
  Ops4& plain(Op4 number) {  // without arguments
    op(number);
    return *this;
  }
  Ops4& lookup(std::string_view name) {
    op(Op4::kLookup).opaque(name);
    return *this;
  }
  Ops4& getattr(const AttrBits& bits);
  // The number of a directory that is about to be changed: its token holds it.
  Ops4& get_number();
  Ops4& get_whole() { return getattr(whole_attr_bits()); }
  void reserve(size_t count) { body_.reserve(count); }
  // The whole COMPOUND's arguments; empty then.
  [[nodiscard]] std::string bytes();

 private:
  XdrWriter body_;  // begins with tag, minor version and count
  uint32_t count_ = 0;
};

void put_stateid(XdrWriter& out, const StateId4& state);
// fattr4 of what is to be set.
void put_set_attributes(XdrWriter& out, const SetAttr& set);
// fattr4 of an object's type alone, for VERIFY.
void put_directory_type(XdrWriter& out);

// change_info4
struct ChangeInfo4 {
  bool atomic = false;
  uint64_t before = 0, after = 0;
};
ChangeInfo4 read_change_info(XdrReader& in);
void skip_bitmap(XdrReader& in);

class Results4 {
 public:
  explicit Results4(XdrReader& in);

  // Whether that operation, which must be the next, ran and has succeeded. Once one has not, all
  // that follow have not.
  bool next(Op4 number);
  // ... and, of GETATTR and GETFH, what it got.
  bool next_attributes(DecodedAttr* decoded);
  bool next_handle(Handle* handle);
  // Of the operation that failed, or kOk4.
  [[nodiscard]] uint32_t status() const { return status_; }
  // Whether the operation that next() was asked about last ran at all.
  [[nodiscard]] bool ran() const { return ran_; }

 private:
  XdrReader& in_;
  uint32_t left_ = 0;
  uint32_t whole_status_ = 0;
  uint32_t status_ = 0;
  bool ran_ = false;
};

// Whether an answer used up its owner's number (RFC 7530, 9.1.7).
bool counts_sequence4(uint32_t status);
// The server does not know the state that a call was sent with.
bool is_state_lost4(uint32_t status);

// What an nfsstat4 is to a change; numbers that mean something to listings only are EIO.
int error_of_change4(uint32_t status);

DirChange dir_change4(uint64_t ino, const ChangeInfo4& info, ChangeTokens& tokens);

}  // namespace fusefs::nfs
