// Names, attributes and extended attributes.

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "fusefs/absent_names.h"
#include "fusefs/control.h"
#include "fusefs/dirent_encoder.h"
#include "fusefs/ops.h"
#include "fusefs/ops_control.h"
#include "fusefs/ops_entry.h"
#include "fusefs/session_impl.h"

namespace fusefs {
namespace {

constexpr size_t kMaxLinkBytes = 4095;  // what the kernel has room for

// ---- Names --------------------------------------------------------------------------------------

struct Found {
  std::optional<LookupAnswer> answer;  // none: it is known that there is no such name
  cache::TimePoint asked;
  std::optional<cache::Duration> took = {};  // where the remote was asked for this alone
};

Found absent(cache::TimePoint asked) { return Found{std::nullopt, asked}; }

// A program stats what it has listed: one request for all, where the listing has become too old.
bool renew_attrs(SessionImpl& session, FuseRequest& request, DirState& dir, const char* name) {
  const Waiting waiting(session, request);
  const bool whole = dir.worth_renewing(name);
  // Only who reads the directory itself, or all of it again, takes over its requests.
  if (CallerPtr caller = session.caller(request)) {
    whole ? dir.act_for(caller) : dir.act_first_for(caller);
  }
  cache::ReadOptions options;
  options.deadline = waiting.patience().deadline;
  options.interrupt = waiting.patience().interrupt;
  if (whole) return dir.renew_attrs(session.now(), options).ok();
  return dir.renew_around(name, session.now(), options);
}

// What is known of a listed object by another way than the listing.
std::optional<Found> find_known(SessionImpl& session, FuseRequest& request, const Inode& parent,
                                DirState& dir, const char* name) {
  const auto find = [&]() -> std::optional<Found> {
    const auto ino = dir.directory().find_ino(name);
    if (!ino) return std::nullopt;
    ObjectId id = session.backend().child_id(session.inodes().object(parent), name, *ino);
    const InodeRef child = id.empty() ? InodeRef() : session.inodes().find(id);
    const auto attr = child ? session.inodes().attr(*child) : std::nullopt;
    const bool young = attr && session.now() - attr->asked < session.options().ttl;
    if (!young || !presentable(attr->attr)) return std::nullopt;
    return Found{LookupAnswer{std::move(id), attr->attr}, attr->asked};
  };
  auto found = find();
  if (!found || !dir.token_expired(session.now())) return found;
  // Its attributes are young, that it still has this name is not: for all names of the listing the
  // one request is no dearer than a lookup.
  if (!session.confirm_token(request, parent, dir).ok()) return std::nullopt;
  return find();
}

// A LOOKUP that a listing with nodes would have saved.
void note_use(SessionImpl& session, DirState& dir, const char* name, const Found& found) {
  if (!dir.directory().find_ino(name)) return;
  if (!S_ISDIR(found.answer->attr.mode)) {
    session.link_hint().note_lookup();
    dir.note_file_looked_up();
  }
  if (found.took) dir.note_asked(*found.took);
}

// Without asking for the name.
std::optional<Found> find_held(SessionImpl& session, FuseRequest& request, const Inode& parent,
                               DirState& dir, const char* name) {
  if (const auto since = find_absent(session, request, parent, dir, name)) return absent(*since);
  auto known = dir.find_attr(name, session.now());
  if (!known) {
    if (auto found = find_known(session, request, parent, dir, name)) return found;
  }
  if (!known && renew_attrs(session, request, dir, name)) {
    known = dir.find_attr(name, session.now());
  }
  // A server may leave out the attributes of some entries of a listing.
  if (known && presentable(known->attr)) {
    const ObjectId object = session.inodes().object(parent);
    ObjectId id = session.backend().child_id(object, name, known->attr.ino);
    if (!id.empty()) return Found{LookupAnswer{std::move(id), known->attr}, known->asked};
  }
  return std::nullopt;
}

Result<Found> find_child(SessionImpl& session, FuseRequest& request, const Inode& parent,
                         const char* name) {
  if (session.inodes().detached(parent)) return Status::error(ESTALE);
  if (const auto dir = session.inodes().dir(parent)) {
    if (auto found = find_held(session, request, parent, *dir, name)) return std::move(*found);
  }
  if (const auto since = read_for_absent(session, request, parent, name)) return absent(*since);
  // Only now: it may have been moved while all that was tried.
  const ObjectId object = session.inodes().object(parent);
  if (session.inodes().detached(parent)) return Status::error(ESTALE);
  const cache::TimePoint asked = session.now();
  auto answer = session.look_up(request, object, name);
  const cache::Duration took = session.now() - asked;
  if (answer.error_number() == ENOENT) {
    note_miss(session, parent, name, asked, took);
    return absent(asked);
  }
  if (!answer.ok()) return answer.status();
  return Found{std::move(answer).value(), asked, took};
}

void reply_absent(SessionImpl& session, FuseRequest& request, cache::TimePoint asked) {
  const double left = session.seconds_left(asked);
  if (left <= 0) return request.fail(ENOENT);
  fuse_entry_param entry{};  // ino 0: absent, and known to be
  entry.entry_timeout = left;
  request.reply(fuse_reply_entry, &entry);
}

void lookup(SessionImpl& session, FuseRequest& request, fuse_ino_t parent_id, const char* name) {
  const InodeRef parent = session.inodes().find(parent_id);
  if (!parent) return request.fail(ESTALE);
  if (!parent->is_directory()) return request.fail(ENOTDIR);
  if (std::strlen(name) > cache::kMaxNameBytes) return request.fail(ENAMETOOLONG);

  const Result<Found> found = find_child(session, request, *parent, name);
  if (!found.ok()) return request.fail(found.error_number());
  if (!found.value().answer) return reply_absent(session, request, found.value().asked);
  if (const auto dir = session.inodes().dir(*parent)) note_use(session, *dir, name, found.value());
  const Result<Introduced> child =
      introduce(session, request, {*parent, name, *found.value().answer, found.value().asked});
  if (!child.ok()) return request.fail(child.error_number());
  reply_entry(session, request, child.value());
}

void operation_lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  serve<RequestKind::kLookup>(req, [&](SessionImpl& session, FuseRequest& request) {
    lookup(session, request, parent, name);
  });
}

void operation_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) {
    session.inodes().forget(ino, count);
    request.none();
  });
}

void operation_forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) {
    for (size_t i = 0; i < count; ++i) session.inodes().forget(forgets[i].ino, forgets[i].nlookup);
    request.none();
  });
}

// ---- Attributes ---------------------------------------------------------------------------------

void getattr(SessionImpl& session, FuseRequest& request, fuse_ino_t ino) {
  const InodeRef inode = session.inodes().find(ino);
  if (!inode) return request.fail(ESTALE);
  const Result<TimedAttr> known = session.fresh_attr(request, *inode);
  if (!known.ok()) return request.fail(known.error_number());
  reply_attr(session, request, *inode, known.value());
}

void operation_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* /*fi*/) {
  serve<RequestKind::kGetattr>(
      req, [&](SessionImpl& session, FuseRequest& request) { getattr(session, request, ino); });
}

void operation_readlink(fuse_req_t req, fuse_ino_t ino) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) {
    const InodeRef inode = session.inodes().find(ino);
    if (!inode) return request.fail(ESTALE);
    if (inode->type() != S_IFLNK) return request.fail(EINVAL);
    const auto target = session.ask<std::string>(request, [&](Backend::Done<std::string> done) {
      return session.backend().readlink(session.caller(request), session.inodes().object(*inode),
                                        std::move(done));
    });
    if (!target.ok()) return request.fail(target.error_number());
    const std::string& text = target.value();
    const bool sound =
        !text.empty() && text.size() <= kMaxLinkBytes && text.find('\0') == std::string::npos;
    if (!sound) return request.fail(EIO);
    request.reply(fuse_reply_readlink, text.c_str());
  });
}

void operation_statfs(fuse_req_t req, fuse_ino_t ino) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) {
    const InodeRef inode = session.inodes().find(ino);
    if (!inode) return request.fail(ESTALE);
    const auto answer = session.ask<StatfsAnswer>(request, [&](Backend::Done<StatfsAnswer> done) {
      return session.backend().statfs(session.caller(request), session.inodes().object(*inode),
                                      std::move(done));
    });
    if (!answer.ok()) return request.fail(answer.error_number());
    const StatfsAnswer& figures = answer.value();
    struct statvfs out {};
    out.f_bsize = figures.block_size;
    out.f_frsize = figures.block_size;
    out.f_blocks = figures.blocks;
    out.f_bfree = figures.blocks_free;
    out.f_bavail = figures.blocks_available;
    out.f_files = figures.files;
    out.f_ffree = figures.files_free;
    out.f_favail = figures.files_free;
    out.f_namemax = figures.name_max;
    request.reply(fuse_reply_statfs, &out);
  });
}

// Asked only without default_permissions. Who may do what is then the remote's to say, when it is
// asked to.
void operation_access(fuse_req_t req, fuse_ino_t /*ino*/, int /*mask*/) {
  serve(req, [&](SessionImpl& /*session*/, FuseRequest& request) { request.ok(); });
}

// ---- Extended attributes ------------------------------------------------------------------------

// ENOSYS of listxattr goes through to the kernel, which then never asks again: right, because a
// back end answers it only when it has no extended attributes at all.
void reply_xattr(FuseRequest& request, const Result<std::string>& value, size_t size) {
  if (!value.ok()) return request.fail(value.error_number());
  const std::string& bytes = value.value();
  if (size == 0) {
    request.reply(fuse_reply_xattr, bytes.size());
  } else if (bytes.size() > size) {
    request.fail(ERANGE);
  } else {
    request.reply(fuse_reply_buf, bytes.data(), bytes.size());
  }
}

// Of getxattr it would hide the daemon's own attribute. Programs that ask for each file remember
// EOPNOTSUPP for the whole mount as well.
Result<std::string> get_xattr(SessionImpl& session, FuseRequest& request, const Inode& inode,
                              const char* name) {
  auto value = session.ask<std::string>(request, [&](Backend::Done<std::string> done) {
    return session.backend().getxattr(session.caller(request), session.inodes().object(inode), name,
                                      std::move(done));
  });
  if (value.error_number() == ENOSYS) return Status::error(EOPNOTSUPP);
  return value;
}

void operation_getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) {
    const InodeRef inode = session.inodes().find(ino);
    if (!inode) return request.fail(ESTALE);
    if (std::strcmp(name, kDirectoryXattr) == 0)
      return reply_directory_xattr(session, request, *inode, size);
    reply_xattr(request, get_xattr(session, request, *inode, name), size);
  });
}

void operation_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) {
    const InodeRef inode = session.inodes().find(ino);
    if (!inode) return request.fail(ESTALE);
    reply_xattr(request,
                session.ask<std::string>(request,
                                         [&](Backend::Done<std::string> done) {
                                           return session.backend().listxattr(
                                               session.caller(request),
                                               session.inodes().object(*inode), std::move(done));
                                         }),
                size);
  });
}

void operation_setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value,
                        size_t size, int flags) {
  serve<RequestKind::kChange>(req, [&](SessionImpl& session, FuseRequest& request) {
    const InodeRef inode = session.inodes().find(ino);
    if (!inode) return request.fail(ESTALE);
    if (std::strcmp(name, kDirectoryXattr) == 0) return request.fail(EPERM);
    const auto done = session.ask<Nothing>(request, [&](Backend::Done<Nothing> told) {
      return session.backend().setxattr(session.caller(request), session.inodes().object(*inode),
                                        name, std::string(value, size), flags, std::move(told));
    });
    session.inodes().note_changed(*inode, session.now());
    request.fail_or_ok(done.error_number());
  });
}

void operation_removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  serve<RequestKind::kChange>(req, [&](SessionImpl& session, FuseRequest& request) {
    const InodeRef inode = session.inodes().find(ino);
    if (!inode) return request.fail(ESTALE);
    const auto done = session.ask<Nothing>(request, [&](Backend::Done<Nothing> told) {
      return session.backend().removexattr(session.caller(request), session.inodes().object(*inode),
                                           name, std::move(told));
    });
    session.inodes().note_changed(*inode, session.now());
    request.fail_or_ok(done.error_number());
  });
}

}  // namespace

void add_meta_operations(fuse_lowlevel_ops* operations) {
  operations->lookup = operation_lookup;
  operations->forget = operation_forget;
  operations->forget_multi = operation_forget_multi;
  operations->getattr = operation_getattr;
  operations->readlink = operation_readlink;
  operations->statfs = operation_statfs;
  operations->access = operation_access;
  operations->getxattr = operation_getxattr;
  operations->listxattr = operation_listxattr;
  operations->setxattr = operation_setxattr;
  operations->removexattr = operation_removexattr;
}

}  // namespace fusefs
