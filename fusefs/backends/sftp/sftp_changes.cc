#include "fusefs/backends/sftp/sftp_changes.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "fusefs/backends/sftp/failure_reason.h"
#include "fusefs/backends/sftp/sftp_attr.h"

namespace fusefs::sftp {
namespace {

// The places in a change's group. The source is that of a hard link.
enum ChangePlace : size_t { kParentBefore, kBefore, kItself, kAfter, kParentAfter, kSource };
// In that of a removal, of which there are millions.
enum RemovalPlace : size_t { kRemovalItself = 1, kRemovalParentAfter };
// In the group of a look.
enum LookPlace : size_t { kObject, kTarget, kLinked };

bool same_access(const FileAttrs& one, const FileAttrs& other) {
  return one.permissions == other.permissions && one.uid == other.uid && one.gid == other.gid;
}

bool is_type(const Result<FileAttrs>& attrs, mode_t type) {
  return attrs.ok() && (attrs.value().permissions & S_IFMT) == type;
}

}  // namespace

// ---- What can be asked for ----------------------------------------------------------------------

SftpChanges::ChangePtr SftpChanges::change(Kind kind, const ObjectId& parent,
                                           const std::string& name) {
  auto change = std::make_shared<Change>();
  change->kind = kind;
  change->parent = parent;
  change->id = join(parent, name);
  change->begun = wall_seconds_now();
  return change;
}

void SftpChanges::create(const ObjectId& parent, const std::string& name, uint32_t mode,
                         uint32_t flags, Done<CreatedAnswer> done) {
  const ChangePtr creation = change(Kind::kCreate, parent, name);
  creation->mode = mode;
  creation->flags = flags | kOpenCreate;
  creation->done = [this, id = creation->id, flags, done = std::move(done)](
                       int error, const Outcome& outcome) {
    if (error != 0) return done(Status::error(error));
    CreatedAnswer answer;
    answer.entry = {id, to_attr(outcome.attrs, inode_of(id), wall_seconds_now())};
    answer.parent = outcome.parent;
    answer.file = parts_.files.adopt(id, flags, outcome.attrs, outcome.handle);
    done(std::move(answer));
  };
  after_ahead([this, creation] { start(creation); });
}

void SftpChanges::create_ahead(const ObjectId& parent, const std::string& name, uint32_t mode,
                               uint32_t flags, Done<CreatedAnswer> done, Done<CreatedAnswer> late) {
  const bool may = ahead_.size() < kMostAhead && after_ahead_.empty() && !is_moving(parent);
  auto promise = may ? parts_.tokens.promise(parent, mode, wall_seconds_now()) : std::nullopt;
  if (!promise) return create(parent, name, mode, flags, std::move(done));
  const ChangePtr creation = change(Kind::kCreate, parent, name);
  creation->mode = mode;
  creation->flags = flags | kOpenCreate;
  creation->promise = promise;
  const FileAttrs& attrs = creation->promise->attrs;
  CreatedAnswer answer;
  answer.entry = {creation->id, to_attr(attrs, inode_of(creation->id), wall_seconds_now())};
  answer.parent = creation->promise->change;
  answer.file = parts_.files.promise(creation->id, flags, attrs);
  answer.ahead = true;
  creation->done = [this, id = creation->id, change = answer.parent,
                    file = parts_.files.find(answer.file),
                    late = std::move(late)](int error, const Outcome& outcome) {
    if (error != 0) {
      late(Status::error(error));
      parts_.files.fail(file);
    } else {
      CreatedAnswer made;
      made.entry = {id, to_attr(outcome.attrs, inode_of(id), wall_seconds_now())};
      if (outcome.promise_kept) made.parent = change;
      late(std::move(made));
      parts_.files.fulfil(file, outcome.attrs, outcome.handle);
    }
    end_ahead(id);
  };
  ahead_.insert(creation->id);
  start(creation);
  done(std::move(answer));
}

void SftpChanges::after_ahead(std::function<void()> change) {
  if (ahead_.empty()) return change();
  after_ahead_.push_back(std::move(change));
}

bool SftpChanges::is_moving(const ObjectId& directory) const {
  return std::any_of(moving_.begin(), moving_.end(), [&](const ObjectId& from) {
    return !moved_path(directory, from, "x").empty();
  });
}

void SftpChanges::end_ahead(const ObjectId& id) {
  ahead_.erase(ahead_.find(id));
  if (!ahead_.empty()) return;
  const auto waiting = std::exchange(after_ahead_, {});
  for (const auto& change : waiting) change();
}

void SftpChanges::mkdir(const ObjectId& parent, const std::string& name, uint32_t mode,
                        Done<MadeAnswer> done) {
  const ChangePtr making = change(Kind::kMkdir, parent, name);
  making->mode = mode;
  make(making, std::move(done));
}

void SftpChanges::symlink(const ObjectId& parent, const std::string& name,
                          const std::string& target, Done<MadeAnswer> done) {
  const ChangePtr making = change(Kind::kSymlink, parent, name);
  making->target = target;
  make(making, std::move(done));
}

void SftpChanges::link(const ObjectId& source, const ObjectId& parent, const std::string& name,
                       Done<MadeAnswer> done) {
  const ChangePtr making = change(Kind::kLink, parent, name);
  making->source = source;
  make(making, std::move(done));
}

void SftpChanges::unlink(const ObjectId& parent, const std::string& name, Done<DirChange> done) {
  remove(change(Kind::kUnlink, parent, name), std::move(done));
}

void SftpChanges::rmdir(const ObjectId& parent, const std::string& name, Done<DirChange> done) {
  remove(change(Kind::kRmdir, parent, name), std::move(done));
}

void SftpChanges::make(const ChangePtr& making, Done<MadeAnswer> done) {
  const bool directory = making->kind == Kind::kMkdir;
  making->done = [this, id = making->id, directory, done = std::move(done)](
                     int error, const Outcome& outcome) {
    if (error != 0) return done(Status::error(error));
    const Attr attr = to_attr(outcome.attrs, inode_of(id), wall_seconds_now());
    if (directory) parts_.tokens.note_made(id, outcome.attrs, attr.change);
    done(MadeAnswer{.entry = {id, attr}, .parent = outcome.parent});
  };
  start(making);
}

void SftpChanges::remove(const ChangePtr& removal, Done<DirChange> done) {
  removal->done = [done = std::move(done)](int error, const Outcome& outcome) {
    if (error != 0) return done(Status::error(error));
    done(outcome.parent);
  };
  start(removal);
}

// ---- One change ---------------------------------------------------------------------------------

void SftpChanges::start(const ChangePtr& change) {
  if (++change->attempts > SftpFiles::kMaxAttempts) return fail(change, ECONNRESET);
  const ServerRoot& root = parts_.root;
  const bool removal = change->is_removal();
  std::vector<Request> requests;
  requests.push_back(root.attributes_request(change->parent));
  if (!removal) requests.push_back(lstat_request(root.of(change->id)));
  requests.push_back(request_of(*change));
  if (!removal) requests.push_back(lstat_request(root.of(change->id)));
  requests.push_back(root.attributes_request(change->parent));
  if (change->kind == Kind::kLink) requests.push_back(lstat_request(root.of(change->source)));
  submit_group(parts_.client, std::move(requests), SftpClient::kOneConnection,
               [this, change](const GroupAnswer& answer) { on_answer(change, answer); });
}

Request SftpChanges::request_of(const Change& change) const {
  const std::string path = parts_.root.of(change.id);
  FileAttrs attrs;
  attrs.flags = FileAttrs::kPermissions;
  attrs.permissions = change.mode & 07777;
  switch (change.kind) {
    case Kind::kCreate:
      return open_request(path, change.flags, attrs);
    case Kind::kMkdir:
      return mkdir_request(path, attrs);
    case Kind::kSymlink:
      return symlink_request(change.target, path);
    case Kind::kLink:
      return hardlink_request(parts_.root.of(change.source), path);
    case Kind::kUnlink:
      return remove_request(path);
    case Kind::kRmdir:
      break;
  }
  return rmdir_request(path);
}

void SftpChanges::on_removed(const ChangePtr& removal, const GroupAnswer& answer) {
  if (answer.error == ECONNRESET) return look(removal);
  if (answer.error != 0) return fail(removal, answer.error);
  const SftpClient::Answer& itself = answer.answers[kRemovalItself];
  const Result<FileAttrs> before = attrs_of(answer.answers[kParentBefore]);
  if (status_of(itself) != 0) return explain_removal(removal, before, itself);
  Outcome outcome;
  const Result<FileAttrs> after = attrs_of(answer.answers[kRemovalParentAfter]);
  if (before.ok() && after.ok()) {
    outcome.parent =
        parts_.tokens.note(removal->parent, before.value(), after.value(), wall_seconds_now());
  }
  finish(removal, outcome);
}

void SftpChanges::on_answer(const ChangePtr& change, const GroupAnswer& answer) {
  if (change->is_removal()) return on_removed(change, answer);
  const Result<FileAttrs> before = attrs_of(answer.answers[kBefore]);
  if (change->attempts == 1) change->absent = before.error_number() == ENOENT;
  if (answer.error == ECONNRESET) return look(change);
  if (answer.error != 0) {
    close_handle(answer);
    return fail(change, answer.error);
  }
  const SftpClient::Answer& itself = answer.answers[kItself];
  const int error =
      change->kind == Kind::kCreate ? handle_of(itself).error_number() : status_of(itself);
  if (error != 0) return explain(change, answer);
  succeed(change, answer);
}

void SftpChanges::succeed(const ChangePtr& change, const GroupAnswer& answer) {
  const Result<FileAttrs> before = attrs_of(answer.answers[kBefore]);
  const Result<FileAttrs> after = attrs_of(answer.answers[kAfter]);
  const Result<FileAttrs> parent_before = attrs_of(answer.answers[kParentBefore]);
  const Result<FileAttrs> parent_after = attrs_of(answer.answers[kParentAfter]);
  Outcome outcome;
  // Somebody else was quick, or the name was a link, which OPEN follows: it is to be looked up.
  const bool link = change->kind == Kind::kCreate && is_type(after, S_IFLNK);
  if (!after.ok() || link) {
    close_handle(answer);
    return fail(change, link ? ESTALE : gone_is_stale(after.error_number()));
  }
  outcome.attrs = after.value();
  if (change->kind == Kind::kCreate) outcome.handle = handle_of(answer.answers[kItself]).value();
  // Where a file was only opened, the directory is as it was.
  const bool known = !before.ok() && parent_before.ok() && parent_after.ok();
  if (change->promise) {
    // Where the connection was lost, a listing may have been answered before the file was there.
    const bool at_once = change->attempts == 1;
    const bool kept = known && at_once &&
                      parts_.tokens.keep_promise(change->parent, parent_before.value(),
                                                 parent_after.value(), *change->promise);
    outcome.promise_kept = kept && same_access(outcome.attrs, change->promise->attrs);
  } else if (known) {
    outcome.parent = parts_.tokens.note(change->parent, parent_before.value(), parent_after.value(),
                                        wall_seconds_now());
    if (change->kind == Kind::kCreate) {
      parts_.tokens.note_child(change->parent, change->mode, outcome.attrs);
    }
  }
  finish(change, outcome);
}

void SftpChanges::finish(const ChangePtr& change, const Outcome& outcome) {
  if (change->kind == Kind::kUnlink) parts_.files.unlinked(change->id);
  if (change->kind == Kind::kRmdir) {
    parts_.listing.forget(parts_.root.of(change->id));
    parts_.tokens.forget(change->id);
  }
  change->done(0, outcome);
}

void SftpChanges::fail(const ChangePtr& change, int error) {
  // Programs have written to it, and nobody is left who would try again.
  if (change->promise && (error == ECONNRESET || error == ETIMEDOUT)) {
    change->attempts = 1;
    return look(change);
  }
  change->done(error, {});
}

void SftpChanges::close_handle(const GroupAnswer& answer) {
  const Result<std::string> handle = handle_of(answer.answers[kItself]);
  if (!handle.ok()) return;
  parts_.client.submit(close_request(handle.value()), parts_.client.connection(),
                       [](const SftpClient::Answer&) {});
}

// ---- Why it failed ------------------------------------------------------------------------------

void SftpChanges::explain(const ChangePtr& change, const GroupAnswer& answer) {
  const Result<FileAttrs> parent = attrs_of(answer.answers[kParentBefore]);
  const Result<FileAttrs> before = attrs_of(answer.answers[kBefore]);
  const SftpClient::Answer& itself = answer.answers[kItself];
  const int error = error_of(itself);
  const Kind kind = change->kind;
  if (parent.error_number() == ENOENT) return fail(change, ESTALE);
  if (parent.ok() && !is_type(parent, S_IFDIR)) return fail(change, ENOTDIR);
  const bool must_be_new = kind != Kind::kCreate || (change->flags & kOpenExclusive) != 0;
  if (must_be_new && before.ok()) return fail(change, EEXIST);
  if (kind == Kind::kCreate && is_type(before, S_IFDIR)) return fail(change, EISDIR);
  if (kind == Kind::kLink) {
    const Result<FileAttrs> source = attrs_of(answer.answers[kSource]);
    if (source.error_number() == ENOENT) return fail(change, ESTALE);
    // As link(2) says it of directories, and of file systems without hard links.
    if (is_type(source, S_IFDIR) || error == ENOSYS) return fail(change, EPERM);
  }
  if (!is_failure(itself)) return fail(change, error);
  explain_failure(change);
}

// What stands there is asked for only now: it seldom is of interest.
void SftpChanges::explain_removal(const ChangePtr& removal, const Result<FileAttrs>& parent,
                                  const SftpClient::Answer& itself) {
  if (parent.error_number() == ENOENT) return fail(removal, ESTALE);
  if (parent.ok() && !is_type(parent, S_IFDIR)) return fail(removal, ENOTDIR);
  const int error = error_of(itself);
  const bool failure = is_failure(itself);
  parts_.client.submit(lstat_request(parts_.root.of(removal->id)), SftpClient::kAnyConnection,
                       [this, removal, error, failure](const SftpClient::Answer& answer) {
                         const Result<FileAttrs> object = attrs_of(answer);
                         const bool directory = is_type(object, S_IFDIR);
                         const bool unlink = removal->kind == Kind::kUnlink;
                         if (unlink && directory) return fail(removal, EISDIR);
                         if (!unlink && object.ok() && !directory) return fail(removal, ENOTDIR);
                         failure ? explain_failure(removal) : fail(removal, error);
                       });
}

void SftpChanges::explain_failure(const ChangePtr& change) {
  const Request figures = statvfs_request(parts_.root.of(change->parent));
  if (change->kind == Kind::kLink) {
    return find_reason_of_two(parts_.client, statvfs_request(parts_.root.of(change->source)),
                              figures, [this, change](int error) { fail(change, error); });
  }
  find_reason(parts_.client, figures, SftpClient::kAnyConnection, 0, [this, change](int error) {
    // All else that keeps a directory from going would have had a word of its own, but for a mount.
    const bool in_use = change->kind == Kind::kRmdir && error != EROFS;
    fail(change, in_use ? ENOTEMPTY : error);
  });
}

// ---- Whether it happened ------------------------------------------------------------------------

void SftpChanges::look(const ChangePtr& change) {
  // To open once more what may be there already does no harm.
  if (change->kind == Kind::kCreate && (change->flags & kOpenExclusive) == 0) return start(change);
  if (++change->attempts > SftpFiles::kMaxAttempts) return fail(change, ECONNRESET);
  const std::string path = parts_.root.of(change->id);
  std::vector<Request> requests;
  requests.push_back(lstat_request(path));
  if (change->kind == Kind::kSymlink) requests.push_back(readlink_request(path));
  if (change->kind == Kind::kLink) {
    requests.push_back(readlink_request(path));
    requests.push_back(lstat_request(parts_.root.of(change->source)));
  }
  submit_group(parts_.client, std::move(requests), SftpClient::kOneConnection,
               [this, change](const GroupAnswer& answer) { on_look(change, answer); });
}

void SftpChanges::on_look(const ChangePtr& change, const GroupAnswer& answer) {
  if (answer.error == ECONNRESET) return look(change);
  if (answer.error != 0) return fail(change, answer.error);
  if (!happened(*change, answer)) return start(change);
  if (change->kind == Kind::kCreate) {
    change->flags &= ~kOpenExclusive;  // it is ours
    return start(change);
  }
  Outcome outcome;  // what else became of the directory meanwhile nobody knows
  if (const Result<FileAttrs> attrs = attrs_of(answer.answers[kObject]); attrs.ok()) {
    outcome.attrs = attrs.value();
  }
  finish(change, outcome);
}

bool SftpChanges::happened(const Change& change, const GroupAnswer& answer) {
  const Result<FileAttrs> object = attrs_of(answer.answers[kObject]);
  if (change.kind == Kind::kUnlink || change.kind == Kind::kRmdir) {
    return object.error_number() == ENOENT && !change.absent;
  }
  if (!object.ok()) return false;
  const FileAttrs& attrs = object.value();
  const bool ours = change.absent || int64_t{attrs.mtime} >= change.begun - kYoung;
  switch (change.kind) {
    case Kind::kCreate:
      return ours && is_type(object, S_IFREG) && attrs.size == 0;
    case Kind::kMkdir:
      return ours && is_type(object, S_IFDIR);
    case Kind::kSymlink: {
      const Result<std::string> target = path_of(answer.answers[kTarget]);
      return ours && target.ok() && target.value() == change.target;
    }
    default: {
      const Result<FileAttrs> source = attrs_of(answer.answers[kLinked]);
      return source.ok() && source.value() == attrs;  // times of access and all
    }
  }
}

}  // namespace fusefs::sftp
