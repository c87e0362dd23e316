#include "fusefs/backends/sftp/dir_tokens.h"

#include "fusefs/backends/sftp/sftp_attr.h"
#include "fusefs/backends/sftp/sftp_paths.h"

namespace fusefs::sftp {

DirChange DirTokens::note(const ObjectId& directory, const FileAttrs& before,
                          const FileAttrs& after, int64_t wall_seconds) {
  if (!before.has(FileAttrs::kTimes) || !after.has(FileAttrs::kTimes)) return {};
  DirChange change;
  const auto last = last_.find(directory);
  const bool ours =
      last != last_.end() && last->second.mtime == before.mtime && last->second.size == before.size;
  // Once it is old, its token is the time again: a listing of now has that one.
  const bool old = int64_t{before.mtime} <= wall_seconds - kYoung;
  change.before = ours && !old ? last->second.token : change_token(before, wall_seconds);
  change.after = unique_token();
  keep(directory, after, change.after);
  return change;
}

void DirTokens::note_made(const ObjectId& directory, const FileAttrs& attrs, uint64_t token) {
  if (attrs.has(FileAttrs::kTimes)) keep(directory, attrs, token);
}

void DirTokens::note_child(const ObjectId& directory, uint32_t mode, const FileAttrs& attrs) {
  const auto last = last_.find(directory);
  if (last == last_.end()) return;
  last->second.child = attrs;
  last->second.child_mode = mode;
}

std::optional<DirTokens::Promise> DirTokens::promise(const ObjectId& directory, uint32_t mode,
                                                     int64_t wall_seconds) {
  const auto found = last_.find(directory);
  if (found == last_.end()) return std::nullopt;
  Last& last = found->second;
  // What becomes of permissions that no sibling asked for is not known.
  const bool known = last.child && (mode & ~last.child_mode & 07777) == 0;
  if (!known || int64_t{last.mtime} <= wall_seconds - kYoung) return std::nullopt;
  Promise promise;
  promise.change = {.before = last.promised, .after = unique_token(), .attr = {}};
  last.promised = promise.change.after;
  promise.attrs = *last.child;
  promise.attrs.size = 0;
  promise.attrs.permissions &= mode | ~uint32_t{07777};
  promise.attrs.mtime = promise.attrs.atime = static_cast<uint32_t>(wall_seconds);
  return promise;
}

bool DirTokens::keep_promise(const ObjectId& directory, const FileAttrs& before,
                             const FileAttrs& after, const Promise& promise) {
  const auto found = last_.find(directory);
  const bool kept = found != last_.end() && found->second.token == promise.change.before &&
                    found->second.mtime == before.mtime && found->second.size == before.size;
  if (!kept) {
    last_.erase(directory);
    return false;
  }
  found->second.mtime = after.mtime;
  found->second.size = after.size;
  found->second.token = promise.change.after;
  return true;
}

void DirTokens::keep(const ObjectId& directory, const FileAttrs& attrs, uint64_t token) {
  if (last_.size() >= kMost) last_.clear();
  Last& last = last_[directory];
  last.mtime = attrs.mtime;
  last.size = attrs.size;
  last.token = last.promised = token;
}

void DirTokens::forget(const ObjectId& from) {
  std::erase_if(last_,
                [&](const auto& item) { return !moved_path(item.first, from, "x").empty(); });
}

}  // namespace fusefs::sftp
