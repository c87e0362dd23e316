#include "fusefs/backends/sim/sim_changes.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <utility>

namespace fusefs {
namespace {

constexpr size_t kLongestTarget = 4095;
constexpr size_t kLongestXattrName = 255;
constexpr size_t kLongestXattr = 64 << 10;

}  // namespace

int check_sim_name(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return EINVAL;
  if (name.find('/') != std::string_view::npos) return EINVAL;
  if (name.find('\0') != std::string_view::npos) return EINVAL;
  return name.size() > kSimMaxName ? ENAMETOOLONG : 0;
}

Status SimChanges::check_place(const SimNode& directory, const std::string& name) const {
  if (!tree_.is_directory(directory)) return Status::error(ENOTDIR);
  const int bad_name = check_sim_name(name);
  return bad_name != 0 ? Status::error(bad_name) : Status();
}

void SimChanges::touch_directory(const SimNode& directory, int subdirectories) {
  SimObject& object = tree_.store(directory);
  object.attr.nlink += static_cast<uint32_t>(subdirectories);
  tree_.touch_content(&object);
}

void SimChanges::moved(const SimNode& node, const SimNode& directory) {
  SimObject& object = tree_.store(node);
  if (S_ISDIR(object.attr.mode)) object.parent = directory.ino;
  tree_.touch(&object);
}

Result<SimChanges::Made> SimChanges::make(const CallerPtr& caller, const SimNode& parent,
                                          const std::string& name, New what) {
  const Status place = check_place(parent, name);
  if (!place.ok()) return place;
  if (tree_.lookup(parent, name).ok()) return Status::error(EEXIST);
  if (S_ISLNK(what.mode) && what.target.empty()) return Status::error(ENOENT);
  if (what.target.size() > kLongestTarget) return Status::error(ENAMETOOLONG);
  const Attr directory = tree_.attr(parent);
  const bool subdirectory = S_ISDIR(what.mode);
  SimObject object;
  object.attr.mode = what.mode;
  object.attr.nlink = subdirectory ? 2 : 1;
  object.attr.uid = caller != nullptr ? caller->uid : ::geteuid();
  object.attr.gid = caller != nullptr ? caller->gid : ::getegid();
  if ((directory.mode & S_ISGID) != 0) {
    object.attr.gid = directory.gid;
    if (subdirectory) object.attr.mode |= S_ISGID;
  }
  object.attr.rdev = what.rdev;
  object.attr.size = subdirectory ? kSimBlock : what.target.size();
  object.target = std::move(what.target);
  object.parent = subdirectory ? parent.ino : 0;
  Made made;
  made.parent.before = directory.change;
  made.node = tree_.make(std::move(object));
  const Status added = tree_.add_name(parent, name, made.node.ino);
  if (!added.ok()) {
    tree_.drop_link(made.node);
    return added;
  }
  touch_directory(parent, subdirectory ? 1 : 0);
  made.parent.after = tree_.change_token(parent);
  return made;
}

Result<SimChanges::Made> SimChanges::link(const SimNode& node, const SimNode& parent,
                                          const std::string& name) {
  const Status place = check_place(parent, name);
  if (!place.ok()) return place;
  if (tree_.is_directory(node)) return Status::error(EPERM);
  if (tree_.lookup(parent, name).ok()) return Status::error(EEXIST);
  Made made{.node = node, .parent = {.before = tree_.change_token(parent), .after = 0}};
  const Status added = tree_.add_name(parent, name, node.ino);
  if (!added.ok()) return added;
  SimObject& object = tree_.store(node);
  ++object.attr.nlink;
  tree_.touch(&object);
  touch_directory(parent, 0);
  made.parent.after = tree_.change_token(parent);
  return made;
}

Result<DirChange> SimChanges::remove(const SimNode& parent, const std::string& name, Kind kind) {
  const Status place = check_place(parent, name);
  if (!place.ok()) return place;
  const Result<SimNode> found = tree_.lookup(parent, name);
  if (!found.ok()) return found.status();
  const bool directory = tree_.is_directory(found.value());
  if (directory && kind == Kind::kOther) return Status::error(EISDIR);
  if (!directory && kind == Kind::kDirectory) return Status::error(ENOTDIR);
  if (directory && !tree_.is_empty(found.value())) return Status::error(ENOTEMPTY);
  DirChange change;
  change.before = tree_.change_token(parent);
  tree_.remove_name(parent, name);
  tree_.drop_link(found.value());
  touch_directory(parent, directory ? -1 : 0);
  change.after = tree_.change_token(parent);
  return change;
}

Result<SimChanges::Side> SimChanges::side(const SimNode& directory, const std::string& name) const {
  const Status place = check_place(directory, name);
  if (!place.ok()) return place;
  Side side{.directory = directory, .name = name, .node = std::nullopt};
  const Result<SimNode> found = tree_.lookup(directory, name);
  if (!found.ok() && found.error_number() != ENOENT) return found.status();
  if (!found.ok()) return side;
  side.node = found.value();
  side.is_directory = tree_.is_directory(found.value());
  return side;
}

Status SimChanges::check_rename(const Side& from, const Side& to, uint32_t flags) const {
  if (flags != 0 && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE) {
    return Status::error(EINVAL);
  }
  const bool exchange = flags == RENAME_EXCHANGE;
  if (!from.node || (exchange && !to.node)) return Status::error(ENOENT);
  if (to.node && flags == RENAME_NOREPLACE) return Status::error(EEXIST);
  // A directory can't come to lie in itself.
  if (from.is_directory && tree_.is_within(to.directory.ino, from.node->ino)) {
    return Status::error(EINVAL);
  }
  if (exchange && to.is_directory && tree_.is_within(from.directory.ino, to.node->ino)) {
    return Status::error(EINVAL);
  }
  if (exchange || !to.node || to.node->ino == from.node->ino) return Status();
  if (from.is_directory && !to.is_directory) return Status::error(ENOTDIR);
  if (!from.is_directory && to.is_directory) return Status::error(EISDIR);
  if (to.is_directory && !tree_.is_empty(*to.node)) return Status::error(ENOTEMPTY);
  return Status();
}

Status SimChanges::move(const Side& from, const Side& to) {
  if (to.node) {
    tree_.replace_name(to.directory, to.name, from.node->ino);
    tree_.drop_link(*to.node);
  } else {
    const Status added = tree_.add_name(to.directory, to.name, from.node->ino);
    if (!added.ok()) return added;
  }
  tree_.remove_name(from.directory, from.name);
  moved(*from.node, to.directory);
  touch_directory(from.directory, from.is_directory ? -1 : 0);
  const int more = (from.is_directory ? 1 : 0) - (to.is_directory ? 1 : 0);
  touch_directory(to.directory, more);
  return Status();
}

void SimChanges::exchange(const Side& from, const Side& to) {
  tree_.replace_name(from.directory, from.name, to.node->ino);
  tree_.replace_name(to.directory, to.name, from.node->ino);
  moved(*from.node, to.directory);
  moved(*to.node, from.directory);
  const int more = (from.is_directory ? 1 : 0) - (to.is_directory ? 1 : 0);
  touch_directory(from.directory, -more);
  touch_directory(to.directory, more);
}

Result<RenamedAnswer> SimChanges::rename(const SimNode& from_directory,
                                         const std::string& from_name, const SimNode& to_directory,
                                         const std::string& to_name, uint32_t flags) {
  const Result<Side> from = side(from_directory, from_name);
  if (!from.ok()) return from.status();
  const Result<Side> to = side(to_directory, to_name);
  if (!to.ok()) return to.status();
  const Status status = check_rename(from.value(), to.value(), flags);
  if (!status.ok()) return status;
  RenamedAnswer answer;
  answer.from.before = tree_.change_token(from_directory);
  answer.to.before = tree_.change_token(to_directory);
  // Two names of one object: nothing happens.
  const bool same = to.value().node && to.value().node->ino == from.value().node->ino;
  if (!same && flags == RENAME_EXCHANGE) {
    exchange(from.value(), to.value());
  } else if (!same) {
    const Status moved_it = move(from.value(), to.value());
    if (!moved_it.ok()) return moved_it;
  }
  answer.from.after = tree_.change_token(from_directory);
  answer.to.after = tree_.change_token(to_directory);
  return answer;
}

Result<Attr> SimChanges::setattr(const SimNode& node, const SetAttr& set) {
  if (set.has(SetAttr::kMode) && S_ISLNK(tree_.attr(node).mode)) return Status::error(EOPNOTSUPP);
  if (set.has(SetAttr::kSize)) {
    const Status truncated = files_.truncate(node, set.size);
    if (!truncated.ok()) return truncated;
  }
  if (set.valid == 0) return tree_.attr(node);
  SimObject& object = tree_.store(node);
  tree_.touch(&object);
  set.apply_to(&object.attr);
  return tree_.attr(node);
}

Status SimChanges::setxattr(const SimNode& node, const std::string& name, const std::string& value,
                            int flags) {
  if (name.empty() || name.find('\0') != std::string::npos) return Status::error(EINVAL);
  if (name.size() > kLongestXattrName) return Status::error(ERANGE);
  if (value.size() > kLongestXattr) return Status::error(E2BIG);
  SimObject& object = tree_.store(node);
  const bool there = object.xattrs.contains(name);
  if (there && (flags & XATTR_CREATE) != 0) return Status::error(EEXIST);
  if (!there && (flags & XATTR_REPLACE) != 0) return Status::error(ENODATA);
  object.xattrs[name] = value;
  tree_.touch(&object);
  return Status();
}

Status SimChanges::removexattr(const SimNode& node, const std::string& name) {
  const SimObject* const object = tree_.stored(node.ino);
  if (object == nullptr || !object->xattrs.contains(name)) return Status::error(ENODATA);
  SimObject& changing = tree_.store(node);
  changing.xattrs.erase(name);
  tree_.touch(&changing);
  return Status();
}

}  // namespace fusefs
