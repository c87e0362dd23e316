// Whole trees, compared: every listing, attribute, link target and byte.
#pragma once

#include <string>

#include "tests/files/profile.h"

namespace files {

// The first difference, with its path; empty: there is none.
std::string tree_difference(const Profile& profile, const std::string& tested,
                            const std::string& native);

}  // namespace files
