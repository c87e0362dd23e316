// File contents, read through from the back end.

#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "fusefs/ops.h"
#include "fusefs/session_impl.h"

namespace fusefs {
namespace {

void open(SessionImpl& session, FuseRequest& request, fuse_ino_t ino, fuse_file_info* fi) {
  InodeRef inode = session.inodes().find(ino);
  if (!inode) return request.fail(ESTALE);
  if ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC) != 0) {
    return request.fail(EROFS);
  }
  if (inode->is_directory()) return request.fail(EISDIR);
  Backend& backend = session.backend();
  const CallerPtr caller = session.caller(request);
  const auto file = session.ask<Backend::FileHandle>(
      request,
      [&](Backend::Done<Backend::FileHandle> done) {
        return backend.open(caller, inode->object(), fi->flags, std::move(done));
      },
      // Opened after its opener gave up.
      [&backend](Backend::FileHandle&& late) { backend.release(late); });
  if (!file.ok()) return request.fail(file.error_number());
  std::unique_ptr<OpenHandle> handle;
  try {
    handle = std::make_unique<FileHandle>(backend, std::move(inode), file.value(), caller);
  } catch (...) {
    backend.release(file.value());
    throw;
  }
  const uint64_t fh = session.handles().add(std::move(handle));
  fi->fh = fh;
  // An interrupted open is not followed by a release.
  if (request.reply(fuse_reply_open, fi) != 0) session.handles().close(fh);
}

void operation_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) { open(session, request, ino, fi); });
}

void operation_read(fuse_req_t req, fuse_ino_t /*ino*/, size_t size, off_t offset,
                    fuse_file_info* fi) {
  serve<RequestKind::kRead>(req, [&](SessionImpl& session, FuseRequest& request) {
    const auto& handle = HandleList::get<FileHandle>(fi->fh);
    const auto wanted = static_cast<uint32_t>(std::min(size, ReplyBuffers::kMaxBytes));
    const auto bytes = session.ask<std::string>(request, [&](Backend::Done<std::string> done) {
      return session.backend().read(handle.opener, handle.file, static_cast<uint64_t>(offset),
                                    wanted, std::move(done));
    });
    if (!bytes.ok()) return request.fail(bytes.error_number());
    // More than was asked for would not fit the kernel's pages.
    const size_t given = std::min<size_t>(bytes.value().size(), wanted);
    request.reply(fuse_reply_buf, bytes.value().data(), given);
  });
}

void operation_release(fuse_req_t req, fuse_ino_t /*ino*/, fuse_file_info* fi) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) {
    session.handles().close(fi->fh);
    request.ok();
  });
}

}  // namespace

void add_file_operations(fuse_lowlevel_ops* operations) {
  operations->open = operation_open;
  operations->read = operation_read;
  operations->release = operation_release;
}

}  // namespace fusefs
