// DirCore: life, freshness and bookkeeping. Reading is in dir_read.cc, waiting in dir_wait.cc,
// filling in dir_fill.cc.
#include "cache/dir/dir_core.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>

namespace cache {

DirCore::DirCore(PageCache& cache, DirSource& source)
    : cache_(cache),
      source_(source),
      hooks_(cache.hook_table<ArrayHooks>()),
      stats_(cache.stats()),
      kind_(source.cookie_kind()),
      pages_(std::make_unique<AddressSpace>(cache, hooks_)),
      anchors_(cache),
      mapped_(kind_ == CookieKind::kOpaque),
      own_names_(cache) {}

void DirCore::close() {
  std::vector<DirSource::RequestId> ids;
  {
    MutexLock lock(mutex_);
    while (!fill_owners_.empty()) {
      const FillPtr fill = fill_owners_.back();
      end_fill(*fill, ENOTCONN);
    }
    ids.swap(cancels_);
    closed_ = true;
    // Threads that are inside the source right now come back on their own; nobody waits for the
    // remote here.
    while (calls_out_ > 0) progress_.wait(mutex_);
    anchors_.clear();
  }
  drop_index();
  own_names_.clear();
  hooks_.forget_owner(*this);
  for (const DirSource::RequestId id : ids) source_.cancel(id);
  pages_.reset();
}

bool DirCore::revalidate(uint64_t change) {
  bool stale = false;
  {
    MutexLock lock(mutex_);
    if (latest(change) != change) return false;  // told before an own change was
    change_ = change;
    stale = has_stamp_ && (!other_stamps_.empty() || stamp_ != change || change == 0);
    // Entries that a fill took in before the change must not reach a listing that begins now.
    for (const FillPtr& fill : fill_owners_) {
      stale |= fill->stamp.change != change || fill->sent.change != change;
    }
    if (stale) invalidate_locked(Forgotten::kChanged);
  }
  if (stale) flush_cancels();
  return stale;
}

bool DirCore::holds_listing() const {
  MutexLock lock(mutex_);
  return has_stamp_ && other_stamps_.empty() && stamp_ != 0;
}

void DirCore::note_stamp(uint64_t change) {
  if (!has_stamp_) {
    stamp_ = change;
    has_stamp_ = true;
  } else if (stamp_ != change) {
    // Too many, and it stays mixed: no step leads on from 0.
    other_stamps_.push_back(other_stamps_.size() < kMaxStamps ? change : 0);
  }
}

void DirCore::invalidate(Forgotten why) {
  {
    MutexLock lock(mutex_);
    invalidate_locked(why);
  }
  flush_cancels();
}

// What was numbered so far means nothing to the remote any more.
void DirCore::begin_era() {
  era_.fetch_add(1, std::memory_order_acq_rel);
  invalidate_locked(Forgotten::kNumbering);
}

uint64_t DirCore::invalidate_locked(Forgotten why) {
  const uint64_t removed = pages_->invalidate_all();
  // Mapped cookies in the hands of programs are resolved through anchors: those stay.
  if (mapped_.load(std::memory_order_relaxed)) {
    anchors_.begin_generation();
  } else {
    anchors_.clear();
  }
  drop_index();
  forget_own_changes();
  has_stamp_ = false;
  other_stamps_.clear();
  ascending_.store(true, std::memory_order_relaxed);
  descending_.store(true, std::memory_order_relaxed);
  ++invalidations_;
  forgotten_ = why;
  forgotten_at_ = std::chrono::steady_clock::now();
  // Fills under way are older than this. Those with waiters end with their next answer.
  for (const FillPtr& fill : std::vector<FillPtr>(fill_owners_)) {
    if (fill->waiters == 0) end_fill(*fill, 0);
  }
  return removed;
}

void DirCore::opened() {
  MutexLock lock(mutex_);
  ++handles_;
}

void DirCore::closed() {
  {
    MutexLock lock(mutex_);
    CACHE_CHECK(handles_ > 0);
    if (--handles_ > 0) return;
    for (const FillPtr& fill : std::vector<FillPtr>(fill_owners_)) {
      if (fill->waiters == 0) end_fill(*fill, 0);
    }
  }
  flush_cancels();
}

// --- entries by name and number ---------------------------------------------------------------

namespace {

std::optional<uint32_t> index_of(const ArrayView& view, std::string_view name, uint32_t start) {
  const uint32_t i = view.find_name(name, start);
  return i < view.count() ? std::optional<uint32_t>(i) : std::nullopt;
}

bool has_attrs_since(const ArrayView& view, TimePoint not_before) {
  return view.has_attrs() && view.header().filled >= not_before.time_since_epoch().count();
}

}  // namespace

// Where find(view, start) tells an entry's index, in the arrays for which usable(view) holds.
template <typename Usable, typename Find>
DirCore::FoundEntry DirCore::find_near(SearchHint& hint, const Usable& usable, const Find& find) {
  const auto look_at = [&](const Page& page, uint32_t start) -> std::optional<uint32_t> {
    const ArrayView view = ArrayView::of(page.content());
    return find(view, start < view.count() ? start : 0);
  };
  const auto may_look_at = [&](const Page& page) {
    return page.uptodate() && usable(ArrayView::of(page.content()));
  };
  const uint64_t hint_key = hint.key.load(std::memory_order_relaxed);
  PageRef page = pages_->find_hint(hint.page.load(std::memory_order_acquire), hint_key);
  if (!page) page = pages_->find(hint_key);
  uint32_t start = hint.index.load(std::memory_order_relaxed) + 1;
  // What is asked for next is nearly always the next entry: this array, or the one after it.
  for (int arrays = 0; arrays < 2 && page && may_look_at(*page); ++arrays) {
    if (const auto i = look_at(*page, start)) {
      hint.set(page.get(), page->key(), *i);
      return {std::move(page), *i};
    }
    const ArrayView view = ArrayView::of(page->content());
    if ((view.header().flags & kArrayEof) != 0) break;
    start = 0;
    page = pages_->find(view.header().last_cookie);
  }
  if (pages_->page_count() > Directory::kFindAttrArrays) return {};
  std::optional<uint64_t> key;
  pages_->for_each([&](const Page& other) {
    if (may_look_at(other) && look_at(other, 0)) key = other.key();
    return !key;
  });
  page = key ? pages_->find(*key) : PageRef();
  const auto i = page && may_look_at(*page) ? look_at(*page, 0) : std::nullopt;
  if (!i) return {};
  hint.set(page.get(), *key, *i);
  return {std::move(page), *i};
}

// The same by name, in listings of any length.
template <typename Usable>
DirCore::FoundEntry DirCore::find_name(SearchHint& hint, const Usable& usable,
                                       std::string_view name) {
  FoundEntry found = find_near(hint, usable, [&](const ArrayView& view, uint32_t start) {
    return index_of(view, name, start);
  });
  if (found.page) return found;
  const bool indexed = index_state_.load(std::memory_order_relaxed) == IndexState::kReady;
  const uint64_t arrays = pages_->page_count();
  if (arrays <= Directory::kFindAttrArrays) {
    if (indexed) drop_index();
    return {};
  }
  if (!indexed) {
    if (index_misses_.fetch_add(1, std::memory_order_relaxed) + 1 < kIndexMisses) return {};
    make_index();
  }
  std::array<uint64_t, 8> keys{};
  size_t count = 0;
  bool mostly_gone = false;
  {
    MutexLock lock(index_mutex_);
    if (!index_) return {};
    count = index_->find(name, keys);
    mostly_gone = index_->arrays() > arrays * 2 + 64;
  }
  for (size_t k = 0; k < count; ++k) {
    PageRef page = pages_->find(keys[k]);
    if (!page || !page->uptodate()) continue;
    const ArrayView view = ArrayView::of(page->content());
    const auto i = usable(view) ? index_of(view, name, 0) : std::nullopt;
    if (!i) continue;
    hint.set(page.get(), keys[k], *i);
    return {std::move(page), *i};
  }
  if (mostly_gone) drop_index();
  return {};
}

// By the thread that missed it, with no lock held: a million names take some 0.1 s.
void DirCore::make_index() {
  {
    MutexLock lock(index_mutex_);
    if (index_state_.load(std::memory_order_relaxed) != IndexState::kNone) return;
    index_state_.store(IndexState::kMaking, std::memory_order_relaxed);
    index_misses_.store(0, std::memory_order_relaxed);
  }
  const uint64_t sequence = pages_->sequence();
  std::vector<uint64_t> keys;
  uint64_t entries = 0;
  pages_->for_each([&](const Page& page) {
    if (page.uptodate()) {
      keys.push_back(page.key());
      entries += ArrayView::of(page.content()).count();
    }
    return true;
  });
  std::unique_ptr<NameIndex> index = NameIndex::create(cache_, entries, keys.size());
  bool complete = index != nullptr;
  while (complete && !keys.empty()) {
    for (const uint64_t key : keys) {
      const PageRef page = pages_->find(key);
      if (!page || !page->uptodate()) continue;
      complete &= index->add(key, ArrayView::of(page->content()));
    }
    keys.clear();
    MutexLock lock(index_mutex_);
    keys.swap(index_later_);
    if (!keys.empty() || !complete || sequence != pages_->sequence()) continue;
    index_ = std::move(index);
    index_state_.store(IndexState::kReady, std::memory_order_relaxed);
    lock.unlock();
    hooks_.note_names(shared_from_this());
    return;
  }
  MutexLock lock(index_mutex_);
  index_later_.clear();
  index_state_.store(IndexState::kNone, std::memory_order_relaxed);
  if (!complete) index_misses_.store(-kIndexPause, std::memory_order_relaxed);
}

// A page that is sealed just as an index is begun may be left out: a lookup then costs a request.
void DirCore::index_sealed(const Page& page) {
  if (index_state_.load(std::memory_order_relaxed) == IndexState::kNone) return;
  std::unique_ptr<NameIndex> full;  // destroyed outside the lock
  MutexLock lock(index_mutex_);
  const IndexState state = index_state_.load(std::memory_order_relaxed);
  if (state == IndexState::kNone) return;
  if (state == IndexState::kMaking) {
    index_later_.push_back(page.key());
  } else if (!index_->add(page.key(), ArrayView::of(page.content()))) {
    full = std::move(index_);
    index_state_.store(IndexState::kNone, std::memory_order_relaxed);
  }
}

void DirCore::drop_index() {
  std::unique_ptr<NameIndex> old;  // destroyed outside the lock
  MutexLock lock(index_mutex_);
  if (index_ == nullptr) return;
  old = std::move(index_);
  index_state_.store(IndexState::kNone, std::memory_order_relaxed);
}

void DirCore::drop_names() {
  drop_index();
  own_names_.drop();
}

std::optional<Attr> DirCore::find_attr(std::string_view name, TimePoint not_before,
                                       TimePoint* asked) {
  if (const auto added = own_names_.find(name)) {
    if (!added->attr || added->asked < not_before) return std::nullopt;
    if (asked != nullptr) *asked = added->asked;
    return unpack_attr(*added->attr, added->ino);
  }
  const FoundEntry found = find_name(
      attr_hint_, [&](const ArrayView& view) { return has_attrs_since(view, not_before); }, name);
  if (!found.page) return std::nullopt;
  const ArrayView view = ArrayView::of(found.page->content());
  if (view.marked(found.index)) return std::nullopt;
  if (asked != nullptr) *asked = TimePoint(Duration(view.header().filled));
  return view.attr(found.index);
}

std::optional<uint64_t> DirCore::find_ino(std::string_view name) {
  if (const auto added = own_names_.find(name)) return added->ino;
  const FoundEntry found = find_name(
      walk_hint_, [](const ArrayView&) { return true; }, name);
  if (!found.page) return std::nullopt;
  return ArrayView::of(found.page->content()).ino(found.index);
}

std::optional<uint64_t> DirCore::place_of(std::string_view name) {
  const FoundEntry found = find_name(
      walk_hint_, [](const ArrayView&) { return true; }, name);
  if (!found.page) return std::nullopt;
  // Where the array will be once it has attributes.
  attr_hint_.set(found.page.get(), found.page->key(), found.index);
  return ArrayView::of(found.page->content()).cookie(0);
}

// --- what a walk will open next -----------------------------------------------------------------

bool DirCore::fetch_ahead(bool want_attrs) {
  bool begun = false;
  {
    MutexLock lock(mutex_);
    if (pages_->find(0) || find_fill(0) != nullptr) return false;
    CursorState start;
    start.mapped = mapped_.load(std::memory_order_acquire);
    start.era = era_.load(std::memory_order_acquire);
    int error = 0;  // shows when the listing is read
    begun = start_fill(start, {.attrs = want_attrs}, FillFor::kExpected, &error) != nullptr;
  }
  flush_cancels();
  return begun;
}

namespace {

std::optional<uint32_t> entry_of(const ArrayView& view, uint64_t ino) {
  for (uint32_t i = 0; i < view.count(); ++i) {
    if (view.ino(i) == ino) return i;
  }
  return std::nullopt;
}

bool is_directory(const ArrayView& view, uint32_t i) {
  if (view.removed(i)) return false;
  if (view.type(i) != DT_UNKNOWN) return view.type(i) == DT_DIR;
  return view.has_attrs() && !view.replaced(i) && S_ISDIR(view.attr(i).mode);
}

Subdirectory subdirectory(const ArrayView& view, uint32_t i) {
  Subdirectory found{
      .name = std::string(view.name(i)), .ino = view.ino(i), .attr = {}, .asked = {}};
  if (view.has_attrs() && !view.replaced(i)) {
    found.attr = view.attr(i);
    found.asked = TimePoint(Duration(view.header().filled));
  }
  return found;
}

}  // namespace

bool DirCore::subdirectories(uint64_t after_ino, size_t most, std::vector<Subdirectory>* out) {
  uint32_t i = 0;
  PageRef page;
  if (after_ino == 0) {
    page = pages_->find(0);
  } else {
    FoundEntry found = find_near(
        walk_hint_, [](const ArrayView&) { return true; },
        [&](const ArrayView& view, uint32_t /*start*/) { return entry_of(view, after_ino); });
    page = std::move(found.page);
    i = found.index + 1;
  }
  if (!page || !page->uptodate()) return false;
  // Bounded: where no reader has been yet, nobody has found out that a chain goes round.
  for (uint32_t n = 0; n < Directory::kLookAhead && page && page->uptodate(); ++n) {
    const ArrayView view = ArrayView::of(page->content());
    for (; i < view.count(); ++i) {
      if (!is_directory(view, i)) continue;
      if (most-- == 0) return true;
      out->push_back(subdirectory(view, i));
    }
    if ((view.header().flags & kArrayEof) != 0) break;
    i = 0;
    page = pages_->find(view.header().last_cookie);
  }
  return true;
}

std::optional<std::string> DirCore::find_name(bool (*wanted)(std::string_view)) {
  PageRef page = pages_->find(0);
  for (uint32_t n = 0; n < Directory::kLookAhead && page && page->uptodate(); ++n) {
    const ArrayView view = ArrayView::of(page->content());
    for (uint32_t i = 0; i < view.count(); ++i) {
      if (!view.removed(i) && wanted(view.name(i))) return std::string(view.name(i));
    }
    const bool end = (view.header().flags & kArrayEof) != 0;
    if (end) return own_names_.any() ? std::nullopt : std::optional<std::string>(std::string());
    page = pages_->find(view.header().last_cookie);
  }
  return std::nullopt;
}

// --- the facade -------------------------------------------------------------------------------

DirCursor::DirCursor() : state_(std::make_unique<CursorState>()) {}
DirCursor::~DirCursor() = default;

Directory::Directory(PageCache& cache, DirSource& source)
    : core_(std::make_shared<DirCore>(cache, source)) {}
Directory::~Directory() { core_->close(); }
Status Directory::read(DirCursor& cursor, uint64_t position, const ReadOptions& options,
                       EntrySink& sink) {
  return core_->read(DirCore::state_of(cursor), position, options, sink);
}
bool Directory::revalidate(uint64_t change) { return core_->revalidate(change); }
bool Directory::holds_listing() const { return core_->holds_listing(); }
void Directory::invalidate(Forgotten why) { core_->invalidate(why); }
uint64_t Directory::generation() const { return core_->generation(); }
std::optional<Attr> Directory::find_attr(std::string_view name, TimePoint not_before,
                                         TimePoint* asked) {
  return core_->find_attr(name, not_before, asked);
}
std::optional<uint64_t> Directory::find_ino(std::string_view name) { return core_->find_ino(name); }
std::optional<uint64_t> Directory::place_of(std::string_view name) { return core_->place_of(name); }
bool Directory::fetch_ahead(bool want_attrs) { return core_->fetch_ahead(want_attrs); }
std::optional<std::string> Directory::find_name(bool (*wanted)(std::string_view)) {
  return core_->find_name(wanted);
}
bool Directory::subdirectories(uint64_t after_ino, size_t most, std::vector<Subdirectory>* out) {
  return core_->subdirectories(after_ino, most, out);
}
uint64_t Directory::note_removed(std::string_view name, uint64_t before, uint64_t after) {
  return core_->note_removed(name, before, after);
}
uint64_t Directory::note_added(const NewEntry& entry, uint64_t before, uint64_t after) {
  return core_->note_added(entry, before, after);
}
void Directory::note_attr_changed(std::string_view name) { core_->note_attr_changed(name); }
Directory::Presence Directory::presence(std::string_view name) { return core_->presence(name); }
void Directory::adopt_empty(uint64_t change) { core_->adopt_empty(change); }
uint64_t Directory::present_token(uint64_t change) const { return core_->present_token(change); }
void Directory::opened() { core_->opened(); }
void Directory::closed() { core_->closed(); }
DirectoryInfo Directory::info() const { return core_->info(); }
DirectoryContent Directory::content() const { return core_->content(); }
DirectoryMap Directory::map(uint32_t most_cells) const { return core_->map(most_cells); }

}  // namespace cache
