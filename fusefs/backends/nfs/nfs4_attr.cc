#include "fusefs/backends/nfs/nfs4_attr.h"

#include <nfsc/libnfs-zdr.h>
// The above first: the next needs its types.
#include <nfsc/libnfs-raw-nfs4.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <limits>

#include "fusefs/backends/nfs/nfs_limits.h"
#include "fusefs/backends/nfs/xdr_reader.h"

namespace fusefs::nfs {
namespace {

constexpr uint32_t kNobody = 65534;
constexpr size_t kMaxOwnerBytes = 1024;

AttrBits bits(std::initializer_list<unsigned> numbers) {
  AttrBits set{};
  for (const unsigned number : numbers) set[number / 32] |= 1u << (number % 32);
  return set;
}

AttrBits operator|(AttrBits a, const AttrBits& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] |= b[i];
  return a;
}

uint32_t type_bits4(uint32_t type) {
  switch (type) {
    case NF4REG:
    case NF4NAMEDATTR:
      return S_IFREG;
    case NF4DIR:
    case NF4ATTRDIR:
      return S_IFDIR;
    case NF4BLK:
      return S_IFBLK;
    case NF4CHR:
      return S_IFCHR;
    case NF4LNK:
      return S_IFLNK;
    case NF4SOCK:
      return S_IFSOCK;
    case NF4FIFO:
      return S_IFIFO;
    default:
      return 0;
  }
}

uint32_t owner_number(std::string_view owner) {
  uint32_t number = 0;
  const auto [rest, wrong] = std::from_chars(owner.data(), owner.data() + owner.size(), number);
  if (wrong == std::errc() && rest == owner.data() + owner.size()) return number;
  return owner.substr(0, owner.find('@')) == "root" ? 0 : kNobody;
}

cache::Timespec read_time4(XdrReader& reader) {
  const auto seconds = static_cast<int64_t>(reader.u64());
  return {seconds, std::min(reader.u32(), kNanoseconds - 1)};
}

// Of a filesystem and of the server.
bool read_figure(unsigned number, XdrReader& reader, DecodedAttr* out) {
  const uint64_t block = out->figures.block_size;
  switch (number) {
    case FATTR4_FILES_FREE:
      out->figures.files_free = reader.u64();
      return true;
    case FATTR4_FILES_TOTAL:
      out->figures.files = reader.u64();
      return true;
    case FATTR4_LEASE_TIME:
      out->lease_seconds = reader.u32();
      return true;
    case FATTR4_MAXREAD:
      out->max_read = static_cast<uint32_t>(
          std::min<uint64_t>(reader.u64(), std::numeric_limits<uint32_t>::max()));
      return true;
    case FATTR4_MAXWRITE:
      out->max_write = static_cast<uint32_t>(
          std::min<uint64_t>(reader.u64(), std::numeric_limits<uint32_t>::max()));
      return true;
    case FATTR4_SPACE_AVAIL:
      out->figures.blocks_available = reader.u64() / block;
      return true;
    case FATTR4_SPACE_FREE:
      out->figures.blocks_free = reader.u64() / block;
      return true;
    case FATTR4_SPACE_TOTAL:
      out->figures.blocks = reader.u64() / block;
      return true;
    default:
      return false;
  }
}

bool read_owner_or_time(unsigned number, XdrReader& reader, cache::Attr* attr) {
  switch (number) {
    case FATTR4_OWNER:
      attr->uid = owner_number(reader.opaque(kMaxOwnerBytes));
      return true;
    case FATTR4_OWNER_GROUP:
      attr->gid = owner_number(reader.opaque(kMaxOwnerBytes));
      return true;
    case FATTR4_TIME_ACCESS:
      attr->atime = read_time4(reader);
      return true;
    case FATTR4_TIME_METADATA:
      attr->ctime = read_time4(reader);
      return true;
    case FATTR4_TIME_MODIFY:
      attr->mtime = read_time4(reader);
      return true;
    default:
      return false;
  }
}

// Reads attribute `number`; false for one that we never ask for.
bool read_attr(unsigned number, XdrReader& reader, DecodedAttr* out, uint32_t* mode) {
  cache::Attr& attr = out->attr;
  switch (number) {
    case FATTR4_TYPE:
      out->type_mode = type_bits4(reader.u32());
      return true;
    case FATTR4_CHANGE:
      out->change = reader.u64();
      return true;
    case FATTR4_SIZE:
      attr.size = reader.u64();
      return true;
    case FATTR4_RDATTR_ERROR:
      out->read_error = reader.u32();
      return true;
    case FATTR4_FILEHANDLE:
      out->handle = reader.opaque(NFS4_FHSIZE);
      return true;
    case FATTR4_FILEID:
      attr.ino = reader.u64();
      return true;
    case FATTR4_MODE:
      *mode = reader.u32();
      return true;
    case FATTR4_NUMLINKS:
      attr.nlink = reader.u32();
      return true;
    case FATTR4_RAWDEV: {
      const uint32_t major_number = reader.u32();
      attr.rdev = makedev(major_number, reader.u32());
      return true;
    }
    case FATTR4_SPACE_USED: {
      const uint64_t used = reader.u64();
      attr.blocks = used / 512 + (used % 512 != 0 ? 1 : 0);
      return true;
    }
    case FATTR4_MOUNTED_ON_FILEID:
      out->mounted_on = reader.u64();
      return true;
    default:
      return read_owner_or_time(number, reader, &attr) || read_figure(number, reader, out);
  }
}

}  // namespace

AttrBits whole_attr_bits() {
  return bits({FATTR4_TYPE, FATTR4_CHANGE, FATTR4_SIZE, FATTR4_FILEID, FATTR4_MODE, FATTR4_NUMLINKS,
               FATTR4_OWNER, FATTR4_OWNER_GROUP, FATTR4_RAWDEV, FATTR4_SPACE_USED,
               FATTR4_TIME_ACCESS, FATTR4_TIME_METADATA, FATTR4_TIME_MODIFY});
}

AttrBits listed_attr_bits() {
  return whole_attr_bits() |
         bits({FATTR4_RDATTR_ERROR, FATTR4_FILEHANDLE, FATTR4_MOUNTED_ON_FILEID});
}

AttrBits stamp_bits() { return bits({FATTR4_SIZE, FATTR4_TIME_METADATA, FATTR4_TIME_MODIFY}); }

AttrBits name_only_bits() {
  return bits({FATTR4_TYPE, FATTR4_RDATTR_ERROR, FATTR4_FILEID, FATTR4_MOUNTED_ON_FILEID});
}

AttrBits statfs_bits() {
  return bits({FATTR4_FILES_FREE, FATTR4_FILES_TOTAL, FATTR4_SPACE_AVAIL, FATTR4_SPACE_FREE,
               FATTR4_SPACE_TOTAL});
}

AttrBits limits_bits() { return bits({FATTR4_MAXREAD, FATTR4_MAXWRITE}); }

AttrBits lease_bits() { return bits({FATTR4_LEASE_TIME}); }

bool decode_attr4(std::span<const uint32_t> mask, std::string_view bytes, DecodedAttr* decoded) {
  *decoded = DecodedAttr();
  decoded->attr.mode = 0;
  XdrReader reader(bytes);
  uint32_t mode = 0;
  constexpr uint32_t kNoMode = UINT32_MAX;
  mode = kNoMode;
  for (size_t word = 0; word < mask.size(); ++word) {
    for (unsigned bit = 0; bit < 32; ++bit) {
      if ((mask[word] >> bit & 1) == 0) continue;
      const size_t number = word * 32 + bit;
      if (number > FATTR4_MOUNTED_ON_FILEID) return false;
      if (!read_attr(static_cast<unsigned>(number), reader, decoded, &mode)) return false;
    }
  }
  if (!reader.ok()) return false;
  if (decoded->type_mode != 0 && mode != kNoMode) {
    decoded->attr.mode = decoded->type_mode | (mode & 07777);
  }
  if (decoded->type_mode != S_IFCHR && decoded->type_mode != S_IFBLK) decoded->attr.rdev = 0;
  return true;
}

Attr dated(const DecodedAttr& decoded, ChangeTokens& tokens, const AskedAt& asked) {
  Attr attr = decoded.attr;
  attr.change = tokens.token(attr, decoded.change, asked.when, asked.wall);
  return attr;
}

}  // namespace fusefs::nfs
