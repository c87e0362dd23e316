// SessionImpl: what goes to the remote of what was written and set here, and who waits for it.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <iterator>
#include <utility>
#include <vector>

#include "fusefs/dirent_encoder.h"
#include "fusefs/session_impl.h"

namespace fusefs {
namespace {

// Until that has been called which `when` is given.
template <typename When>
Status wait_for_call(Backend& backend, const Patience& patience, const When& when) {
  const auto called = call_backend<Nothing>(backend, patience, [&](Backend::Done<Nothing> done) {
    when([done = std::move(done)] { done(Nothing{}); });
    return Backend::RequestId{0};
  });
  return called.status();
}

}  // namespace

Status SessionImpl::tell_attrs(FuseRequest& request, const Inode& inode, FileState& file) {
  const Waiting waiting(*this, request);
  return tell_attrs(waiting.patience(), inode, file);
}

Status SessionImpl::tell_attrs(const Patience& patience, const Inode& inode, FileState& file) {
  while (file.holds_attrs()) {
    const auto held = file.begin_telling();
    if (!held) {
      const Status told = wait_for_call(*backend_, patience, [&](std::function<void()> then) {
        file.when_told(std::move(then));
      });
      if (!told.ok()) return told;
      continue;
    }
    const auto attr = call_backend<Attr>(*backend_, patience, [&](Backend::Done<Attr> done) {
      return backend_->setattr(held->source->opener(), inodes_->object(inode), held->source->file(),
                               held->set, std::move(done));
    });
    if (attr.ok() && presentable(attr.value())) {
      keep_own(inode, attr.value());
    } else {
      inodes_->note_changed(inode, now());
    }
    file.end_telling(!cache::is_transient(attr.error_number()));
    if (!attr.ok()) return attr.status();
  }
  return {};
}

Status SessionImpl::flush(FuseRequest& request, FileState& file,
                          cache::FileMapping::Durable durable,
                          const cache::FileMapping::SourcePtr& through) {
  Status status;
  {
    const Waiting waiting(*this, request);
    status = file.data().flush(durable, data_wait(waiting.patience()), 0, UINT64_MAX, through);
  }
  if (!is_passing(status.error_number())) request.note_progress();
  return status;
}

Status SessionImpl::settle_attrs(FuseRequest& request, const Inode& inode, FileState& file) {
  if (!file.holds_attrs()) return {};
  const Status written = flush(request, file, cache::FileMapping::Durable::kNo);
  if (is_passing(written.error_number())) return written;
  return tell_attrs(request, inode, file);
}

void SessionImpl::tell_attrs_later(const Inode& inode, const std::shared_ptr<FileState>& file) {
  const auto held = file->begin_telling();
  if (!held) return;
  // What was listed before must not be shown once it is told.
  inodes_->note_changed(inode, now());
  const uint64_t writes = file->data().info().writes;
  // The answer keeps nothing alive: after the unmount there is nothing it could be good for.
  const auto answered = [this, weak = std::weak_ptr(file), writes, ino = inode.ino(),
                         valid = held->set.valid](const Result<Attr>& attr) {
    const std::shared_ptr<FileState> known = weak.lock();
    if (!known) return;
    const int error = attr.error_number();
    if (attr.ok()) known->adopt(attr.value());
    // What was written once more, after a failure, has undone the times.
    const bool again = cache::is_transient(error) || known->data().info().writes != writes;
    known->end_telling(!again);
    if (attr.ok() || cache::is_transient(error) || error == ESTALE) return;  // ... or removed
    // The time of a write to somebody else's file: only its owner may set that.
    if (valid == SetAttr::kMtime && (error == EPERM || error == EACCES)) return;
    lost_files_.fetch_add(1, std::memory_order_relaxed);
    spdlog::error("{}: attributes of inode {}, which was closed, could not be set: {}", source_,
                  ino, std::strerror(error));
  };
  backend_->setattr(held->source->opener(), inodes_->object(inode), held->source->file(), held->set,
                    answered);
}

void SessionImpl::linger(FileHandle& handle) {
  if (!handle.source->writable()) return;
  // In this order: what fails is an error before it is unwritten no more.
  const bool untold = handle.state->has_untold();
  Lingering one;
  bool again = false;
  {
    cache::MutexLock lock(handle.mutex);
    one.told = handle.errors;
    cache::ErrorMark since = handle.errors;
    if (!untold && handle.state->data().error_since(since).ok()) return;
    again = handle.lost != nullptr;
    if (!again) handle.lost = std::make_shared<cache::ErrorMark>();
    one.lost = handle.lost;
  }
  one.inode = inodes_->find(handle.inode->nodeid());
  one.file = handle.state;
  one.source = handle.source;
  cache::MutexLock lock(lingering_mutex_);
  if (again) {
    // Most probably the last: FLUSH and RELEASE follow each other.
    const auto there = std::find_if(lingering_.rbegin(), lingering_.rend(),
                                    [&](const Lingering& l) { return l.lost == one.lost; });
    if (there != lingering_.rend()) {
      there->told = one.told;
      return;
    }
  }
  lingering_.push_back(std::move(one));
}

bool SessionImpl::has_room_ahead() {
  constexpr size_t kMostClosing = 256;
  cache::MutexLock lock(lingering_mutex_);
  return lingering_.size() < kMostClosing;
}

Backend::Done<CreatedAnswer> SessionImpl::made_ahead_answer(uint64_t number) {
  return [ahead = made_ahead_, number](const Result<CreatedAnswer>& answer) {
    ahead->answered(number, answer);
  };
}

Status SessionImpl::wait_until_made(FuseRequest& request) {
  const Waiting waiting(*this, request);
  return wait_until_made(waiting.patience());
}

Status SessionImpl::wait_until_made(const Patience& patience) {
  return wait_for_call(*backend_, patience, [&](std::function<void()> then) {
    made_ahead_->when_settled(std::move(then));
  });
}

void SessionImpl::note_not_made(const InodeRef& inode, const MadeAhead::File& file, int error) {
  lost_files_.fetch_add(1, std::memory_order_relaxed);
  const InodeRef parent = inodes_->find(file.parent);
  spdlog::error("{}: {:?} in inode {} could not be made, and what was written to it is lost: {}",
                source_, file.name, parent ? parent->ino() : file.parent, std::strerror(error));
  if (!inode) return;
  if (const auto state = inodes_->file(*inode)) state->data().note_error(error);
  // Unless it has lost that name by now, which another may have.
  if (!inodes_->detached(*inode)) inodes_->detach(inodes_->object(*inode));
}

void SessionImpl::drop_lingering() {
  cache::MutexLock turn(dropping_mutex_);
  std::vector<Lingering> left;  // outlives the lock
  {
    cache::MutexLock lock(lingering_mutex_);
    left.swap(lingering_);
  }
  std::vector<Lingering> still;
  for (Lingering& one : left) {
    if (one.file->has_untold()) {
      still.push_back(std::move(one));
    } else {
      let_go(one);
    }
  }
  left.swap(still);
  for (const Lingering& one : left) {
    if (!one.file->data().has_unwritten()) tell_attrs_later(*one.inode, one.file);
  }
  cache::MutexLock lock(lingering_mutex_);
  std::move(left.begin(), left.end(), std::back_inserter(lingering_));
}

void SessionImpl::let_go(const Lingering& one) {
  if (one.file->owns_changes()) {
    // Whoever changes the file after this is somebody else: it must be known what it is now.
    backend_->getattr_open(one.source->opener(), one.source->file(),
                           [weak = std::weak_ptr(one.file)](const Result<Attr>& attr) {
                             const std::shared_ptr<FileState> file = weak.lock();
                             if (!file || !attr.ok() || file->has_untold()) return;
                             file->adopt(attr.value());
                           });
  }
  cache::ErrorMark& lost = *one.lost;
  lost.seen = std::max(lost.seen, one.told.seen);
  const int error = one.file->data().error_since(lost).error_number();
  // Removed before all was written; or never made, which the log has.
  if (error == 0 || error == ESTALE || inodes_->detached(*one.inode)) return;
  lost_files_.fetch_add(1, std::memory_order_relaxed);
  spdlog::error("{}: inode {} was closed before the remote had all of it, and data is lost: {}",
                source_, one.inode->ino(), std::strerror(error));
}

// After the data of all files: an answer waits behind everything that was sent before it.
void SessionImpl::tell_all_later(const std::vector<InodeTable::OpenedFile>& files) {
  for (const InodeTable::OpenedFile& opened : files) {
    const InodeRef inode = inodes_->find(opened.nodeid);
    if (inode && !opened.file->data().has_unwritten()) tell_attrs_later(*inode, opened.file);
  }
}

Result<uint64_t> SessionImpl::sync(FuseRequest& request) {
  const std::vector<InodeTable::OpenedFile> files = inodes_->opened_files();
  for (const InodeTable::OpenedFile& opened : files) {
    if (!opened.file->data().has_unwritten()) continue;
    const Status status = flush(request, *opened.file, cache::FileMapping::Durable::kNo);
    if (is_passing(status.error_number())) return status;
  }
  tell_all_later(files);
  for (const InodeTable::OpenedFile& opened : files) {
    const InodeRef inode = inodes_->find(opened.nodeid);
    const Status told = inode ? tell_attrs(request, *inode, *opened.file) : Status();
    if (is_passing(told.error_number())) return told;
  }
  const Status made = wait_until_made(request);
  if (!made.ok()) return made;
  drop_lingering();
  return lost_files_.exchange(0, std::memory_order_relaxed);
}

void SessionImpl::write_everything() {
  const std::vector<InodeTable::OpenedFile> files = inodes_->opened_files();
  cache::TimePoint deadline = now() + timeout_;
  for (const InodeTable::OpenedFile& opened : files) {
    cache::FileMapping& data = opened.file->data();
    if (!data.has_unwritten()) continue;
    const Status status = data.flush(cache::FileMapping::Durable::kNo, {deadline, nullptr});
    if (status.ok()) {
      deadline = now() + timeout_;
      continue;
    }
    const InodeRef inode = inodes_->find(opened.nodeid);
    // Never made, which the log has.
    if (status.error_number() == ESTALE && inode && inodes_->detached(*inode)) continue;
    const cache::FileInfo info = data.info();
    const uint64_t pages = info.dirty_pages + info.writeback_pages + info.unstable_pages;
    spdlog::error("{}: up to {} bytes of inode {} could not be written and are lost: {}", source_,
                  pages * 4096, inode ? inode->ino() : opened.nodeid,
                  std::strerror(status.error_number()));
  }
  tell_all_later(files);
  for (const InodeTable::OpenedFile& opened : files) {
    const InodeRef inode = inodes_->find(opened.nodeid);
    if (!inode || opened.file->data().has_unwritten()) continue;
    const Status told = tell_attrs({deadline, nullptr}, *inode, *opened.file);
    if (told.ok()) continue;
    spdlog::error("{}: attributes of inode {} could not be set and are lost: {}", source_,
                  inode->ino(), std::strerror(told.error_number()));
  }
  static_cast<void>(wait_until_made({deadline, nullptr}));
  drop_lingering();
  const size_t unknown = made_ahead_->close();
  if (unknown > 0) {
    spdlog::error("{}: {} new files may be missing: the remote has not answered", source_, unknown);
  }
}

}  // namespace fusefs
