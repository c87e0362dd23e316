// Fuzzes what an NFS server can say in a listing: our decoders, and libnfs' with our checks.
//
// Input: a byte that chooses, then the bytes of a result as they stand in an RPC reply:
// READDIR3res, READDIRPLUS3res, COMPOUND4res (with attributes, without), a fattr4, or the text of a
// URL.

#include <nfsc/libnfs-zdr.h>
// The above first: the others need its types.
#include <nfsc/libnfs-raw-nfs.h>
#include <nfsc/libnfs-raw-nfs4.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "cache/base/check.h"
#include "fusefs/backends/nfs/nfs3.h"
#include "fusefs/backends/nfs/nfs4.h"
#include "fusefs/backends/nfs/nfs4_attr.h"
#include "fusefs/backends/nfs/nfs_url.h"
#include "fusefs/backends/nfs/reply_check.h"

namespace {

using fusefs::nfs::Attributes;
using fusefs::nfs::ChangeTokens;
using fusefs::nfs::check_reply;
using fusefs::nfs::Listed;
using fusefs::nfs::Procedure;
using fusefs::nfs::ReplyVerdict;

ChangeTokens& tokens() {
  static ChangeTokens instance;
  return instance;
}

void check(int error, const Listed& listed, size_t wire_size) {
  if (error != 0) return;
  const cache::DirAnswer& answer = listed.answer;
  CACHE_CHECK(answer.well_formed());
  CACHE_CHECK(!answer.has_attrs || answer.attrs.size() == answer.entries.size());
  // An entry has 16 bytes at least, and names come from the answer's own bytes.
  CACHE_CHECK(answer.entries.size() <= wire_size / 16);
  CACHE_CHECK(answer.names.size() <= wire_size);
  for (const cache::Attr& attr : answer.attrs) {
    CACHE_CHECK(attr.mtime.nanoseconds < 1'000'000'000);
    CACHE_CHECK(attr.ctime.nanoseconds < 1'000'000'000);
  }
  for (const auto& known : listed.handles)
    CACHE_CHECK(!known.handle.empty() && known.handle.size() <= 128);
}

// The reply that such a result comes in.
std::string reply_with(const std::vector<char>& result) {
  std::string record(24, '\0');
  record[7] = 1;  // a reply, accepted, no verifier, success
  return record.append(result.data(), result.size());
}

// As a reply goes: checked, then decoded by libnfs from so many bytes and not one more.
template <typename Wire, typename Decode, typename Use>
void with_decoded(Procedure procedure, std::vector<char> bytes, const Decode& decode,
                  const Use& use) {
  if (check_reply(reply_with(bytes), procedure) != ReplyVerdict::kSound) return;
  ZDR zdr;
  libnfs_zdrmem_create(&zdr, bytes.data(), static_cast<uint32_t>(bytes.size()), ZDR_DECODE);
  Wire wire;
  std::memset(&wire, 0, sizeof wire);
  if (decode(&zdr, &wire) != 0) use(wire);
  libnfs_zdr_destroy(&zdr);
}

void fuzz_version3(std::string_view bytes, Attributes attributes) {
  Listed listed;
  uint64_t weight = 0;
  const int error = fusefs::nfs::decode_listing3(bytes, attributes, tokens(), {}, &listed, &weight);
  check(error, listed, bytes.size());
  CACHE_CHECK(weight <= bytes.size());
}

void fuzz_version4(const std::vector<char>& bytes, Attributes attributes) {
  with_decoded<COMPOUND4res>(
      Procedure::kCompound4, bytes, zdr_COMPOUND4res, [&](const COMPOUND4res& wire) {
        Listed listed;
        uint64_t weight = 0;
        const int error =
            fusefs::nfs::decode_readdir4(wire, attributes, tokens(), {}, 0, &listed, &weight);
        check(error, listed, bytes.size());
      });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::vector<char> bytes(data + 1, data + size);
  const std::string_view text(bytes.data(), bytes.size());
  switch (data[0] % 7) {
    case 0:
      fuzz_version3(text, Attributes::kNo);
      break;
    case 1:
      fuzz_version3(text, Attributes::kYes);
      break;
    case 2:
      fuzz_version4(bytes, Attributes::kYes);
      break;
    case 3:
      fuzz_version4(bytes, Attributes::kNo);
      break;
    case 4: {
      if (bytes.size() < 8) break;
      uint32_t mask[2];
      std::memcpy(mask, bytes.data(), sizeof mask);
      fusefs::nfs::DecodedAttr decoded;
      if (fusefs::nfs::decode_attr4(mask, text.substr(8), &decoded))
        CACHE_CHECK(decoded.handle.size() <= 128);
      break;
    }
    case 5:
      // Whole records, as any procedure's.
      for (int i = 0; i <= static_cast<int>(Procedure::kCompound4); ++i) {
        (void)check_reply(text, static_cast<Procedure>(i));
      }
      (void)fusefs::nfs::read_call_header(text);
      (void)fusefs::nfs::results_of(text);
      break;
    default: {
      std::string error;
      const auto url = fusefs::nfs::parse_nfs_url(text, &error);
      CACHE_CHECK(url.has_value() != !error.empty());
      if (url) CACHE_CHECK(url->path.front() == '/' && !url->host.empty());
      break;
    }
  }
  return 0;
}
