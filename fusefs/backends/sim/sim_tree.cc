#include "fusefs/backends/sim/sim_tree.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cache/base/hash.h"

namespace fusefs {
namespace {

using cache::Attr;
using cache::mix64;
using cache::Result;
using cache::Status;

constexpr uint64_t kBigIno = 2, kTreeIno = 3, kDeepIno = 4, kMixIno = 5;
constexpr uint64_t kFirstIno = 16;
constexpr uint64_t kFirstAddedIno = uint64_t{1} << 48;
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
      root_places_(sim_fixed_places(root_.size())),
      big_places_(sim_changing_places(big_count_, config.cookies)),
      tree_places_(sim_fixed_places(shape_.directories)),
      tree_dir_places_(sim_fixed_places(shape_.files)),
      one_place_(sim_fixed_places(1)),
      next_added_ino_(kFirstAddedIno) {
  for (const auto& entries : mix_.directories) {
    mix_places_.push_back(sim_fixed_places(entries.size()));
  }
}

SimNode SimTree::big() const { return {SimKind::kBig, kBigIno, 0}; }

std::optional<SimNode> SimTree::node(uint64_t ino) const {
  const auto when = [&](bool exists, SimKind kind, uint64_t number) -> std::optional<SimNode> {
    if (!exists) return std::nullopt;
    return SimNode{kind, ino, number};
  };
  if (ino == kSimRootIno) return SimNode{};
  if (ino == kBigIno) return when(config_.big.has_value(), SimKind::kBig, 0);
  if (ino == kTreeIno) return when(config_.tree.has_value(), SimKind::kTree, 0);
  if (ino == kDeepIno) return when(config_.deep.has_value(), SimKind::kDeep, 0);
  if (ino == kMixIno) return when(config_.mix, SimKind::kMix, 0);
  if (ino >= kFirstAddedIno) return when(big_overlay_.has_ino(ino), SimKind::kAddedFile, 0);
  if (ino < kFirstIno || ino >= end_) return std::nullopt;
  if (ino >= mix_base_) return when(config_.mix && ino > mix_base_, SimKind::kMix, ino - mix_base_);
  if (ino >= deep_base_) {
    const uint64_t depth = ino - deep_base_ + 1;
    const SimKind kind = depth > deep_count_ ? SimKind::kDeepFile : SimKind::kDeep;
    return when(config_.deep.has_value(), kind, depth);
  }
  if (ino >= tree_file_base_) return when(true, SimKind::kTreeFile, ino - tree_file_base_);
  if (ino >= tree_dir_base_) return when(true, SimKind::kTreeDir, ino - tree_dir_base_);
  return when(!big_overlay_.is_removed(ino - big_base_), SimKind::kBigFile, ino - big_base_);
}

bool SimTree::is_directory(const SimNode& node) const {
  if (node.kind == SimKind::kMix) return S_ISDIR(mix_.objects[node.number].mode);
  return node.kind == SimKind::kRoot || node.kind == SimKind::kBig || node.kind == SimKind::kTree ||
         node.kind == SimKind::kDeep || node.kind == SimKind::kTreeDir;
}

Attr SimTree::attr(const SimNode& node) const {
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
  if (node.kind != SimKind::kMix) return Status::error(EINVAL);
  const SimMixObject& object = mix_.objects[node.number];
  if (!S_ISLNK(object.mode)) return Status::error(EINVAL);
  return object.target;
}

Result<std::string> SimTree::read(const SimNode& node, uint64_t offset, uint32_t size) const {
  if (is_directory(node)) return Status::error(EISDIR);
  const uint64_t end = attr(node).size;
  std::string bytes;
  if (offset >= end) return bytes;
  bytes.resize(std::min<uint64_t>(size, end - offset));
  const uint64_t key = mix64(node.ino + seed_);
  for (size_t i = 0; i < bytes.size(); ++i) {
    const uint64_t place = offset + i;
    bytes[i] = static_cast<char>(mix64(key + place / 8) >> (place % 8 * 8));
  }
  return bytes;
}

uint64_t SimTree::object_count() const {
  return 1 + root_.size() + (end_ - kFirstIno) + big_overlay_.added().size() -
         big_overlay_.removed().size();
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
  return directory.kind == SimKind::kBig ? big_overlay_ : no_overlay_;
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
  return start + 1 + overlay(directory).version();
}

Status SimTree::check_new_name(std::string_view name) const {
  if (!config_.big) return Status::error(ENOENT);
  const bool bad = name.empty() || name == "." || name == ".." || name.size() > kSimMaxName ||
                   name.find('/') != std::string_view::npos ||
                   name.find('\0') != std::string_view::npos;
  if (bad) return Status::error(EINVAL);
  return lookup(big(), name).ok() ? Status::error(EEXIST) : Status();
}

std::optional<uint64_t> SimTree::position_of(std::string_view name) const {
  const auto added = big_overlay_.find(name);
  if (added != big_overlay_.added().end()) return added->first.position;
  const Result<SimNode> found = lookup(big(), name);
  if (!found.ok()) return std::nullopt;
  return big_places_.position(found.value().number);
}

SimTree::Gap SimTree::gap_at(uint64_t position, SimSide side) const {
  const auto& added = big_overlay_.added();
  const SimPlace here{.position = position, .name = {}};
  Gap gap;
  if (side == SimSide::kAfter) {
    const uint64_t following = big_places_.count_up_to(position);
    gap = {position,
           following < big_places_.count ? big_places_.position(following) : big_places_.last + 1};
    const auto next = added.lower_bound({.position = position + 1, .name = {}});
    if (next != added.end()) gap.high = std::min(gap.high, next->first.position);
    return gap;
  }
  const uint64_t preceding = big_places_.count_up_to(position - 1);
  gap = {preceding > 0 ? big_places_.position(preceding - 1) : 0, position};
  const auto next = added.lower_bound(here);
  if (next != added.begin()) gap.low = std::max(gap.low, std::prev(next)->first.position);
  return gap;
}

void SimTree::add_by_name(std::string_view name) {
  const uint64_t before = originals_up_to(big(), name);
  const uint64_t position = before == 0 ? 0 : big_places_.position(before - 1);
  big_overlay_.add({.position = position, .name = std::string(name)}, next_added_ino_++);
}

Status SimTree::add(std::string_view name) {
  const Status status = check_new_name(name);
  if (!status.ok()) return status;
  if (by_name()) {
    add_by_name(name);
    return Status();
  }
  uint64_t low = big_places_.count > 0 ? big_places_.position(big_places_.count - 1) : 0;
  const auto& added = big_overlay_.added();
  if (!added.empty()) low = std::max(low, std::prev(added.end())->first.position);
  constexpr uint64_t kStep = 16;  // leaves room between two that were appended
  const uint64_t room = big_places_.last - low;
  if (room == 0) return Status::error(ENOSPC);
  const uint64_t position = low + std::clamp<uint64_t>(room / 2, 1, kStep);
  big_overlay_.add({.position = position, .name = std::string(name)}, next_added_ino_++);
  return Status();
}

Status SimTree::add_near(std::string_view name, std::string_view neighbour, SimSide side) {
  const Status status = check_new_name(name);
  if (!status.ok()) return status;
  const std::optional<uint64_t> position = position_of(neighbour);
  if (!position) return Status::error(ENOENT);
  if (by_name()) {
    add_by_name(name);
    return Status();
  }
  const Gap gap = gap_at(*position, side);
  if (gap.high - gap.low < 2) return Status::error(ENOSPC);
  const uint64_t middle = gap.low + (gap.high - gap.low) / 2;
  big_overlay_.add({.position = middle, .name = std::string(name)}, next_added_ino_++);
  return Status();
}

Status SimTree::remove(std::string_view name) {
  if (!config_.big) return Status::error(ENOENT);
  if (big_overlay_.remove_added(name)) return Status();
  const Result<SimNode> found = lookup(big(), name);
  if (!found.ok()) return found.status();
  big_overlay_.remove_original(found.value().number);
  return Status();
}

namespace {

std::string churn_name(uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "churn-%012llu", static_cast<unsigned long long>(number));
  return name;
}

}  // namespace

void SimTree::add_churned(uint64_t number) {
  const std::string name = churn_name(number);
  if (by_name()) {
    add_by_name(name);
    return;
  }
  const uint64_t chance = mix64(seed_ + number);
  const uint64_t gap = chance % (big_places_.count + 1);
  constexpr uint64_t kTries = 64;
  for (uint64_t attempt = 0; attempt < kTries; ++attempt) {
    const uint64_t inside = 1 + ((chance >> 20) + attempt) % (big_places_.stride - 1);
    const uint64_t position = gap * big_places_.stride + inside;  // before entry `gap`
    if (big_overlay_.taken(position)) continue;
    big_overlay_.add({.position = position, .name = name}, next_added_ino_++);
    return;
  }
}

// Entries live for half a second, or as long as kSimChurnAlive allows: entry `number` is there
// from its own turn until `alive` others have followed. After a long silence only those that
// would still be there are made.
void SimTree::advance(std::chrono::nanoseconds elapsed) {
  if (config_.churn == 0) return;
  constexpr std::chrono::milliseconds kBatch(10);
  const auto batches = static_cast<uint64_t>(elapsed / kBatch);
  const uint64_t due = batches * config_.churn / (std::chrono::seconds(1) / kBatch);
  if (due <= churned_) return;
  const uint64_t alive = std::clamp<uint64_t>(config_.churn / 2, 1, kSimChurnAlive);
  const uint64_t oldest = due > alive ? due - alive : 0;
  const uint64_t oldest_before = churned_ > alive ? churned_ - alive : 0;
  for (uint64_t i = oldest_before; i < std::min(oldest, churned_); ++i) {
    big_overlay_.remove_added(churn_name(i));
  }
  const uint64_t first = std::max(churned_, oldest);
  big_overlay_.skip_versions(2 * (first - churned_));
  for (uint64_t i = first; i < due; ++i) add_churned(i);
  churned_ = due;
}

}  // namespace fusefs
