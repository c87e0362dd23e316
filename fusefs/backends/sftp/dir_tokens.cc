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

void DirTokens::keep(const ObjectId& directory, const FileAttrs& attrs, uint64_t token) {
  if (last_.size() >= kMost) last_.clear();
  last_[directory] = {.mtime = attrs.mtime, .size = attrs.size, .token = token};
}

void DirTokens::forget(const ObjectId& from) {
  std::erase_if(last_,
                [&](const auto& item) { return !moved_path(item.first, from, "x").empty(); });
}

}  // namespace fusefs::sftp
