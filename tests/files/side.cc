#include "tests/files/side.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace files {
namespace {

constexpr size_t kAlign = 4096;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<char, Free>;

Buffer aligned_buffer(size_t size) {
  void* const memory = std::aligned_alloc(kAlign, (size + kAlign) / kAlign * kAlign);
  if (memory == nullptr) std::abort();
  return Buffer(static_cast<char*>(memory));
}

// A call's result; -1 keeps its errno.
template <typename T>
void note(Outcome* outcome, T result) {
  outcome->result = static_cast<int64_t>(result);
  outcome->error = result < 0 ? errno : 0;
}

timespec modification_time(const Op& op) {
  return {.tv_sec = op.seconds, .tv_nsec = op.seconds != 0 ? op.nanoseconds : UTIME_NOW};
}

char type_letter(unsigned char type) {
  switch (type) {
    case DT_REG:
      return 'f';
    case DT_DIR:
      return 'd';
    case DT_LNK:
      return 'l';
    case DT_FIFO:
      return 'p';
    default:
      return '?';
  }
}

}  // namespace

int list_directory(int fd, size_t buffer_size, std::string* lines) {
  const Buffer buffer = aligned_buffer(buffer_size);
  std::vector<std::string> found;
  if (lseek(fd, 0, SEEK_SET) < 0) return errno;
  for (;;) {
    const long got = syscall(SYS_getdents64, fd, buffer.get(), buffer_size);
    if (got < 0) return errno;
    if (got == 0) break;
    for (long at = 0; at < got;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer.get() + at);
      const std::string name = entry->d_name;
      if (name != "." && name != "..") found.push_back(name + "\t" + type_letter(entry->d_type));
      at += entry->d_reclen;
    }
  }
  std::sort(found.begin(), found.end());
  lines->clear();
  for (const std::string& name : found) *lines += name + "\n";
  return 0;
}

Side::~Side() { close_all(); }

void Side::close_all() {
  for (unsigned slot = 0; slot < kSlots; ++slot) close_slot(slot);
  if (held_ >= 0) close(held_);
  held_ = -1;
}

void Side::close_nameless() {
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    const Look look = look_at_slot(slot);
    if (look.error == 0 && look.attr.st_nlink == 0) close_slot(slot);
  }
}

int64_t Side::close_slot(unsigned slot) {
  int& fd = slots_.at(slot);
  if (fd < 0) {
    errno = EBADF;
    return -1;
  }
  const int result = close(fd);
  fd = -1;
  return result;
}

Look Side::look_at_slot(unsigned slot) const {
  Look look;
  if (fstat(slots_.at(slot), &look.attr) != 0) look.error = errno;
  return look;
}

Outcome Side::run(const Op& op) {
  Outcome outcome;
  if (op.kind == Kind::kOpen) {
    do_open_file(op, &outcome);
  } else if (op.kind <= Kind::kCopyRange) {
    do_data(op, &outcome);
  } else if (op.kind <= Kind::kMkfifo) {
    do_name(op, &outcome);
  } else if (op.kind <= Kind::kFutimens) {
    do_attribute(op, &outcome);
  } else if (op.kind >= Kind::kSetxattr && op.kind <= Kind::kListxattr) {
    do_xattr(op, &outcome);
  } else {
    do_directory(op, &outcome);
  }
  if (outcome.result >= 0) settle_times(op);
  if (!op.look) return outcome;
  for (const std::string& name : {op.path, op.other}) {
    if (name.empty()) continue;
    Look& look = outcome.looks.emplace_back();
    if (lstat(path(name).c_str(), &look.attr) != 0) look.error = errno;
  }
  outcome.looks.push_back(look_at_slot(op.slot));
  return outcome;
}

// Whether these change the modification time is the file system's own affair: so it is set.
void Side::settle_times(const Op& op) const {
  const timespec times[2] = {
      {.tv_sec = 0, .tv_nsec = UTIME_OMIT},
      {.tv_sec = 500'000'000 + static_cast<int64_t>(op.seed % 1'000'000), .tv_nsec = 0}};
  switch (op.kind) {
    case Kind::kTruncate:
      utimensat(AT_FDCWD, path(op.path).c_str(), times, 0);
      return;
    case Kind::kOpen:
      if ((op.flags & O_TRUNC) == 0) return;
      [[fallthrough]];
    case Kind::kMapWrite:
    case Kind::kFtruncate:
    case Kind::kFallocate:
      futimens(slots_.at(op.slot), times);
      return;
    case Kind::kCopyRange:
      futimens(slots_.at(op.slot2), times);
      return;
    default:
      return;
  }
}

void Side::do_open_file(const Op& op, Outcome* outcome) {
  close_slot(op.slot);
  const std::string name = path(op.path);
  const int flags = op.flags | O_CLOEXEC | O_NONBLOCK;
  int fd = open(name.c_str(), direct_ ? flags : flags & ~O_DIRECT, op.mode);
  // O_DIRECT is refused after the file was made.
  if (fd < 0 && errno == EINVAL && (flags & O_DIRECT) != 0) {
    fd = open(name.c_str(), flags & ~(O_DIRECT | O_EXCL), op.mode);
  }
  note(outcome, fd);
  slots_.at(op.slot) = fd;
  direct_slots_.at(op.slot) = (op.flags & O_DIRECT) != 0;
  if (fd >= 0) outcome->result = 0;
}

// A direct file takes whole blocks only.
int64_t Side::write_all(const Op& op) const {
  constexpr uint64_t kBlock = 4096;
  uint64_t length = op.length;
  uint64_t offset = op.offset;
  const int fd = slots_.at(op.slot);
  if (direct_slots_.at(op.slot)) {
    length = std::max(kBlock, length / kBlock * kBlock);
    offset = offset / kBlock * kBlock;
  }
  const Buffer buffer = aligned_buffer(length);
  const std::string bytes = content(op.seed, length);
  std::memcpy(buffer.get(), bytes.data(), length);
  // The position of a direct file may be anywhere: so it is not used.
  const bool at = op.kind == Kind::kPwrite || direct_slots_.at(op.slot);
  uint64_t done = 0;
  while (done < length) {
    const ssize_t got =
        at ? pwrite(fd, buffer.get() + done, length - done, static_cast<off_t>(offset + done))
           : write(fd, buffer.get() + done, length - done);
    if (got < 0) return -1;
    done += static_cast<uint64_t>(got);
  }
  return static_cast<int64_t>(done);
}

void Side::do_data(const Op& op, Outcome* outcome) {
  const int fd = slots_.at(op.slot);
  switch (op.kind) {
    case Kind::kRead:
      return do_read(op, outcome);
    case Kind::kMapRead:
    case Kind::kMapWrite:
      return do_map(op, outcome);
    case Kind::kWrite:
    case Kind::kPwrite:
      return note(outcome, write_all(op));
    case Kind::kFtruncate:
      return note(outcome, ftruncate(fd, static_cast<off_t>(op.length)));
    case Kind::kTruncate:
      return note(outcome, truncate(path(op.path).c_str(), static_cast<off_t>(op.length)));
    case Kind::kFsync:
      return note(outcome, op.flags != 0 ? fdatasync(fd) : fsync(fd));
    case Kind::kClose:
      return note(outcome, close_slot(op.slot));
    case Kind::kFallocate:
      return note(outcome, fallocate(fd, op.flags, static_cast<off_t>(op.offset),
                                     static_cast<off_t>(op.length)));
    default:
      return do_copy(op, outcome);
  }
}

void Side::do_read(const Op& op, Outcome* outcome) const {
  constexpr uint64_t kBlock = 4096;
  uint64_t length = op.length;
  uint64_t offset = op.offset;
  if (direct_slots_.at(op.slot)) {
    length = std::max(kBlock, length / kBlock * kBlock);
    offset = offset / kBlock * kBlock;
  }
  const Buffer buffer = aligned_buffer(length);
  const ssize_t got = pread(slots_.at(op.slot), buffer.get(), length, static_cast<off_t>(offset));
  note(outcome, got);
  if (got > 0) outcome->data.assign(buffer.get(), static_cast<size_t>(got));
}

void Side::do_map(const Op& op, Outcome* outcome) const {
  const Look look = look_at_slot(op.slot);
  const auto size = static_cast<uint64_t>(look.attr.st_size);
  if (look.error != 0 || !S_ISREG(look.attr.st_mode) || op.offset >= size) return;
  const uint64_t from = op.offset / kAlign * kAlign;
  const uint64_t length = std::min(op.length, size - op.offset);
  const bool write = op.kind == Kind::kMapWrite;
  const size_t mapped = op.offset - from + length;
  void* const memory = mmap(nullptr, mapped, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                            slots_.at(op.slot), static_cast<off_t>(from));
  if (memory == MAP_FAILED) return note(outcome, -1);
  char* const bytes = static_cast<char*>(memory) + (op.offset - from);
  if (write) {
    std::memcpy(bytes, content(op.seed, length).data(), length);
    note(outcome, msync(memory, mapped, MS_SYNC));
  } else {
    outcome->data.assign(bytes, length);
    outcome->result = static_cast<int64_t>(length);
  }
  munmap(memory, mapped);
}

void Side::do_copy(const Op& op, Outcome* outcome) const {
  // Blocks only, where it is direct.
  if (direct_slots_.at(op.slot) || direct_slots_.at(op.slot2)) return;
  auto from = static_cast<off64_t>(op.offset);
  auto to = static_cast<off64_t>(op.offset2);
  uint64_t done = 0;
  while (done < op.length) {
    const ssize_t got =
        copy_file_range(slots_.at(op.slot), &from, slots_.at(op.slot2), &to, op.length - done, 0);
    if (got < 0) return note(outcome, got);
    if (got == 0) break;
    done += static_cast<uint64_t>(got);
  }
  outcome->result = static_cast<int64_t>(done);
}

void Side::do_name(const Op& op, Outcome* outcome) const {
  const std::string name = path(op.path);
  const std::string other = path(op.other);
  switch (op.kind) {
    case Kind::kMkdir:
      return note(outcome, mkdir(name.c_str(), op.mode));
    case Kind::kRmdir:
      return note(outcome, rmdir(name.c_str()));
    case Kind::kUnlink:
      return note(outcome, unlink(name.c_str()));
    case Kind::kRename:
      return note(outcome, renameat2(AT_FDCWD, name.c_str(), AT_FDCWD, other.c_str(),
                                     static_cast<unsigned>(op.flags)));
    case Kind::kLink:
      return note(outcome, link(name.c_str(), other.c_str()));
    // The target is text, whatever it names.
    case Kind::kSymlink:
      return note(outcome, symlink(op.other.c_str(), name.c_str()));
    case Kind::kMkfifo:
      return note(outcome, mkfifo(name.c_str(), op.mode));
    default:
      break;
  }
  char target[4096];
  const ssize_t got = readlink(name.c_str(), target, sizeof target);
  note(outcome, got);
  if (got > 0) outcome->data.assign(target, static_cast<size_t>(got));
}

void Side::do_attribute(const Op& op, Outcome* outcome) const {
  const std::string name = path(op.path);
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, modification_time(op)};
  switch (op.kind) {
    case Kind::kChmod:
      return note(outcome, chmod(name.c_str(), op.mode));
    case Kind::kFchmod:
      return note(outcome, fchmod(slots_.at(op.slot), op.mode));
    case Kind::kChown:
      return note(outcome, lchown(name.c_str(), op.uid, op.uid));
    case Kind::kUtimens:
      return note(outcome, utimensat(AT_FDCWD, name.c_str(), times, 0));
    default:
      return note(outcome, futimens(slots_.at(op.slot), times));
  }
}

void Side::do_xattr(const Op& op, Outcome* outcome) const {
  const std::string name = path(op.path);
  const std::string key = "user." + op.other;
  char value[4096];
  ssize_t got = 0;
  switch (op.kind) {
    case Kind::kSetxattr: {
      const std::string bytes = content(op.seed, op.length);
      return note(outcome,
                  setxattr(name.c_str(), key.c_str(), bytes.data(), bytes.size(), op.flags));
    }
    case Kind::kRemovexattr:
      return note(outcome, removexattr(name.c_str(), key.c_str()));
    case Kind::kGetxattr:
      got = getxattr(name.c_str(), key.c_str(), value, sizeof value);
      break;
    default:
      got = listxattr(name.c_str(), value, sizeof value);
      break;
  }
  note(outcome, got);
  if (got <= 0) return;
  outcome->data.assign(value, static_cast<size_t>(got));
  if (op.kind != Kind::kListxattr) return;
  std::vector<std::string> keys;
  for (size_t at = 0; at < outcome->data.size(); at += keys.back().size() + 1) {
    keys.emplace_back(outcome->data.c_str() + at);
  }
  std::sort(keys.begin(), keys.end());
  outcome->data.clear();
  for (const std::string& one : keys) outcome->data += one.starts_with("user.") ? one + "\n" : "";
  outcome->result = static_cast<int64_t>(outcome->data.size());
}

void Side::do_directory(const Op& op, Outcome* outcome) {
  const std::string name = path(op.path);
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  int fd = held_;
  switch (op.kind) {
    case Kind::kStat:
    case Kind::kFstat:
      return;  // looked at anyway
    case Kind::kAccess:
      return note(outcome, access(name.c_str(), op.flags));
    case Kind::kHold:
      if (held_ >= 0) close(held_);
      held_ = open(name.c_str(), kFlags);
      note(outcome, held_);
      if (held_ >= 0) outcome->result = 0;
      return;
    case Kind::kMakeInHeld:
      fd = openat(held_, op.other.c_str(), O_CREAT | O_WRONLY | O_NONBLOCK | O_CLOEXEC, op.mode);
      note(outcome, fd);
      if (fd >= 0) outcome->result = close(fd);
      return;
    case Kind::kList:
      fd = open(name.c_str(), kFlags);
      break;
    default:
      break;
  }
  if (fd < 0) return note(outcome, op.kind == Kind::kList ? fd : 0);
  outcome->error = list_directory(fd, op.length, &outcome->data);
  if (outcome->error != 0) outcome->result = -1;
  if (op.kind == Kind::kList) close(fd);
}

}  // namespace files
