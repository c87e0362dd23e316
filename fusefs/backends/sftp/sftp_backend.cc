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

using sftp::FileAttrs;
using sftp::PacketType;
using sftp::SftpClient;

// An id is at most 4096 bytes; a server's own limit may be lower.
constexpr size_t kMaxPath = 4096;
constexpr size_t kMaxName = 255;

// A name that a path may be made of; 0 or an errno.
int check_name(std::string_view name) {
  if (name.empty() || name.find('/') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    return EINVAL;
  }
  return name.size() > kMaxName ? ENAMETOOLONG : 0;
}

ObjectId join(const ObjectId& parent, std::string_view name) {
  return parent.empty() ? ObjectId(name) : ObjectId(parent).append("/").append(name);
}

ObjectId parent_of(const ObjectId& id) {
  const size_t slash = id.rfind('/');
  return slash == std::string::npos ? ObjectId() : id.substr(0, slash);
}

// Of an object that was once found.
int gone_is_stale(int error_number) { return error_number == ENOENT ? ESTALE : error_number; }

Result<FileAttrs> attrs_of(const SftpClient::Answer& answer) {
  if (answer.error == 0 && answer.type == PacketType::kAttrs) {
    if (const auto attrs = sftp::parse_attrs(answer.body)) return *attrs;
  }
  return Status::error(sftp::error_of(answer));
}

// The one name of a READLINK or REALPATH answer.
Result<std::string> path_of(const SftpClient::Answer& answer) {
  if (answer.error == 0 && answer.type == PacketType::kName) {
    const auto names = sftp::parse_names(answer.body);
    if (!names || names->entries.size() != 1) return Status::error(EIO);
    std::string path(names->name(names->entries.front()));
    if (path.empty() || path.find('\0') != std::string::npos) return Status::error(EIO);
    if (path.size() >= kMaxPath) return Status::error(ENAMETOOLONG);
    return path;
  }
  return Status::error(sftp::error_of(answer));
}

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

}  // namespace

SftpBackend::SftpBackend(sftp::SftpTarget target, const sftp::SftpOptions& options)
    : target_(std::move(target)),
      client_(sftp::ssh_words(target_, options), target_.url()),
      files_(client_),
      listing_(client_) {}

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
      ask_and_wait<std::string>(sftp::realpath_request(target_.path), path_of);
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
  root_ = path.value();
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
  client_.post([this, id, request = std::move(request), parse = std::move(parse),
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

std::string SftpBackend::server_path(const ObjectId& id) const {
  if (id.empty()) return root_;
  return root_ == "/" ? root_ + id : root_ + "/" + id;
}

sftp::Request SftpBackend::attributes_request(const ObjectId& id) const {
  return id.empty() ? sftp::stat_request(root_) : sftp::lstat_request(server_path(id));
}

// ---- Metadata -----------------------------------------------------------------------------------

Backend::RequestId SftpBackend::lookup(const CallerPtr& /*caller*/, const ObjectId& parent,
                                       const std::string& name, Done<LookupAnswer> done) {
  const bool dots = name == "." || name == "..";  // asked for by servers that export the mount
  const int bad_name = check_name(name);
  const ObjectId id = !dots ? join(parent, name) : name == "." ? parent : parent_of(parent);
  if (bad_name != 0 || id.size() >= kMaxPath) {
    done(Status::error(bad_name != 0 ? bad_name : ENAMETOOLONG));
    return 0;
  }
  return ask<LookupAnswer>(
      attributes_request(id),
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
  return ask<Attr>(
      attributes_request(id),
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
      sftp::readlink_request(server_path(id)),
      [](const Answer& answer) -> Result<std::string> {
        Result<std::string> path = path_of(answer);
        if (!path.ok()) return Status::error(gone_is_stale(path.error_number()));
        return path;
      },
      std::move(done));
}

Backend::RequestId SftpBackend::statfs(const CallerPtr& /*caller*/, const ObjectId& id,
                                       Done<StatfsAnswer> done) {
  return ask<StatfsAnswer>(sftp::statvfs_request(server_path(id)), statfs_of, std::move(done));
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
  if ((flags & O_ACCMODE) != O_RDONLY) {
    done(Status::error(EROFS));
    return 0;
  }
  const RequestId call = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  client_.post([this, call, path = server_path(id), done = std::move(done)]() mutable {
    calls_[call] = 0;
    files_.open(path, [this, call, done = std::move(done)](Result<FileHandle> file) {
      if (calls_.erase(call) == 0) {
        if (file.ok()) files_.release(file.value());
        return;
      }
      if (!file.ok()) file = Status::error(gone_is_stale(file.error_number()));
      done(file);
    });
  });
  return call;
}

Backend::RequestId SftpBackend::read(const CallerPtr& /*caller*/, FileHandle file, uint64_t offset,
                                     uint32_t size, Done<std::string> done) {
  const RequestId call = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  client_.post([this, call, file, offset, size, done = std::move(done)]() mutable {
    files_.read(file, offset, size, unless_cancelled<std::string>(call, std::move(done)));
  });
  return call;
}

void SftpBackend::release(FileHandle file) {
  client_.post([this, file] { files_.release(file); });
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
  where.path = server_path(directory);
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
