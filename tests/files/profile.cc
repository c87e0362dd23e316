#include "tests/files/profile.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>

namespace files {
namespace {

// A modification time before it was set by an operation and not touched since (op.h).
constexpr int64_t kLatestSet = 1'200'000'000;

const std::array kProfiles = {
    Profile{.name = "local"},
    Profile{.name = "sim", .xattrs = false, .fallocate = false, .rename_flags = false},
    Profile{.name = "sftp",
            .links_counted = false,
            .nameless_counted = false,
            .nanoseconds = false,
            .xattrs = false,
            .fallocate = false,
            .rename_flags = false,
            .fifos = false},
    Profile{.name = "nfs3",
            .nameless_counted = false,
            .directory_times = false,
            .xattrs = false,
            .fallocate = false,
            .rename_flags = false,
            .hides = true},
    Profile{.name = "nfs4",
            .nameless_counted = false,
            .directory_times = false,
            .xattrs = false,
            .fallocate = false,
            .rename_flags = false,
            .hides = true},
};

// Two names of one thing.
int plain_errno(int error) { return error == EEXIST ? ENOTEMPTY : error; }

bool same_errno(const Op& op, int tested, int native) {
  if (tested == native) return true;
  const bool removes = op.kind == Kind::kRmdir || op.kind == Kind::kRename;
  return removes && plain_errno(tested) == plain_errno(native);
}

std::string errno_text(const Outcome& outcome) {
  if (outcome.error != 0) return strerrorname_np(outcome.error);
  return std::to_string(outcome.result);
}

std::vector<std::string> lines_of(const std::string& text, bool without_hidden) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (!without_hidden || !line.starts_with(".nfs")) lines.push_back(line);
  }
  return lines;
}

// A name may hold a line break: then these are two lines, of which both sides have the same.
bool same_entry(const std::string& tested, const std::string& native) {
  if (tested == native) return true;
  if (tested.empty() || native.empty()) return false;
  return tested.back() == '?' &&
         tested.compare(0, tested.size() - 1, native, 0, native.size() - 1) == 0;
}

std::string pair_of(const std::string& what, uint64_t tested, uint64_t native) {
  return what + " " + std::to_string(tested) + ", native " + std::to_string(native);
}

std::string time_difference(const Profile& profile, const timespec& tested,
                            const timespec& native) {
  const bool set = native.tv_sec < kLatestSet;
  if (!set && tested.tv_sec < kLatestSet) {
    return "mtime " + std::to_string(tested.tv_sec) +
           ", which was set, though it was changed since";
  }
  if (!set) return {};
  const auto seconds = [](const timespec& time) { return static_cast<uint64_t>(time.tv_sec); };
  const auto rest = [](const timespec& time) { return static_cast<uint64_t>(time.tv_nsec); };
  if (tested.tv_sec != native.tv_sec) return pair_of("mtime", seconds(tested), seconds(native));
  if (profile.nanoseconds && tested.tv_nsec != native.tv_nsec) {
    return pair_of("mtime's nanoseconds", rest(tested), rest(native));
  }
  return {};
}

}  // namespace

const Profile* find_profile(const std::string& name) {
  const auto* const found =
      std::find_if(kProfiles.begin(), kProfiles.end(),
                   [&](const Profile& profile) { return profile.name == name; });
  return found != kProfiles.end() ? found : nullptr;
}

std::string profile_names() {
  std::string names;
  for (const Profile& profile : kProfiles) names += (names.empty() ? "" : ", ") + profile.name;
  return names;
}

bool may_refuse(const Profile& profile, const Op& op, const Outcome& outcome) {
  if (outcome.result >= 0) return false;
  const bool unsupported = outcome.error == EOPNOTSUPP || outcome.error == ENOSYS;
  if (op.kind == Kind::kFallocate) return !profile.fallocate && unsupported;
  if (op.kind == Kind::kRename && op.flags != 0) {
    return !profile.rename_flags && (unsupported || outcome.error == EINVAL);
  }
  return false;
}

std::string attr_difference(const Profile& profile, const struct stat& tested,
                            const struct stat& native) {
  if (tested.st_mode != native.st_mode) return pair_of("mode", tested.st_mode, native.st_mode);
  if (profile.owners && tested.st_uid != native.st_uid) {
    return pair_of("uid", tested.st_uid, native.st_uid);
  }
  if (profile.owners && tested.st_gid != native.st_gid) {
    return pair_of("gid", tested.st_gid, native.st_gid);
  }
  const bool directory = S_ISDIR(native.st_mode);
  if (!directory && tested.st_size != native.st_size) {
    return pair_of("size", static_cast<uint64_t>(tested.st_size),
                   static_cast<uint64_t>(native.st_size));
  }
  const bool counted = native.st_nlink == 0 ? profile.nameless_counted : profile.links_counted;
  if (!directory && counted && tested.st_nlink != native.st_nlink) {
    return pair_of("nlink", tested.st_nlink, native.st_nlink);
  }
  if (S_ISLNK(native.st_mode) || (directory && !profile.directory_times)) return {};
  // What goes through a pipe never comes to a FUSE file system, for which the kernel keeps no
  // times.
  if (S_ISFIFO(native.st_mode)) return {};
  return time_difference(profile, tested.st_mtim, native.st_mtim);
}

std::string data_difference(const std::string& tested, const std::string& native) {
  if (tested == native) return {};
  const size_t common = std::min(tested.size(), native.size());
  size_t at = 0;
  while (at < common && tested[at] == native[at]) ++at;
  if (at == common) return pair_of("bytes:", tested.size(), native.size());
  return "byte " + std::to_string(at) + " of " + std::to_string(native.size()) + " is" +
         pair_of("", static_cast<unsigned char>(tested[at]),
                 static_cast<unsigned char>(native[at]));
}

std::string listing_difference(const Profile& profile, const std::string& tested,
                               const std::string& native) {
  const auto ours = lines_of(tested, profile.hides);
  const auto theirs = lines_of(native, false);
  for (size_t i = 0; i < std::max(ours.size(), theirs.size()); ++i) {
    const std::string mine = i < ours.size() ? ours[i] : "the end";
    const std::string other = i < theirs.size() ? theirs[i] : "the end";
    if (!same_entry(mine, other)) return "a listing has '" + mine + "', native '" + other + "'";
  }
  return {};
}

std::string difference(const Profile& profile, const Op& op, const Outcome& tested,
                       const Outcome& native) {
  const bool same_failure = tested.error != 0 && same_errno(op, tested.error, native.error);
  const bool listing = op.kind == Kind::kList || op.kind == Kind::kListHeld;
  if (!same_failure &&
      (tested.error != native.error || (!listing && tested.result != native.result))) {
    return "result " + errno_text(tested) + ", native " + errno_text(native);
  }
  const std::string data = listing ? listing_difference(profile, tested.data, native.data)
                                   : data_difference(tested.data, native.data);
  if (!data.empty()) return data;
  for (size_t i = 0; i < std::min(tested.looks.size(), native.looks.size()); ++i) {
    const Look& mine = tested.looks[i];
    const Look& other = native.looks[i];
    const std::string which = "stat " + std::to_string(i + 1) + " of " +
                              std::to_string(native.looks.size()) + " afterwards: ";
    // A pipe is the kernel's own, however it is opened: without a name it is nobody's.
    const bool pipe = other.error == 0 && S_ISFIFO(other.attr.st_mode);
    if (pipe && other.attr.st_nlink == 0) continue;
    if (mine.error != other.error) {
      return which + pair_of("errno", static_cast<uint64_t>(mine.error),
                             static_cast<uint64_t>(other.error));
    }
    if (other.error != 0) continue;
    const std::string attrs = attr_difference(profile, mine.attr, other.attr);
    if (!attrs.empty()) return which + attrs;
  }
  return {};
}

}  // namespace files
