#include "tests/files/generator.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

namespace files {
namespace {

constexpr uint64_t kMostLength = 150'000;
constexpr uint64_t kMostOffset = 500'000;
constexpr size_t kMostDepth = 4;
const std::array kWords = {"a", "b", "c", "d", "e.txt", "f", ".hidden", "with space"};

const std::vector<std::string>& odd_names() {
  static const std::vector<std::string> names = {
      "-dash",    "line\nbreak",         "na\xc3\xafve", "back\\slash",         "\"quoted\"",
      "\xff\xfe", std::string(255, 'n'), "%s%n",         std::string(256, 'm'), "trailing."};
  return names;
}

size_t depth(const std::string& path) {
  return static_cast<size_t>(std::count(path.begin(), path.end(), '/'));
}

std::string below(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + "/" + name;
}

}  // namespace

Generator::Generator(const Profile& profile, uint64_t seed, bool direct, bool owner)
    : profile_(profile), direct_(direct), owner_(owner), random_(seed) {}

std::string Generator::existing(char type) {
  std::vector<const std::string*> all;
  for (const auto& [path, kind] : known_) {
    if (kind == type) all.push_back(&path);
  }
  return all.empty() ? fresh_name() : *all[random_.below(all.size())];
}

std::string Generator::directory() {
  if (random_.one_in(3)) return {};
  const std::string path = existing('d');
  return depth(path) >= kMostDepth ? std::string() : path;
}

std::string Generator::fresh_name() {
  if (random_.one_in(25)) return odd_names()[random_.below(odd_names().size())];
  std::string name = kWords.at(random_.below(kWords.size()));
  if (random_.one_in(3)) name += std::to_string(random_.below(4));
  return name;
}

std::string Generator::any() {
  switch (random_.below(10)) {
    case 0:
      return below(existing('f'), fresh_name());  // below what is no directory
    case 1:
      return existing('l');
    case 2:
      return existing('d');
    case 3:
    case 4:
    case 5:
      return existing('f');
    default:
      return below(directory(), fresh_name());
  }
}

uint32_t Generator::file_mode() { return 0600 | static_cast<uint32_t>(random_.below(0200)); }

Op Generator::next() {
  const uint64_t dice = random_.below(100);
  Op op = dice < 15   ? open_op()
          : dice < 50 ? data_op()
          : dice < 75 ? name_op()
          : dice < 85 ? attribute_op()
                      : look_op();
  op.seed = random_.next();
  op.look = !random_.one_in(4);
  return op;
}

Op Generator::open_op() {
  Op op{.kind = Kind::kOpen};
  op.slot = static_cast<unsigned>(random_.below(kSlots));
  op.path = random_.one_in(2) ? existing('f') : any();
  constexpr std::array kAccess = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR};
  op.flags = kAccess.at(random_.below(kAccess.size()));
  if (!random_.one_in(3)) op.flags |= O_CREAT;
  if ((op.flags & O_CREAT) != 0 && random_.one_in(5)) op.flags |= O_EXCL;
  // Together with O_RDONLY it is nobody's promise.
  if ((op.flags & O_ACCMODE) != O_RDONLY && random_.one_in(5)) op.flags |= O_TRUNC;
  if (random_.one_in(5)) op.flags |= O_APPEND;
  if (direct_ && (op.flags & O_APPEND) == 0 && random_.one_in(8)) op.flags |= O_DIRECT;
  op.mode = file_mode();
  return op;
}

Op Generator::data_op() {
  constexpr std::array kKinds = {Kind::kPwrite,   Kind::kPwrite,    Kind::kPwrite,    Kind::kWrite,
                                 Kind::kWrite,    Kind::kRead,      Kind::kRead,      Kind::kRead,
                                 Kind::kMapRead,  Kind::kMapWrite,  Kind::kFtruncate, Kind::kFsync,
                                 Kind::kTruncate, Kind::kFallocate, Kind::kCopyRange, Kind::kClose};
  Op op{.kind = kKinds.at(random_.below(kKinds.size()))};
  op.slot = static_cast<unsigned>(random_.below(kSlots));
  op.slot2 = static_cast<unsigned>(random_.below(kSlots));
  op.length = random_length(random_, kMostLength);
  op.offset = random_offset(random_, kMostOffset);
  op.offset2 = random_offset(random_, kMostOffset);
  if (op.kind == Kind::kTruncate) op.path = existing('f');
  if (op.kind == Kind::kTruncate || op.kind == Kind::kFtruncate) {
    op.length = random_offset(random_, kMostOffset);
  }
  if (op.kind == Kind::kFsync) op.flags = static_cast<int>(random_.below(2));
  if (op.kind == Kind::kFallocate) {
    constexpr std::array kModes = {0, FALLOC_FL_KEEP_SIZE,
                                   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
    op.flags = kModes.at(random_.below(kModes.size()));
  }
  return op;
}

Op Generator::name_op() {
  constexpr std::array kKinds = {Kind::kMkdir,  Kind::kMkdir,   Kind::kRmdir,    Kind::kUnlink,
                                 Kind::kUnlink, Kind::kRename,  Kind::kRename,   Kind::kRename,
                                 Kind::kLink,   Kind::kSymlink, Kind::kReadlink, Kind::kMkfifo};
  Op op{.kind = kKinds.at(random_.below(kKinds.size()))};
  if (op.kind == Kind::kMkfifo && !profile_.fifos) op.kind = Kind::kUnlink;
  op.slot = static_cast<unsigned>(random_.below(kSlots));
  op.mode = op.kind == Kind::kMkdir ? file_mode() | 0100 : file_mode();
  op.path = any();
  if (op.kind == Kind::kRmdir) op.path = existing('d');
  if (op.kind == Kind::kReadlink) op.path = existing('l');
  if (op.kind == Kind::kRename || op.kind == Kind::kLink) op.other = any();
  if (op.kind == Kind::kRename && random_.one_in(3)) op.path = existing('d');
  if (op.kind == Kind::kRename && random_.one_in(10)) {
    op.flags = random_.one_in(2) ? RENAME_NOREPLACE : RENAME_EXCHANGE;
  }
  if (op.kind == Kind::kSymlink) op.other = random_.one_in(2) ? fresh_name() : "../" + fresh_name();
  return op;
}

Op Generator::attribute_op() {
  constexpr std::array kKinds = {Kind::kChmod,    Kind::kChmod,      Kind::kFchmod, Kind::kUtimens,
                                 Kind::kUtimens,  Kind::kFutimens,   Kind::kChown,  Kind::kSetxattr,
                                 Kind::kSetxattr, Kind::kRemovexattr};
  Op op{.kind = kKinds.at(random_.below(kKinds.size()))};
  if (op.kind == Kind::kChown && !owner_) op.kind = Kind::kUtimens;
  if (op.kind >= Kind::kSetxattr && !profile_.xattrs) op.kind = Kind::kUtimens;
  op.slot = static_cast<unsigned>(random_.below(kSlots));
  op.path = random_.one_in(4) ? existing('d') : random_.one_in(5) ? any() : existing('f');
  // No bits that a filesystem may take away again; a directory's owner may always search it.
  op.mode = file_mode() | 0100;
  op.uid = static_cast<uint32_t>(random_.below(3) * 1000);
  op.seconds =
      random_.one_in(5) ? 0 : 100'000'000 + static_cast<int64_t>(random_.below(1'000'000'000));
  op.nanoseconds = static_cast<int64_t>(random_.below(1'000'000'000));
  if (op.kind >= Kind::kSetxattr) {
    op.other = kWords.at(random_.below(4));
    op.length = random_.below(300);
    op.flags = random_.one_in(4) ? XATTR_CREATE : random_.one_in(4) ? XATTR_REPLACE : 0;
  }
  return op;
}

Op Generator::look_op() {
  constexpr std::array kKinds = {Kind::kList,     Kind::kList,       Kind::kStat,     Kind::kFstat,
                                 Kind::kHold,     Kind::kMakeInHeld, Kind::kListHeld, Kind::kAccess,
                                 Kind::kGetxattr, Kind::kListxattr};
  Op op{.kind = kKinds.at(random_.below(kKinds.size()))};
  if (op.kind >= Kind::kGetxattr && op.kind <= Kind::kListxattr && !profile_.xattrs) {
    op.kind = Kind::kStat;
  }
  op.slot = static_cast<unsigned>(random_.below(kSlots));
  op.mode = file_mode();
  op.path = any();
  if (op.kind == Kind::kGetxattr) op.other = kWords.at(random_.below(4));
  if (op.kind == Kind::kList || op.kind == Kind::kHold) op.path = directory();
  constexpr std::array<uint64_t, 4> kBuffers = {500, 4096, 32768, 1 << 20};
  if (op.kind == Kind::kList || op.kind == Kind::kListHeld) {
    op.length = kBuffers.at(random_.below(kBuffers.size()));
  }
  if (op.kind == Kind::kMakeInHeld) op.other = fresh_name(), op.path.clear();
  if (op.kind == Kind::kListHeld) op.path.clear();
  if (op.kind == Kind::kAccess) op.flags = static_cast<int>(random_.below(2) * W_OK) | R_OK;
  return op;
}

void Generator::move(const std::string& from, const std::string& to) {
  std::vector<std::pair<std::string, char>> moved;
  for (auto it = known_.begin(); it != known_.end();) {
    const std::string& path = it->first;
    if (path == from || path.starts_with(from + "/")) {
      moved.emplace_back(to + path.substr(from.size()), it->second);
      it = known_.erase(it);
    } else {
      ++it;
    }
  }
  for (auto& [path, type] : moved) known_[path] = type;
}

void Generator::learn(const Op& op, const Outcome& native) {
  if (native.result < 0) return;
  switch (op.kind) {
    case Kind::kOpen:
      if ((op.flags & O_CREAT) != 0) known_.emplace(op.path, 'f');
      break;
    case Kind::kMkdir:
      known_[op.path] = 'd';
      break;
    case Kind::kSymlink:
      known_[op.path] = 'l';
      break;
    case Kind::kMkfifo:
      known_[op.path] = 'p';
      break;
    case Kind::kLink:
      known_[op.other] = known_.contains(op.path) ? known_[op.path] : 'f';
      break;
    case Kind::kRmdir:
    case Kind::kUnlink:
      known_.erase(op.path);
      break;
    case Kind::kRename:
      if (op.flags == RENAME_EXCHANGE) {
        move(op.path, "\t");
        move(op.other, op.path);
        move("\t", op.other);
      } else if (op.path != op.other) {
        move(op.path, op.other);
      }
      break;
    default:
      break;
  }
}

}  // namespace files
