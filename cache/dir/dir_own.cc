// DirCore, own changes: what we did to the directory ourselves, applied to what is held of it.
//
// Removed entries stay in their arrays with a mark, so keys, ends and positions of all others stay
// what they were. An answer that was asked for before a change and comes after it is patched entry
// by entry as it is put into arrays: by the log of removals, and by the names that were added. So
// it is as good as one from after the change, and has that token.
#include <algorithm>

#include "cache/dir/dir_core.h"

namespace cache {
namespace {

// One place where a name is held.
struct HeldEntry {
  std::byte* content = nullptr;
  uint32_t index = 0;
  bool sealed = false;  // in a finished array
};

constexpr uint32_t kNear = 8;  // entries from where the next removal is expected

}  // namespace

// --- where a name is held ---------------------------------------------------------------------

template <typename Visit>
void DirCore::visit_array(const PageRef& page, std::string_view name, const Visit& visit) {
  ++own_searched_;
  const ArrayView view = ArrayView::of(page->content());
  const uint32_t i = view.find_name(name);
  if (i == view.count()) return;
  visit(HeldEntry{.content = page->content(), .index = i, .sealed = true});
  next_removal_ = {.page = page.get(), .key = page->key(), .index = i + 1};
}

// Where names are removed in the listing's order. Only where no other array can have the name too.
template <typename Visit>
bool DirCore::visit_next(std::string_view name, const Visit& visit) {
  if (!other_stamps_.empty() || overlaps_ || !anchors_.knows_all()) return false;
  PageRef page = pages_->find_hint(next_removal_.page, next_removal_.key);
  if (!page) page = pages_->find(next_removal_.key);
  uint32_t from = next_removal_.index;
  for (int arrays = 0; arrays < 2 && page && page->uptodate(); ++arrays) {
    ++own_searched_;
    const ArrayView view = ArrayView::of(page->content());
    const uint32_t to = std::min(view.count(), from + kNear);
    for (uint32_t i = from; i < to; ++i) {
      if (view.name(i) != name || view.removed(i)) continue;
      visit(HeldEntry{.content = page->content(), .index = i, .sealed = true});
      next_removal_ = {.page = page.get(), .key = page->key(), .index = i + 1};
      return true;
    }
    if (to < view.count() || (view.header().flags & kArrayEof) != 0) return false;
    from = 0;
    page = pages_->find(view.header().last_cookie);
  }
  return false;
}

template <typename Visit>
DirCore::Search DirCore::visit_arrays(std::span<const uint64_t> keys, std::string_view name,
                                      const Visit& visit) {
  Search search = Search::kDone;
  for (const uint64_t key : keys) {
    const PageRef page = pages_->find(key);
    if (page && page->uptodate()) {
      visit_array(page, name, visit);
    } else {
      search = Search::kSomeGone;
    }
  }
  return search;
}

template <typename Visit>
DirCore::Search DirCore::visit_all(std::string_view name, const Visit& visit) {
  std::vector<uint64_t> keys;
  uint64_t seen = 0;
  pages_->for_each([&](const Page& page) {
    ++seen;
    if (!page.uptodate()) return true;
    const ArrayView view = ArrayView::of(page.content());
    if (view.find_name(name) < view.count()) keys.push_back(page.key());
    return true;
  });
  own_searched_ += seen;
  return visit_arrays(keys, name, visit);
}

template <typename Visit>
DirCore::Search DirCore::visit_indexed(std::string_view name, const Visit& visit) {
  std::array<uint64_t, 8> keys{};
  size_t count = 0;
  {
    MutexLock lock(index_mutex_);
    if (!index_) return Search::kNeedsIndex;
    count = index_->find(name, keys);
  }
  if (count == keys.size()) return visit_all(name, visit);  // there may be more
  return visit_arrays({keys.data(), count}, name, visit);
}

template <typename Visit>
DirCore::Search DirCore::visit_held(std::string_view name, Index index, const Visit& visit) {
  if (visit_next(name, visit)) return Search::kDone;
  for (const FillPtr& fill : fill_owners_) {
    if (fill->sealed || !fill->page) continue;
    const ArrayView view = fill->builder.view();
    const uint32_t i = view.find_name(name);
    if (i < view.count()) visit(HeldEntry{.content = fill->page->content(), .index = i});
  }
  if (pages_->page_count() <= Directory::kFindAttrArrays) return visit_all(name, visit);
  const IndexState state = index_state_.load(std::memory_order_relaxed);
  if (state == IndexState::kReady) {
    const Search search = visit_indexed(name, visit);
    if (search != Search::kNeedsIndex) return search;
  }
  if (state == IndexState::kMaking || own_scans_ < kOwnScans) {
    ++own_scans_;
    return visit_all(name, visit);
  }
  const bool may = index == Index::kMayBeMade && index_misses_.load(std::memory_order_relaxed) >= 0;
  return may ? Search::kNeedsIndex : Search::kNoRoom;
}

// --- tokens -----------------------------------------------------------------------------------

bool DirCore::anything_held() const {
  return has_stamp_ || !fill_owners_.empty() || pages_->page_count() > 0;
}

uint64_t DirCore::latest(uint64_t change) const {
  if (change == 0) return 0;
  const auto step = std::find_if(steps_.begin(), steps_.end(),
                                 [&](const TokenStep& known) { return known.before == change; });
  return step == steps_.end() ? change : step->after;
}

uint64_t DirCore::present_token(uint64_t change) const {
  MutexLock lock(mutex_);
  return latest(change);
}

// Everything that is held, or under way, has that token, and every own change led to it.
bool DirCore::all_under(uint64_t change) const {
  if (unproven_ || (has_stamp_ && (stamp_ != change || !other_stamps_.empty()))) return false;
  for (const FillPtr& fill : fill_owners_) {
    if (!outlived(*fill) && (fill->stamp.change != change || fill->sent.change != change)) {
      return false;
    }
  }
  const uint64_t oldest = step_count_ - std::min<uint64_t>(step_count_, kMaxSteps);
  for (uint64_t n = std::max(oldest, steps_before_); n < step_count_; ++n) {
    if (steps_[n % kMaxSteps].after != change) return false;
  }
  return true;
}

// Steps may come in any order. What the remote tells of a state in between, in an answer that comes
// before the step does, is the same chain: every token is carried to the end of it.
void DirCore::add_step(const TokenStep& step) {
  const uint64_t after = latest(step.after);
  for (TokenStep& known : steps_) {
    if (known.after == step.before) known.after = after;
  }
  steps_[step_count_++ % kMaxSteps] = {.before = step.before, .after = after};
  change_ = latest(change_);
  stamp_ = latest(stamp_);
  for (uint64_t& stamp : other_stamps_) stamp = latest(stamp);
  std::erase(other_stamps_, stamp_);
  for (const FillPtr& fill : fill_owners_) {
    fill->stamp.change = latest(fill->stamp.change);
    fill->sent.change = latest(fill->sent.change);
  }
}

// Returns the token that all is held under; 0: not proven.
uint64_t DirCore::move_token(const TokenStep& step) {
  const auto [before, after] = step;
  if (before == 0 || after == 0) {
    unproven_ |= anything_held();
    if (after != 0) change_ = latest(after);
    return anything_held() ? 0 : after;
  }
  if (before != after) {
    add_step(step);
  } else if (has_stamp_ && stamp_ != after) {
    unproven_ = true;
  }
  if (!anything_held()) return change_ = latest(after);
  if (all_under(latest(after))) return change_ = latest(after);
  return 0;
}

void DirCore::forget_own_changes() {
  own_names_.clear();
  patched_ = false;
  overlaps_ = false;
  unproven_ = false;
  steps_before_ = step_count_;
  next_removal_ = {};
  own_scans_ = 0;
  eof_key_.reset();
  chain_ = {};
}

// --- answers under way ------------------------------------------------------------------------

bool DirCore::answers_expected() const {
  return own_fetches_ > 0 ||
         std::any_of(fill_owners_.begin(), fill_owners_.end(), [](const FillPtr& fill) {
           return fill->in_flight || fill->taking || fill->queued.has_value();
         });
}

void DirCore::log_removal(std::string_view name) {
  if (!answers_expected()) return removal_log_.clear();
  if (removal_log_.size() == kMaxLogged) {
    // Nobody waits so long for a remote that is well.
    removal_log_.clear();
    log_begins_ = own_changes_;
    invalidate_locked(Forgotten::kOwnChange);
    return;
  }
  removal_log_[std::string(name)] = own_changes_;
}

// The entry appended last, from an answer that was asked for when `known` own changes were.
void DirCore::patch_appended(Fill& fill, std::string_view name, uint64_t known) {
  const uint32_t i = fill.builder.count() - 1;
  if (!removal_log_.empty()) {
    const auto removal = removal_log_.find(std::string(name));
    if (removal != removal_log_.end() && removal->second > known) {
      return mark_removed(fill.page->content(), i);
    }
  }
  const auto added = own_names_.find(name);
  if (!added) return;
  if (added->number > known && added->ino != 0 && added->ino != fill.builder.view().ino(i)) {
    mark_replaced(fill.page->content(), i, added->ino, added->type);
  } else if (!overlaps_ && !outlived(fill)) {
    own_names_.erase(name);  // the listing has it now
  }
}

// Where entries are missing, what is asked for again would reach into the next array, and be in the
// way of all that follow: it ends where it did, with less in it. 0: it ends where it is full; so
// where cookies may be ordinals, which tell no entries.
uint64_t DirCore::boundary_of(const Fill& fill) const {
  const bool mapped = mapped_.load(std::memory_order_relaxed);
  const Anchor* next = patched_ && !mapped ? anchors_.after(fill.key) : nullptr;
  if (next == nullptr) return 0;
  const uint64_t apart = std::max(next->key, fill.key) - std::min(next->key, fill.key);
  return apart > kEntriesPerArray ? next->key : 0;
}

// With entries that are new it is full before, or its last entry is missing.
bool DirCore::boundary_moved(const Fill& fill) const {
  const Anchor* next = anchors_.after(fill.key);
  return next != nullptr && (fill.complete->eof || next->key != fill.complete->next_key);
}

// --- changes ----------------------------------------------------------------------------------

uint64_t DirCore::note_removed(std::string_view name, uint64_t before, uint64_t after) {
  std::optional<uint64_t> token = remove_held(name, {before, after}, Index::kMayBeMade);
  if (!token) {
    make_index();
    token = remove_held(name, {before, after}, Index::kWasTried);
  }
  flush_cancels();
  return token.value_or(0);
}

// Nothing is changed, and nothing returned, where an index of names has to be made first.
std::optional<uint64_t> DirCore::remove_held(std::string_view name, const TokenStep& step,
                                             Index index) {
  MutexLock lock(mutex_);
  if (closed_) return 0;
  const Search search = visit_held(name, index, [&](const HeldEntry& held) {
    mark_removed(held.content, held.index);
    if (held.sealed) stats_.entries_resident.sub(1);
  });
  if (search == Search::kNeedsIndex) return std::nullopt;
  ++own_changes_;
  own_removals_.fetch_add(1, std::memory_order_relaxed);
  own_names_.erase(name);
  patched_ |= anything_held();
  log_removal(name);
  const uint64_t token = move_token(step);
  if (search == Search::kNoRoom) invalidate_locked(Forgotten::kOwnChange);
  return token;
}

uint64_t DirCore::note_added(const Directory::NewEntry& entry, uint64_t before, uint64_t after) {
  bool noted = false;
  std::optional<uint64_t> token = add_held(entry, {before, after}, Index::kMayBeMade, &noted);
  if (!token) {
    make_index();
    token = add_held(entry, {before, after}, Index::kWasTried, &noted);
  }
  flush_cancels();
  if (noted) hooks_.note_names(shared_from_this());
  return token.value_or(0);
}

// As remove_held(). `noted`: more is kept now, which the hooks are to know.
std::optional<uint64_t> DirCore::add_held(const Directory::NewEntry& entry, const TokenStep& step,
                                          Index index, bool* noted) {
  MutexLock lock(mutex_);
  if (closed_) return 0;
  bool listed = false;
  bool replaced = false;
  const Search search = visit_held(entry.name, index, [&](const HeldEntry& held) {
    if (entry.ino != 0 && ArrayView::of(held.content).ino(held.index) == entry.ino) {
      listed = true;
    } else {
      mark_replaced(held.content, held.index, entry.ino, entry.type);
      replaced = true;
    }
  });
  if (search == Search::kNeedsIndex) return std::nullopt;
  ++own_changes_;
  if (replaced) own_removals_.fetch_add(1, std::memory_order_relaxed);
  if (anything_held()) {
    patched_ = true;
    OwnNames::Entry added{.ino = entry.ino,
                          .attr = {},
                          .asked = entry.asked,
                          .number = own_changes_,
                          .type = entry.type};
    if (entry.attr) added.attr = pack_attr(*entry.attr);
    // An array beside the chain may have it, where the chain itself does not.
    if (!listed || replaced || overlaps_) *noted = own_names_.put(entry.name, added);
  }
  const uint64_t token = move_token(step);
  if (search == Search::kNoRoom) invalidate_locked(Forgotten::kOwnChange);
  return token;
}

void DirCore::note_attr_changed(std::string_view name) {
  MutexLock lock(mutex_);
  if (closed_ || !anything_held()) return;
  if (auto added = own_names_.find(name)) {
    added->attr.reset();
    own_names_.put(name, *added);
  }
  const Search search = visit_held(name, Index::kWasTried, [](const HeldEntry& held) {
    mark_attr_old(held.content, held.index);
  });
  if (search == Search::kNoRoom) invalidate_locked(Forgotten::kOwnChange);
}

// What was added before this is on the remote: what is asked for from now on has it.
void DirCore::forget_for_added() {
  {
    MutexLock lock(mutex_);
    if (!own_names_.any()) return;
    invalidate_locked(Forgotten::kOwnChange);
  }
  flush_cancels();
}

void DirCore::adopt_empty(uint64_t change) {
  MutexLock lock(mutex_);
  if (closed_ || change == 0 || anything_held()) return;
  Result<AddressSpace::Grabbed> grabbed = pages_->grab(0);
  if (!grabbed.ok() || !grabbed.value().created) return;
  ++arrays_begun_;
  const PageRef page = std::move(grabbed.value().page);
  const int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
  ArrayBuilder builder;
  builder.reset(page->content(),
                {.change = change, .filled = now, .era = era_.load(std::memory_order_relaxed)});
  const uint16_t mapped = mapped_.load(std::memory_order_relaxed) ? kArrayMapped : 0;
  if (!builder.seal(cache_, 0, static_cast<uint16_t>(kArrayEof | mapped), {})) {
    return pages_->fill_failed(*page);
  }
  if (!pages_->fill_done(*page, pages_->sequence())) return;
  change_ = change;
  note_stamp(change);
  eof_key_ = 0;
}

// --- whether there is such a name -------------------------------------------------------------

// From the first array to the one that ends the listing. Pages leave at any time, but come only
// under the mutex: as many as at the last look, and none begun since, are the same ones.
bool DirCore::holds_all() {
  if (!eof_key_) return false;
  const uint64_t sequence = pages_->sequence();
  const uint64_t pages = pages_->page_count();
  if (chain_.sequence == sequence) {
    if (chain_.complete && chain_.arrays_begun == arrays_begun_ && chain_.pages == pages) {
      return true;
    }
    if (chain_.hole) {
      const PageRef page = pages_->find(*chain_.hole);
      if (!page || !page->uptodate()) return false;
    }
  }
  chain_ = {.complete = false,
            .hole = {},
            .sequence = sequence,
            .arrays_begun = arrays_begun_,
            .pages = pages};
  uint64_t key = 0;
  for (uint64_t n = 0; n < pages; ++n) {
    const PageRef page = pages_->find(key);
    if (!page || !page->uptodate()) {
      chain_.hole = key;
      return false;
    }
    const ArrayHeader& header = ArrayView::of(page->content()).header();
    chain_.complete = (header.flags & kArrayEof) != 0;
    if (chain_.complete) return true;
    key = header.last_cookie;
  }
  return false;  // it goes round
}

Directory::Presence DirCore::presence(std::string_view name) {
  using Presence = Directory::Presence;
  if (own_names_.find(name)) return Presence::kThere;
  std::optional<Presence> held = presence_held(name, Index::kMayBeMade);
  if (!held) {
    make_index();
    held = presence_held(name, Index::kWasTried);
  }
  return held.value_or(Presence::kUnsure);
}

// Nothing is returned where an index of names has to be made first.
std::optional<Directory::Presence> DirCore::presence_held(std::string_view name, Index index) {
  using Presence = Directory::Presence;
  MutexLock lock(mutex_);
  const bool proven =
      has_stamp_ && stamp_ != 0 && stamp_ == change_ && all_under(stamp_) && !own_names_.lost();
  if (closed_ || !proven || !holds_all()) return Presence::kUnsure;
  bool there = own_names_.find(name).has_value();
  const Search search = visit_held(name, index, [&](const HeldEntry&) { there = true; });
  if (there) return Presence::kThere;
  if (search == Search::kNeedsIndex) return std::nullopt;
  // Once more: an array may have been reclaimed before it was looked at.
  const bool all = search == Search::kDone && holds_all();
  return all ? Presence::kAbsent : Presence::kUnsure;
}

}  // namespace cache
