#include "fusefs/ops_entry.h"

#include <algorithm>
#include <utility>

#include "fusefs/dirent_encoder.h"

namespace fusefs {
namespace {

constexpr double kStatSeconds = 0.1;

}  // namespace

Result<Introduced> introduce(SessionImpl& session, FuseRequest& request, NamedObject object) {
  const Attr& told = object.answer.attr;
  if (!presentable(told)) return Status::error(EIO);
  Introduced result;
  result.inode =
      session.inodes().lookup(std::move(object.answer.id), {.ino = told.ino,
                                                            .parent_ino = object.parent.ino(),
                                                            .parent = object.parent.nodeid(),
                                                            .mode = told.mode});
  const Inode& inode = *result.inode;
  const Result<TimedAttr> settled = session.settle_attr(request, inode, {told, object.asked});
  if (!settled.ok()) {
    session.inodes().forget(inode.nodeid(), 1);
    return settled.status();
  }
  if (inode.is_directory()) session.inodes().set_name(inode, object.name);
  const Attr& attr = settled.value().attr;
  fuse_entry_param& entry = result.entry;
  entry.ino = inode.nodeid();
  entry.attr = session.to_stat(inode, attr);
  // Long enough for the stat that the lookup is part of: or the kernel would ask once more.
  const double soon = std::min(session.ttl_seconds(), kStatSeconds);
  entry.attr_timeout = std::max(session.seconds_left(settled.value().asked), soon);
  entry.entry_timeout = std::max(session.seconds_left(object.asked), soon);
  return result;
}

void reply_entry(SessionImpl& session, FuseRequest& request, const Introduced& introduced) {
  // Not of the inode, which may be gone as soon as there is a reply.
  const uint64_t nodeid = introduced.entry.ino;
  if (request.reply(fuse_reply_entry, &introduced.entry) != 0) session.inodes().forget(nodeid, 1);
}

void reply_attr(SessionImpl& session, FuseRequest& request, const Inode& inode,
                const TimedAttr& known) {
  const struct stat status = session.to_stat(inode, known.attr);
  request.reply(fuse_reply_attr, &status, session.seconds_left(known.asked));
}

}  // namespace fusefs
