#include "fusefs/backends/sim/sim_files.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>

#include "cache/base/hash.h"

namespace fusefs {
namespace {

constexpr int kModeShift = 60;
constexpr uint64_t kLargestOffset = INT64_MAX;
constexpr uint64_t kCopyStep = 1 << 20;

bool in_range(uint64_t offset, uint64_t length) {
  return offset <= kLargestOffset && length <= kLargestOffset - offset;
}

}  // namespace

uint64_t SimFiles::ino_of(Handle file) { return file & ((uint64_t{1} << kModeShift) - 1); }

Result<SimFiles::Handle> SimFiles::open(const SimNode& node, int flags) {
  if (tree_.is_directory(node)) return Status::error(EISDIR);
  if ((flags & O_TRUNC) != 0 && (flags & O_ACCMODE) != O_RDONLY) {
    const Status status = truncate(node, 0);
    if (!status.ok()) return status;
  }
  tree_.open(node.ino);
  return node.ino | static_cast<uint64_t>(flags & O_ACCMODE) << kModeShift;
}

Result<SimNode> SimFiles::node_of(Handle file) const {
  const uint64_t ino = ino_of(file);
  const std::optional<SimNode> node = tree_.node(ino);
  if (node) return *node;
  if (tree_.stored(ino) == nullptr) return Status::error(ESTALE);
  return SimNode{SimKind::kAdded, ino, 0};  // removed while it is open
}

Result<SimNode> SimFiles::opened(Handle file, int refused_mode) const {
  if (static_cast<int>(file >> kModeShift) == refused_mode) return Status::error(EBADF);
  return node_of(file);
}

Result<Attr> SimFiles::attr(Handle file) const {
  const Result<SimNode> node = node_of(file);
  if (!node.ok()) return node.status();
  return tree_.attr(node.value());
}

Result<std::string> SimFiles::read(Handle file, uint64_t offset, uint32_t size) const {
  const Result<SimNode> node = opened(file, O_WRONLY);
  if (!node.ok()) return node.status();
  return tree_.read(node.value(), offset, size);
}

Status SimFiles::check_space(const SimNode& node, uint64_t offset, uint64_t length) const {
  const uint64_t space = tree_.config().space;
  if (space == 0) return Status();
  const SimObject* const object = tree_.stored(node.ino);
  const SimContent computed;
  const SimContent& content = object == nullptr ? computed : object->content;
  const uint64_t used = std::min(tree_.stored_bytes(), space);
  const bool fits = content.more_for(offset, length) <= space - used;
  return fits ? Status() : Status::error(ENOSPC);
}

Status SimFiles::change(const SimNode& node, const std::function<void(SimContent&)>& change_it) {
  if (tree_.is_directory(node)) return Status::error(EISDIR);
  SimObject& object = tree_.store(node);
  if (!S_ISREG(object.attr.mode)) return Status::error(EINVAL);
  const uint64_t before = object.content.stored();
  change_it(object.content);
  tree_.count_stored_bytes(before, object.content.stored());
  tree_.touch_content(&object);
  return Status();
}

Result<WriteAnswer> SimFiles::write(Handle file, uint64_t offset, std::string_view bytes,
                                    StableHow how) {
  const Result<SimNode> node = opened(file, O_RDONLY);
  if (!node.ok()) return node.status();
  if (!in_range(offset, bytes.size())) return Status::error(EFBIG);
  if (bytes.empty()) return WriteAnswer{.stable = true, .verifier = verifier_};
  const Status room = check_space(node.value(), offset, bytes.size());
  if (!room.ok()) return room;
  const bool may_lose = tree_.config().unstable;
  const bool unstable = may_lose && how == StableHow::kUnstable;
  const Status status = change(node.value(), [&](SimContent& changing) {
    changing.write(offset, bytes, unstable ? SimContent::Stable::kNo : SimContent::Stable::kYes);
  });
  if (!status.ok()) return status;
  return WriteAnswer{.stable = !unstable, .verifier = verifier_, .durable = may_lose && !unstable};
}

Result<uint64_t> SimFiles::commit(Handle file) {
  const Result<SimNode> node = node_of(file);
  if (!node.ok()) return node.status();
  if (tree_.stored(node.value().ino) != nullptr) tree_.store(node.value()).content.commit();
  return verifier_;
}

Status SimFiles::truncate(const SimNode& node, uint64_t size) {
  if (size > kLargestOffset) return Status::error(EFBIG);
  return change(node, [size](SimContent& content) { content.truncate(size); });
}

Result<Nothing> SimFiles::allocate(Handle file, int mode, uint64_t offset, uint64_t length) {
  const Result<SimNode> node = opened(file, O_RDONLY);
  if (!node.ok()) return node.status();
  if (length == 0) return Status::error(EINVAL);
  if (!in_range(offset, length)) return Status::error(EFBIG);
  const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const bool punch = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
  const bool zero = (mode & FALLOC_FL_ZERO_RANGE) != 0;
  constexpr int kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  if ((mode & ~kKnown) != 0 || (punch && (zero || !keep_size))) return Status::error(EOPNOTSUPP);
  // Nothing is reserved: blocks take room once they are written.
  const Status room = punch || zero ? Status() : check_space(node.value(), offset, length);
  if (!room.ok()) return room;
  const Status status = change(node.value(), [&](SimContent& content) {
    content.commit();
    if (punch || zero) content.zero(offset, length);
    if (!keep_size && offset + length > content.size()) content.truncate(offset + length);
  });
  if (!status.ok()) return status;
  return Nothing();
}

Result<uint64_t> SimFiles::copy(Handle from, uint64_t from_offset, Handle to, uint64_t to_offset,
                                uint64_t length) {
  const Result<SimNode> source = opened(from, O_WRONLY);
  if (!source.ok()) return source.status();
  const Result<SimNode> target = opened(to, O_RDONLY);
  if (!target.ok()) return target.status();
  const uint64_t size = tree_.attr(source.value()).size;
  length = from_offset < size ? std::min(length, size - from_offset) : 0;
  if (!in_range(to_offset, length)) return Status::error(EFBIG);
  const bool overlap = source.value().ino == target.value().ino &&
                       from_offset < to_offset + length && to_offset < from_offset + length;
  if (overlap) return Status::error(EINVAL);
  uint64_t copied = 0;
  while (copied < length) {
    const auto step = static_cast<uint32_t>(std::min(length - copied, kCopyStep));
    const Result<std::string> bytes = tree_.read(source.value(), from_offset + copied, step);
    if (!bytes.ok()) return bytes.status();
    const Result<WriteAnswer> written =
        write(to, to_offset + copied, bytes.value(), StableHow::kUnstable);
    if (!written.ok() && copied == 0) return written.status();
    if (!written.ok()) break;
    copied += step;
  }
  const Result<uint64_t> stable = commit(to);
  if (!stable.ok()) return stable.status();
  return copied;
}

void SimFiles::lose_uncommitted() {
  verifier_ = cache::mix64(verifier_) | 1;
  tree_.for_each_stored([this](SimObject& object) {
    const uint64_t before = object.content.stored();
    if (!object.content.lose_uncommitted()) return;
    tree_.count_stored_bytes(before, object.content.stored());
    tree_.touch_content(&object);
  });
}

}  // namespace fusefs
