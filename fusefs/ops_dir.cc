// Listings: opendir, READDIR and READDIRPLUS from the cached arrays.
//
// How a READDIR goes:
//   1. begin_pass      at offset 0, and at a handle's first call: is the listing still right?
//   2. read_entries    the cached directory gives arrays to the sink, which encodes them
//   3. prime           READDIRPLUS: node ids for the entries that fitted, one lookup each
//   4. reply           what the kernel did not take is forgotten again
// opendir asks the remote nothing, so that the control channel works on a dead one. (Where the
// kernel keeps listings it asks for the change token, but not for the root's.)

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "fusefs/dirent_encoder.h"
#include "fusefs/dot_entries.h"
#include "fusefs/ops.h"
#include "fusefs/session_impl.h"

namespace fusefs {
namespace {

constexpr size_t kFirstReply = 32768;

enum class ReadKind : uint8_t { kPlain, kPlus };

// What the age of attributes is judged by.
struct Ages {
  cache::TimePoint now;
  cache::Duration ttl;  // 0: no attributes are given
};

// Encodes what a listing gives into the reply. Takes its buffer with the first entry.
class ReplySink final : public cache::EntrySink {
 public:
  ReplySink(ReplyBuffers& buffers, size_t capacity, DirentFormat format, Link link,
            const Ages& ages)
      : lease_(buffers), capacity_(capacity), format_(format), link_(link), ages_(ages) {}

  uint32_t consume(const cache::ArrayView& view, uint32_t from, uint32_t to) override {
    if (from >= to || !ready()) return 0;
    const cache::TimePoint filled{cache::Duration(view.header().filled)};
    const cache::Duration valid = ages_.ttl - (ages_.now - filled);
    const uint32_t taken = encoder_.append(view, from, to, valid);
    valid_ = std::min(valid_, view.has_attrs() ? valid : cache::Duration::zero());
    if (taken < to - from) full_ = true;
    entries_ += taken;
    if (taken > 0) last_offset_ = view.cookie(from + taken - 1);
    note_reserved(view, from, from + taken);
    return taken;
  }
  bool append_dot(std::string_view name, uint64_t ino, uint64_t offset) {
    if (!ready() || !encoder_.append_name(name, ino, DT_DIR, offset)) {
      full_ = true;
      return false;
    }
    last_offset_ = offset;
    return true;
  }

  DirentEncoder& encoder() { return encoder_; }
  [[nodiscard]] uint64_t entries() const { return entries_; }  // without '.' and '..'
  // The place after what was given, where anything was.
  [[nodiscard]] uint64_t last_offset() const { return last_offset_; }
  // How long all attributes given so far are good; nothing where some were missing.
  [[nodiscard]] cache::Duration valid() const { return valid_; }
  [[nodiscard]] bool full() const { return full_; }
  [[nodiscard]] bool out_of_memory() const { return out_of_memory_; }
  [[nodiscard]] bool entry_at_dot() const { return entry_at_dot_; }
  [[nodiscard]] bool entry_at_dotdot() const { return entry_at_dotdot_; }

 private:
  // May run under the directory's lock, so a failure is remembered and not thrown.
  bool ready() {
    if (encoder_.data() != nullptr) return true;
    std::byte* const buffer = lease_.get();
    out_of_memory_ = buffer == nullptr;
    if (!out_of_memory_) encoder_ = DirentEncoder(buffer, capacity_, format_, link_);
    return !out_of_memory_;
  }
  void note_reserved(const cache::ArrayView& view, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; ++i) {
      if (view.cookie(i) - kAfterDot > kAfterDotDot - kAfterDot) continue;
      (view.cookie(i) == kAfterDot ? entry_at_dot_ : entry_at_dotdot_) = true;
    }
  }

  ReplyBuffers::Lease lease_;
  const size_t capacity_;
  const DirentFormat format_;
  const Link link_;
  const Ages ages_;
  DirentEncoder encoder_;
  uint64_t entries_ = 0;
  uint64_t last_offset_ = 0;
  cache::Duration valid_ = cache::Duration::max();
  bool full_ = false;
  bool out_of_memory_ = false;
  bool entry_at_dot_ = false;
  bool entry_at_dotdot_ = false;
};

// ---- 1. Freshness, and what is given ------------------------------------------------------------

bool begins_pass(DirHandle& handle, uint64_t offset) {
  cache::MutexLock lock(handle.mutex);
  return offset == 0 || !handle.pass.begun;
}

// In automatic mode the kernel asks for attributes at the start of every pass; in mid-pass only
// when it uses what it got.
bool asks_by_habit(SessionImpl& session, uint64_t offset, ReadKind kind) {
  return kind == ReadKind::kPlus && offset == 0 &&
         session.options().readdirplus == ReaddirPlus::kAuto;
}

Link what_links(SessionImpl& session, DirState& dir, uint64_t offset, ReadKind kind) {
  const cache::TimePoint now = session.now();
  if (kind == ReadKind::kPlain) return Link::kDirectories;
  if (dir.still_linked(ListingAge::Linked::kAll, now)) return Link::kDirectories;
  if (!asks_by_habit(session, offset, kind)) return Link::kAll;
  if (dir.goes_on_with_known_files()) return Link::kAll;
  if (dir.still_linked(ListingAge::Linked::kFirstReply, now)) return Link::kDirectories;
  return session.link_hint().begin_pass() ? Link::kAll : Link::kDirectories;
}

// Notes what a pass has linked so far: all that it gave, when it comes to the end so.
void note_links(DirHandle& handle, uint64_t offset, const ReplySink& sink, Link link,
                cache::TimePoint now) {
  using Linked = ListingAge::Linked;
  const cache::TimePoint until = ListingAge::believed_until(now, sink.valid());
  cache::MutexLock lock(handle.mutex);
  DirPass& pass = handle.pass;
  if (offset != pass.linked_to) pass.links_all = false;
  if (sink.entries() == 0) {
    if (!sink.full() && pass.links_all) handle.dir->note_linked(Linked::kAll, pass.believed_until);
    return;
  }
  if (link != Link::kAll) pass.links_all = false;
  if (link == Link::kAll && offset == 0) handle.dir->note_linked(Linked::kFirstReply, until);
  pass.linked_to = sink.last_offset();
  pass.believed_until = std::min(pass.believed_until, until);
}

DirState::Asks asks_for(ReadKind kind) {
  return kind == ReadKind::kPlus ? DirState::Asks::kAttributes : DirState::Asks::kNames;
}

Status begin_pass(SessionImpl& session, FuseRequest& request, DirHandle& handle,
                  DirState::Asks asks) {
  session.tree_ahead().pass_begins(*handle.inode, *handle.dir, handle.opener);
  DirState& dir = *handle.dir;
  if (dir.token_expired(session.now())) {
    const Status confirmed = session.confirm_token(request, *handle.inode, dir);
    if (!confirmed.ok()) return confirmed;
  }
  auto attributes = dir.begin_pass(session.now(), asks);
  // Where the kernel would take them but nobody is known to use them, and where a request for each
  // costs no more than with the listing.
  const bool later = asks == DirState::Asks::kNames && session.backend().answers_at_once();
  if (later && attributes == ListingAge::Attributes::kOffered) {
    attributes = ListingAge::Attributes::kOmit;
  }
  cache::MutexLock lock(handle.mutex);
  handle.pass = {.begun = true, .attributes = attributes};
  return {};
}

// ---- 2. Entries ---------------------------------------------------------------------------------

// Whether this call asks the remote for attributes that are missing.
bool wants_attributes(SessionImpl& session, DirHandle& handle, uint64_t offset, ReadKind kind) {
  using Attributes = ListingAge::Attributes;
  if (session.children_need_lookup()) return false;
  DirState& dir = *handle.dir;
  // In automatic mode the kernel asks for attributes in mid-pass only when they are being used.
  const bool used =
      kind == ReadKind::kPlus && offset != 0 && session.options().readdirplus == ReaddirPlus::kAuto;
  if (used) dir.note_wanted();
  Attributes attributes;
  {
    cache::MutexLock lock(handle.mutex);
    attributes = handle.pass.attributes;
  }
  if (used && (attributes == Attributes::kOmit || attributes == Attributes::kOffered)) {
    attributes = dir.begin_pass(session.now(), asks_for(kind));
    cache::MutexLock lock(handle.mutex);
    handle.pass.attributes = attributes;
  }
  if (attributes == Attributes::kOmit) return false;
  dir.pass_continues(session.now());
  if (kind == ReadKind::kPlus || attributes != Attributes::kOffered) return true;
  // The types at least will be asked for, entry by entry; of few entries all is had at once.
  return !session.backend().names_tell_types() &&
         dir.directory().info().arrays <= DirState::kFewArrays;
}

// Appends '.' and '..' where the offset lies before them; the listing's own position is the answer.
uint64_t put_dots(const Inode& inode, const DirPass& pass, uint64_t offset, ReplySink& sink) {
  const bool at_start = offset == 0;
  const bool after_dot = offset == kAfterDot && !pass.entry_at_dot;
  const bool after_dotdot = offset == kAfterDotDot && !pass.entry_at_dotdot;
  if (!at_start && !after_dot && !after_dotdot) return offset;
  const uint64_t parent = inode.nodeid() == kRootNodeId ? inode.ino() : inode.parent_ino();
  if (at_start && !sink.append_dot(".", inode.ino(), kAfterDot)) return 0;
  if (!after_dotdot) sink.append_dot("..", parent, kAfterDotDot);
  return 0;
}

Status read_entries(SessionImpl& session, FuseRequest& request, DirHandle& handle, uint64_t offset,
                    ReplySink& sink, cache::ReadOptions options) {
  const Waiting waiting(session, request);
  if (handle.opener) handle.dir->act_for(handle.opener);
  cache::MutexLock lock(handle.mutex);
  const uint64_t position = put_dots(*handle.inode, handle.pass, offset, sink);
  if (sink.full()) return {};
  options.deadline = waiting.patience().deadline;
  options.interrupt = waiting.patience().interrupt;
  const Status status = handle.dir->directory().read(handle.cursor, position, options, sink);
  if (sink.entry_at_dot()) handle.pass.entry_at_dot = true;
  if (sink.entry_at_dotdot()) handle.pass.entry_at_dotdot = true;
  return status;
}

// ---- 3. Node ids --------------------------------------------------------------------------------

// A child directory's change token came with the listing: its own first listing need not ask.
void keep_token(SessionImpl& session, DirHandle& handle, const PlusEntry& entry,
                const Inode& inode) {
  cache::TimePoint asked;
  const auto attr =
      handle.dir->directory().find_attr(entry.name(), cache::TimePoint::min(), &asked);
  if (attr && attr->ino == entry.ino()) session.keep_attr(inode, *attr, asked);
}

void prime_directory(SessionImpl& session, DirHandle& handle, PlusEntry& entry, uint64_t nodeid) {
  const InodeRef inode = session.inodes().find(nodeid);
  if (!inode || !inode->is_directory()) return;
  session.inodes().set_name(*inode, entry.name());
  if (!session.inodes().attr(*inode)) keep_token(session, handle, entry, *inode);
  if (const auto known = session.inodes().attr(*inode)) {
    entry.set_block_size(session.block_size(*inode, known->attr));
  }
}

// What was listed of a file is not what it is now: whoever wants to know asks for it.
bool is_outdated(SessionImpl& session, const PrimedEntry& entry) {
  if (entry.nodeid == 0 || entry.outdated || !entry.opened_file) return entry.outdated;
  const InodeRef inode = session.inodes().find(entry.nodeid);
  const auto file = inode ? session.inodes().file(*inode) : nullptr;
  return file && (file->owns_changes() || file->has_untold());
}

std::vector<PrimedEntry> prime(SessionImpl& session, DirHandle& handle, DirentEncoder& encoder) {
  const Inode& parent = *handle.inode;
  std::vector<PrimedEntry> primed;
  if (encoder.format() != DirentFormat::kPlus) return primed;
  const ObjectId object = session.inodes().object(parent);
  const cache::TimePoint now = session.now();
  for (PlusEntries walk(encoder.data(), encoder.size()); !walk.done(); walk.next()) {
    const PlusEntry entry = walk.entry();
    if (!entry.has_attributes()) continue;
    ObjectId id = session.backend().child_id(object, entry.name(), entry.ino());
    if (id.empty()) session.note_children_need_lookup();
    primed.push_back({std::move(id),
                      {.ino = entry.ino(),
                       .parent_ino = parent.ino(),
                       .parent = parent.nodeid(),
                       .mode = entry.mode()},
                      0,
                      now - (session.options().ttl - entry.valid())});
  }
  session.inodes().lookup_batch(primed);
  size_t next = 0;
  for (PlusEntries walk(encoder.data(), encoder.size()); !walk.done(); walk.next()) {
    PlusEntry entry = walk.entry();
    if (!entry.has_attributes()) continue;
    PrimedEntry& known = primed[next++];
    if (is_outdated(session, known)) session.inodes().forget(std::exchange(known.nodeid, 0), 1);
    const uint64_t nodeid = known.nodeid;
    if (nodeid != 0) {
      entry.set_node(nodeid);
      if (S_ISDIR(entry.mode())) {
        prime_directory(session, handle, entry, nodeid);
      } else if (!session.backend().counts_links()) {
        entry.set_links(known.ids);
      }
    } else {
      entry.clear_node();
    }
  }
  return primed;
}

void forget_primed(SessionImpl& session, const std::vector<PrimedEntry>& primed) {
  for (const PrimedEntry& entry : primed) {
    if (entry.nodeid != 0) session.inodes().forget(entry.nodeid, 1);
  }
}

// ---- 4. The operations --------------------------------------------------------------------------

void read_directory(SessionImpl& session, FuseRequest& request, DirHandle& handle, size_t size,
                    off_t offset_in, ReadKind kind) {
  if (offset_in < 0) return request.fail(EINVAL);
  const auto offset = static_cast<uint64_t>(offset_in);
  const Link link = what_links(session, *handle.dir, offset, kind);
  if (begins_pass(handle, offset)) {
    const bool names = link == Link::kDirectories && session.backend().answers_at_once();
    const Status begun =
        begin_pass(session, request, handle, names ? DirState::Asks::kNames : asks_for(kind));
    if (!begun.ok()) return request.fail(begun.error_number());
  }
  const Ages ages = {.now = session.now(),
                     .ttl = session.children_need_lookup()
                                ? cache::Duration::zero()
                                : cache::Duration(session.options().ttl)};
  cache::ReadOptions options;
  options.want_attrs = wants_attributes(session, handle, offset, kind);
  options.attrs_not_before = handle.dir->oldest_listed(ages.now);
  const auto format = kind == ReadKind::kPlus ? DirentFormat::kPlus : DirentFormat::kPlain;
  // Who asks for much still has the first names at once.
  const size_t most = offset == 0 ? kFirstReply : ReplyBuffers::kMaxBytes;
  ReplySink sink(session.buffers(), std::min(size, most), format, link, ages);
  const Status status = read_entries(session, request, handle, offset, sink, options);
  DirentEncoder& encoder = sink.encoder();
  if (sink.out_of_memory()) return request.fail(ENOMEM);
  // '.' and '..' alone don't hide an error: whoever asks again would wait for it again.
  if (!status.ok() && sink.entries() == 0) return request.fail(status.error_number());
  if (sink.full() && encoder.size() == 0) return request.fail(EINVAL);  // empty would mean the end

  note_links(handle, offset, sink, link, ages.now);
  const bool at_end = sink.entries() == 0 && !sink.full();
  if (at_end && handle.dir->became_long()) {
    session.notifier().inval_attributes(handle.inode->nodeid());  // block_size() has changed
  }
  const std::vector<PrimedEntry> primed = prime(session, handle, encoder);
  const int refused =
      request.reply(fuse_reply_buf, reinterpret_cast<const char*>(encoder.data()), encoder.size());
  // The handle may be gone by now: whoever has the reply may have closed it.
  if (refused != 0) forget_primed(session, primed);
}

void operation_readdir(fuse_req_t req, fuse_ino_t /*ino*/, size_t size, off_t offset,
                       fuse_file_info* fi) {
  serve<RequestKind::kReaddir>(req, [&](SessionImpl& session, FuseRequest& request) {
    read_directory(session, request, HandleList::get<DirHandle>(fi->fh), size, offset,
                   ReadKind::kPlain);
  });
}

void operation_readdirplus(fuse_req_t req, fuse_ino_t /*ino*/, size_t size, off_t offset,
                           fuse_file_info* fi) {
  serve<RequestKind::kReaddirplus>(req, [&](SessionImpl& session, FuseRequest& request) {
    read_directory(session, request, HandleList::get<DirHandle>(fi->fh), size, offset,
                   ReadKind::kPlus);
  });
}

// The kernel keeps what this handle lists; what it kept before is left to it while that is right.
void let_kernel_keep(SessionImpl& session, FuseRequest& request, const Inode& inode, DirState& dir,
                     fuse_file_info* fi) {
  const bool ask = inode.nodeid() != kRootNodeId && dir.token_expired(session.now());
  // Where it can't be confirmed the first READDIR says why.
  const bool keep = !ask || session.confirm_token(request, inode, dir).ok();
  const DirState::Lends lends = dir.lend_to_kernel(session.now());
  fi->cache_readdir = 1;
  fi->keep_cache = keep && lends == DirState::Lends::kAgain ? 1 : 0;
  // Another opendir may be answered, and kept, before the kernel has acted on this answer.
  if (lends == DirState::Lends::kOther) session.notifier().inval_inode(inode.nodeid());
}

void operation_opendir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  serve<RequestKind::kOpendir>(req, [&](SessionImpl& session, FuseRequest& request) {
    InodeRef inode = session.inodes().find(ino);
    if (!inode) return request.fail(ESTALE);
    if (!inode->is_directory()) return request.fail(ENOTDIR);
    std::shared_ptr<DirState> dir = session.obtain_dir(*inode);
    if (session.kernel_keeps_listings()) let_kernel_keep(session, request, *inode, *dir, fi);
    const uint64_t fh = session.handles().add(
        std::make_unique<DirHandle>(std::move(inode), dir, session.caller(request)));
    fi->fh = fh;
    // An interrupted opendir is not followed by a releasedir.
    if (request.reply(fuse_reply_open, fi) != 0) {
      session.handles().close(fh);
      dir->forget_lent();
    }
  });
}

void operation_releasedir(fuse_req_t req, fuse_ino_t /*ino*/, fuse_file_info* fi) {
  serve(req, [&](SessionImpl& session, FuseRequest& request) {
    session.handles().close(fi->fh);
    request.ok();
  });
}

void operation_fsyncdir(fuse_req_t req, fuse_ino_t /*ino*/, int /*datasync*/,
                        fuse_file_info* /*fi*/) {
  // Every change of names has been answered by the remote, but for files that are made ahead.
  serve(req, [](SessionImpl& session, FuseRequest& request) {
    request.fail_or_ok(session.wait_until_made(request).error_number());
  });
}

}  // namespace

void add_dir_operations(fuse_lowlevel_ops* operations) {
  operations->opendir = operation_opendir;
  operations->readdir = operation_readdir;
  operations->readdirplus = operation_readdirplus;
  operations->releasedir = operation_releasedir;
  operations->fsyncdir = operation_fsyncdir;
}

}  // namespace fusefs
