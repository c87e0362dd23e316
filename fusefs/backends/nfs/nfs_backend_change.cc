// Changes of the tree: objects made, linked, renamed, removed, and their attributes.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <random>
#include <utility>

#include "fusefs/backends/nfs/nfs_attr.h"
#include "fusefs/backends/nfs/nfs_backend.h"
#include "fusefs/backends/nfs/nfs_backend_ask.h"
#include "fusefs/backends/nfs/nfs_object_id.h"

namespace fusefs {
namespace {

using cache::Status;
using nfs::CreatedObject;
using nfs::FoundObject;
using nfs::Handle;
using nfs::join;
using nfs::MadeObject;
using nfs::NameIn;
using nfs::NewObject;
using nfs::NewObjectPtr;
using nfs::OpenFilePtr;
using nfs::parse_id;
using nfs::RemovedObject;
using nfs::RenamedObject;

// Microseconds: servers that keep finer times keep these.
cache::Timespec new_mark() {
  static thread_local std::minstd_rand random{std::random_device()()};
  constexpr uint32_t kMicroseconds = 1'000'000;
  std::uniform_int_distribution<uint32_t> any(1, kMicroseconds - 1);
  const int64_t now = nfs::wall_now() / 1'000'000'000;
  return {now, any(random) * 1000};
}

// Whether an object that is there is the one that we wanted to make, and have made.
bool is_ours(const Attr& attr, const NewObject& wanted) {
  return (attr.mode & S_IFMT) == (wanted.mode & S_IFMT) && attr.atime == wanted.mark;
}

}  // namespace

// ---- New objects --------------------------------------------------------------------------------

LookupAnswer NfsBackend::enter(const std::string& path, const FoundObject& found) {
  handles_.forget_tree(path);
  handles_.put(path, found.attr.ino, found.handle);
  return {.id = nfs::make_id(path, found.attr.ino), .attr = found.attr};
}

void NfsBackend::settle_made(RequestId id, const CallerPtr& who, const NewObjectPtr& object,
                             const Result<MadeObject>& made, Done<MadeObject> done) {
  if (!made.ok()) return done(made);
  const MadeObject& told = made.value();
  if (told.doubt == 0 && !told.object.handle.empty() && told.object.attr.mode != 0) {
    return done(told);
  }
  find_child(
      id, who, object->directory, object->name,
      [this, id, who, object, told, done = std::move(done)](const Result<FoundObject>& found) {
        if (!found.ok()) return done(told.doubt != 0 ? Status::error(told.doubt) : found.status());
        MadeObject whole = told;
        whole.object = found.value();
        if (told.doubt == 0) return done(whole);
        whole.doubt = 0;
        if (!S_ISLNK(object->mode) || is_ours(found.value().attr, *object)) {
          return done(is_ours(found.value().attr, *object) ? Result<MadeObject>(whole)
                                                           : Status::error(told.doubt));
        }
        if (!S_ISLNK(found.value().attr.mode)) return done(Status::error(told.doubt));
        // Not all servers set times of links: the same target is as good.
        protocol_->readlink(id, who, found.value().handle,
                            [object, told, whole, done](const Result<std::string>& target) {
                              const bool same = target.ok() && target.value() == object->target;
                              done(same ? Result<MadeObject>(whole) : Status::error(told.doubt));
                            });
      });
}

Backend::RequestId NfsBackend::make_object(const CallerPtr& caller, const ObjectId& parent,
                                           NewObject draft, Done<MadeAnswer> done) {
  const std::string_view directory = parse_id(parent).path;
  if (const int wrong = nfs::bad_new_name(directory, draft.name)) return refuse(done, wrong);
  const RequestId id = client_->new_id();
  const CallerPtr who = identity(caller);
  draft.mark = new_mark();
  const std::string path = join(directory, draft.name);
  ask<MadeObject>(
      id, who, parent,
      [this, id, who, draft](const Handle& handle, const Done<MadeObject>& next) {
        NewObject object = draft;
        object.directory = handle;
        const auto shared = std::make_shared<const NewObject>(std::move(object));
        protocol_->make(id, who, shared,
                        [this, id, who, shared, next](const Result<MadeObject>& made) {
                          settle_made(id, who, shared, made, next);
                        });
      },
      [this, path, done = std::move(done)](const Result<MadeObject>& made) {
        if (!made.ok()) return done(made.status());
        done(MadeAnswer{.entry = enter(path, made.value().object), .parent = made.value().parent});
      });
  return id;
}

Backend::RequestId NfsBackend::mkdir(const CallerPtr& caller, const ObjectId& parent,
                                     const std::string& name, uint32_t mode,
                                     Done<MadeAnswer> done) {
  NewObject draft;
  draft.name = name;
  draft.mode = S_IFDIR | (mode & 07777);
  return make_object(caller, parent, std::move(draft), std::move(done));
}

Backend::RequestId NfsBackend::mknod(const CallerPtr& caller, const ObjectId& parent,
                                     const std::string& name, uint32_t mode, uint64_t rdev,
                                     Done<MadeAnswer> done) {
  NewObject draft;
  draft.name = name;
  draft.mode = (mode & S_IFMT) == 0 ? mode | S_IFREG : mode;
  draft.rdev = rdev;
  if (S_ISDIR(draft.mode) || S_ISLNK(draft.mode)) return refuse(done, EPERM);
  return make_object(caller, parent, std::move(draft), std::move(done));
}

Backend::RequestId NfsBackend::symlink(const CallerPtr& caller, const ObjectId& parent,
                                       const std::string& name, const std::string& target,
                                       Done<MadeAnswer> done) {
  NewObject draft;
  draft.name = name;
  draft.mode = S_IFLNK | 0777;
  draft.target = target;
  return make_object(caller, parent, std::move(draft), std::move(done));
}

// ---- New files ----------------------------------------------------------------------------------

// Always as one that must be new: of a file that is there servers differ in what they change.
void NfsBackend::create_new(RequestId id, const CallerPtr& who, const NewObjectPtr& object,
                            int flags, Done<CreatedObject> done) {
  protocol_->create(
      id, who, object, flags,
      [this, id, who, object, flags, done = std::move(done)](const Result<CreatedObject>& created) {
        if (!created.ok() || created.value().file != nullptr) return done(created);
        settle_made(id, who, object, created.value().made,
                    [this, id, who, object, flags, done](const Result<MadeObject>& made) {
                      if (!made.ok()) return done(made.status());
                      const nfs::OpenPlace place{
                          .handle = made.value().object.handle,
                          .ino = made.value().object.attr.ino,
                          .where = {.directory = object->directory, .name = object->name},
                          .made = true};
                      open_place(id, who, place, flags,
                                 [made, done](const Result<OpenFilePtr>& file) {
                                   if (!file.ok()) return done(file.status());
                                   done(CreatedObject{.made = made.value(), .file = file.value()});
                                 });
                    });
      });
}

Backend::RequestId NfsBackend::create(const CallerPtr& caller, const ObjectId& parent,
                                      const std::string& name, uint32_t mode, int flags,
                                      Done<CreatedAnswer> done) {
  const std::string_view directory = parse_id(parent).path;
  if (const int wrong = nfs::bad_new_name(directory, name)) return refuse(done, wrong);
  const RequestId id = client_->new_id();
  const CallerPtr who = identity(caller);
  const std::string path = join(directory, name);
  const cache::Timespec mark = new_mark();
  ask<CreatedObject>(
      id, who, parent,
      [this, id, who, name, mode, flags, mark](const Handle& handle,
                                               const Done<CreatedObject>& next) {
        NewObject object{.directory = handle,
                         .name = name,
                         .mode = S_IFREG | (mode & 07777),
                         .rdev = 0,
                         .target = {},
                         .mark = mark};
        create_new(id, who, std::make_shared<const NewObject>(std::move(object)), flags, next);
      },
      [this, id, who, parent, name, path, flags,
       done = std::move(done)](const Result<CreatedObject>& created) {
        if (created.error_number() == EEXIST && (flags & O_EXCL) == 0) {
          return open_existing(id, who, parent, name, flags, done);
        }
        if (!created.ok()) return done(created.status());
        const MadeObject& made = created.value().made;
        done(CreatedAnswer{.entry = enter(path, made.object),
                           .parent = made.parent,
                           .file = keep_file(created.value().file)});
      });
  return id;
}

void NfsBackend::open_existing(RequestId id, const CallerPtr& who, const ObjectId& parent,
                               const std::string& name, int flags,
                               Done<CreatedAnswer> done) {  // NOLINT: kept
  const std::string path = join(parse_id(parent).path, name);
  const auto open_found = [this, id, who, flags, path, done](const Result<FoundObject>& found) {
    if (!found.ok()) return done(found.status());
    const uint32_t mode = found.value().attr.mode;
    if (S_ISDIR(mode)) return done(Status::error(EISDIR));
    if (!S_ISREG(mode)) return done(Status::error(EEXIST));  // the caller looks what it is
    const LookupAnswer entry = enter(path, found.value());
    open_object(id, who, entry.id, flags, [this, entry, done](const Result<OpenFilePtr>& file) {
      if (!file.ok()) return done(file.status());
      done(CreatedAnswer{.entry = entry, .parent = {}, .file = keep_file(file.value())});
    });
  };
  ask<FoundObject>(
      id, who, parent,
      [this, id, who, name](const Handle& handle, const Done<FoundObject>& next) {
        find_child(id, who, handle, name, next);
      },
      open_found);
}

// ---- Links --------------------------------------------------------------------------------------

void NfsBackend::settle_linked(RequestId id, const CallerPtr& who, const NameIn& to, uint64_t ino,
                               const Result<MadeObject>& made, Done<MadeObject> done) {
  if (!made.ok() || (made.value().doubt == 0 && made.value().object.attr.mode != 0)) {
    return done(made);
  }
  const MadeObject& told = made.value();
  find_child(id, who, to.directory, to.name,
             [told, ino, done = std::move(done)](const Result<FoundObject>& found) {
               if (!found.ok()) return done(found.status());
               const bool same = found.value().handle == told.object.handle ||
                                 (ino != 0 && found.value().attr.ino == ino);
               if (told.doubt != 0 && !same) return done(Status::error(told.doubt));
               done(MadeObject{.object = found.value(), .parent = told.parent, .doubt = 0});
             });
}

Backend::RequestId NfsBackend::link(const CallerPtr& caller, const ObjectId& object,
                                    const ObjectId& parent, const std::string& name,
                                    Done<MadeAnswer> done) {
  const std::string_view directory = parse_id(parent).path;
  if (const int wrong = nfs::bad_new_name(directory, name)) return refuse(done, wrong);
  const RequestId id = client_->new_id();
  const CallerPtr who = identity(caller);
  const uint64_t ino = parse_id(object).ino;
  const std::string path = join(directory, name);
  ask<MadeObject>(
      id, who, object,
      [this, id, who, parent, name, ino](const Handle& handle, const Done<MadeObject>& next) {
        ask<MadeObject>(
            id, who, parent,
            [this, id, who, name, handle, ino](const Handle& to_handle,
                                               const Done<MadeObject>& inner) {
              const NameIn to{.directory = to_handle, .name = name};
              protocol_->link(id, who, handle, to,
                              [this, id, who, to, ino, inner](const Result<MadeObject>& made) {
                                settle_linked(id, who, to, ino, made, inner);
                              });
            },
            next);
      },
      [this, path, done = std::move(done)](const Result<MadeObject>& made) {
        if (!made.ok()) return done(made.status());
        done(MadeAnswer{.entry = enter(path, made.value().object), .parent = made.value().parent});
      });
  return id;
}

// ---- Removals -----------------------------------------------------------------------------------

Backend::RequestId NfsBackend::remove(const CallerPtr& caller, const ObjectId& parent,
                                      const std::string& name, nfs::Protocol::Removed what,
                                      Done<DirChange> done) {
  const std::string_view directory = parse_id(parent).path;
  if (const int wrong = nfs::bad_new_name(directory, name)) return refuse(done, wrong);
  const RequestId id = client_->new_id();
  const CallerPtr who = identity(caller);
  ask<RemovedObject>(
      id, who, parent,
      [this, id, who, name, what](const Handle& handle, const Done<RemovedObject>& next) {
        protocol_->remove(id, who, {.directory = handle, .name = name}, what, next);
      },
      [this, path = join(directory, name),
       done = std::move(done)](const Result<RemovedObject>& removed) {
        // Gone, whoever did it: in doubt it was us.
        if (removed.ok() || removed.error_number() == ENOENT) handles_.forget_tree(path);
        if (!removed.ok()) return done(removed.status());
        done(removed.value().parent);
      });
  return id;
}

Backend::RequestId NfsBackend::unlink(const CallerPtr& caller, const ObjectId& parent,
                                      const std::string& name, Done<DirChange> done) {
  return remove(caller, parent, name, nfs::Protocol::Removed::kOther, std::move(done));
}

Backend::RequestId NfsBackend::rmdir(const CallerPtr& caller, const ObjectId& parent,
                                     const std::string& name, Done<DirChange> done) {
  return remove(caller, parent, name, nfs::Protocol::Removed::kDirectory, std::move(done));
}

// ---- Renaming -----------------------------------------------------------------------------------

struct NfsBackend::Renaming {
  RequestId id = 0;
  CallerPtr who;
  ObjectId from_parent, to_parent;
  std::string from_name, to_name;
  std::string from_path, to_path;
  uint64_t ino = 0;  // of what is renamed
};

// The number of what is to be renamed: once it has been, only that tells it from others.
void NfsBackend::find_source(const std::shared_ptr<Renaming>& renaming, Done<uint64_t> done) {
  const auto known = handles_.find(renaming->from_path);
  if (known && known->ino != 0) return done(known->ino);
  ask<FoundObject>(
      renaming->id, renaming->who, renaming->from_parent,
      [this, renaming](const Handle& handle, const Done<FoundObject>& next) {
        find_child(renaming->id, renaming->who, handle, renaming->from_name, next);
      },
      [done = std::move(done)](const Result<FoundObject>& found) {
        done(found.ok() ? Result<uint64_t>(found.value().attr.ino) : found.status());
      });
}

void NfsBackend::send_rename(const std::shared_ptr<Renaming>& renaming, const NameIn& from,
                             const NameIn& to, Done<RenamedObject> done) {
  protocol_->rename(
      renaming->id, renaming->who, from, to,
      [this, renaming, to, done = std::move(done)](const Result<RenamedObject>& renamed) {
        if (!renamed.ok() || renamed.value().doubt == 0) return done(renamed);
        const int doubt = renamed.value().doubt;
        find_child(renaming->id, renaming->who, to.directory, to.name,
                   [renaming, doubt, done](const Result<FoundObject>& found) {
                     const bool same = found.ok() && found.value().attr.ino == renaming->ino;
                     done(same ? Result<RenamedObject>(RenamedObject()) : Status::error(doubt));
                   });
      });
}

Backend::RequestId NfsBackend::rename(const CallerPtr& caller, const ObjectId& from_parent,
                                      const std::string& from_name, const ObjectId& to_parent,
                                      const std::string& to_name, uint32_t flags,
                                      Done<RenamedAnswer> done) {
  if (flags != 0) return refuse(done, EINVAL);
  const std::string_view from_directory = parse_id(from_parent).path;
  const std::string_view to_directory = parse_id(to_parent).path;
  if (const int wrong = nfs::bad_new_name(from_directory, from_name)) return refuse(done, wrong);
  if (const int wrong = nfs::bad_new_name(to_directory, to_name)) return refuse(done, wrong);
  const auto renaming = std::make_shared<Renaming>(Renaming{
      .id = client_->new_id(),
      .who = identity(caller),
      .from_parent = from_parent,
      .to_parent = to_parent,
      .from_name = from_name,
      .to_name = to_name,
      .from_path = join(from_directory, from_name),
      .to_path = join(to_directory, to_name),
      .ino = 0,
  });
  const auto finish = [this, renaming,
                       done = std::move(done)](const Result<RenamedObject>& renamed) {
    if (!renamed.ok()) return done(renamed.status());
    if (renaming->from_path != renaming->to_path)
      handles_.move_tree(renaming->from_path, renaming->to_path);
    done(renamed.value().change);
  };
  const auto send = [this, renaming](const Handle& from, const Done<RenamedObject>& next) {
    ask<RenamedObject>(
        renaming->id, renaming->who, renaming->to_parent,
        [this, renaming, from](const Handle& to, const Done<RenamedObject>& inner) {
          send_rename(renaming, {.directory = from, .name = renaming->from_name},
                      {.directory = to, .name = renaming->to_name}, inner);
        },
        next);
  };
  find_source(renaming, [this, renaming, send, finish](const Result<uint64_t>& ino) {
    if (!ino.ok()) return finish(ino.status());
    renaming->ino = ino.value();
    ask<RenamedObject>(renaming->id, renaming->who, renaming->from_parent, send, finish);
  });
  return renaming->id;
}

ObjectId NfsBackend::moved_id(const ObjectId& id, const ObjectId& from, const ObjectId& to) const {
  const auto [path, ino] = parse_id(id);
  const auto [old_path, old_ino] = parse_id(from);
  const std::string_view new_path = parse_id(to).path;
  if (old_path.empty() || !path.starts_with(old_path)) return {};
  const std::string_view below = path.substr(old_path.size());
  if (below.empty()) {
    const bool another = ino != 0 && old_ino != 0 && ino != old_ino;
    return another ? ObjectId() : nfs::make_id(new_path, ino);
  }
  if (below.front() != '/') return {};
  return nfs::make_id(std::string(new_path).append(below), ino);
}

// ---- Attributes ---------------------------------------------------------------------------------

Backend::RequestId NfsBackend::setattr(const CallerPtr& caller, const ObjectId& object,
                                       FileHandle file, const SetAttr& set, Done<Attr> done) {
  const OpenFilePtr open = file == 0 ? nullptr : find_file(file);
  if (file != 0 && open == nullptr) return refuse(done, EBADF);
  const RequestId id = client_->new_id();
  const CallerPtr who = identity(caller);
  const auto apply = [this, id, who, open, set](const Handle& handle, const Done<Attr>& next) {
    protocol_->setattr(id, who, handle, open, set,
                       [this, id, who, handle, next](const Result<Attr>& attr) {
                         if (!attr.ok() || attr.value().mode != 0) return next(attr);
                         protocol_->getattr(id, who, handle, next);
                       });
  };
  if (open != nullptr) {
    apply(open->handle(), done);
  } else {
    ask<Attr>(id, who, object, apply, std::move(done));
  }
  return id;
}

}  // namespace fusefs
