#include "fusefs/backends/nfs/reply_check.h"

#include <array>

#include "fusefs/backends/nfs/nfs_limits.h"
#include "fusefs/backends/nfs/xdr_reader.h"
#include "fusefs/backends/nfs/xdr_writer.h"

namespace fusefs::nfs {
namespace {

constexpr size_t kAny = kMaxRecord;   // bounded by the record alone
constexpr size_t kMaxVerifier = 400;  // of an RPC reply
constexpr size_t kMaxPath = 1024;     // of the mount protocol
constexpr size_t kMaxHost = 255;
constexpr uint32_t kMaxFlavors = 64;
constexpr uint32_t kMaxResults = 8;

constexpr uint32_t kPortmapProgram = 100000;

struct Number {
  uint32_t program, version, number;
  Procedure procedure;
};
constexpr auto kNumbers = std::to_array<Number>({
    {kPortmapProgram, 2, 3, Procedure::kPortmapGetport},
    {kMountProgram, 3, 1, Procedure::kMountMount},
    {kMountProgram, 3, 5, Procedure::kMountExport},
    {kNfsProgram, 3, 0, Procedure::kNull3},
    {kNfsProgram, 3, 1, Procedure::kGetattr3},
    {kNfsProgram, 3, 3, Procedure::kLookup3},
    {kNfsProgram, 3, 4, Procedure::kAccess3},
    {kNfsProgram, 3, 5, Procedure::kReadlink3},
    {kNfsProgram, 3, 6, Procedure::kRead3},
    {kNfsProgram, 3, 16, Procedure::kReaddir3},
    {kNfsProgram, 3, 17, Procedure::kReaddirplus3},
    {kNfsProgram, 3, 18, Procedure::kFsstat3},
    {kNfsProgram, 3, 19, Procedure::kFsinfo3},
    {kNfsProgram, 4, 1, Procedure::kCompound4},
});

// ---- Version 3 (RFC 1813) -----------------------------------------------------------------------

constexpr size_t kAttributes3 = 84;

void walk_post_op_attr(XdrReader& in) {
  if (in.flag()) in.skip(kAttributes3);
}

void walk_result3(XdrReader& in, Procedure procedure) {
  if (procedure == Procedure::kNull3) return;
  const bool failed = in.u32() != 0;
  if (procedure == Procedure::kGetattr3) {
    if (!failed) in.skip(kAttributes3);
    return;
  }
  if (failed) return walk_post_op_attr(in);
  switch (procedure) {
    case Procedure::kLookup3:
      in.opaque(kMaxHandle3);
      walk_post_op_attr(in);
      return walk_post_op_attr(in);
    case Procedure::kAccess3:
      walk_post_op_attr(in);
      return in.skip(4);
    case Procedure::kReadlink3:
      walk_post_op_attr(in);
      in.opaque(kAny);
      return;
    case Procedure::kRead3:
      walk_post_op_attr(in);
      in.skip(8);  // count, end
      in.opaque(kAny);
      return;
    case Procedure::kReaddir3:
    case Procedure::kReaddirplus3:
      return;  // not libnfs' to decode: whoever does, checks as he goes
    case Procedure::kFsstat3:
      walk_post_op_attr(in);
      return in.skip(6 * 8 + 4);
    case Procedure::kFsinfo3:
      walk_post_op_attr(in);
      return in.skip(7 * 4 + 8 + 8 + 4);
    default:
      return in.fail();
  }
}

// ---- Mount protocol and port mapper -------------------------------------------------------------

void walk_mount(XdrReader& in) {
  if (in.u32() != 0) return;
  in.opaque(kMaxHandle3);
  const uint32_t flavors = in.u32();
  if (flavors > kMaxFlavors) return in.fail();
  in.skip(size_t{flavors} * 4);
}

void walk_exports(XdrReader& in) {
  while (in.flag() && in.ok()) {
    in.opaque(kMaxPath);
    while (in.flag() && in.ok()) in.opaque(kMaxHost);
  }
}

// ---- Version 4.0 (RFC 7530) ---------------------------------------------------------------------

enum Operation : uint32_t {
  kAccess = 3,
  kGetattr = 9,
  kGetfh = 10,
  kLookup = 15,
  kPutfh = 22,
  kPutrootfh = 24,
  kRead = 25,
  kReaddir = 26,
  kReadlink = 27,
};

void walk_attributes4(XdrReader& in) {
  const uint32_t words = in.u32();
  if (words > kMaxMaskWords) return in.fail();
  in.skip(size_t{words} * 4);
  in.opaque(kAny);
}

void walk_listing4(XdrReader& in) {
  in.skip(8);  // verifier
  while (in.flag() && in.ok()) {
    in.skip(8);  // cookie
    in.opaque(kAny);
    walk_attributes4(in);
  }
  in.u32();  // end
}

void walk_operation4(XdrReader& in) {
  const uint32_t operation = in.u32();
  const bool failed = in.u32() != 0;
  switch (operation) {
    case kLookup:
    case kPutfh:
    case kPutrootfh:
      return;
    case kAccess:
      if (!failed) in.skip(8);
      return;
    case kGetattr:
      if (!failed) walk_attributes4(in);
      return;
    case kGetfh:
      if (!failed) in.opaque(kMaxHandle4);
      return;
    case kRead:
      if (failed) return;
      in.skip(4);  // end
      in.opaque(kAny);
      return;
    case kReaddir:
      if (!failed) walk_listing4(in);
      return;
    case kReadlink:
      if (!failed) in.opaque(kAny);
      return;
    default:
      return in.fail();  // none that we ask for
  }
}

void walk_compound(XdrReader& in) {
  in.u32();  // status
  in.opaque(kMaxPath);
  const uint32_t results = in.u32();
  if (results > kMaxResults) return in.fail();
  for (uint32_t i = 0; i < results && in.ok(); ++i) walk_operation4(in);
}

void walk_result(XdrReader& in, Procedure procedure) {
  switch (procedure) {
    case Procedure::kPortmapGetport:
      return in.skip(4);
    case Procedure::kMountMount:
      return walk_mount(in);
    case Procedure::kMountExport:
      return walk_exports(in);
    case Procedure::kCompound4:
      return walk_compound(in);
    default:
      return walk_result3(in, procedure);
  }
}

}  // namespace

CallHeader read_call_header(std::string_view record) {
  XdrReader in(record);
  CallHeader header;
  header.xid = in.u32();
  in.skip(8);  // call, RPC's version
  const uint32_t program = in.u32();
  const uint32_t version = in.u32();
  const uint32_t number = in.u32();
  for (const Number& known : kNumbers) {
    const bool same =
        known.program == program && known.version == version && known.number == number;
    if (same && in.ok()) header.procedure = known.procedure;
  }
  return header;
}

std::optional<uint32_t> reply_xid(std::string_view record) {
  XdrReader in(record);
  const uint32_t xid = in.u32();
  return in.ok() ? std::optional<uint32_t>(xid) : std::nullopt;
}

namespace {

// Up to the results of a call that was accepted and did not fail: then true.
bool walk_header(XdrReader& in, ReplyVerdict* verdict) {
  *verdict = ReplyVerdict::kBadHeader;
  in.skip(4);  // xid
  const bool reply = in.u32() == 1;
  const uint32_t denied = in.u32();
  if (!reply || denied > 1) return false;
  if (denied == 1) {
    const uint32_t reason = in.u32();
    in.skip(reason == 0 ? 8 : 4);  // versions, or what is wrong with the credentials
    if (in.ok() && reason <= 1) *verdict = ReplyVerdict::kSound;
    return false;
  }
  in.skip(4);  // the verifier's flavor
  in.opaque(kMaxVerifier);
  const uint32_t accepted = in.u32();
  if (accepted > 5) in.fail();
  if (accepted == 2) in.skip(8);  // versions that there are
  if (in.ok()) *verdict = ReplyVerdict::kSound;
  return in.ok() && accepted == 0;
}

}  // namespace

ReplyVerdict check_reply(std::string_view record, Procedure procedure) {
  XdrReader in(record);
  ReplyVerdict verdict = ReplyVerdict::kSound;
  if (!walk_header(in, &verdict)) return verdict;
  walk_result(in, procedure);
  return in.ok() ? ReplyVerdict::kSound : ReplyVerdict::kBadResult;
}

std::optional<std::string_view> results_of(std::string_view record) {
  XdrReader in(record);
  ReplyVerdict verdict = ReplyVerdict::kSound;
  if (!walk_header(in, &verdict)) return std::nullopt;
  return in.rest();
}

bool refusal_of(std::string_view record, std::string* text) {
  XdrReader in(record);
  ReplyVerdict verdict = ReplyVerdict::kSound;
  if (walk_header(in, &verdict) || verdict != ReplyVerdict::kSound) return false;
  XdrReader again(record);
  again.skip(8);  // xid, reply
  const bool denied = again.u32() == 1;
  const bool credentials = denied && again.u32() == 1;
  *text = credentials ? "auth: the credentials were refused" : "the call was refused";
  return true;
}

std::string failed_reply(uint32_t xid) {
  constexpr uint32_t kSystemError = 5;
  return XdrWriter().u32(xid).u32(1).u32(0).u32(0).u32(0).u32(kSystemError).bytes();
}

}  // namespace fusefs::nfs
