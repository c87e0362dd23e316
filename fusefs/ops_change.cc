// Changes of the tree and of attributes.
//
// How a change goes:
//   1. the remote is asked, once
//   2. the listings concerned hear of it: in place where the answer proves that nobody else changed
//      the directory meanwhile, else they are compared with the remote at the next opendir
//   3. the inode table hears of names that are gone or lead to another object (a back end's object
//      ids may hold paths)
//   4. the kernel is told
// A change whose answer did not come (deadline, signal) may have happened: what is known of the
// names concerned is forgotten.

#include "fusefs/ops_change.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "fusefs/dirent_encoder.h"
#include "fusefs/ops.h"
#include "fusefs/ops_entry.h"
#include "fusefs/ops_file.h"

namespace fusefs {
namespace {

constexpr unsigned kRenameNoReplace = 1;
constexpr unsigned kRenameExchange = 2;

// ---- Directories --------------------------------------------------------------------------------

// A directory in which something is to change.
struct Place {
  InodeRef inode;
  ObjectId object;
};

// Null: it was never opened. Looked for again after each answer: a lookup beside the change may
// have begun to list the directory meanwhile.
std::shared_ptr<DirState> listing_of(SessionImpl& session, const Place& place) {
  return session.inodes().dir(*place.inode);
}

Result<Place> find_place(SessionImpl& session, fuse_ino_t nodeid, const char* name) {
  Place place{session.inodes().find(nodeid), {}};
  if (!place.inode) return Status::error(ESTALE);
  if (!place.inode->is_directory()) return Status::error(ENOTDIR);
  if (std::strlen(name) > cache::kMaxNameBytes) return Status::error(ENAMETOOLONG);
  if (session.inodes().detached(*place.inode)) return Status::error(ENOENT);
  place.object = session.inodes().object(*place.inode);
  // Where ids hold numbers of objects, names that were made here are to be found again by these.
  if (!session.ids_are_names()) session.obtain_dir(*place.inode);
  return place;
}

bool may_have_happened(int error_number) {
  return error_number == EINTR || error_number == ETIMEDOUT || error_number == ENOTCONN ||
         error_number == ECONNRESET || error_number == EIO;
}

// Nothing is known any more of what the directory holds.
void distrust(SessionImpl& session, const Place& place) {
  session.inodes().note_changed(*place.inode, session.now());
  if (const auto listing = listing_of(session, place)) listing->invalidate(session.now());
  session.notifier().inval_inode(place.inode->nodeid());
}

// A failed change: what it was refused for may show that something has changed elsewhere.
void note_failure(SessionImpl& session, const Place& place, int error_number) {
  if (may_have_happened(error_number)) return distrust(session, place);
  const bool other = error_number == EEXIST || error_number == ENOENT || error_number == ESTALE ||
                     error_number == ENOTEMPTY || error_number == ENOTDIR || error_number == EISDIR;
  const auto listing = other ? listing_of(session, place) : nullptr;
  if (listing) listing->doubt();
}

// The directory's own attributes after a change in it. What was asked for while it was under way
// may have been answered before it.
void keep_parent(SessionImpl& session, const Place& place, const DirChange& change) {
  const cache::TimePoint now = session.now();
  session.inodes().note_changed(*place.inode, now);
  if (change.attr) session.inodes().set_attr(*place.inode, {*change.attr, now});
}

void note_added(SessionImpl& session, const Place& place, const char* name,
                const LookupAnswer& made, const DirChange& change, cache::TimePoint asked) {
  if (const auto listing = listing_of(session, place)) {
    listing->note_added({.name = name,
                         .ino = made.attr.ino,
                         .type = static_cast<uint8_t>(IFTODT(made.attr.mode)),
                         .attr = made.attr,
                         .asked = asked},
                        change);
  }
  keep_parent(session, place, change);
}

void note_removed(SessionImpl& session, const Place& place, const char* name,
                  const DirChange& change, cache::TimePoint asked) {
  if (const auto listing = listing_of(session, place)) listing->note_removed(name, change, asked);
  keep_parent(session, place, change);
}

// ---- Objects by their names ---------------------------------------------------------------------

// The id that a name leads to, as far as that can be known without asking: where ids hold numbers
// of objects, the listing must tell the number. Empty: not known.
ObjectId id_of_name(SessionImpl& session, const Place& place, const char* name) {
  const Backend& backend = session.backend();
  if (session.ids_are_names()) return backend.child_id(place.object, name, 0);
  const auto listing = listing_of(session, place);
  const auto ino = listing ? listing->directory().find_ino(name) : std::nullopt;
  return ino ? backend.child_id(place.object, name, *ino) : ObjectId();
}

// The same, from the remote if need be. Empty: there is no such object, or it can't be told.
ObjectId ask_id_of_name(SessionImpl& session, FuseRequest& request, const Place& place,
                        const char* name) {
  if (ObjectId known = id_of_name(session, place, name); !known.empty()) return known;
  auto found = session.look_up(request, place.object, name);
  return found.ok() ? std::move(found).value().id : ObjectId();
}

// The same of a name that is about to go. It is asked for only where somebody may notice: a file of
// several names goes on by another one, what is open goes on without.
ObjectId id_of_lost_name(SessionImpl& session, FuseRequest& request, const Place& place,
                         const char* name) {
  const bool matters = session.links_made() || session.inodes().any_moved() ||
                       session.handles().any_file_in(place.inode->nodeid()) ||
                       session.handles().any_directory_in(place.inode->nodeid());
  return matters ? ask_id_of_name(session, request, place, name) : id_of_name(session, place, name);
}

void tell_moved(const std::vector<MovedObject>& moved) {
  for (const MovedObject& one : moved) {
    if (one.dir) one.dir->set_object(one.to);
  }
}

// ---- Making -------------------------------------------------------------------------------------

// mkdir, mknod, symlink: `start(place, caller, done)` asks the back end.
template <typename Start>
void make(fuse_req_t req, fuse_ino_t parent, const char* name, const Start& start) {
  serve<RequestKind::kChange>(req, [&](SessionImpl& session, FuseRequest& request) {
    const Result<Place> found = find_place(session, parent, name);
    if (!found.ok()) return request.fail(found.error_number());
    const Place& place = found.value();
    const cache::TimePoint asked = session.now();
    const CallerPtr caller = session.changer(request);
    const auto made = session.ask<MadeAnswer>(request, [&](Backend::Done<MadeAnswer> done) {
      return start(session, place, caller, std::move(done));
    });
    if (!made.ok()) {
      note_failure(session, place, made.error_number());
      return request.fail(made.error_number());
    }
    const LookupAnswer& entry = made.value().entry;
    note_added(session, place, name, entry, made.value().parent, asked);
    const auto child = introduce(session, request, {*place.inode, name, entry, asked});
    if (!child.ok()) return request.fail(child.error_number());
    if (S_ISDIR(entry.attr.mode) && child.value().inode->is_directory()) {
      const auto made_dir = session.obtain_dir(*child.value().inode);
      made_dir->adopt_empty(entry.attr.change, asked);
      const auto listing = listing_of(session, place);
      if (listing) made_dir->name_case().inherit(listing->name_case());
    }
    reply_entry(session, request, child.value());
  });
}

void operation_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  make(req, parent, name,
       [&](SessionImpl& session, const Place& place, const CallerPtr& caller,
           Backend::Done<MadeAnswer> done) {
         return session.backend().mkdir(caller, place.object, name, mode & 07777, std::move(done));
       });
}

void operation_mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                     dev_t device) {
  make(req, parent, name,
       [&](SessionImpl& session, const Place& place, const CallerPtr& caller,
           Backend::Done<MadeAnswer> done) {
         return session.backend().mknod(caller, place.object, name, mode, device, std::move(done));
       });
}

void operation_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  make(req, parent, name,
       [&](SessionImpl& session, const Place& place, const CallerPtr& caller,
           Backend::Done<MadeAnswer> done) {
         return session.backend().symlink(caller, place.object, name, target, std::move(done));
       });
}

// The new name leads to the same node: what is written through one shows through the other.
void link(SessionImpl& session, FuseRequest& request, const Place& place, const Inode& inode,
          const char* name) {
  if (session.inodes().detached(inode)) return request.fail(ENOENT);
  const cache::TimePoint asked = session.now();
  const CallerPtr caller = session.changer(request);
  const auto made = session.ask<MadeAnswer>(request, [&](Backend::Done<MadeAnswer> done) {
    return session.backend().link(caller, session.inodes().object(inode), place.object, name,
                                  std::move(done));
  });
  session.note_link();
  session.inodes().note_changed(inode, session.now());  // one name more
  if (!made.ok()) {
    note_failure(session, place, made.error_number());
    return request.fail(made.error_number());
  }
  LookupAnswer entry = made.value().entry;
  if ((entry.attr.mode & S_IFMT) == inode.type()) {
    entry.attr.ino = inode.ino();  // some back ends make it from the name
    session.inodes().add_id(inode, entry.id);
    const auto file = session.inodes().file(inode);
    if (file && file->has_untold()) {
      file->adjust_links(1);
    } else {
      session.keep_own(inode, entry.attr);
    }
  }
  note_added(session, place, name, entry, made.value().parent, asked);
  const auto child = introduce(session, request, {*place.inode, name, entry, session.now()});
  if (!child.ok()) return request.fail(child.error_number());
  reply_entry(session, request, child.value());
}

void operation_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char* name) {
  serve<RequestKind::kChange>(req, [&](SessionImpl& session, FuseRequest& request) {
    const InodeRef inode = session.inodes().find(ino);
    if (!inode) return request.fail(ESTALE);
    const Result<Place> place = find_place(session, parent, name);
    if (!place.ok()) return request.fail(place.error_number());
    link(session, request, place.value(), *inode, name);
  });
}

// ---- Creating -----------------------------------------------------------------------------------

// Whether programs need not wait for the remote to make it. Somebody else's file of that name would
// be opened as it is, of which nothing is known, unless it is emptied or must not be there.
bool may_make_ahead(SessionImpl& session, const Place& place, const char* name, int flags) {
  if (session.options().close_waits || (flags & (O_EXCL | O_TRUNC)) == 0) return false;
  const auto listing = listing_of(session, place);
  return listing && session.has_room_ahead() && listing->known_absent(name, session.now());
}

// `ahead`: a number of MadeAhead; 0: the remote is waited for. Tells the node id of a file that is
// still being made; 0: there is none.
uint64_t create(SessionImpl& session, FuseRequest& request, const Place& place, const char* name,
                mode_t mode, fuse_file_info* fi, uint64_t ahead) {
  Backend& backend = session.backend();
  const CallerPtr caller = session.changer(request);
  const int flags = flags_for_backend(fi->flags & (O_ACCMODE | O_EXCL | O_TRUNC)) | O_CREAT;
  const cache::TimePoint asked = session.now();
  const auto made = session.ask<CreatedAnswer>(
      request,
      [&](Backend::Done<CreatedAnswer> done) {
        if (ahead == 0) {
          return backend.create(caller, place.object, name, mode & 07777, flags, std::move(done));
        }
        return backend.create_ahead(caller, place.object, name, mode & 07777, flags,
                                    std::move(done), session.made_ahead_answer(ahead));
      },
      [&backend](CreatedAnswer&& late) { backend.release(late.file); });
  if (!made.ok()) {
    note_failure(session, place, made.error_number());
    request.fail(made.error_number());
    return 0;
  }
  const CreatedAnswer& answer = made.value();
  auto source = std::make_shared<BackendFileSource>(backend, caller, answer.file, flags);
  note_added(session, place, name, answer.entry, answer.parent, asked);
  const auto child = introduce(session, request, {*place.inode, name, answer.entry, asked});
  if (!child.ok()) {
    request.fail(child.error_number());
    return 0;
  }
  const uint64_t nodeid = child.value().entry.ino;
  const auto known = session.inodes().file(*child.value().inode);
  if (known && (flags & O_TRUNC) != 0) {
    const Status dropped = known->data().invalidate(answer.entry.attr.size);
    if (!dropped.ok()) known->data().discard();
  }
  auto handle =
      make_handle(session, session.inodes().find(nodeid), answer.entry.attr, std::move(source), fi);
  handle->state->note_kernel_mtime(answer.entry.attr.mtime);
  const bool holds = backend.new_file_attrs() != NewFileAttrs::kAtOnce;
  if (holds && ((flags & O_EXCL) != 0 || answer.ahead)) handle->state->made_by(handle->source);
  if (answer.ahead) handle->state->hold_time(answer.entry.attr.mtime, handle->source);
  const uint64_t fh = session.handles().add(std::move(handle));
  fi->fh = fh;
  if (request.reply(fuse_reply_create, &child.value().entry, fi) == 0) {
    return answer.ahead ? nodeid : 0;
  }
  session.handles().close(fh);
  session.inodes().forget(nodeid, 1);
  return 0;
}

void operation_create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                      fuse_file_info* fi) {
  serve<RequestKind::kChange>(req, [&](SessionImpl& session, FuseRequest& request) {
    const Result<Place> place = find_place(session, parent, name);
    if (!place.ok()) return request.fail(place.error_number());
    if (!may_make_ahead(session, place.value(), name, fi->flags)) {
      create(session, request, place.value(), name, mode, fi, 0);
      return;
    }
    const uint64_t ahead = session.made_ahead().begin(parent, name);
    session.made_ahead().introduced(ahead,
                                    create(session, request, place.value(), name, mode, fi, ahead));
  });
}

// ---- Removing -----------------------------------------------------------------------------------

std::string hidden_name(uint64_t ino, uint64_t number) {
  char name[64];
  std::snprintf(name, sizeof name, ".nfs%016llx%08llx", static_cast<unsigned long long>(ino),
                static_cast<unsigned long long>(number));
  return name;
}

// The open file of that id, where the remote would forget it with its name. (The kernel's NFS
// client does the same, with names of the same form.)
InodeRef file_to_hide(SessionImpl& session, FuseRequest& request, const ObjectId& id) {
  if (session.backend().keeps_unlinked() || id.empty()) return {};
  InodeRef inode = session.inodes().find(id);
  if (!inode || inode->is_directory()) return {};
  const auto state = session.inodes().file(*inode);
  if (!state || !state->is_open()) return {};
  if (state->shown().nlink <= 1) return inode;
  // One with another name stays; whether it has one the remote must say.
  const auto attr = session.ask<Attr>(request, [&](Backend::Done<Attr> done) {
    return session.backend().getattr(session.caller(request), id, std::move(done));
  });
  return attr.ok() && attr.value().nlink > 1 ? InodeRef() : std::move(inode);
}

// Gives an open file another name instead of this one, by which it has that id, in the same
// directory; to be removed with the last close.
Status hide(SessionImpl& session, FuseRequest& request, const Place& place, const char* name,
            const ObjectId& id, const Inode& inode) {
  const std::string hidden = hidden_name(inode.ino(), session.next_number());
  const CallerPtr caller = session.changer(request);
  const cache::TimePoint asked = session.now();
  const auto done = session.ask<RenamedAnswer>(request, [&](Backend::Done<RenamedAnswer> told) {
    return session.backend().rename(caller, place.object, name, place.object, hidden, 0,
                                    std::move(told));
  });
  if (!done.ok()) return done.status();
  note_removed(session, place, name, done.value().to, asked);
  if (const auto listing = listing_of(session, place)) listing->doubt();
  const ObjectId to = session.backend().moved_id(
      id, id, session.backend().child_id(place.object, hidden, inode.ino()));
  if (!to.empty()) tell_moved(session.inodes().move(id, to, *place.inode));
  session.inodes().note_changed(inode, session.now());
  const auto state = session.inodes().file(inode);
  state->hide({place.inode->nodeid(), place.object, hidden});
  // Its last close may have come meanwhile, and found nothing to remove.
  if (!state->is_open()) remove_hidden(session, request, *state);
  return {};
}

// What is no file: what was known of it is its last state, for those who have it open.
void note_gone(SessionImpl& session, const ObjectId& id) {
  if (const InodeRef inode = session.inodes().find(id)) {
    if (auto last = session.inodes().attr(*inode)) {
      last->attr.nlink = 0;
      session.inodes().set_attr(*inode, {last->attr, session.now()});
    }
  }
  session.inodes().detach(id);
}

// The object of that id has a name less.
void note_unlinked(SessionImpl& session, const ObjectId& id) {
  const InodeRef inode = session.inodes().find(id);
  if (!inode) return;
  const auto known = session.inodes().attr(*inode);
  if (inode->type() != S_IFREG && known && known->attr.nlink <= 1) return note_gone(session, id);
  session.inodes().note_changed(*inode, session.now());
  if (const auto file = session.inodes().file(*inode)) file->adjust_links(-1);
  if (session.ids_hold_names()) session.inodes().detach(id);
}

void unlink(SessionImpl& session, FuseRequest& request, const Place& place, const char* name) {
  const ObjectId id = id_of_lost_name(session, request, place, name);
  if (const InodeRef open = file_to_hide(session, request, id)) {
    return request.fail_or_ok(hide(session, request, place, name, id, *open).error_number());
  }
  const CallerPtr caller = session.changer(request);
  const cache::TimePoint asked = session.now();
  const auto done = session.ask<DirChange>(request, [&](Backend::Done<DirChange> told) {
    return session.backend().unlink(caller, place.object, name, std::move(told));
  });
  if (!done.ok()) {
    note_failure(session, place, done.error_number());
    return request.fail(done.error_number());
  }
  note_removed(session, place, name, done.value(), asked);
  if (id.empty()) {
    session.note_lost_name();
  } else {
    note_unlinked(session, id);
  }
  request.ok();
}

void operation_unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  serve<RequestKind::kChange>(req, [&](SessionImpl& session, FuseRequest& request) {
    const Result<Place> place = find_place(session, parent, name);
    if (!place.ok()) return request.fail(place.error_number());
    unlink(session, request, place.value(), name);
  });
}

// A directory that may be open is about to go: what nobody could ask for afterwards.
void learn_last_state(SessionImpl& session, FuseRequest& request, const Place& place,
                      const ObjectId& id) {
  if (id.empty() || !session.handles().any_directory_in(place.inode->nodeid())) return;
  const InodeRef inode = session.inodes().find(id);
  if (!inode || !inode->is_directory() || session.inodes().attr(*inode)) return;
  static_cast<void>(session.fetch_attr(request, *inode));
}

void operation_rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  serve<RequestKind::kChange>(req, [&](SessionImpl& session, FuseRequest& request) {
    const Result<Place> found = find_place(session, parent, name);
    if (!found.ok()) return request.fail(found.error_number());
    const Place& place = found.value();
    const ObjectId id = session.handles().any_directory_in(place.inode->nodeid())
                            ? ask_id_of_name(session, request, place, name)
                            : id_of_name(session, place, name);
    learn_last_state(session, request, place, id);
    const CallerPtr caller = session.changer(request);
    const cache::TimePoint asked = session.now();
    const auto done = session.ask<DirChange>(request, [&](Backend::Done<DirChange> told) {
      return session.backend().rmdir(caller, place.object, name, std::move(told));
    });
    if (!done.ok()) {
      note_failure(session, place, done.error_number());
      return request.fail(done.error_number());
    }
    note_removed(session, place, name, done.value(), asked);
    if (!id.empty()) note_gone(session, id);
    request.ok();
  });
}

// ---- Renaming -----------------------------------------------------------------------------------

struct Rename {
  Place from;
  const char* from_name;
  Place to;
  const char* to_name;
  unsigned flags;
};

// What the inode table makes of it. `source` and `target` are the ids before, where known.
void move_inodes(SessionImpl& session, const Rename& rename, const ObjectId& source,
                 const ObjectId& target) {
  Backend& backend = session.backend();
  InodeTable& inodes = session.inodes();
  const InodeRef moved = inodes.find(source);
  const InodeRef replaced = target.empty() ? InodeRef() : inodes.find(target);
  const bool exchange = (rename.flags & kRenameExchange) != 0;
  const uint64_t ino = moved ? moved->ino() : 0;
  const ObjectId to = backend.child_id(rename.to.object, rename.to_name, ino);
  const ObjectId back =
      backend.child_id(rename.from.object, rename.from_name, replaced ? replaced->ino() : 0);
  const bool gone = replaced && !exchange && replaced->is_directory();
  if (gone) note_gone(session, target);
  if (replaced && !exchange && !gone && session.ids_hold_names()) inodes.detach(target);
  if (exchange || (moved && moved->is_directory())) {
    tell_moved(inodes.move_all([&](const ObjectId& id) {
      ObjectId now = backend.moved_id(id, source, to);
      if (now.empty() && exchange) now = backend.moved_id(id, target, back);
      return now;
    }));
    if (moved) inodes.set_parent(*moved, *rename.to.inode);
    if (replaced && exchange) inodes.set_parent(*replaced, *rename.from.inode);
  } else if (moved) {
    const ObjectId now = backend.moved_id(source, source, to);
    tell_moved(inodes.move(source, now.empty() ? source : now, *rename.to.inode));
  }
  const cache::TimePoint when = session.now();
  if (moved) inodes.note_changed(*moved, when);
  if (replaced && !gone) inodes.note_changed(*replaced, when);
  if (const auto file = replaced && !exchange ? inodes.file(*replaced) : nullptr) {
    file->adjust_links(-1);
  }
  if (moved && moved->is_directory()) inodes.set_name(*moved, rename.to_name);
}

// What the listings make of it. Of what is there now only its inode number and type are sure; not
// even these where `moved` is null.
void move_entries(SessionImpl& session, const Rename& rename, const RenamedAnswer& answer,
                  const Inode* moved, cache::TimePoint asked) {
  note_removed(session, rename.from, rename.from_name, answer.from, asked);
  const bool same = rename.from.inode->nodeid() == rename.to.inode->nodeid();
  // The second of two notes on one directory: the token has moved already.
  const DirChange second =
      same ? DirChange{answer.to.after, answer.to.after, answer.to.attr} : answer.to;
  if (moved == nullptr) {
    for (const Place* place : {&rename.from, &rename.to}) {
      if (const auto listing = listing_of(session, *place)) listing->invalidate(session.now());
    }
    return keep_parent(session, rename.to, second);
  }
  if (const auto listing = listing_of(session, rename.to)) {
    listing->note_removed(rename.to_name, {second.before, second.before, {}}, asked);
    listing->note_added({.name = rename.to_name,
                         .ino = moved->ino(),
                         .type = static_cast<uint8_t>(IFTODT(moved->type())),
                         .attr = std::nullopt,
                         .asked = asked},
                        second);
  }
  keep_parent(session, rename.to, second);
}

void rename(SessionImpl& session, FuseRequest& request, const Rename& rename) {
  const ObjectId source = ask_id_of_name(session, request, rename.from, rename.from_name);
  const bool exchange = (rename.flags & kRenameExchange) != 0;
  ObjectId target = exchange ? ask_id_of_name(session, request, rename.to, rename.to_name)
                             : id_of_lost_name(session, request, rename.to, rename.to_name);
  // What is to be replaced, and open, gets another name first.
  if (rename.flags == 0 && target != source) {
    if (const InodeRef open = file_to_hide(session, request, target)) {
      const Status hidden = hide(session, request, rename.to, rename.to_name, target, *open);
      if (!hidden.ok()) return request.fail(hidden.error_number());
      target = {};
    }
  }
  if (!exchange) learn_last_state(session, request, rename.to, target);
  const CallerPtr caller = session.changer(request);
  const cache::TimePoint asked = session.now();
  const auto done = session.ask<RenamedAnswer>(request, [&](Backend::Done<RenamedAnswer> told) {
    return session.backend().rename(caller, rename.from.object, rename.from_name, rename.to.object,
                                    rename.to_name, rename.flags, std::move(told));
  });
  if (!done.ok()) {
    note_failure(session, rename.from, done.error_number());
    note_failure(session, rename.to, done.error_number());
    return request.fail(done.error_number());
  }
  const InodeRef moved = source.empty() ? InodeRef() : session.inodes().find(source);
  // Two names of one file: nothing has happened. Both unknown are not the same.
  const bool happened = exchange || source.empty() || source != target;
  const Inode* const known = moved && !exchange ? &*moved : nullptr;
  if (happened) move_entries(session, rename, done.value(), known, asked);
  if (target.empty()) session.note_lost_name();
  if (!source.empty()) move_inodes(session, rename, source, target);
  request.ok();
}

void operation_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t to,
                      const char* to_name, unsigned flags) {
  serve<RequestKind::kChange>(req, [&](SessionImpl& session, FuseRequest& request) {
    if ((flags & ~(kRenameNoReplace | kRenameExchange)) != 0) return request.fail(EINVAL);
    Result<Place> from = find_place(session, parent, name);
    if (!from.ok()) return request.fail(from.error_number());
    Result<Place> target = find_place(session, to, to_name);
    if (!target.ok()) return request.fail(target.error_number());
    rename(session, request,
           {std::move(from).value(), name, std::move(target).value(), to_name, flags});
  });
}

// ---- Attributes ---------------------------------------------------------------------------------

cache::Timespec to_timespec(const timespec& time) {
  return {.seconds = time.tv_sec, .nanoseconds = static_cast<uint32_t>(time.tv_nsec)};
}

SetAttr to_set_attr(const struct stat& status, int to_set) {
  SetAttr set;
  constexpr std::pair<int, uint32_t> kBits[] = {
      {FUSE_SET_ATTR_MODE, SetAttr::kMode},
      {FUSE_SET_ATTR_UID, SetAttr::kUid},
      {FUSE_SET_ATTR_GID, SetAttr::kGid},
      {FUSE_SET_ATTR_SIZE, SetAttr::kSize},
      {FUSE_SET_ATTR_ATIME, SetAttr::kAtime},
      {FUSE_SET_ATTR_MTIME, SetAttr::kMtime},
      {FUSE_SET_ATTR_ATIME_NOW, SetAttr::kAtimeNow},
      {FUSE_SET_ATTR_MTIME_NOW, SetAttr::kMtimeNow},
  };
  for (const auto& [bit, field] : kBits) {
    if ((to_set & bit) != 0) set.valid |= field;
  }
  // `NOW` comes with the plain bit; one of them is enough.
  if (set.has(SetAttr::kAtimeNow)) set.valid &= ~SetAttr::kAtime;
  if (set.has(SetAttr::kMtimeNow)) set.valid &= ~SetAttr::kMtime;
  set.mode = status.st_mode & 07777;
  set.uid = status.st_uid;
  set.gid = status.st_gid;
  set.size = static_cast<uint64_t>(status.st_size);
  set.atime = to_timespec(status.st_atim);
  set.mtime = to_timespec(status.st_mtim);
  return set;
}

using Truncation = cache::FileMapping::Truncation;

// What is dirty is written before: written later it would undo times, and may not be permitted any
// more. A new size has writers wait as well.
Status settle_data(SessionImpl& session, FuseRequest& request, FileState& file, const SetAttr& set,
                   std::unique_ptr<Truncation>* truncation) {
  const Status written = session.flush(request, file, cache::FileMapping::Durable::kNo);
  if (is_passing(written.error_number())) return written;
  if (!set.has(SetAttr::kSize)) return {};
  const Waiting waiting(session, request);
  auto begun = file.data().begin_truncate(set.size, session.data_wait(waiting.patience()));
  if (!begun.ok()) return begun.status();
  *truncation = std::move(begun).value();
  return {};
}

// An open handle by which the object can be reached; 0: none is needed.
BackendFileSourcePtr handle_for(SessionImpl& session, const Inode& inode, FileState* file,
                                const fuse_file_info* fi) {
  if (file == nullptr) return nullptr;
  if (fi != nullptr) return HandleList::get<FileHandle>(fi->fh).source;
  return session.inodes().detached(inode) ? file->any_source() : nullptr;
}

// What is no file and was removed through this mount, by those who have it open: nobody else sees
// it.
void set_removed(SessionImpl& session, FuseRequest& request, const Inode& inode,
                 const SetAttr& set) {
  const auto known = session.inodes().attr(inode);
  if (inode.type() == S_IFREG || !known) return request.fail(ESTALE);
  Attr attr = known->attr;
  attr.ctime = wall_clock();
  set.apply_to(&attr);
  const TimedAttr fresh{attr, session.now()};
  session.inodes().set_attr(inode, fresh);
  reply_attr(session, request, inode, fresh);
}

void setattr(SessionImpl& session, FuseRequest& request, fuse_ino_t ino, const SetAttr& set,
             const fuse_file_info* fi) {
  const InodeRef inode = session.inodes().find(ino);
  if (!inode) return request.fail(ESTALE);
  const auto file = session.inodes().file(*inode);
  const BackendFileSourcePtr handle = handle_for(session, *inode, file.get(), fi);
  if (!handle && session.inodes().detached(*inode)) {
    return set_removed(session, request, *inode, set);
  }
  const CallerPtr caller = session.changer(request);
  if (file && file->hold(set, caller)) {
    if (set.has(SetAttr::kMtime)) file->note_kernel_mtime(set.mtime);
    session.inodes().note_changed(*inode, session.now());
    return reply_attr(session, request, *inode,
                      {file->shown(), session.now() - session.options().ttl});
  }
  std::unique_ptr<Truncation> truncation;
  std::optional<Attr> looked;
  // What it sets leaves those alone that tell of other data.
  const bool shows_data = !set.has(SetAttr::kSize | SetAttr::kMtime | SetAttr::kMtimeNow);
  if (file) {
    Status settled = session.settle_attrs(request, *inode, *file);
    if (settled.ok()) settled = settle_data(session, request, *file, set, &truncation);
    if (!settled.ok()) return request.fail(settled.error_number());
    looked = file->note_own_change();
    if (looked && !shows_data) {
      session.look_once_more(caller, *inode, file, handle ? handle : file->any_source(), *looked);
    }
  }
  const cache::TimePoint asked = session.now();
  const auto set_by = [&](const BackendFileSourcePtr& source) {
    return session.ask<Attr>(request, [&](Backend::Done<Attr> done) {
      return session.backend().setattr(caller, session.inodes().object(*inode),
                                       source ? source->file() : 0, set, std::move(done));
    });
  };
  auto attr = set_by(handle);
  // Unlinked while it is open, on a remote whose ids say nothing of names.
  const BackendFileSourcePtr open = file && !handle ? file->any_source() : nullptr;
  if (attr.error_number() == ESTALE && open) attr = set_by(open);
  if (truncation) {
    truncation->end_truncate(attr.ok() ? Truncation::Remote::kTruncated
                                       : Truncation::Remote::kFailed);
  }
  if (!attr.ok()) {
    session.inodes().note_changed(*inode, session.now());
    return request.fail(attr.error_number());
  }
  if (!presentable(attr.value())) return request.fail(EIO);
  session.keep_own(*inode, attr.value());
  if (looked && shows_data) {
    Attr now = attr.value();
    now.ctime = looked->ctime;
    file->check_unchanged(*looked, now);
  }
  if (file) session.retry_invalidation(*inode, *file);
  if (file && set.has(SetAttr::kMtime)) file->note_kernel_mtime(set.mtime);
  Attr shown = attr.value();
  if (file && file->has_untold()) shown = file->shown();
  reply_attr(session, request, *inode, {shown, asked});
}

void operation_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* status, int to_set,
                       fuse_file_info* fi) {
  serve<RequestKind::kChange>(req, [&](SessionImpl& session, FuseRequest& request) {
    setattr(session, request, ino, to_set_attr(*status, to_set), fi);
  });
}

}  // namespace

void remove_hidden(SessionImpl& session, FuseRequest& request, FileState& state) {
  const auto hidden = state.take_hidden();
  if (!hidden) return;
  const CallerPtr caller = session.changer(request);
  const cache::TimePoint asked = session.now();
  const Result<Place> place = find_place(session, hidden->parent, hidden->name.c_str());
  // The directory may have been renamed since.
  const ObjectId directory = place.ok() ? place.value().object : hidden->directory;
  const auto done = session.ask<DirChange>(request, [&](Backend::Done<DirChange> told) {
    return session.backend().unlink(caller, directory, hidden->name, std::move(told));
  });
  if (!done.ok()) return;  // it stays, under a name that says what it is
  if (place.ok()) note_removed(session, place.value(), hidden->name.c_str(), done.value(), asked);
}

void settle_made_ahead(SessionImpl& session, const MadeAhead::File& file,
                       const MadeAhead::Answer& answer) {
  if (answer.ok() && answer.value().parent.after != 0) return;  // all is as it was told
  const Result<Place> place = find_place(session, file.parent, file.name.c_str());
  if (place.ok()) distrust(session, place.value());
  const InodeRef inode = session.inodes().find(file.nodeid);
  if (!answer.ok()) {
    session.notifier().inval_entry(file.parent, file.name);
    return session.note_not_made(inode, file, answer.error_number());
  }
  if (!inode) return;
  session.inodes().note_changed(*inode, session.now());
  session.notifier().inval_attributes(file.nodeid);
}

void add_change_operations(fuse_lowlevel_ops* operations) {
  operations->mkdir = operation_mkdir;
  operations->mknod = operation_mknod;
  operations->symlink = operation_symlink;
  operations->link = operation_link;
  operations->create = operation_create;
  operations->unlink = operation_unlink;
  operations->rmdir = operation_rmdir;
  operations->rename = operation_rename;
  operations->setattr = operation_setattr;
}

}  // namespace fusefs
