// Profile: what a remote can do, and so what is compared.
#pragma once

#include <string>
#include <vector>

#include "tests/files/op.h"
#include "tests/files/side.h"

namespace files {

struct Profile {
  std::string name;
  bool links_counted = true;     // st_nlink of files
  bool nameless_counted = true;  // ... of files whose last name is gone
  bool nanoseconds = true;
  bool directory_times = true;
  bool owners = true;
  bool xattrs = true;
  bool fallocate = true;     // false: EOPNOTSUPP is an answer
  bool rename_flags = true;  // false: EINVAL is
  bool fifos = true;
  // What is removed while it is open keeps a hidden name, ".nfs...", in its directory for as long.
  bool hides = false;
};

// Null: no such profile.
const Profile* find_profile(const std::string& name);
std::string profile_names();

// The remote may leave this operation undone.
bool may_refuse(const Profile& profile, const Op& op, const Outcome& outcome);

// Which attributes differ; empty: none of those that count.
std::string attr_difference(const Profile& profile, const struct stat& tested,
                            const struct stat& native);
// What differs; empty: nothing.
std::string difference(const Profile& profile, const Op& op, const Outcome& tested,
                       const Outcome& native);
// Without the hidden names; with types where both tell them.
std::string listing_difference(const Profile& profile, const std::string& tested,
                               const std::string& native);
std::string data_difference(const std::string& tested, const std::string& native);

}  // namespace files
