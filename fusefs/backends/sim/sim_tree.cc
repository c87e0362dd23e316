#include "fusefs/backends/sim/sim_tree.h"

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "cache/base/hash.h"

namespace fusefs {
namespace {

using cache::Attr;
using cache::mix64;
using cache::Result;
using cache::Status;

constexpr uint64_t kBigIno = 2, kTreeIno = 3, kDeepIno = 4, kMixIno = 5;
constexpr uint64_t kFirstIno = 16;
constexpr uint64_t kFirstMadeIno = uint64_t{1} << 48;
constexpr uint64_t kLargestFile = 65536;
constexpr int64_t kEpoch = 1'600'000'000;  // September 2020: the oldest time in the tree

std::vector<std::pair<std::string, uint64_t>> root_entries(const SimConfig& config) {
  std::vector<std::pair<std::string, uint64_t>> entries;
  if (config.big) entries.emplace_back("big", kBigIno);
  if (config.deep) entries.emplace_back("deep", kDeepIno);
  if (config.mix) entries.emplace_back("mix", kMixIno);
  if (config.tree) entries.emplace_back("tree", kTreeIno);
  return entries;
}

const SimConfig& checked(const SimConfig& config) {
  CACHE_CHECK(check_sim_config(config).empty());
  return config;
}

uint8_t type_of(uint32_t mode) { return static_cast<uint8_t>((mode & S_IFMT) >> 12); }

}  // namespace

SimTree::SimTree(const SimConfig& config)
    : config_(checked(config)),
      seed_(mix64(config.seed + 0x9e3779b97f4a7c15ULL)),
      shape_(config.tree.value_or(SimTreeShape{})),
      big_count_(config.big.value_or(0)),
      deep_count_(config.deep.value_or(0)),
      cookies_(config.cookies, config.seed),
      big_names_("file-", big_count_, config.name_len),
      dir_names_("dir-", shape_.directories),
      file_names_("file-", shape_.files),
      mix_(make_sim_mix()),
      big_base_(kFirstIno),
      tree_dir_base_(big_base_ + big_count_),
      tree_file_base_(tree_dir_base_ + shape_.directories),
      deep_base_(tree_file_base_ + shape_.directories * shape_.files),
      mix_base_(deep_base_ + deep_count_ + 1),
      end_(mix_base_ + mix_.objects.size()),
      root_(root_entries(config)),
      root_places_(sim_fixed_places(root_.size(), config.cookies)),
      big_places_(sim_changing_places(big_count_, config.cookies)),
      tree_places_(sim_fixed_places(shape_.directories, config.cookies)),
      tree_dir_places_(sim_fixed_places(shape_.files, config.cookies)),
      one_place_(sim_fixed_places(1, config.cookies)),
      new_places_(sim_empty_places(config.cookies)),
      next_ino_(kFirstMadeIno) {
  for (const auto& entries : mix_.directories) {
    mix_places_.push_back(sim_fixed_places(entries.size(), config.cookies));
  }
}

SimNode SimTree::big() const { return {SimKind::kBig, kBigIno, 0}; }
uint64_t SimTree::tree_ino() { return kTreeIno; }
uint64_t SimTree::deep_ino() { return kDeepIno; }
uint64_t SimTree::mix_ino(uint64_t object) const {
  return object == 0 ? kMixIno : mix_base_ + object;
}

std::optional<SimNode> SimTree::node(uint64_t ino) const {
  const auto when = [&](bool exists, SimKind kind, uint64_t number) -> std::optional<SimNode> {
    if (!exists) return std::nullopt;
    return SimNode{kind, ino, number};
  };
  if (gone_.contains(ino)) return std::nullopt;
  if (ino >= kFirstMadeIno) {
    const SimObject* const object = stored(ino);
    const bool lives = object != nullptr ? object->attr.nlink > 0 : plain_.contains(ino);
    return when(lives, SimKind::kAdded, 0);
  }
  if (ino == kSimRootIno) return SimNode{};
  if (ino == kBigIno) return when(config_.big.has_value(), SimKind::kBig, 0);
  if (ino == kTreeIno) return when(config_.tree.has_value(), SimKind::kTree, 0);
  if (ino == kDeepIno) return when(config_.deep.has_value(), SimKind::kDeep, 0);
  if (ino == kMixIno) return when(config_.mix, SimKind::kMix, 0);
  if (ino < kFirstIno || ino >= end_) return std::nullopt;
  if (ino >= mix_base_) return when(config_.mix && ino > mix_base_, SimKind::kMix, ino - mix_base_);
  if (ino >= deep_base_) {
    const uint64_t depth = ino - deep_base_ + 1;
    const SimKind kind = depth > deep_count_ ? SimKind::kDeepFile : SimKind::kDeep;
    return when(config_.deep.has_value(), kind, depth);
  }
  if (ino >= tree_file_base_) return when(true, SimKind::kTreeFile, ino - tree_file_base_);
  if (ino >= tree_dir_base_) return when(true, SimKind::kTreeDir, ino - tree_dir_base_);
  return when(true, SimKind::kBigFile, ino - big_base_);
}

bool SimTree::is_directory(const SimNode& node) const {
  if (const SimObject* const object = stored(node.ino)) return S_ISDIR(object->attr.mode);
  if (node.kind == SimKind::kMix) return S_ISDIR(mix_.objects[node.number].mode);
  return node.kind == SimKind::kRoot || node.kind == SimKind::kBig || node.kind == SimKind::kTree ||
         node.kind == SimKind::kDeep || node.kind == SimKind::kTreeDir;
}

Attr SimTree::attr(const SimNode& node) const {
  const SimObject* const object = stored(node.ino);
  if (object == nullptr) return computed_attr(node);
  Attr attr = object->attr;
  const bool directory = S_ISDIR(attr.mode);
  if (S_ISREG(attr.mode)) attr.size = object->content.size();
  attr.blocks = (attr.size + 4095) / 4096 * 8;
  const uint64_t start = cache::mix64(node.ino ^ seed_) | 1;
  attr.change = directory ? change_token(node) : std::max<uint64_t>(start + object->changes, 1);
  return attr;
}

Attr SimTree::computed_attr(const SimNode& node) const {
  static const uint32_t uid = geteuid();  // whoever mounts the tree owns what is in it
  static const uint32_t gid = getegid();
  const uint64_t chance = mix64(node.ino ^ seed_);
  const bool directory = is_directory(node);
  Attr attr;
  attr.ino = node.ino;
  attr.mode = directory ? S_IFDIR | 0755 : S_IFREG | 0644;
  attr.nlink = directory ? 2 : 1;
  attr.uid = uid;
  attr.gid = gid;
  attr.size = directory ? 4096 : chance % (kLargestFile + 1);
  if (node.kind == SimKind::kMix) {
    const SimMixObject& object = mix_.objects[node.number];
    attr.mode = object.mode;
    attr.nlink = object.nlink;
    attr.rdev = object.rdev;
    if (object.size >= 0) attr.size = static_cast<uint64_t>(object.size);
  } else if (node.kind == SimKind::kRoot) {
    attr.nlink += static_cast<uint32_t>(root_.size());
  } else if (node.kind == SimKind::kTree) {
    attr.nlink += static_cast<uint32_t>(std::min<uint64_t>(shape_.directories, UINT32_MAX - 2));
  } else if (node.kind == SimKind::kDeep && node.number < deep_count_) {
    attr.nlink += 1;
  }
  attr.blocks = (attr.size + 4095) / 4096 * 8;
  attr.change = directory ? change_token(node) : chance | 1;
  // Every change moves a directory's times by a microsecond: exact, and no clock is asked.
  const uint64_t moved = directory ? overlay(node).version() : 0;
  attr.mtime.seconds = kEpoch + static_cast<int64_t>((chance >> 32) % 100'000'000) +
                       static_cast<int64_t>(moved / 1'000'000);
  attr.mtime.nanoseconds = static_cast<uint32_t>(moved % 1'000'000 * 1000);
  attr.ctime = attr.mtime;
  attr.atime = attr.mtime;
  return attr;
}

Result<SimNode> SimTree::lookup(const SimNode& directory, std::string_view name) const {
  if (!is_directory(directory)) return Status::error(ENOTDIR);
  const SimOverlay& changes = overlay(directory);
  const uint64_t count = originals_up_to(directory, name);
  if (count > 0 && !changes.is_removed(count - 1)) {
    SimNameBuffer buffer;
    const SimEntry entry = original(directory, count - 1, &buffer);
    if (entry.name == name) return *node(entry.ino);
  }
  const auto added = changes.find(name);
  if (added == changes.added().end()) return Status::error(ENOENT);
  return *node(added->second);
}

Result<std::string> SimTree::readlink(const SimNode& node) const {
  if (const SimObject* const object = stored(node.ino)) {
    if (!S_ISLNK(object->attr.mode)) return Status::error(EINVAL);
    return object->target;
  }
  if (node.kind != SimKind::kMix) return Status::error(EINVAL);
  const SimMixObject& object = mix_.objects[node.number];
  if (!S_ISLNK(object.mode)) return Status::error(EINVAL);
  return object.target;
}

Result<std::string> SimTree::read(const SimNode& node, uint64_t offset, uint32_t size) const {
  if (is_directory(node)) return Status::error(EISDIR);
  const SimObject* const object = stored(node.ino);
  if (object != nullptr) return object->content.read(offset, size);
  const uint64_t end = attr(node).size;
  std::string bytes;
  if (offset >= end) return bytes;
  bytes.resize(std::min<uint64_t>(size, end - offset));
  sim_computed_bytes(mix64(node.ino + seed_), offset, bytes.data(), bytes.size());
  return bytes;
}

uint64_t SimTree::object_count() const {
  return 1 + root_.size() + (end_ - kFirstIno) + plain_.size() + made_ - gone_.size();
}

const SimPlaces& SimTree::places(const SimNode& directory) const {
  switch (directory.kind) {
    case SimKind::kRoot:
      return root_places_;
    case SimKind::kBig:
      return big_places_;
    case SimKind::kTree:
      return tree_places_;
    case SimKind::kTreeDir:
      return tree_dir_places_;
    case SimKind::kAdded:
      return new_places_;
    case SimKind::kMix:
      return mix_places_[mix_.objects[directory.number].directory];
    default:
      return one_place_;
  }
}

SimEntry SimTree::original(const SimNode& directory, uint64_t number, SimNameBuffer* buffer) const {
  switch (directory.kind) {
    case SimKind::kRoot:
      return {root_[number].first, root_[number].second, DT_DIR};
    case SimKind::kBig:
      return {big_names_.format(number, buffer), big_base_ + number, DT_REG};
    case SimKind::kTree:
      return {dir_names_.format(number, buffer), tree_dir_base_ + number, DT_DIR};
    case SimKind::kTreeDir:
      return {file_names_.format(number, buffer),
              tree_file_base_ + directory.number * shape_.files + number, DT_REG};
    case SimKind::kMix: {
      const uint32_t which = mix_.objects[directory.number].directory;
      const SimMixEntry& entry = mix_.directories[which][number];
      return {entry.name, mix_base_ + entry.object, type_of(mix_.objects[entry.object].mode)};
    }
    default: {
      const bool deepest = directory.number == deep_count_;
      return {deepest ? "bottom" : "d", deep_base_ + directory.number,
              static_cast<uint8_t>(deepest ? DT_REG : DT_DIR)};
    }
  }
}

const SimOverlay& SimTree::overlay(const SimNode& directory) const {
  const auto known = overlays_.find(directory.ino);
  return known == overlays_.end() ? no_overlay_ : known->second;
}

uint64_t SimTree::originals_up_to(const SimNode& directory, std::string_view name) const {
  SimNameBuffer buffer;
  uint64_t low = 0;
  uint64_t high = places(directory).count;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (original(directory, middle, &buffer).name <= name) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

uint64_t SimTree::change_token(const SimNode& directory) const {
  const uint64_t start = mix64(directory.ino ^ ~seed_) >> 16;
  const SimObject* const object = stored(directory.ino);
  return start + 1 + overlay(directory).version() + (object == nullptr ? 0 : object->changes);
}

const SimObject* SimTree::stored(uint64_t ino) const {
  const auto known = objects_.find(ino);
  return known == objects_.end() ? nullptr : &known->second;
}

SimObject& SimTree::store(const SimNode& node) {
  const auto known = objects_.find(node.ino);
  if (known != objects_.end()) return known->second;
  SimObject object{.attr = computed_attr(node)};
  if (S_ISREG(object.attr.mode)) {
    object.content = SimContent(mix64(node.ino + seed_), object.attr.size);
  } else if (S_ISLNK(object.attr.mode)) {
    object.target = mix_.objects[node.number].target;
  }
  if (plain_.erase(node.ino) != 0) ++made_;
  return objects_.emplace(node.ino, std::move(object)).first->second;
}

SimNode SimTree::make(SimObject object) {
  const uint64_t ino = next_ino_++;
  object.attr.ino = ino;
  object.attr.atime = object.attr.mtime = object.attr.ctime = now();
  objects_.emplace(ino, std::move(object));
  ++made_;
  return {SimKind::kAdded, ino, 0};
}

uint8_t SimTree::entry_type(uint64_t ino) const {
  if (const SimObject* const object = stored(ino)) return type_of(object->attr.mode);
  const std::optional<SimNode> known = node(ino);
  return known ? type_of(computed_attr(*known).mode) : uint8_t{DT_REG};
}

cache::Timespec SimTree::now() {
  struct timespec time = {};
  ::clock_gettime(CLOCK_REALTIME, &time);
  const auto key = [](const cache::Timespec& at) { return std::pair(at.seconds, at.nanoseconds); };
  cache::Timespec now{time.tv_sec, static_cast<uint32_t>(time.tv_nsec)};
  if (key(now) <= key(last_now_)) {
    now = last_now_;
    now.nanoseconds = (now.nanoseconds + 1) % 1'000'000'000;
    if (now.nanoseconds == 0) ++now.seconds;
  }
  return last_now_ = now;
}

void SimTree::drop_link(const SimNode& node) {
  const bool was_open = opens_.contains(node.ino);
  if (plain_.contains(node.ino) && !was_open) {  // what churn brought: it was never more than that
    plain_.erase(node.ino);
    return;
  }
  SimObject& object = store(node);
  const bool directory = S_ISDIR(object.attr.mode);
  object.attr.nlink = directory || object.attr.nlink == 0 ? 0 : object.attr.nlink - 1;
  touch(&object);
  if (object.attr.nlink > 0) return;
  if (node.ino < kFirstMadeIno) gone_.insert(node.ino);
  if (directory) overlays_.erase(node.ino);
  if (!was_open) close(node.ino);
}

void SimTree::close(uint64_t ino) {
  const auto open = opens_.find(ino);
  if (open != opens_.end() && --open->second > 0) return;
  if (open != opens_.end()) opens_.erase(open);
  const auto object = objects_.find(ino);
  if (object == objects_.end() || object->second.attr.nlink > 0) return;
  stored_bytes_ -= object->second.content.stored();
  if (ino >= kFirstMadeIno) --made_;
  objects_.erase(object);
}

}  // namespace fusefs
