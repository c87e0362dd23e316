// The simulated remote's tree: what there is, as it is now.
//
// Purpose:        answers every question about the tree from the configuration and the inode
//                 number alone. Nothing is stored but what changed in `big` (sim_overlay.h) and
//                 the few objects of `mix`.
// Thread-safety:  none of its own: the back end's lock protects it.
// Errors:         errnos in Result and Status.
//
//   inode numbers   1 root, 2 big, 3 tree, 4 deep, 5 mix
//                   16...   files of big, then tree's directories, then their files, then
//                           deep's directories and its file, then mix's objects
//                   2^48... entries that were added to big later, never the same number twice
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cache/base/result.h"
#include "cache/dir/attr.h"
#include "fusefs/backends/sim/sim_cookies.h"
#include "fusefs/backends/sim/sim_mix.h"
#include "fusefs/backends/sim/sim_names.h"
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
  kAddedFile,  // in big
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

  // Changes of `big`. EEXIST, ENOENT, EINVAL as a file system has them; ENOSPC: the gap between
  // two positions is used up.
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
  [[nodiscard]] cache::Status check_new_name(std::string_view name) const;
  // The position of an original or added entry of `big`.
  [[nodiscard]] std::optional<uint64_t> position_of(std::string_view name) const;
  // The free positions just before or after a taken one.
  [[nodiscard]] Gap gap_at(uint64_t position, SimSide side) const;
  void add_by_name(std::string_view name);
  void add_churned(uint64_t number);

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
  SimPlaces root_places_, big_places_, tree_places_, tree_dir_places_, one_place_;
  std::vector<SimPlaces> mix_places_;

  SimOverlay big_overlay_;
  const SimOverlay no_overlay_;
  uint64_t next_added_ino_;
  uint64_t churned_ = 0;  // entries that churn has added since the start
};

}  // namespace fusefs
