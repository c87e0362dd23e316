#include "fusefs/backends/nfs/nfs4_wire.h"

#include <array>
#include <cerrno>
#include <vector>

#include "fusefs/backends/nfs/nfs4.h"
#include "fusefs/backends/nfs/nfs_limits.h"

namespace fusefs::nfs {
namespace {

constexpr size_t kMaxTag = 1024;

// Numbers of attributes that can be set (RFC 7530, 5).
constexpr unsigned kType = 1, kSize = 4, kFileid = 20, kMode = 33, kOwner = 36, kOwnerGroup = 37;
constexpr unsigned kTimeAccessSet = 48, kTimeModifySet = 54;

void add_bit(AttrBits& bits, unsigned number) { bits[number / 32] |= 1u << (number % 32); }

void put_bits(XdrWriter& out, const AttrBits& bits) {
  out.u32(static_cast<uint32_t>(bits.size()));
  for (const uint32_t word : bits) out.u32(word);
}

void put_time(XdrWriter& out, bool now, const cache::Timespec& time) {
  out.u32(now ? 0 : 1);
  if (!now) out.u64(static_cast<uint64_t>(time.seconds)).u32(time.nanoseconds);
}

}  // namespace

StateId4 read_stateid(XdrReader& in) {
  StateId4 state;
  state.sequence = in.u32();
  state.other = in.bytes(12);
  state.other.resize(12);
  return state;
}

void put_stateid(XdrWriter& out, const StateId4& state) {
  out.u32(state.sequence).raw(state.other);
}

void put_set_attributes(XdrWriter& out, const SetAttr& set) {
  AttrBits bits{};
  XdrWriter values;
  // In the order of their numbers.
  if (set.has(SetAttr::kSize)) {
    add_bit(bits, kSize);
    values.u64(set.size);
  }
  if (set.has(SetAttr::kMode)) {
    add_bit(bits, kMode);
    values.u32(set.mode & 07777);
  }
  if (set.has(SetAttr::kUid)) {
    add_bit(bits, kOwner);
    values.opaque(std::to_string(set.uid));
  }
  if (set.has(SetAttr::kGid)) {
    add_bit(bits, kOwnerGroup);
    values.opaque(std::to_string(set.gid));
  }
  if (set.has(SetAttr::kAtime | SetAttr::kAtimeNow)) {
    add_bit(bits, kTimeAccessSet);
    put_time(values, set.has(SetAttr::kAtimeNow), set.atime);
  }
  if (set.has(SetAttr::kMtime | SetAttr::kMtimeNow)) {
    add_bit(bits, kTimeModifySet);
    put_time(values, set.has(SetAttr::kMtimeNow), set.mtime);
  }
  put_bits(out, bits);
  out.opaque(values.bytes());
}

void put_directory_type(XdrWriter& out) {
  constexpr uint32_t kDirectory = 2;
  AttrBits bits{};
  add_bit(bits, kType);
  put_bits(out, bits);
  out.opaque(XdrWriter().u32(kDirectory).bytes());
}

// ---- Compounds ----------------------------------------------------------------------------------

Ops4& Ops4::getattr(const AttrBits& bits) {
  put_bits(op(Op4::kGetattr), bits);
  return *this;
}

Ops4& Ops4::get_number() {
  AttrBits bits{};
  add_bit(bits, kFileid);
  return getattr(bits);
}

Ops4::Ops4() {
  constexpr uint32_t kMinorVersion = 0;
  body_.opaque({}).u32(kMinorVersion).u32(0);
}

std::string Ops4::bytes() {
  constexpr size_t kCountAt = 8;
  body_.u32_at(kCountAt, count_);
  return body_.take();
}

Results4::Results4(XdrReader& in) : in_(in) {
  whole_status_ = in_.u32();
  in_.opaque(kMaxTag);
  left_ = in_.u32();
}

bool Results4::next(Op4 number) {
  ran_ = false;
  if (status_ != kOk4) return false;
  if (left_ == 0) {
    // The compound as a whole was refused, or ended before its time.
    status_ = whole_status_;
    if (status_ == kOk4) in_.fail();
    return false;
  }
  --left_;
  const uint32_t told = in_.u32();
  status_ = in_.u32();
  if (told != static_cast<uint32_t>(number)) in_.fail();
  ran_ = in_.ok();
  return ran_ && status_ == kOk4;
}

bool Results4::next_attributes(DecodedAttr* decoded) {
  if (!next(Op4::kGetattr)) return false;
  const uint32_t words = in_.u32();
  if (words > kMaxMaskWords) in_.fail();
  std::vector<uint32_t> mask;
  for (uint32_t i = 0; i < words && in_.ok(); ++i) mask.push_back(in_.u32());
  const std::string_view values = in_.opaque(kMaxRecord);
  if (!in_.ok() || !decode_attr4(mask, values, decoded)) in_.fail();
  return in_.ok();
}

bool Results4::next_handle(Handle* handle) {
  if (!next(Op4::kGetfh)) return false;
  *handle = in_.opaque(kMaxHandle4);
  if (handle->empty()) in_.fail();
  return in_.ok();
}

ChangeInfo4 read_change_info(XdrReader& in) {
  ChangeInfo4 info;
  info.atomic = in.flag();
  info.before = in.u64();
  info.after = in.u64();
  return info;
}

void skip_bitmap(XdrReader& in) {
  const uint32_t words = in.u32();
  if (words > kMaxMaskWords) return in.fail();
  in.skip(size_t{words} * 4);
}

// ---- What they mean -----------------------------------------------------------------------------

bool counts_sequence4(uint32_t status) {
  switch (status) {
    case kStaleClientid4:
    case kStaleStateid4:
    case kBadStateid4:
    case kBadSeqid4:
    case kBadxdr4:
    case kResource4:
    case kNofilehandle4:
    case kMoved4:
      return false;
    default:
      return true;
  }
}

bool is_state_lost4(uint32_t status) {
  switch (status) {
    case kExpired4:
    case kStaleClientid4:
    case kStaleStateid4:
    case kOldStateid4:
    case kBadStateid4:
    case kAdminRevoked4:
      return true;
    default:
      return false;
  }
}

int error_of_change4(uint32_t status) {
  constexpr uint32_t kFileOpen = 10046, kShareDenied = 10015, kLocked = 10012, kBadOwner = 10039;
  switch (status) {
    case kFileOpen:
      return EBUSY;
    case kShareDenied:
    case kLocked:
      return EACCES;
    case kBadOwner:
      return EINVAL;
    default: {
      const int error = error_of_status4(status);
      return error == cache::kErrBadCookie || error == cache::kErrTooSmall ? EIO : error;
    }
  }
}

DirChange dir_change4(uint64_t ino, const ChangeInfo4& info, ChangeTokens& tokens) {
  if (!info.atomic || info.before == 0 || info.after == 0) return {};
  ChangeTokens::State before, after;
  before.attr.ino = after.attr.ino = ino;
  before.change = info.before;
  after.change = info.after;
  return tokens.changed(before, after);
}

}  // namespace fusefs::nfs
