// Open files: opening, reading, writing, and making durable.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "fusefs/backends/nfs/nfs_backend.h"
#include "fusefs/backends/nfs/nfs_backend_ask.h"
#include "fusefs/backends/nfs/nfs_object_id.h"

namespace fusefs {

using cache::MutexLock;
using cache::Status;
using nfs::Handle;
using nfs::OpenFilePtr;
using nfs::OpenPlace;
using nfs::ReadChunk;
using nfs::Written;

// ---- Opening ------------------------------------------------------------------------------------

Backend::FileHandle NfsBackend::keep_file(OpenFilePtr file) {
  MutexLock lock(files_mutex_);
  const FileHandle number = next_file_++;
  files_.emplace(number, std::move(file));
  return number;
}

Backend::Done<OpenFilePtr> NfsBackend::keeping(Done<FileHandle> done) {
  return [this, done = std::move(done)](const Result<OpenFilePtr>& opened) {
    if (!opened.ok()) return done(opened.status());
    done(keep_file(opened.value()));
  };
}

OpenFilePtr NfsBackend::find_file(FileHandle file) {
  MutexLock lock(files_mutex_);
  const auto found = files_.find(file);
  return found == files_.end() ? nullptr : found->second;
}

void NfsBackend::open_place(RequestId id, const CallerPtr& who, const OpenPlace& place, int flags,
                            Done<OpenFilePtr> done) {
  const bool truncates = (flags & O_TRUNC) != 0 && !place.made;
  protocol_->open(
      id, who, place, flags,
      [this, id, who, truncates, done = std::move(done)](const Result<OpenFilePtr>& opened) {
        if (!opened.ok() || !truncates) return done(opened);
        SetAttr empty;
        empty.valid = SetAttr::kSize;
        const OpenFilePtr& file = opened.value();
        protocol_->setattr(id, who, file->handle(), file, empty,
                           [this, file, done](const Result<Attr>& set) {
                             if (set.ok()) return done(file);
                             protocol_->close(file);
                             done(set.status());
                           });
      });
}

void NfsBackend::with_name(RequestId id, const CallerPtr& who, const std::string& path,
                           const OpenPlace& place, Done<OpenPlace> done) {
  resolve(id, who, nfs::make_id(nfs::parent_of(path), 0),
          [place, name = std::string(nfs::last_name(path)),
           done = std::move(done)](const Result<Handle>& directory) {
            if (!directory.ok()) return done(directory.status());
            OpenPlace named = place;
            named.where = {.directory = directory.value(), .name = name};
            done(std::move(named));
          });
}

void NfsBackend::open_object(RequestId id, const CallerPtr& who, const ObjectId& object, int flags,
                             Done<OpenFilePtr> done) {
  ask<OpenFilePtr>(
      id, who, object,
      [this, id, who, object, flags](const Handle& handle, const Done<OpenFilePtr>& next) {
        const auto [path, ino] = nfs::parse_id(object);
        const OpenPlace place{.handle = handle, .ino = ino, .where = {}, .made = false};
        if (!protocol_->opens_by_name(flags) || path.empty()) {
          return open_place(id, who, place, flags, next);
        }
        with_name(id, who, std::string(path), place,
                  [this, id, who, flags, next](const Result<OpenPlace>& named) {
                    if (!named.ok()) return next(named.status());
                    open_place(id, who, named.value(), flags, next);
                  });
      },
      std::move(done));
}

Backend::RequestId NfsBackend::open(const CallerPtr& caller, const ObjectId& object, int flags,
                                    Done<FileHandle> done) {
  const RequestId id = client_->new_id();
  open_object(id, identity(caller), object, flags, keeping(std::move(done)));
  return id;
}

void NfsBackend::release(FileHandle file) {
  OpenFilePtr closed;
  {
    MutexLock lock(files_mutex_);
    const auto found = files_.find(file);
    if (found == files_.end()) return;
    closed = std::move(found->second);
    files_.erase(found);
  }
  protocol_->close(std::move(closed));
}

// ---- Locks --------------------------------------------------------------------------------------

Backend::RequestId NfsBackend::open_to_lock(const CallerPtr& caller, const ObjectId& object,
                                            FileHandle file, int flags, Done<FileHandle> done) {
  const OpenFilePtr open = find_file(file);
  if (open == nullptr) return refuse(done, EBADF);
  const std::string path(nfs::parse_id(object).path);
  if (path.empty()) return refuse(done, ENOLCK);
  const RequestId id = client_->new_id();
  const CallerPtr who = identity(caller);
  const OpenPlace place{.handle = open->handle(), .ino = open->ino(), .where = {}, .made = false};
  with_name(id, who, path, place,
            [this, id, who, flags, done = std::move(done)](const Result<OpenPlace>& named) {
              if (!named.ok()) return done(named.status());
              protocol_->open_to_lock(id, who, named.value(), flags, keeping(done));
            });
  return id;
}

Backend::RequestId NfsBackend::set_lock(const CallerPtr& caller, FileHandle file,
                                        const FileLock& lock, Done<Nothing> done) {
  const OpenFilePtr open = find_file(file);
  if (open == nullptr) return refuse(done, EBADF);
  protocol_->set_lock(identity(caller), open, lock, std::move(done));
  return 0;  // can't be cancelled
}

Backend::RequestId NfsBackend::test_lock(const CallerPtr& caller, FileHandle file,
                                         const FileLock& lock, Done<FileLock> done) {
  const OpenFilePtr open = find_file(file);
  if (open == nullptr) return refuse(done, EBADF);
  const RequestId id = client_->new_id();
  protocol_->test_lock(id, identity(caller), open, lock, std::move(done));
  return id;
}

Backend::RequestId NfsBackend::getattr_open(const CallerPtr& caller, FileHandle file,
                                            Done<Attr> done) {
  const OpenFilePtr open = find_file(file);
  if (open == nullptr) return refuse(done, EBADF);
  const RequestId id = client_->new_id();
  protocol_->getattr(id, identity(caller), open->handle(), std::move(done));
  return id;
}

// ---- Reading ------------------------------------------------------------------------------------

// A read in parts of the server's size, side by side; lives in its completions.
class NfsBackend::ReadJob : public std::enable_shared_from_this<NfsBackend::ReadJob> {
 public:
  struct Range {
    uint64_t offset = 0;
    uint32_t size = 0;
  };

  ReadJob(NfsBackend& backend, RequestId id, CallerPtr caller, nfs::OpenFilePtr file,
          Done<std::string> done)
      : backend_(backend),
        id_(id),
        caller_(std::move(caller)),
        file_(std::move(file)),
        done_(std::move(done)) {}

  void begin(const Range& range) {
    const uint32_t step = backend_.read_bytes_;
    const size_t count = (range.size + step - 1) / step;
    {
      MutexLock lock(mutex_);
      parts_.resize(count);
      left_ = count;
    }
    for (size_t i = 0; i < count; ++i) {
      const uint64_t from = uint64_t{i} * step;
      fetch(i, {.offset = range.offset + from,
                .size = static_cast<uint32_t>(std::min<uint64_t>(step, range.size - from))});
    }
  }

 private:
  void fetch(size_t part, const Range& range) {
    backend_.protocol_->read(id_, caller_, file_->handle(), range.offset, range.size,
                             [self = shared_from_this(), part, range](Result<ReadChunk> chunk) {
                               self->take(part, range, std::move(chunk));
                             });
  }

  void take(size_t part, const Range& range, Result<ReadChunk> chunk) {
    if (chunk.ok() && !chunk.value().eof && !chunk.value().bytes.empty() &&
        chunk.value().bytes.size() < range.size) {
      // Short, and not the end: the rest is asked for.
      const auto got = static_cast<uint32_t>(chunk.value().bytes.size());
      {
        MutexLock lock(mutex_);
        parts_[part] += chunk.value().bytes;
      }
      return fetch(part, {.offset = range.offset + got, .size = range.size - got});
    }
    std::string all;
    int error = 0;
    {
      MutexLock lock(mutex_);
      if (!chunk.ok() && error_ == 0) error_ = chunk.error_number();
      if (chunk.ok()) {
        parts_[part] += chunk.value().bytes;
        // What follows a part that is not full lies behind the end.
        if (chunk.value().bytes.size() < range.size) end_ = std::min(end_, part);
      }
      if (--left_ > 0) return;
      error = error_;
      for (size_t i = 0; i < parts_.size() && i <= end_; ++i) all += parts_[i];
    }
    done_(error != 0 ? Result<std::string>(Status::error(error))
                     : Result<std::string>(std::move(all)));
  }

  NfsBackend& backend_;
  const RequestId id_;
  const CallerPtr caller_;
  const nfs::OpenFilePtr file_;
  const Done<std::string> done_;
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  std::vector<std::string> parts_ GUARDED_BY(mutex_);
  size_t left_ GUARDED_BY(mutex_) = 0;
  size_t end_ GUARDED_BY(mutex_) = SIZE_MAX;
  int error_ GUARDED_BY(mutex_) = 0;
};

Backend::RequestId NfsBackend::read(const CallerPtr& caller, FileHandle file, uint64_t offset,
                                    uint32_t size, Done<std::string> done) {
  OpenFilePtr open = find_file(file);
  if (open == nullptr || size == 0) {
    done(open != nullptr ? Result<std::string>(std::string()) : Status::error(EBADF));
    return 0;
  }
  const RequestId id = client_->new_id();
  std::make_shared<ReadJob>(*this, id, identity(caller), std::move(open), std::move(done))
      ->begin({.offset = offset, .size = size});
  return id;
}

// ---- Writing ------------------------------------------------------------------------------------

// A write in parts of the server's size, one after another: the session asks for no more than one.
// Lives in its completions.
class NfsBackend::WriteJob : public std::enable_shared_from_this<NfsBackend::WriteJob> {
 public:
  WriteJob(NfsBackend& backend, RequestId id, CallerPtr caller, OpenFilePtr file, std::string bytes,
           StableHow how, Done<WriteAnswer> done)
      : backend_(backend),
        id_(id),
        caller_(std::move(caller)),
        file_(std::move(file)),
        bytes_(std::make_shared<const std::string>(std::move(bytes))),
        // One commit is less than many of its kind.
        how_(bytes_->size() <= backend.write_bytes_ ? how : StableHow::kUnstable),
        done_(std::move(done)) {}

  void step(uint64_t offset, size_t from) {
    const size_t size = std::min<size_t>(bytes_->size() - from, backend_.write_bytes_);
    backend_.protocol_->write(
        id_, caller_, file_,
        {.offset = offset + from, .bytes = bytes_, .from = from, .size = size, .how = how_},
        [self = shared_from_this(), offset, from](const Result<Written>& written) {
          self->take(offset, from, written);
        });
  }

 private:
  void take(uint64_t offset, size_t from, const Result<Written>& written) {
    if (!written.ok()) return done_(written.status());
    const WriteAnswer& part = written.value().answer;
    if (!part.stable) {
      // The verifier of the first part counts: if the server has forgotten that since, the commit's
      // will be another.
      if (answer_.stable) answer_.verifier = part.verifier;
      answer_.stable = false;
    } else if (from == 0) {
      answer_.verifier = part.verifier;
    }
    if (from == 0) {
      answer_.before = part.before;
      backend_.told_before_.store(part.before != 0, std::memory_order_relaxed);
    }
    answer_.durable = part.durable && (from == 0 || answer_.durable);
    from += written.value().count;
    if (from < bytes_->size()) return step(offset, from);
    done_(answer_);
  }

  NfsBackend& backend_;
  const RequestId id_;
  const CallerPtr caller_;
  const OpenFilePtr file_;
  const std::shared_ptr<const std::string> bytes_;
  const StableHow how_;
  const Done<WriteAnswer> done_;
  WriteAnswer answer_;  // one part at a time: nobody else uses it meanwhile
};

Backend::RequestId NfsBackend::write(const CallerPtr& caller, FileHandle file, uint64_t offset,
                                     std::string bytes, StableHow how, Done<WriteAnswer> done) {
  OpenFilePtr open = find_file(file);
  if (open == nullptr) return refuse(done, EBADF);
  if (bytes.empty()) {
    done(WriteAnswer());
    return 0;
  }
  const RequestId id = client_->new_id();
  std::make_shared<WriteJob>(*this, id, identity(caller), std::move(open), std::move(bytes), how,
                             std::move(done))
      ->step(offset, 0);
  return id;
}

Backend::RequestId NfsBackend::fsync(const CallerPtr& caller, FileHandle file,
                                     Done<uint64_t> done) {
  const OpenFilePtr open = find_file(file);
  if (open == nullptr) return refuse(done, EBADF);
  const RequestId id = client_->new_id();
  protocol_->commit(id, identity(caller), open, std::move(done));
  return id;
}

}  // namespace fusefs
