#include "fusefs/backends/sftp/sftp_backend.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include <cstring>
#include <future>
#include <utility>

#include "fusefs/backends/sftp/sftp_attr.h"

namespace fusefs {
namespace {

using sftp::attrs_of;
using sftp::check_child;
using sftp::check_name;
using sftp::FileAttrs;
using sftp::gone_is_stale;
using sftp::join;
using sftp::kMaxName;
using sftp::kMaxPath;
using sftp::PacketType;
using sftp::SftpClient;

Result<StatfsAnswer> statfs_of(const SftpClient::Answer& answer) {
  const auto told = answer.error == 0 && answer.type == PacketType::kExtendedReply
                        ? sftp::parse_statvfs(answer.body)
                        : std::nullopt;
  StatfsAnswer statfs;
  if (!told) {
    const int error = sftp::error_of(answer);
    if (error == ENOSYS) return statfs;  // a server without the extension: nothing is known
    return Status::error(gone_is_stale(error));
  }
  statfs.block_size = told->fragment_size;  // the unit of the counts
  statfs.blocks = told->blocks;
  statfs.blocks_free = told->blocks_free;
  statfs.blocks_available = told->blocks_available;
  statfs.files = told->files;
  statfs.files_free = told->files_free;
  statfs.name_max = static_cast<uint32_t>(std::min<uint64_t>(told->name_max, kMaxName));
  return statfs;
}

uint32_t open_flags(int flags) {
  const int access = flags & O_ACCMODE;
  uint32_t open = access == O_WRONLY ? 0 : sftp::kOpenRead;
  if (access != O_RDONLY) open |= sftp::kOpenWrite;
  if ((flags & O_TRUNC) != 0) open |= sftp::kOpenTruncate;
  return open;
}

Backend::FileHandle file_in(Backend::FileHandle file) { return file; }
Backend::FileHandle file_in(const CreatedAnswer& created) { return created.file; }

}  // namespace

SftpBackend::SftpBackend(sftp::SftpTarget target, const sftp::SftpOptions& options)
    : target_(std::move(target)),
      client_(sftp::ssh_words(target_, options), target_.url()),
      files_(client_, root_),
      file_io_(client_, files_),
      setattr_(client_, root_, files_),
      listing_(client_),
      changes_({client_, root_, files_, listing_, tokens_}),
      rename_({client_, root_, files_, listing_, tokens_}) {}

SftpBackend::~SftpBackend() {
  client_.stop();
  // The loop has ended: what is left is ours alone.
  listing_.clear();
  files_.clear();
}

// ---- Connecting ---------------------------------------------------------------------------------

Result<LookupAnswer> SftpBackend::connect(std::string* error_text) {
  client_.set_after_batch([this] { return listing_.serve(); });
  client_.set_on_tick([this](cache::TimePoint now) { listing_.tick(now); });
  std::string words;
  const Status connected = client_.connect(&words);
  if (!connected.ok()) {
    *error_text = "can't reach '" + target_.url() + "': " + words;
    return connected;
  }
  Result<std::string> path =
      ask_and_wait<std::string>(sftp::realpath_request(target_.path), sftp::path_of);
  if (path.ok() && path.value().front() != '/') path = Status::error(EIO);
  const Result<FileAttrs> attrs =
      path.ok() ? ask_and_wait<FileAttrs>(sftp::stat_request(path.value()), attrs_of)
                : Result<FileAttrs>(path.status());
  int wrong = attrs.error_number();
  if (wrong == 0 && attrs.value().has(FileAttrs::kPermissions) &&
      !S_ISDIR(attrs.value().permissions)) {
    wrong = ENOTDIR;
  }
  if (wrong != 0) {
    *error_text = explain(target_.path, wrong);
    return Status::error(wrong);
  }
  root_.path = path.value();
  LookupAnswer root;
  FileAttrs told = attrs.value();
  if (!told.has(FileAttrs::kPermissions)) told.permissions = S_IFDIR | 0755;
  told.flags |= FileAttrs::kPermissions;
  root.attr = to_attr(told, sftp::inode_of({}), sftp::wall_seconds_now());
  return root;
}

std::string SftpBackend::explain(const std::string& path, int error_number) const {
  const std::string what =
      "'" + target_.url() + "': " + (path == "." ? "the login's directory" : path);
  switch (error_number) {
    case ENOENT:
      return what + " does not exist on the server; give a directory that does";
    case ENOTDIR:
      return what + " is not a directory on the server; give a directory";
    case EACCES:
      return what + " may not be searched by the user who logs in there";
    default:
      return what + " can't be opened on the server: " + std::strerror(error_number);
  }
}

// ---- Asking -------------------------------------------------------------------------------------

template <typename T>
Backend::RequestId SftpBackend::ask(sftp::Request request, Parse<T> parse, Done<T> done) {
  const RequestId id = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  client_.run_or_post([this, id, request = std::move(request), parse = std::move(parse),
                       done = std::move(done)]() mutable {
    calls_[id] = client_.submit(
        std::move(request), SftpClient::kAnyConnection,
        [this, id, parse = std::move(parse), done = std::move(done)](const Answer& answer) {
          calls_.erase(id);
          done(parse(answer));
        });
  });
  return id;
}

template <typename T>
Backend::RequestId SftpBackend::ask_attrs(const ObjectId& object, Parse<T> parse, Done<T> done) {
  const RequestId id = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  client_.run_or_post([=, this] { ask_attrs_as<T>(id, object, parse, done); });
  return id;
}

template <typename T>
void SftpBackend::ask_attrs_as(RequestId id, const ObjectId& object, const Parse<T>& parse,
                               const Done<T>& done) {
  const auto answered = [=, this](const Answer& answer) {
    // After a lost connection this may be sent before what is to make it.
    const bool too_early = attrs_of(answer).error_number() == ENOENT;
    if (too_early && changes_.is_made_ahead(object)) {
      calls_[id] = 0;
      return changes_.after_ahead([=, this] {
        if (calls_.contains(id)) ask_attrs_as<T>(id, object, parse, done);
      });
    }
    calls_.erase(id);
    done(parse(answer));
  };
  calls_[id] =
      client_.submit(root_.attributes_request(object), SftpClient::kAnyConnection, answered);
}

template <typename T>
Result<T> SftpBackend::ask_and_wait(sftp::Request request, Parse<T> parse) {
  const auto promise = std::make_shared<std::promise<Result<T>>>();
  auto future = promise->get_future();
  ask<T>(std::move(request), std::move(parse),
         [promise](Result<T> result) { promise->set_value(std::move(result)); });
  if (future.wait_for(SftpClient::kRequestPatience + 2 * SftpClient::kTick) !=
      std::future_status::ready) {
    return Status::error(ETIMEDOUT);
  }
  return future.get();
}

template <typename T>
Backend::Done<T> SftpBackend::unless_cancelled(RequestId id, Done<T> done) {
  calls_[id] = 0;
  return [this, id, done = std::move(done)](Result<T> result) {
    if (calls_.erase(id) != 0) done(std::move(result));
  };
}

void SftpBackend::cancel(RequestId id) {
  if (id == 0) return;
  client_.post([this, id] {
    if (const auto call = calls_.find(id); call != calls_.end()) {
      if (call->second != 0) client_.cancel(call->second);
      calls_.erase(call);
    } else {
      listing_.cancel(id);
    }
  });
}

template <typename T, typename Job>
Backend::RequestId SftpBackend::call(Done<T> done, Job job) {
  const RequestId id = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  client_.run_or_post([this, id, done = std::move(done), job = std::move(job)]() mutable {
    job(unless_cancelled<T>(id, std::move(done)));
  });
  return id;
}

template <typename T, typename Job>
Backend::RequestId SftpBackend::call_in_turn(Done<T> done, Job job) {
  const RequestId id = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  client_.run_or_post([this, id, done = std::move(done), job = std::move(job)]() mutable {
    auto then = unless_cancelled<T>(id, std::move(done));
    changes_.after_ahead([this, id, then = std::move(then), job = std::move(job)]() mutable {
      if (calls_.contains(id)) job(std::move(then));
    });
  });
  return id;
}

template <typename T, typename Job>
Backend::RequestId SftpBackend::call_for_file(Done<T> done, Job job) {
  const RequestId id = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  client_.run_or_post([this, id, done = std::move(done), job = std::move(job)]() mutable {
    calls_[id] = 0;
    job([this, id, done = std::move(done)](Result<T> result) {
      if (calls_.erase(id) != 0) return done(std::move(result));
      if (result.ok()) files_.release(file_in(result.value()));
    });
  });
  return id;
}

// ---- Metadata -----------------------------------------------------------------------------------

Backend::RequestId SftpBackend::lookup(const CallerPtr& /*caller*/, const ObjectId& parent,
                                       const std::string& name, Done<LookupAnswer> done) {
  const bool dots = name == "." || name == "..";  // asked for by servers that export the mount
  const int bad_name = check_name(name);
  const ObjectId id = !dots ? join(parent, name) : name == "." ? parent : sftp::parent_of(parent);
  if (bad_name != 0 || id.size() >= kMaxPath) {
    done(Status::error(bad_name != 0 ? bad_name : ENAMETOOLONG));
    return 0;
  }
  return ask_attrs<LookupAnswer>(
      id,
      [id](const Answer& answer) -> Result<LookupAnswer> {
        const Result<FileAttrs> attrs = attrs_of(answer);
        if (!attrs.ok()) return attrs.status();
        return LookupAnswer{id,
                            to_attr(attrs.value(), sftp::inode_of(id), sftp::wall_seconds_now())};
      },
      std::move(done));
}

Backend::RequestId SftpBackend::getattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                        Done<Attr> done) {
  return ask_attrs<Attr>(
      id,
      [id](const Answer& answer) -> Result<Attr> {
        const Result<FileAttrs> attrs = attrs_of(answer);
        if (!attrs.ok()) return Status::error(gone_is_stale(attrs.error_number()));
        return to_attr(attrs.value(), sftp::inode_of(id), sftp::wall_seconds_now());
      },
      std::move(done));
}

Backend::RequestId SftpBackend::readlink(const CallerPtr& /*caller*/, const ObjectId& id,
                                         Done<std::string> done) {
  return ask<std::string>(
      sftp::readlink_request(root_.of(id)),
      [](const Answer& answer) -> Result<std::string> {
        Result<std::string> path = sftp::path_of(answer);
        if (!path.ok()) return Status::error(gone_is_stale(path.error_number()));
        return path;
      },
      std::move(done));
}

Backend::RequestId SftpBackend::statfs(const CallerPtr& /*caller*/, const ObjectId& id,
                                       Done<StatfsAnswer> done) {
  return ask<StatfsAnswer>(sftp::statvfs_request(root_.of(id)), statfs_of, std::move(done));
}

ObjectId SftpBackend::child_id(const ObjectId& parent, std::string_view name,
                               uint64_t /*ino*/) const {
  if (check_name(name) != 0) return {};
  ObjectId id = join(parent, name);
  return id.size() < kMaxPath ? id : ObjectId();
}

// ---- Files --------------------------------------------------------------------------------------

Backend::RequestId SftpBackend::open(const CallerPtr& /*caller*/, const ObjectId& id, int flags,
                                     Done<FileHandle> done) {
  return call_for_file<FileHandle>(std::move(done), [this, id, flags](Done<FileHandle> then) {
    files_.open(id, open_flags(flags), [then = std::move(then)](Result<FileHandle> file) {
      if (!file.ok()) file = Status::error(gone_is_stale(file.error_number()));
      then(file);
    });
  });
}

Backend::RequestId SftpBackend::read(const CallerPtr& /*caller*/, FileHandle file, uint64_t offset,
                                     uint32_t size, Done<std::string> done) {
  return call<std::string>(std::move(done), [=, this](Done<std::string> then) {
    file_io_.read(file, offset, size, std::move(then));
  });
}

void SftpBackend::release(FileHandle file) {
  client_.post([this, file] { files_.release(file); });
}

Backend::RequestId SftpBackend::write(const CallerPtr& /*caller*/, FileHandle file, uint64_t offset,
                                      std::string bytes, StableHow /*how*/,
                                      Done<WriteAnswer> done) {
  return call<WriteAnswer>(std::move(done), [this, file, offset, bytes = std::move(bytes)](
                                                Done<WriteAnswer> then) mutable {
    file_io_.write(file, offset, std::move(bytes), std::move(then));
  });
}

Backend::RequestId SftpBackend::fsync(const CallerPtr& /*caller*/, FileHandle file,
                                      Done<uint64_t> done) {
  return call<uint64_t>(std::move(done), [this, file](Done<uint64_t> then) {
    file_io_.sync(file, [then = std::move(then)](const Result<Nothing>& synced) {
      then(synced.ok() ? Result<uint64_t>(uint64_t{0}) : synced.status());
    });
  });
}

Backend::RequestId SftpBackend::getattr_open(const CallerPtr& /*caller*/, FileHandle file,
                                             Done<Attr> done) {
  return call<Attr>(std::move(done),
                    [this, file](Done<Attr> then) { file_io_.getattr(file, std::move(then)); });
}

Backend::RequestId SftpBackend::fallocate(const CallerPtr& /*caller*/, FileHandle /*file*/,
                                          int /*mode*/, uint64_t /*offset*/, uint64_t /*length*/,
                                          Done<Nothing> done) {
  return refuse(done, EOPNOTSUPP);
}

Backend::RequestId SftpBackend::copy_range(const CallerPtr& /*caller*/, FileHandle from,
                                           uint64_t from_offset, FileHandle to, uint64_t to_offset,
                                           uint64_t length, Done<uint64_t> done) {
  return call<uint64_t>(std::move(done), [=, this](Done<uint64_t> then) {
    file_io_.copy(from, from_offset, to, to_offset, length, std::move(then));
  });
}

// ---- Changes ------------------------------------------------------------------------------------

Backend::RequestId SftpBackend::create(const CallerPtr& /*caller*/, const ObjectId& parent,
                                       const std::string& name, uint32_t mode, int flags,
                                       Done<CreatedAnswer> done) {
  if (const int wrong = check_child(parent, name); wrong != 0) return refuse(done, wrong);
  const uint32_t how = open_flags(flags) | ((flags & O_EXCL) != 0 ? sftp::kOpenExclusive : 0);
  return call_for_file<CreatedAnswer>(std::move(done), [=, this](Done<CreatedAnswer> then) {
    changes_.create(parent, name, mode, how, std::move(then));
  });
}

Backend::RequestId SftpBackend::create_ahead(const CallerPtr& /*caller*/, const ObjectId& parent,
                                             const std::string& name, uint32_t mode, int flags,
                                             Done<CreatedAnswer> done, Done<CreatedAnswer> late) {
  if (const int wrong = check_child(parent, name); wrong != 0) return refuse(done, wrong);
  const uint32_t how = open_flags(flags) | ((flags & O_EXCL) != 0 ? sftp::kOpenExclusive : 0);
  return call_for_file<CreatedAnswer>(std::move(done), [=, this](Done<CreatedAnswer> then) {
    changes_.create_ahead(parent, name, mode, how, std::move(then), late);
  });
}

Backend::RequestId SftpBackend::mkdir(const CallerPtr& /*caller*/, const ObjectId& parent,
                                      const std::string& name, uint32_t mode,
                                      Done<MadeAnswer> done) {
  if (const int wrong = check_child(parent, name); wrong != 0) return refuse(done, wrong);
  return call_in_turn<MadeAnswer>(std::move(done), [=, this](Done<MadeAnswer> then) {
    changes_.mkdir(parent, name, mode, std::move(then));
  });
}

Backend::RequestId SftpBackend::mknod(const CallerPtr& /*caller*/, const ObjectId& parent,
                                      const std::string& name, uint32_t mode, uint64_t /*rdev*/,
                                      Done<MadeAnswer> done) {
  if (const int wrong = check_child(parent, name); wrong != 0) return refuse(done, wrong);
  if ((mode & S_IFMT) != S_IFREG && (mode & S_IFMT) != 0) return refuse(done, EPERM);
  return call<MadeAnswer>(std::move(done), [=, this](const Done<MadeAnswer>& then) {
    changes_.create(parent, name, mode, sftp::kOpenWrite | sftp::kOpenExclusive,
                    [this, then](const Result<CreatedAnswer>& made) {
                      if (!made.ok()) return then(made.status());
                      files_.release(made.value().file);
                      then(MadeAnswer{made.value().entry, made.value().parent});
                    });
  });
}

Backend::RequestId SftpBackend::symlink(const CallerPtr& /*caller*/, const ObjectId& parent,
                                        const std::string& name, const std::string& target,
                                        Done<MadeAnswer> done) {
  if (const int wrong = check_child(parent, name); wrong != 0) return refuse(done, wrong);
  if (target.size() >= kMaxPath) return refuse(done, ENAMETOOLONG);
  return call_in_turn<MadeAnswer>(std::move(done), [=, this](Done<MadeAnswer> then) {
    changes_.symlink(parent, name, target, std::move(then));
  });
}

Backend::RequestId SftpBackend::link(const CallerPtr& /*caller*/, const ObjectId& id,
                                     const ObjectId& parent, const std::string& name,
                                     Done<MadeAnswer> done) {
  if (const int wrong = check_child(parent, name); wrong != 0) return refuse(done, wrong);
  return call_in_turn<MadeAnswer>(std::move(done), [=, this](Done<MadeAnswer> then) {
    changes_.link(id, parent, name, std::move(then));
  });
}

Backend::RequestId SftpBackend::unlink(const CallerPtr& /*caller*/, const ObjectId& parent,
                                       const std::string& name, Done<DirChange> done) {
  if (const int wrong = check_child(parent, name); wrong != 0) return refuse(done, wrong);
  return call_in_turn<DirChange>(std::move(done), [=, this](Done<DirChange> then) {
    changes_.unlink(parent, name, std::move(then));
  });
}

Backend::RequestId SftpBackend::rmdir(const CallerPtr& /*caller*/, const ObjectId& parent,
                                      const std::string& name, Done<DirChange> done) {
  if (const int wrong = check_child(parent, name); wrong != 0) return refuse(done, wrong);
  return call_in_turn<DirChange>(std::move(done), [=, this](Done<DirChange> then) {
    changes_.rmdir(parent, name, std::move(then));
  });
}

Backend::RequestId SftpBackend::rename(const CallerPtr& /*caller*/, const ObjectId& from_parent,
                                       const std::string& from_name, const ObjectId& to_parent,
                                       const std::string& to_name, uint32_t flags,
                                       Done<RenamedAnswer> done) {
  if (const int wrong = check_child(from_parent, from_name); wrong != 0) return refuse(done, wrong);
  if (const int wrong = check_child(to_parent, to_name); wrong != 0) return refuse(done, wrong);
  const sftp::SftpRename::Name from{from_parent, join(from_parent, from_name)};
  const sftp::SftpRename::Name to{to_parent, join(to_parent, to_name)};
  return call_in_turn<RenamedAnswer>(std::move(done), [=, this](const Done<RenamedAnswer>& then) {
    // To exchange them moves both.
    for (const sftp::SftpRename::Name& name : {from, to}) changes_.begin_move(name.id);
    rename_.rename(from, to, flags, [=, this](const Result<RenamedAnswer>& answer) {
      for (const sftp::SftpRename::Name& name : {from, to}) changes_.end_move(name.id);
      then(answer);
    });
  });
}

Backend::RequestId SftpBackend::setattr(const CallerPtr& /*caller*/, const ObjectId& id,
                                        FileHandle file, const SetAttr& set, Done<Attr> done) {
  const auto job = [=, this](Done<Attr> then) { setattr_.setattr(id, file, set, std::move(then)); };
  return file != 0 ? call<Attr>(std::move(done), job) : call_in_turn<Attr>(std::move(done), job);
}

ObjectId SftpBackend::moved_id(const ObjectId& id, const ObjectId& from, const ObjectId& to) const {
  return sftp::moved_path(id, from, to);
}

// ---- Extended attributes ------------------------------------------------------------------------

Backend::RequestId SftpBackend::setxattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                                         const std::string& /*name*/, const std::string& /*value*/,
                                         int /*flags*/, Done<Nothing> done) {
  return refuse(done, ENOSYS);
}

Backend::RequestId SftpBackend::removexattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                                            const std::string& /*name*/, Done<Nothing> done) {
  return refuse(done, ENOSYS);
}

Backend::RequestId SftpBackend::getxattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                                         const std::string& /*name*/, Done<std::string> done) {
  done(Status::error(ENOSYS));
  return 0;
}

Backend::RequestId SftpBackend::listxattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                                          Done<std::string> done) {
  done(Status::error(ENOSYS));
  return 0;
}

// ---- Listings -----------------------------------------------------------------------------------

Backend::RequestId SftpBackend::read_dir(const CallerPtr& /*caller*/, const ObjectId& directory,
                                         cache::DirRequest request,
                                         cache::DirSource::Completion done) {
  const RequestId id = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  sftp::SftpListing::Directory where;
  where.path = root_.of(directory);
  where.follow =
      directory.empty() ? sftp::DirStream::Follow::kLinks : sftp::DirStream::Follow::kNever;
  where.ino = sftp::inode_of(directory);
  client_.post([this, id, where = std::move(where), request = std::move(request),
                done = std::move(done)]() mutable {
    listing_.read_dir(id, std::move(where), std::move(request), std::move(done));
  });
  return id;
}

std::unique_ptr<Backend> make_sftp_backend(const std::string& source, const BackendOptions& options,
                                           std::string* error_text) {
  auto target = sftp::parse_sftp_url(source, error_text);
  if (!target) return nullptr;
  const auto parsed = sftp::parse_sftp_options(options, error_text);
  if (!parsed) return nullptr;
  return std::make_unique<SftpBackend>(std::move(*target), *parsed);
}

}  // namespace fusefs
