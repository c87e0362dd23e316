// Changes of the simulated tree: what a request to make, link, remove, rename or set means there.
//
// Purpose:        the rules of a file system, over SimTree's objects and names. Nobody's permission
//                 is checked.
// Thread-safety:  none of its own; the back end's lock protects it and the tree.
// Errors:         as a file system gives them. A change that fails has changed nothing.
#pragma once

#include <string>
#include <string_view>

#include "fusefs/backends/backend.h"
#include "fusefs/backends/sim/sim_files.h"
#include "fusefs/backends/sim/sim_tree.h"

namespace fusefs {

// 0, or what is wrong with a new name: EINVAL, ENAMETOOLONG.
int check_sim_name(std::string_view name);

class SimChanges {
 public:
  struct Made {
    SimNode node;
    DirChange parent;
  };
  struct New {
    uint32_t mode = 0;  // with the type
    uint64_t rdev = 0;
    std::string target{};
  };

  SimChanges(SimTree& tree, SimFiles& files) : tree_(tree), files_(files) {}

  // `caller` owns it; null: whoever runs this.
  [[nodiscard]] Result<Made> make(const CallerPtr& caller, const SimNode& parent,
                                  const std::string& name, New what);
  [[nodiscard]] Result<Made> link(const SimNode& node, const SimNode& parent,
                                  const std::string& name);
  enum class Kind : uint8_t { kDirectory, kOther };
  [[nodiscard]] Result<DirChange> remove(const SimNode& parent, const std::string& name, Kind kind);
  [[nodiscard]] Result<RenamedAnswer> rename(const SimNode& from, const std::string& from_name,
                                             const SimNode& to, const std::string& to_name,
                                             uint32_t flags);
  [[nodiscard]] Result<Attr> setattr(const SimNode& node, const SetAttr& set);
  [[nodiscard]] Status setxattr(const SimNode& node, const std::string& name,
                                const std::string& value, int flags);
  [[nodiscard]] Status removexattr(const SimNode& node, const std::string& name);

 private:
  // One of a rename's two places.
  struct Side {
    SimNode directory;
    std::string name;
    std::optional<SimNode> node;  // under that name
    bool is_directory = false;
  };
  [[nodiscard]] Status check_place(const SimNode& directory, const std::string& name) const;
  [[nodiscard]] Result<Side> side(const SimNode& directory, const std::string& name) const;
  [[nodiscard]] Status check_rename(const Side& from, const Side& to, uint32_t flags) const;
  Status move(const Side& from, const Side& to);
  void exchange(const Side& from, const Side& to);
  // A directory's times, and how many directories are in it.
  void touch_directory(const SimNode& directory, int subdirectories);
  // It lies in `directory` now.
  void moved(const SimNode& node, const SimNode& directory);

  SimTree& tree_;
  SimFiles& files_;
};

}  // namespace fusefs
