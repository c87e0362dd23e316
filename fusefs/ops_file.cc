// File contents: open, READ and WRITE through data pages, and what pushes them out.
//
// What is written is dirty in the cache when the program goes on; FLUSH (close) and FSYNC wait
// until the remote has it, and tell what went wrong since, once to each open file. A file whose
// data could not be written when it was closed is kept, and goes on being written.

#include "fusefs/ops_file.h"

#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "cache/data/data_hooks.h"
#include "fusefs/dirent_encoder.h"
#include "fusefs/ops.h"
#include "fusefs/ops_change.h"
#include "fusefs/ops_lock.h"

namespace fusefs {
namespace {

using cache::FileMapping;
using Durable = FileMapping::Durable;

// ---- Opening ------------------------------------------------------------------------------------

Result<BackendFileSourcePtr> open_exactly(SessionImpl& session, FuseRequest& request,
                                          const Inode& inode, int flags) {
  Backend& backend = session.backend();
  const CallerPtr caller = session.caller(request);
  const auto file = session.ask<Backend::FileHandle>(
      request,
      [&](Backend::Done<Backend::FileHandle> done) {
        return backend.open(caller, session.inodes().object(inode), flags, std::move(done));
      },
      // Opened after its opener gave up.
      [&backend](Backend::FileHandle&& late) { backend.release(late); });
  if (!file.ok()) return file.status();
  return std::make_shared<BackendFileSource>(backend, caller, file.value(), flags);
}

// To write a part of a page its rest must be known, so a file that is to be written is opened for
// reading, too, where that is permitted.
Result<BackendFileSourcePtr> open_source(SessionImpl& session, FuseRequest& request,
                                         const Inode& inode, int flags) {
  auto source = open_exactly(session, request, inode, flags_for_backend(flags));
  if (source.error_number() != EACCES || (flags & O_ACCMODE) != O_WRONLY) return source;
  return open_exactly(session, request, inode, flags);
}

// Whoever opens a file sees what was closed elsewhere more than ttl ago. Other names of a file show
// nothing of what was written through this one: then the remote is asked.
Result<Attr> attr_at_open(SessionImpl& session, FuseRequest& request, const Inode& inode) {
  const Result<TimedAttr> known = session.fresh_attr(request, inode);
  if (!known.ok()) return known.status();
  if (known.value().attr.nlink > 1) return session.fetch_attr(request, inode);
  return known.value().attr;
}

// Opens and empties it. The remote does that with the opening.
Result<BackendFileSourcePtr> open_truncated(SessionImpl& session, FuseRequest& request,
                                            const Inode& inode, FileState* state, int flags) {
  std::unique_ptr<FileMapping::Truncation> truncation;
  if (state != nullptr) {
    const Waiting waiting(session, request);
    auto begun = state->data().begin_truncate(0, session.data_wait(waiting.patience()));
    if (!begun.ok()) return begun.status();
    truncation = std::move(begun).value();
  }
  const cache::TimePoint asked = session.now();
  if (state != nullptr) state->note_own_change();
  auto source = open_source(session, request, inode, flags);
  session.inodes().note_changed(inode, asked);
  using Remote = FileMapping::Truncation::Remote;
  if (truncation) truncation->end_truncate(source.ok() ? Remote::kTruncated : Remote::kFailed);
  return source;
}

void open(SessionImpl& session, FuseRequest& request, fuse_ino_t ino, fuse_file_info* fi) {
  InodeRef inode = session.inodes().find(ino);
  if (!inode) return request.fail(ESTALE);
  if (inode->is_directory()) return request.fail(EISDIR);
  const int flags = fi->flags & O_ACCMODE;
  const bool truncates = (fi->flags & O_TRUNC) != 0;
  if (session.inodes().detached(*inode)) return request.fail(ESTALE);
  const auto state = session.inodes().file(*inode);
  // Whether it may be opened, the remote decides.
  const Status settled = state ? session.settle_attrs(request, *inode, *state) : Status();
  if (!settled.ok()) return request.fail(settled.error_number());
  const auto source = truncates
                          ? open_truncated(session, request, *inode, state.get(), flags | O_TRUNC)
                          : open_source(session, request, *inode, flags);
  if (!source.ok()) return request.fail(source.error_number());
  const Result<Attr> attr = attr_at_open(session, request, *inode);
  if (!attr.ok()) return request.fail(attr.error_number());
  auto handle = make_handle(session, std::move(inode), attr.value(), source.value(), fi);
  const uint64_t fh = session.handles().add(std::move(handle));
  fi->fh = fh;
  // An interrupted open is not followed by a release.
  if (request.reply(fuse_reply_open, fi) != 0) session.handles().close(fh);
}

void operation_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) { open(session, request, ino, fi); });
}

// ---- Reading and writing ------------------------------------------------------------------------

bool is_direct(const fuse_file_info& fi) { return (fi.flags & O_DIRECT) != 0; }

void read(SessionImpl& session, FuseRequest& request, size_t size, off_t offset,
          fuse_file_info* fi) {
  auto& handle = HandleList::get<FileHandle>(fi->fh);
  FileMapping& data = handle.state->data();
  const auto from = static_cast<uint64_t>(offset);
  ReplyBuffers::Lease lease(session.buffers());
  std::byte* const buffer = lease.get();
  if (buffer == nullptr) return request.fail(ENOMEM);
  const std::span<std::byte> out(buffer, std::min(size, ReplyBuffers::kMaxBytes));
  Result<size_t> got = Status::error(EIO);
  {
    const Waiting waiting(session, request);
    const cache::DataWait wait = session.data_wait(waiting.patience());
    got = is_direct(*fi) ? data.read_direct(handle.source, from, out, wait)
                         : data.read(handle.stream, handle.source, from, out, wait);
  }
  if (!got.ok()) return request.fail(got.error_number());
  request.reply(fuse_reply_buf, reinterpret_cast<const char*>(buffer), got.value());
}

void operation_read(fuse_req_t req, fuse_ino_t /*ino*/, size_t size, off_t offset,
                    fuse_file_info* fi) {
  serve<RequestKind::kRead>(req, [&](SessionImpl& session, FuseRequest& request) {
    read(session, request, size, offset, fi);
  });
}

// Where a write of so many bytes at `offset` goes. The kernel appends at the size that it knows,
// and that may be an old one.
uint64_t place_of_write(SessionImpl& session, const FileMapping& data, uint64_t offset,
                        const fuse_file_info& fi) {
  const bool appends = (fi.flags & O_APPEND) != 0 && fi.writepage == 0;
  return appends && !session.options().writeback_cache ? data.size() : offset;
}

// Past the pages, which are written back whole: where ranges are locked the rest of a page may be
// somebody else's.
bool is_direct_write(SessionImpl& session, const FileHandle& handle, uint64_t to, size_t size,
                     const fuse_file_info& fi) {
  // What the kernel writes back is its cache's, whoever opened the file.
  if (fi.writepage != 0) return false;
  const bool part = to % cache::kDataPage != 0 || size % cache::kDataPage != 0;
  return is_direct(fi) || (part && session.locks().any_range(handle.inode->nodeid()));
}

void write(SessionImpl& session, FuseRequest& request, const char* bytes, size_t size, off_t offset,
           fuse_file_info* fi) {
  auto& handle = HandleList::get<FileHandle>(fi->fh);
  FileMapping& data = handle.state->data();
  const std::span<const std::byte> in(reinterpret_cast<const std::byte*>(bytes), size);
  const auto asked = static_cast<uint64_t>(offset);
  const uint64_t to = place_of_write(session, data, asked, *fi);
  session.begin_writing(request, handle);
  session.inodes().note_changed(*handle.inode, session.now());
  if (session.options().writeback_cache && fi->writepage != 0) handle.state->note_kernel_write();
  Status done;
  {
    const Waiting waiting(session, request);
    const cache::DataWait wait = session.data_wait(waiting.patience());
    done = is_direct_write(session, handle, to, size, *fi)
               ? data.write_direct(handle.source, to, in, wait)
               : data.write(handle.source, to, in, wait);
  }
  // It has these bytes in its pages where it thought that they would go.
  if (to != asked) session.notifier().inval_inode(handle.inode->nodeid());
  if (!done.ok()) return request.fail(done.error_number());
  request.reply(fuse_reply_write, size);
}

void operation_write(fuse_req_t req, fuse_ino_t /*ino*/, const char* bytes, size_t size,
                     off_t offset, fuse_file_info* fi) {
  serve<RequestKind::kWrite>(req, [&](SessionImpl& session, FuseRequest& request) {
    write(session, request, bytes, size, offset, fi);
  });
}

// ---- To the remote ------------------------------------------------------------------------------

// Everything dirty is on its way, and attributes that are told now are set after it.
bool goes_before_attrs(SessionImpl& session, FileMapping& data) {
  return session.backend().new_file_attrs() == NewFileAttrs::kBehindData && data.send_all();
}

// The data, and behind it the attributes that are held. What is told: what the attributes met, and
// what the data has survived.
Status tell_all(SessionImpl& session, FuseRequest& request, const FileHandle& handle,
                Durable durable) {
  FileMapping& data = handle.state->data();
  const auto flush = [&](Durable how) {
    const Status status = session.flush(request, *handle.state, how,
                                        handle.source->writable() ? handle.source : nullptr);
    return is_passing(status.error_number()) ? status : Status();
  };
  if (!handle.state->holds_attrs()) return flush(durable);
  const bool behind = goes_before_attrs(session, data);
  const uint64_t writes = data.info().writes;
  Status status = behind ? Status() : flush(Durable::kNo);
  if (!status.ok()) return status;
  const Status told = session.tell_attrs(request, *handle.inode, *handle.state);
  status = flush(durable);
  if (!behind || (status.ok() && data.info().writes == writes)) return status.ok() ? told : status;
  // Written once more, after a failure.
  handle.state->tell_again();
  return status.ok() ? session.tell_attrs(request, *handle.inode, *handle.state) : status;
}

// What has gone wrong with the file since this handle was told last.
Status push_out(SessionImpl& session, FuseRequest& request, FileHandle& handle, Durable durable) {
  FileState& state = *handle.state;
  const Status status = tell_all(session, request, handle, durable);
  session.retry_invalidation(*handle.inode, state);
  const bool tells = handle.source->writable() && status.ok();
  if (tells && state.hold_kernel_mtime(handle.source)) {
    // The kernel shows this time already; where the remote refuses it, it shows its own later.
    static_cast<void>(session.tell_attrs(request, *handle.inode, state));
  } else if (state.owns_changes()) {
    // The remote's size and times are other ones now.
    session.inodes().note_changed(*handle.inode, session.now());
    // Whoever changes the file after this is somebody else: it must be known what it is now.
    static_cast<void>(session.fetch_attr(request, *handle.inode));
  }
  cache::MutexLock lock(handle.mutex);
  const Status kept = state.data().check_error(handle.errors);
  return kept.ok() ? status : kept;
}

// close=nowait: what push_out() waits for begins, and what has gone wrong until now is told.
Status begin_push(SessionImpl& session, FileHandle& handle) {
  FileState& state = *handle.state;
  FileMapping& data = state.data();
  session.retry_invalidation(*handle.inode, state);
  if (!state.hold_kernel_mtime(handle.source)) state.hold_write_time(handle.source);
  if (state.owns_changes()) session.inodes().note_changed(*handle.inode, session.now());
  const bool behind = goes_before_attrs(session, data);
  data.finish_soon();
  if (behind || !data.has_unwritten()) session.tell_attrs_later(*handle.inode, handle.state);
  Status status;
  {
    cache::MutexLock lock(handle.mutex);
    status = data.check_error(handle.errors);
  }
  session.linger(handle);
  return status;
}

void flush(SessionImpl& session, FuseRequest& request, const fuse_file_info& fi) {
  auto& handle = HandleList::get<FileHandle>(fi.fh);
  Status status;
  if (handle.source->writable()) {
    status = session.options().close_waits ? push_out(session, request, handle, Durable::kNo)
                                           : begin_push(session, handle);
  }
  if (session.remote_locks()) end_locks(session, request, handle, fi);
  request.fail_or_ok(status.error_number());
}

void operation_flush(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  SessionImpl& mount = *static_cast<SessionImpl*>(fuse_req_userdata(req));
  if (mount.remote_locks() && holds_locks(mount, ino, *fi)) {
    return serve_apart(req, [fi = *fi](SessionImpl& session, FuseRequest& request) {
      flush(session, request, fi);
    });
  }
  const auto body = [&](SessionImpl& session, FuseRequest& request) {
    flush(session, request, *fi);
  };
  if (HandleList::get<FileHandle>(fi->fh).source->writable()) {
    serve<RequestKind::kWrite>(req, body);
  } else {
    serve(req, body);
  }
}

void operation_fsync(fuse_req_t req, fuse_ino_t /*ino*/, int /*datasync*/, fuse_file_info* fi) {
  serve<RequestKind::kWrite>(req, [&](SessionImpl& session, FuseRequest& request) {
    auto& handle = HandleList::get<FileHandle>(fi->fh);
    request.fail_or_ok(push_out(session, request, handle, Durable::kYes).error_number());
  });
}

void operation_release(fuse_req_t req, fuse_ino_t /*ino*/, fuse_file_info* fi) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) {
    auto& handle = HandleList::get<FileHandle>(fi->fh);
    const std::shared_ptr<FileState> state = handle.state;
    end_locks_of_closed(session, handle, fi->fh);
    session.linger(handle);
    session.handles().close(fi->fh);
    if (!state->is_open()) remove_hidden(session, request, *state);
    request.ok();
  });
}

// ---- Ranges -------------------------------------------------------------------------------------

// A change of the remote's data that goes past the pages: what is dirty is written before, what is
// held goes afterwards.
template <typename T, typename Start>
Result<T> change_past_pages(SessionImpl& session, FuseRequest& request, FileHandle& handle,
                            const Start& start) {
  FileMapping& data = handle.state->data();
  const Status written = session.flush(request, *handle.state, Durable::kNo);
  if (!written.ok()) return written;
  // What is refused must leave the times as they were set.
  const Status settled = session.settle_attrs(request, *handle.inode, *handle.state);
  if (!settled.ok()) return settled;
  handle.state->note_own_change();
  session.inodes().note_changed(*handle.inode, session.now());
  Result<T> result = session.ask<T>(request, start);
  if (!result.ok()) return result;
  session.inodes().note_changed(*handle.inode, session.now());
  const Result<Attr> attr = session.fetch_attr(request, *handle.inode);
  if (!attr.ok()) return attr.status();
  // What was dirtied meanwhile is younger than the change, and stays.
  static_cast<void>(data.invalidate(attr.value().size));
  return result;
}

void operation_fallocate(fuse_req_t req, fuse_ino_t /*ino*/, int mode, off_t offset, off_t length,
                         fuse_file_info* fi) {
  serve<RequestKind::kWrite>(req, [&](SessionImpl& session, FuseRequest& request) {
    auto& handle = HandleList::get<FileHandle>(fi->fh);
    const auto done =
        change_past_pages<Nothing>(session, request, handle, [&](Backend::Done<Nothing> told) {
          return session.backend().fallocate(handle.source->opener(), handle.source->file(), mode,
                                             static_cast<uint64_t>(offset),
                                             static_cast<uint64_t>(length), std::move(told));
        });
    request.fail_or_ok(done.error_number());
  });
}

void operation_copy_file_range(fuse_req_t req, fuse_ino_t /*from*/, off_t from_offset,
                               fuse_file_info* from_fi, fuse_ino_t /*to*/, off_t to_offset,
                               fuse_file_info* to_fi, size_t length, int /*flags*/) {
  serve<RequestKind::kWrite>(req, [&](SessionImpl& session, FuseRequest& request) {
    auto& from = HandleList::get<FileHandle>(from_fi->fh);
    auto& to = HandleList::get<FileHandle>(to_fi->fh);
    const Status written = session.flush(request, *from.state, Durable::kNo);
    if (!written.ok()) return request.fail(written.error_number());
    const auto copied =
        change_past_pages<uint64_t>(session, request, to, [&](Backend::Done<uint64_t> told) {
          return session.backend().copy_range(
              to.source->opener(), from.source->file(), static_cast<uint64_t>(from_offset),
              to.source->file(), static_cast<uint64_t>(to_offset), length, std::move(told));
        });
    if (!copied.ok()) return request.fail(copied.error_number());
    request.reply(fuse_reply_write, static_cast<size_t>(copied.value()));
  });
}

}  // namespace

int flags_for_backend(int flags) {
  return (flags & O_ACCMODE) == O_WRONLY ? (flags & ~O_ACCMODE) | O_RDWR : flags;
}

std::unique_ptr<FileHandle> make_handle(SessionImpl& session, InodeRef inode, const Attr& attr,
                                        BackendFileSourcePtr source, fuse_file_info* fi) {
  std::shared_ptr<FileState> state = session.obtain_file(*inode, attr);
  state->retry_invalidation();
  fi->keep_cache = state->kernel_may_keep() ? 1 : 0;
  // Its locks end with its close.
  fi->noflush = source->writable() || session.remote_locks() ? 0 : 1;
  return std::make_unique<FileHandle>(std::move(inode), std::move(state), std::move(source));
}

void add_file_operations(fuse_lowlevel_ops* operations) {
  operations->open = operation_open;
  operations->read = operation_read;
  operations->write = operation_write;
  operations->flush = operation_flush;
  operations->fsync = operation_fsync;
  operations->release = operation_release;
  operations->fallocate = operation_fallocate;
  operations->copy_file_range = operation_copy_file_range;
}

}  // namespace fusefs
