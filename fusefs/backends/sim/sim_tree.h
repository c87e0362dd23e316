// The simulated remote's tree: what there is, as it is now.
//
// Purpose:        answers every question about the tree from the configuration and the inode
//                 number alone. Nothing is stored but what has changed: objects (sim_object.h),
//                 entries of directories (sim_overlay.h); and the few objects of `mix`. What a
//                 change means is sim_changes.h's.
// Thread-safety:  none of its own: the back end's lock protects it.
// Errors:         errnos in Result and Status.
//
//   inode numbers   1 root, 2 big, 3 tree, 4 deep, 5 mix
//                   16...   files of big, then tree's directories, then their files, then
//                           deep's directories and its file, then mix's objects
//                   2^48... what was made later, never the same number twice
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cache/base/result.h"
#include "cache/dir/attr.h"
#include "fusefs/backends/sim/sim_cookies.h"
#include "fusefs/backends/sim/sim_mix.h"
#include "fusefs/backends/sim/sim_names.h"
#include "fusefs/backends/sim/sim_object.h"
#include "fusefs/backends/sim/sim_overlay.h"
#include "fusefs/backends/sim/sim_url.h"

namespace fusefs {

constexpr uint64_t kSimRootIno = 1;
constexpr uint64_t kSimChurnAlive = 10'000;  // most churned entries that exist at once

enum class SimKind : uint8_t {
  kRoot,
  kBig,
  kTree,
  kDeep,  // every directory of the chain
  kMix,   // everything in it, directories or not
  kTreeDir,
  kBigFile,
  kTreeFile,
  kDeepFile,
  kAdded,  // whatever was made later
};

// One object, decoded from its inode number.
struct SimNode {
  SimKind kind = SimKind::kRoot;
  uint64_t ino = kSimRootIno;
  // kBigFile: which; kTreeDir: which; kTreeFile: which of all; kDeep: depth; kMix: which object
  uint64_t number = 0;
};

struct SimEntry {
  std::string_view name;  // lives as long as the buffer it was formatted into
  uint64_t ino = 0;
  uint8_t type = 0;  // DT_*
};

enum class SimSide : uint8_t { kBefore, kAfter };

class SimTree {
 public:
  explicit SimTree(const SimConfig& config);

  // Nothing when there is no such object (any more).
  [[nodiscard]] std::optional<SimNode> node(uint64_t ino) const;
  [[nodiscard]] bool is_directory(const SimNode& node) const;
  [[nodiscard]] cache::Attr attr(const SimNode& node) const;
  [[nodiscard]] cache::Result<SimNode> lookup(const SimNode& directory,
                                              std::string_view name) const;
  [[nodiscard]] cache::Result<std::string> readlink(const SimNode& node) const;
  // The same bytes for the same place, inode number and seed.
  [[nodiscard]] cache::Result<std::string> read(const SimNode& node, uint64_t offset,
                                                uint32_t size) const;
  [[nodiscard]] uint64_t object_count() const;

  // A directory as listings see it (sim_listing.h): numbered entries that are computed, in
  // bytewise order of their names, and what was added and removed.
  [[nodiscard]] const SimPlaces& places(const SimNode& directory) const;
  [[nodiscard]] SimEntry original(const SimNode& directory, uint64_t number,
                                  SimNameBuffer* buffer) const;
  [[nodiscard]] const SimOverlay& overlay(const SimNode& directory) const;
  // How many original entries have a name up to and including `name`.
  [[nodiscard]] uint64_t originals_up_to(const SimNode& directory, std::string_view name) const;
  // Moves with every change; never 0.
  [[nodiscard]] uint64_t change_token(const SimNode& directory) const;
  [[nodiscard]] const SimConfig& config() const { return config_; }
  [[nodiscard]] const SimCookieCodec& cookies() const { return cookies_; }

  // Objects. What is stored of one, if anything is; one that was removed while it was open too.
  [[nodiscard]] const SimObject* stored(uint64_t ino) const;
  // The same to be changed: from here on it is stored.
  SimObject& store(const SimNode& node);
  // A new object without a name: its type, mode, owner and link count come from `object`.
  SimNode make(SimObject object);
  [[nodiscard]] uint8_t entry_type(uint64_t ino) const;  // DT_*
  // Stamps: it was changed; its content was.
  void touch(SimObject* object) { object->attr.ctime = now(), ++object->changes; }
  void touch_content(SimObject* object) { touch(object), object->attr.mtime = object->attr.ctime; }
  // The wall clock; no two answers are the same.
  cache::Timespec now();
  // One name of it less; of a directory, the last. Without names it lives while it is open.
  void drop_link(const SimNode& node);
  void open(uint64_t ino) { ++opens_[ino]; }
  void close(uint64_t ino);
  // Every stored object.
  template <typename Visit>
  void for_each_stored(Visit visit) {
    for (auto& [ino, object] : objects_) visit(object);
  }
  [[nodiscard]] uint64_t stored_bytes() const { return stored_bytes_; }
  void count_stored_bytes(uint64_t before, uint64_t after) { stored_bytes_ += after - before; }

  // Names in directories. The directory's times are the caller's to move.
  [[nodiscard]] bool is_empty(const SimNode& directory) const;
  // The directory, or one that it lies in, is `other`.
  [[nodiscard]] bool is_within(uint64_t directory, uint64_t other) const;
  // The name is free. ENOSPC: no place is.
  cache::Status add_name(const SimNode& directory, std::string_view name, uint64_t ino);
  // The name is there, and keeps its place.
  void replace_name(const SimNode& directory, std::string_view name, uint64_t ino);
  void remove_name(const SimNode& directory, std::string_view name);

  // Changes of `big` by nobody: they leave its times computed. EEXIST, ENOENT, EINVAL as a file
  // system has them; ENOSPC: the gap between two positions is used up.
  cache::Status add(std::string_view name);  // after all others, or where its name belongs
  cache::Status add_near(std::string_view name, std::string_view neighbour, SimSide side);
  cache::Status remove(std::string_view name);
  // Brings the churn to where it stands `elapsed` after the start.
  void advance(std::chrono::nanoseconds elapsed);

 private:
  struct Gap {
    uint64_t low = 0;   // taken, or the beginning
    uint64_t high = 0;  // taken, or beyond the last
  };

  [[nodiscard]] bool by_name() const { return config_.cookies == SimCookies::kName; }
  [[nodiscard]] SimNode big() const;
  [[nodiscard]] static uint64_t tree_ino();
  [[nodiscard]] static uint64_t deep_ino();
  [[nodiscard]] uint64_t mix_ino(uint64_t object) const;
  [[nodiscard]] cache::Attr computed_attr(const SimNode& node) const;
  [[nodiscard]] uint64_t computed_parent(const SimNode& directory) const;
  SimOverlay& changing(const SimNode& directory) { return overlays_[directory.ino]; }
  [[nodiscard]] cache::Status check_new_name(std::string_view name) const;
  // The number of the original entry with that name.
  [[nodiscard]] std::optional<uint64_t> original_number(const SimNode& directory,
                                                        std::string_view name) const;
  // The position of an original or added entry.
  [[nodiscard]] std::optional<uint64_t> position_of(const SimNode& directory,
                                                    std::string_view name) const;
  // The free positions just before or after a taken one.
  [[nodiscard]] Gap gap_at(const SimNode& directory, uint64_t position, SimSide side) const;
  // A free position behind all entries, or else in the last gap that has one.
  [[nodiscard]] std::optional<uint64_t> free_position(const SimNode& directory) const;
  [[nodiscard]] SimPlace place_by_name(const SimNode& directory, std::string_view name) const;
  uint64_t new_plain_file();
  void add_churned(uint64_t number);
  void remove_churned(std::string_view name);
  void touch_if_stored(const SimNode& directory);

  const SimConfig config_;
  const uint64_t seed_;
  const SimTreeShape shape_;
  const uint64_t big_count_;
  const uint64_t deep_count_;  // directories below `deep`
  const SimCookieCodec cookies_;
  const SimNames big_names_, dir_names_, file_names_;
  const SimMix mix_;
  // First inode number of each range, in this order.
  const uint64_t big_base_, tree_dir_base_, tree_file_base_, deep_base_, mix_base_, end_;
  std::vector<std::pair<std::string, uint64_t>> root_;  // names and inode numbers, sorted
  SimPlaces root_places_, big_places_, tree_places_, tree_dir_places_, one_place_, new_places_;
  std::vector<SimPlaces> mix_places_;

  // By inode number of the directory, of the object.
  std::unordered_map<uint64_t, SimOverlay> overlays_;
  const SimOverlay no_overlay_;
  std::unordered_map<uint64_t, SimObject> objects_;
  std::unordered_set<uint64_t> plain_;  // made as files whose attributes and content are computed
  std::unordered_set<uint64_t> gone_;   // were computed, have no name any more
  std::unordered_map<uint64_t, uint64_t> opens_;
  uint64_t next_ino_;
  uint64_t made_ = 0;          // stored objects that were never computed
  uint64_t stored_bytes_ = 0;  // of all contents
  cache::Timespec last_now_;
  uint64_t churned_ = 0;  // entries that churn has added since the start
};

}  // namespace fusefs
