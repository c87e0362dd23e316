#include "fusefs/backends/nfs/nfs_backend.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "fusefs/backends/nfs/nfs3.h"
#include "fusefs/backends/nfs/nfs4.h"
#include "fusefs/backends/nfs/nfs_backend_ask.h"
#include "fusefs/backends/nfs/nfs_mount.h"
#include "fusefs/backends/nfs/nfs_object_id.h"

namespace fusefs {
namespace {

using cache::MutexLock;
using cache::TimePoint;
using nfs::bad_name;
using nfs::FoundObject;
using nfs::Handle;
using nfs::is_dots;
using nfs::join;
using nfs::Listed;
using nfs::make_id;
using nfs::parent_of;
using nfs::parse_id;

}  // namespace

// ---- The way to an object -----------------------------------------------------------------------

// From the nearest remembered ancestor downwards, a LOOKUP a part. Lives in its completions.
class NfsBackend::Way : public std::enable_shared_from_this<NfsBackend::Way> {
 public:
  Way(NfsBackend& backend, RequestId id, CallerPtr caller, const ObjectId& object, HandleDone done)
      : backend_(backend),
        id_(id),
        caller_(std::move(caller)),
        path_(parse_id(object).path),
        ino_(parse_id(object).ino),
        done_(std::move(done)) {}

  void begin() {
    at_ = path_.size();
    for (;;) {
      if (at_ == 0) return step(backend_.root_, 0);
      const std::string_view here = std::string_view(path_).substr(0, at_);
      const auto known = backend_.handles_.find(here);
      // A part on the way may be any object; the last one must be the one that is meant.
      if (known && (at_ < path_.size() || ino_ == 0 || known->ino == ino_)) {
        return step(known->handle, known->ino);
      }
      at_ = parent_of(here).size();
    }
  }

 private:
  void step(const Handle& handle, uint64_t ino) {
    if (at_ == path_.size()) {
      const bool other = !path_.empty() && ino_ != 0 && ino != ino_;
      return done_(other ? Result<Handle>(Status::error(ESTALE)) : Result<Handle>(handle));
    }
    const size_t from = at_ == 0 ? 0 : at_ + 1;
    const size_t end = std::min(path_.find('/', from), path_.size());
    backend_.protocol_->lookup(id_, caller_, handle, path_.substr(from, end - from),
                               [self = shared_from_this(), end](const Result<FoundObject>& found) {
                                 self->found(end, found);
                               });
  }

  void found(size_t end, const Result<FoundObject>& found) {
    const int error = found.error_number();
    // What was there once is gone.
    if (error != 0)
      return done_(Status::error(error == ENOENT || error == ENOTDIR ? ESTALE : error));
    const uint64_t ino = found.value().attr.ino;
    const bool told = found.value().attr.mode != 0;
    at_ = end;
    if (told)
      backend_.handles_.put(std::string_view(path_).substr(0, at_), ino, found.value().handle);
    step(found.value().handle, told ? ino : ino_);
  }

  NfsBackend& backend_;
  const RequestId id_;
  const CallerPtr caller_;
  const std::string path_;
  const uint64_t ino_;
  const HandleDone done_;
  size_t at_ = 0;  // how much of the path the present handle is of
};

void NfsBackend::resolve(RequestId id, const CallerPtr& caller, const ObjectId& object,
                         HandleDone done) {
  std::make_shared<Way>(*this, id, caller, object, std::move(done))->begin();
}

void NfsBackend::remember(std::string_view directory,
                          const std::vector<nfs::ListedHandle>& handles) {
  for (const nfs::ListedHandle& listed : handles) {
    if (bad_name(listed.name) != 0 || is_dots(listed.name)) continue;
    handles_.put(join(directory, listed.name), listed.ino, listed.handle);
  }
}

// ---- Life ---------------------------------------------------------------------------------------

NfsBackend::NfsBackend(nfs::NfsUrl url, const nfs::NfsOptions& options)
    : url_(std::move(url)), options_(options) {
  if (!options_.one_identity()) return;
  Caller one{.uid = options_.uid.value_or(geteuid()),
             .gid = options_.gid.value_or(getegid()),
             .groups = {}};
  self_ = std::make_shared<const Caller>(std::move(one));
}

NfsBackend::~NfsBackend() {
  if (protocol_) protocol_->stop();
  client_.reset();
}

CallerPtr NfsBackend::identity(const CallerPtr& caller) const { return self_ ? self_ : caller; }

bool NfsBackend::wants_callers() const {
  return self_ == nullptr && options_.security == nfs::Security::kSys;
}

uint64_t NfsBackend::suggested_timeout_ms() const {
  if (options_.patience == nfs::ClientOptions::Patience::kHard) return 0;
  // The back end's own error comes first.
  return static_cast<uint64_t>((options_.timeo * (options_.retrans + 1)).count()) + 1000;
}

BackendCounters NfsBackend::counters() const {
  return client_ ? client_->counters() : BackendCounters();
}

void NfsBackend::cancel(RequestId id) { client_->cancel(id); }

template <typename T>
Result<T> NfsBackend::wait_for(const std::function<void(RequestId id, Done<T> done)>& start,
                               TimePoint deadline) {
  struct Reply {
    cache::Mutex mutex{cache::LockRank::kLeaf};
    cache::CondVar changed;
    std::optional<Result<T>> result GUARDED_BY(mutex);
  };
  const auto reply = std::make_shared<Reply>();
  const RequestId id = client_->new_id();
  start(id, [reply](Result<T> result) {
    MutexLock lock(reply->mutex);
    reply->result.emplace(std::move(result));
    reply->changed.notify_all();
  });
  MutexLock lock(reply->mutex);
  while (!reply->result) {
    if (reply->changed.wait_until(reply->mutex, deadline) || reply->result) continue;
    lock.unlock();
    client_->cancel(id);
    return Status::error(ETIMEDOUT);
  }
  return std::move(*reply->result);
}

Result<LookupAnswer> NfsBackend::connect(std::string* error_text) {
  const TimePoint deadline = std::chrono::steady_clock::now() + kConnectTime;
  Result<nfs::Mounted> mounted =
      nfs::find_export(url_, options_, identity(nullptr), deadline, error_text);
  if (!mounted.ok()) return mounted.status();
  client_ = std::make_unique<nfs::Client>(nfs::ClientOptions{
      .host = url_.host,
      .port = mounted.value().port,
      .connections = options_.nconnect,
      .patience = options_.patience,
      .timeo = options_.timeo,
      .retrans = options_.retrans,
      .source = options_.source_port,
      .security = options_.security,
  });
  const Status started = client_->start(deadline);
  if (!started.ok()) {
    *error_text = description() + ": " +
                  nfs::connect_error(url_.host, mounted.value().port, started.error_number());
    return started;
  }
  Result<Handle> start = mounted.value().root;
  if (options_.version == 4) {
    auto version4 = std::make_unique<nfs::Nfs4>(*client_, identity(nullptr));
    start = wait_for<Handle>(
        [&](RequestId id, Done<Handle> done) {
          version4->root(id, identity(nullptr), std::move(done));
        },
        deadline);
    protocol_ = std::move(version4);
  } else {
    protocol_ = std::make_unique<nfs::Nfs3>(*client_);
  }
  if (!start.ok()) {
    *error_text = description() + ": the server does not let us in by NFS version 4.0 (" +
                  std::strerror(start.error_number()) + "); try version=3";
    return start.status();
  }
  Result<LookupAnswer> root = find_root(mounted.value().below, std::move(start).value(),
                                        mounted.value().exported, error_text);
  if (!root.ok()) return root;
  const auto limits = wait_for<nfs::ServerLimits>(
      [&](RequestId id, Done<nfs::ServerLimits> done) {
        protocol_->limits(id, identity(nullptr), root_, std::move(done));
      },
      deadline);
  const nfs::ServerLimits told = limits.ok() ? limits.value() : nfs::ServerLimits();
  read_bytes_ = std::min(options_.rsize, told.read_bytes);
  write_bytes_ = std::min(options_.wsize, told.write_bytes);
  return root;
}

Result<LookupAnswer> NfsBackend::find_root(const std::vector<std::string>& below, Handle start,
                                           const std::string& exported, std::string* error_text) {
  const TimePoint deadline = std::chrono::steady_clock::now() + kConnectTime;
  const auto fail = [&](int error, const std::string& text) {
    *error_text = description() + ": " + text;
    return Status::error(error);
  };
  root_ = std::move(start);
  std::string here = exported;
  for (const std::string& name : below) {
    const auto found = wait_for<FoundObject>(
        [&](RequestId id, Done<FoundObject> done) {
          protocol_->lookup(id, identity(nullptr), root_, name, std::move(done));
        },
        deadline);
    std::string what = "'";
    what.append(name).append("' in '").append(here).append("'");
    if (found.error_number() == ENOENT) {
      return fail(ENOENT, "there is no " + what + " on the server");
    }
    if (!found.ok()) {
      return fail(found.error_number(),
                  what + " can't be looked up: " + std::strerror(found.error_number()));
    }
    if (here != "/") here.push_back('/');
    here.append(name);
    root_ = found.value().handle;
  }
  const auto attr = wait_for<Attr>(
      [&](RequestId id, Done<Attr> done) {
        protocol_->getattr(id, identity(nullptr), root_, std::move(done));
      },
      deadline);
  if (attr.error_number() == EACCES || attr.error_number() == EPERM) {
    return fail(attr.error_number(), "the server does not permit '" + here +
                                         "' to this user; check the export's options (sec=, the "
                                         "clients it names)");
  }
  if (!attr.ok()) {
    return fail(attr.error_number(),
                "'" + here + "' can't be read: " + std::strerror(attr.error_number()));
  }
  if (!S_ISDIR(attr.value().mode)) {
    return fail(ENOTDIR, "'" + here + "' is not a directory; give a directory");
  }
  return LookupAnswer{.id = {}, .attr = attr.value()};
}

// ---- Metadata -----------------------------------------------------------------------------------

Backend::RequestId NfsBackend::lookup(const CallerPtr& caller, const ObjectId& parent,
                                      const std::string& name, Done<LookupAnswer> done) {
  const CallerPtr who = identity(caller);
  const RequestId id = client_->new_id();
  const std::string directory(parse_id(parent).path);
  if (is_dots(name)) {  // asked for by servers that export the mount
    const std::string path(name == "." ? directory : parent_of(directory));
    const ObjectId object = name == "." ? parent : make_id(path, 0);
    ask<Attr>(
        id, who, object,
        [this, id, who](const Handle& handle, const Done<Attr>& next) {
          protocol_->getattr(id, who, handle, next);
        },
        [path, done = std::move(done)](const Result<Attr>& attr) {
          if (!attr.ok()) return done(attr.status());
          done(LookupAnswer{.id = make_id(path, attr.value().ino), .attr = attr.value()});
        });
    return id;
  }
  int wrong = bad_name(name);
  std::string path = join(directory, name);
  if (wrong == 0 && make_id(path, 0).empty()) wrong = ENAMETOOLONG;
  if (wrong != 0) {
    done(Status::error(wrong));
    return 0;
  }
  ask<FoundObject>(
      id, who, parent,
      [this, id, who, name](const Handle& handle, const Done<FoundObject>& next) {
        find_child(id, who, handle, name, next);
      },
      [this, path = std::move(path), done = std::move(done)](const Result<FoundObject>& found) {
        if (!found.ok()) return done(found.status());
        const Attr& attr = found.value().attr;
        handles_.put(path, attr.ino, found.value().handle);
        done(LookupAnswer{.id = make_id(path, attr.ino), .attr = attr});
      });
  return id;
}

void NfsBackend::find_child(RequestId id, const CallerPtr& who, const Handle& directory,
                            const std::string& name, Done<FoundObject> done) {
  protocol_->lookup(id, who, directory, name,
                    [this, id, who, done = std::move(done)](Result<FoundObject> found) {
                      if (!found.ok() || found.value().attr.mode != 0)
                        return done(std::move(found));
                      // The server told no attributes.
                      const Handle child = found.value().handle;
                      protocol_->getattr(id, who, child, [child, done](const Result<Attr>& attr) {
                        if (!attr.ok()) return done(attr.status());
                        done(FoundObject{.handle = child, .attr = attr.value()});
                      });
                    });
}

ObjectId NfsBackend::child_id(const ObjectId& parent, std::string_view name, uint64_t ino) const {
  if (bad_name(name) != 0 || is_dots(name)) return {};
  return make_id(join(parse_id(parent).path, name), ino);
}

Backend::RequestId NfsBackend::getattr(const CallerPtr& caller, const ObjectId& object,
                                       Done<Attr> done) {
  const RequestId id = client_->new_id();
  const CallerPtr who = identity(caller);
  ask<Attr>(
      id, who, object,
      [this, id, who](const Handle& handle, const Done<Attr>& next) {
        protocol_->getattr(id, who, handle, next);
      },
      std::move(done));
  return id;
}

Backend::RequestId NfsBackend::readlink(const CallerPtr& caller, const ObjectId& object,
                                        Done<std::string> done) {
  const RequestId id = client_->new_id();
  const CallerPtr who = identity(caller);
  ask<std::string>(
      id, who, object,
      [this, id, who](const Handle& handle, Done<std::string> next) {
        protocol_->readlink(id, who, handle, std::move(next));
      },
      std::move(done));
  return id;
}

Backend::RequestId NfsBackend::statfs(const CallerPtr& caller, const ObjectId& object,
                                      Done<StatfsAnswer> done) {
  const RequestId id = client_->new_id();
  const CallerPtr who = identity(caller);
  ask<StatfsAnswer>(
      id, who, object,
      [this, id, who](const Handle& handle, Done<StatfsAnswer> next) {
        protocol_->statfs(id, who, handle, std::move(next));
      },
      std::move(done));
  return id;
}

// NFS has none that all servers know.
Backend::RequestId NfsBackend::getxattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                                        const std::string& /*name*/, Done<std::string> done) {
  done(Status::error(ENOSYS));
  return 0;
}

Backend::RequestId NfsBackend::listxattr(const CallerPtr& /*caller*/, const ObjectId& /*id*/,
                                         Done<std::string> done) {
  done(Status::error(ENOSYS));
  return 0;
}

// ---- Listings -----------------------------------------------------------------------------------

Backend::RequestId NfsBackend::read_dir(const CallerPtr& caller, const ObjectId& directory,
                                        cache::DirRequest request,
                                        cache::DirSource::Completion done) {
  const RequestId id = client_->new_id();
  const CallerPtr who = identity(caller);
  const auto shared = std::make_shared<const cache::DirRequest>(std::move(request));
  const auto complete = [done = std::move(done)](Result<Listed> listed) {
    cache::DirAnswer answer;
    if (listed.ok()) {
      answer = std::move(listed.value().answer);
    } else {
      answer.error = listed.error_number();
    }
    done(std::move(answer));
  };
  // Never completes from inside: a handle that is at hand leads to a request, one that is not to a
  // lookup.
  ask<Listed>(
      id, who, directory,
      [this, id, who, directory, shared](const Handle& handle, const Done<Listed>& next) {
        protocol_->list(id, who, handle, *shared, [this, directory, next](Listed&& listed) {
          remember(parse_id(directory).path, listed.handles);
          if (listed.answer.error == ESTALE) return next(Status::error(ESTALE));
          next(std::move(listed));
        });
      },
      complete);
  return id;
}

// ---- Making one ---------------------------------------------------------------------------------

BackendOptionSpecs nfs_options() { return nfs::nfs_option_specs(); }

std::unique_ptr<Backend> make_nfs_backend(std::string_view url_rest, const BackendOptions& given,
                                          std::string* error_text) {
  std::optional<nfs::NfsUrl> url = nfs::parse_nfs_url(url_rest, error_text);
  if (!url) return nullptr;
  nfs::NfsOptions options;
  nfs::apply_options(url->options, &options);
  nfs::apply_options(given, &options);
  return std::make_unique<NfsBackend>(std::move(*url), options);
}

}  // namespace fusefs
