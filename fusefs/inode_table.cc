#include "fusefs/inode_table.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>
#include <vector>

#include "cache/base/check.h"
#include "cache/base/hash.h"

namespace fusefs {

using cache::MutexLock;

void InodeRef::reset() {
  if (inode_ != nullptr) table_->unpin(*std::exchange(inode_, nullptr));
}

template <typename Tag, typename Hash, typename Equal>
void InodeTable::Index<Tag, Hash, Equal>::reserve_one() {
  if (set.size() < bucket_count / 2) return;
  const size_t doubled = bucket_count * 2;
  Buckets fresh(new typename Set::bucket_type[doubled]);
  set.rehash(typename Set::bucket_traits(fresh.get(), doubled));
  buckets.swap(fresh);
  bucket_count = doubled;
}

InodeTable::InodeTable(const LookupAnswer& root)
    : root_hash_(cache::hash_bytes(root.id)),
      root_object_(root.id),
      root_(std::make_unique<Inode>(
          kRootNodeId, root.id, root_hash_,
          ObjectFacts{.ino = root.attr.ino, .parent_ino = root.attr.ino, .mode = root.attr.mode})) {
  Shard& shard = shard_of(kRootNodeId);
  MutexLock lock(shard.mutex);
  root_->lookups_ = 1;  // the kernel's own, never forgotten
}

InodeTable::~InodeTable() { clear(); }

// The root's id never changes: nothing can be renamed that is not below it.
bool InodeTable::is_root(const ObjectId& object) const { return object == root_object_; }

Inode* InodeTable::find_locked(Shard& shard, uint64_t nodeid) {
  if (nodeid == kRootNodeId) return root_.get();
  auto& set = shard.by_nodeid.set;
  const auto found = set.find(nodeid, NodeIdHash(), NodeIdEqual());
  return found == set.end() ? nullptr : &*found;
}

InodeRef InodeTable::find(uint64_t nodeid) {
  Shard& shard = shard_of(nodeid);
  MutexLock lock(shard.mutex);
  Inode* const inode = find_locked(shard, nodeid);
  if (inode == nullptr) return {};
  ++inode->pins_;
  return {this, inode};
}

Inode& InodeTable::obtain_locked(Shard& shard, ObjectId& object, uint64_t hash,
                                 const ObjectFacts& facts) {
  Inode* const known = find_locked(shard, object, hash);
  if (known != nullptr && known->type_ == (facts.mode & S_IFMT)) return *known;
  shard.by_nodeid.reserve_one();
  shard.by_object.reserve_one();
  const uint64_t nodeid = (shard.last_id + 1) << kShardBits | hash % kShards;
  auto fresh = std::make_unique<Inode>(nodeid, std::move(object), hash, facts);
  ++shard.last_id;
  // Replaced: found by its node id, and by other ids where it has some, from now on.
  if (known != nullptr) remove_id_locked(shard, *known, fresh->object_);
  shard.by_nodeid.insert(*fresh);
  shard.by_object.insert(*fresh);
  size_.fetch_add(1, std::memory_order_relaxed);
  return *fresh.release();  // the table owns it now
}

Inode* InodeTable::find_locked(Shard& shard, const ObjectId& object, uint64_t hash) {
  auto& set = shard.by_object.set;
  const auto found = set.find(ObjectKey{object, hash}, ObjectHash(), ObjectEqual());
  return found == set.end() ? nullptr : &*found;
}

// ---- Objects that a rename gave another id ------------------------------------------------------

// The node id first, with the map's lock dropped before the shard's is taken; then the shard says
// whether it still is this object's.
template <typename Use>
bool InodeTable::use_moved(const ObjectId& object, uint32_t type, const Use& use) {
  if (!any_moved()) return false;
  uint64_t nodeid = 0;
  {
    MutexLock lock(moved_mutex_);
    const auto found = moved_.find(object);
    if (found == moved_.end()) return false;
    nodeid = found->second;
  }
  Shard& shard = shard_of(nodeid);
  MutexLock lock(shard.mutex);
  Inode* const inode = find_locked(shard, nodeid);
  if (inode == nullptr || !inode->has_id(object)) return false;
  if (type != 0 && inode->type_ != type) {
    remove_id_locked(shard, *inode, object);
    return false;
  }
  use(shard, *inode);
  return true;
}

void InodeTable::forget_moved(const Inode& inode, const ObjectId& id) {
  MutexLock lock(moved_mutex_);
  const auto found = moved_.find(id);
  if (found != moved_.end() && found->second == inode.nodeid_) moved_.erase(found);
  moved_count_.store(moved_.size(), std::memory_order_release);
}

void InodeTable::add_id_locked(Inode& inode, const ObjectId& id) {
  {
    MutexLock lock(moved_mutex_);
    moved_.insert_or_assign(id, inode.nodeid_);
    moved_count_.store(moved_.size(), std::memory_order_release);
  }
  if (inode.detached_) {
    inode.detached_ = false;
    inode.object_ = id;
    inode.moved_ = true;
  } else {
    if (!inode.others_) inode.others_ = std::make_unique<std::vector<ObjectId>>();
    inode.others_->push_back(id);
  }
}

void InodeTable::remove_id_locked(Shard& shard, Inode& inode,
                                  const ObjectId& id) NO_THREAD_SAFETY_ANALYSIS {
  if (id != inode.object_) {
    if (inode.others_ && std::erase(*inode.others_, id) > 0) forget_moved(inode, id);
    return;
  }
  using ObjectHook = boost::intrusive::unordered_set_base_hook<boost::intrusive::tag<ByObject>>;
  if (static_cast<ObjectHook&>(inode).is_linked()) {
    shard.by_object.set.erase(shard.by_object.set.iterator_to(inode));
  }
  if (std::exchange(inode.moved_, false)) forget_moved(inode, inode.object_);
  inode.detached_ = !inode.others_ || inode.others_->empty();
  if (inode.detached_) return;
  inode.object_ = std::move(inode.others_->back());
  inode.others_->pop_back();
  inode.moved_ = true;
}

MovedObject InodeTable::rename_locked(Shard& shard, Inode& inode, const ObjectId& from,
                                      const ObjectId& to) {
  remove_id_locked(shard, inode, from);
  add_id_locked(inode, to);
  if (!inode.is_directory()) return {to, nullptr};
  return {to, std::static_pointer_cast<DirState>(inode.state_)};
}

ObjectId InodeTable::object(const Inode& inode) {
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  return inode.object_;
}

bool InodeTable::detached(const Inode& inode) {
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  return inode.detached_;
}

uint32_t InodeTable::id_count(const Inode& inode) {
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  return inode.id_count();
}

void InodeTable::add_id(const Inode& inode, const ObjectId& object) {
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  Inode& mine = const_cast<Inode&>(inode);  // NOLINT: the table owns its inodes
  if (!mine.has_id(object)) add_id_locked(mine, object);
}

void InodeTable::detach(const ObjectId& object) {
  const auto leave = [&](Shard& shard, Inode& inode) { remove_id_locked(shard, inode, object); };
  if (use_moved(object, 0, leave)) return;
  const uint64_t hash = cache::hash_bytes(object);
  Shard& shard = shard_of(hash);
  MutexLock lock(shard.mutex);
  if (Inode* const inode = find_locked(shard, object, hash)) leave(shard, *inode);
}

std::vector<MovedObject> InodeTable::move(const ObjectId& from, const ObjectId& to,
                                          const Inode& parent) {
  std::vector<MovedObject> moved;
  const auto give = [&](Shard& shard, Inode& inode) {
    if (from != to) moved.push_back(rename_locked(shard, inode, from, to));
    set_parent(inode, parent);
  };
  if (use_moved(from, 0, give)) return moved;
  const uint64_t hash = cache::hash_bytes(from);
  Shard& shard = shard_of(hash);
  MutexLock lock(shard.mutex);
  if (Inode* const inode = find_locked(shard, from, hash)) give(shard, *inode);
  return moved;
}

void InodeTable::set_parent(const Inode& inode, const Inode& parent) {
  Inode& mine = const_cast<Inode&>(inode);  // NOLINT: the table owns its inodes
  mine.parent_.store(parent.nodeid(), std::memory_order_relaxed);
  mine.parent_ino_.store(parent.ino(), std::memory_order_relaxed);
}

std::vector<MovedObject> InodeTable::move_all(
    const std::function<ObjectId(const ObjectId& id)>& moved) {
  std::vector<MovedObject> all;
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    for (Inode& inode : shard.by_nodeid.set) {
      if (inode.detached_) continue;
      std::vector<ObjectId> ids{inode.object_};
      if (inode.others_) ids.insert(ids.end(), inode.others_->begin(), inode.others_->end());
      for (const ObjectId& id : ids) {
        const ObjectId to = moved(id);
        if (!to.empty()) all.push_back(rename_locked(shard, inode, id, to));
      }
    }
  }
  return all;
}

// ---- Finding ------------------------------------------------------------------------------------

InodeRef InodeTable::find(const ObjectId& object) {
  InodeRef moved;
  const auto pin = [&](Shard&, Inode& inode) {
    ++inode.pins_;
    moved = InodeRef(this, &inode);
  };
  if (use_moved(object, 0, pin)) return moved;
  const uint64_t hash = cache::hash_bytes(object);
  Shard& shard = shard_of(hash);
  MutexLock lock(shard.mutex);
  Inode* const inode = find_locked(shard, object, hash);
  if (inode == nullptr) return {};
  ++inode->pins_;
  return {this, inode};
}

InodeRef InodeTable::obtain(ObjectId object, const ObjectFacts& facts) {
  const uint64_t hash = cache::hash_bytes(object);
  // The root as somebody's child is in no index.
  if (hash == root_hash_ && is_root(object)) return {};
  if (any_moved()) {
    if (InodeRef moved = find(object)) {
      return moved->type_ == (facts.mode & S_IFMT) ? std::move(moved) : InodeRef();
    }
  }
  Shard& shard = shard_of(hash);
  MutexLock lock(shard.mutex);
  const Inode* const known = find_locked(shard, object, hash);
  if (known != nullptr && known->type_ != (facts.mode & S_IFMT)) return {};
  Inode& inode = obtain_locked(shard, object, hash, facts);
  ++inode.pins_;
  return {this, &inode};
}

InodeRef InodeTable::lookup(ObjectId object, const ObjectFacts& facts) {
  const uint64_t hash = cache::hash_bytes(object);
  const bool root = hash == root_hash_ && is_root(object);
  InodeRef moved;
  const auto tell = [&](Shard&, Inode& inode) {
    ++inode.lookups_;
    ++inode.pins_;
    moved = InodeRef(this, &inode);
  };
  if (!root && use_moved(object, facts.mode & S_IFMT, tell)) return moved;
  Shard& shard = shard_of(root ? kRootNodeId : hash);
  MutexLock lock(shard.mutex);
  Inode& inode = root ? *root_ : obtain_locked(shard, object, hash, facts);
  ++inode.lookups_;
  ++inode.pins_;
  return {this, &inode};
}

// The entries that have an object, those of a shard together.
std::vector<InodeTable::Item> InodeTable::by_shard(std::span<PrimedEntry> entries) const {
  std::vector<Item> found;
  found.reserve(entries.size());
  std::array<uint32_t, kShards + 1> begin{};
  for (PrimedEntry& entry : entries) {
    if (entry.object.empty()) continue;
    const uint64_t hash = cache::hash_bytes(entry.object);
    // The root as somebody's child: the kernel would refuse it, so it gets no node id.
    if (hash == root_hash_ && is_root(entry.object)) continue;
    found.push_back({hash, &entry});
    ++begin[hash % kShards + 1];
  }
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  std::vector<Item> sorted(found.size());
  for (const Item& item : found) sorted[begin[item.hash % kShards]++] = item;
  return sorted;
}

// Asks the processor for what the lookups will touch, all of it at once: with a million inodes each
// step of a lookup misses every cache.
void InodeTable::prefetch(std::span<const Item> items) {
  for (const bool nodes : {false, true}) {
    for (size_t i = 0; i < items.size();) {
      Shard& shard = shard_of(items[i].hash);
      MutexLock lock(shard.mutex);
      auto& index = shard.by_object;
      for (; i < items.size() && &shard_of(items[i].hash) == &shard; ++i) {
        const ObjectKey key{items[i].entry->object, items[i].hash};
        const size_t bucket = index.set.bucket(key, ObjectHash());
        if (!nodes) {
          __builtin_prefetch(&index.buckets[bucket]);
        } else if (const auto first = index.set.begin(bucket); first != index.set.end(bucket)) {
          __builtin_prefetch(&first->object_hash_);
          __builtin_prefetch(&first->ino_);
        }
      }
    }
  }
}

void InodeTable::lookup_batch(std::span<PrimedEntry> entries) {
  const std::vector<Item> items = by_shard(entries);  // so that each lock is taken once
  prefetch(items);
  const auto tell = [](PrimedEntry& entry, Inode& inode) {
    ++inode.lookups_;
    entry.nodeid = inode.nodeid_;
    entry.outdated = entry.asked < inode.changed_;
    entry.ids = inode.id_count();
    entry.opened_file = inode.state_ != nullptr && !inode.is_directory();
  };
  try {
    for (size_t i = 0; any_moved() && i < items.size(); ++i) {
      PrimedEntry& entry = *items[i].entry;
      use_moved(entry.object, entry.facts.mode & S_IFMT,
                [&](Shard&, Inode& inode) { tell(entry, inode); });
    }
    for (size_t i = 0; i < items.size();) {
      Shard& shard = shard_of(items[i].hash);
      MutexLock lock(shard.mutex);
      for (; i < items.size() && &shard_of(items[i].hash) == &shard; ++i) {
        PrimedEntry& entry = *items[i].entry;
        if (entry.nodeid != 0) continue;  // it was among the moved ones
        Inode& inode = obtain_locked(shard, entry.object, items[i].hash, entry.facts);
        tell(entry, inode);
      }
    }
  } catch (...) {
    for (PrimedEntry& entry : entries) {
      if (entry.nodeid != 0) forget(std::exchange(entry.nodeid, 0), 1);
    }
    throw;
  }
  linked_.fetch_add(items.size(), std::memory_order_relaxed);
}

std::unique_ptr<Inode> InodeTable::take_if_dead(Shard& shard, Inode& inode) {
  if (inode.lookups_ != 0 || inode.pins_ != 0 || &inode == root_.get()) return nullptr;
  shard.by_nodeid.set.erase(shard.by_nodeid.set.iterator_to(inode));
  while (!inode.detached_) remove_id_locked(shard, inode, ObjectId(inode.object_));
  size_.fetch_sub(1, std::memory_order_relaxed);
  return std::unique_ptr<Inode>(&inode);
}

void InodeTable::forget(uint64_t nodeid, uint64_t count) {
  if (nodeid == kRootNodeId) return;
  Shard& shard = shard_of(nodeid);
  std::unique_ptr<Inode> dead;  // outlives the lock
  MutexLock lock(shard.mutex);
  Inode* const inode = find_locked(shard, nodeid);
  if (inode == nullptr) return;
  inode->lookups_ -= std::min(count, inode->lookups_);
  dead = take_if_dead(shard, *inode);
}

void InodeTable::unpin(Inode& inode) {
  Shard& shard = shard_of(inode.nodeid_);
  std::unique_ptr<Inode> dead;  // outlives the lock
  MutexLock lock(shard.mutex);
  CACHE_DCHECK(inode.pins_ > 0);
  --inode.pins_;
  dead = take_if_dead(shard, inode);
}

std::optional<TimedAttr> InodeTable::attr(const Inode& inode) {
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  if (!inode.attr_) return std::nullopt;
  return *inode.attr_;
}

bool InodeTable::set_attr(const Inode& inode, const TimedAttr& attr) {
  auto fresh = std::make_unique<TimedAttr>(attr);
  Shard& shard = shard_of(inode.nodeid_);
  MutexLock lock(shard.mutex);
  Inode& mine = const_cast<Inode&>(inode);  // NOLINT: the table owns its inodes
  if (attr.asked < mine.changed_ || (mine.attr_ && mine.attr_->asked > attr.asked)) return false;
  mine.attr_.swap(fresh);
  return true;
}

void InodeTable::note_changed(const Inode& inode, cache::TimePoint when) {
  std::unique_ptr<TimedAttr> old;
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  Inode& mine = const_cast<Inode&>(inode);  // NOLINT: the table owns its inodes
  mine.changed_ = std::max(mine.changed_, when);
  if (mine.attr_ && mine.attr_->asked < mine.changed_) old.swap(mine.attr_);
}

bool InodeTable::outdated(const Inode& inode, cache::TimePoint asked) {
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  return asked < inode.changed_;
}

void InodeTable::drop_attr(const Inode& inode) {
  std::unique_ptr<TimedAttr> old;
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  old.swap(const_cast<Inode&>(inode).attr_);  // NOLINT: the table owns its inodes
}

std::string InodeTable::name(const Inode& inode) {
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  return inode.name_ ? *inode.name_ : std::string();
}

void InodeTable::set_name(const Inode& inode, std::string_view name) {
  auto& slot = const_cast<Inode&>(inode).name_;  // NOLINT: the table owns its inodes
  std::unique_ptr<const std::string> fresh;      // then the old one, which outlives the lock
  {
    MutexLock lock(shard_of(inode.nodeid_).mutex);
    if (slot && *slot == name) return;
  }
  fresh = std::make_unique<const std::string>(name);
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  slot.swap(fresh);
}

template <typename State>
std::shared_ptr<State> InodeTable::state(const Inode& inode) {
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  return std::static_pointer_cast<State>(inode.state_);
}

template <typename State>
std::shared_ptr<State> InodeTable::install(const Inode& inode, std::shared_ptr<State> fresh) {
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  auto& slot = const_cast<Inode&>(inode).state_;  // NOLINT: the table owns its inodes
  if (!slot) slot = std::move(fresh);
  return std::static_pointer_cast<State>(slot);
}

std::shared_ptr<DirState> InodeTable::dir(const Inode& inode) {
  return inode.is_directory() ? state<DirState>(inode) : nullptr;
}

std::shared_ptr<FileState> InodeTable::file(const Inode& inode) {
  return inode.is_directory() ? nullptr : state<FileState>(inode);
}

std::shared_ptr<DirState> InodeTable::install_dir(const Inode& inode,
                                                  std::shared_ptr<DirState> fresh) {
  CACHE_CHECK(inode.is_directory());
  return install(inode, std::move(fresh));
}

std::shared_ptr<FileState> InodeTable::install_file(const Inode& inode,
                                                    std::shared_ptr<FileState> fresh) {
  CACHE_CHECK(!inode.is_directory());
  return install(inode, std::move(fresh));
}

std::vector<InodeTable::OpenedFile> InodeTable::opened_files() {
  std::vector<OpenedFile> all;
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    for (const Inode& inode : shard.by_nodeid.set) {
      if (!inode.state_ || inode.is_directory()) continue;
      all.push_back({inode.nodeid_, std::static_pointer_cast<FileState>(inode.state_)});
    }
  }
  return all;
}

std::vector<InodeTable::OpenedDirectory> InodeTable::opened_directories() {
  std::vector<OpenedDirectory> all;
  const auto add = [&all](const Inode& inode) {
    if (!inode.state_ || !inode.is_directory()) return;
    all.push_back({inode.nodeid_, inode.ino_, inode.parent(),
                   std::static_pointer_cast<DirState>(inode.state_)});
  };
  {
    MutexLock lock(shard_of(kRootNodeId).mutex);
    add(*root_);
  }
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    for (const Inode& inode : shard.by_nodeid.set) add(inode);
  }
  return all;
}

void InodeTable::clear_shard(Shard& shard) {
  std::vector<std::unique_ptr<Inode>> dead;
  {
    MutexLock lock(shard.mutex);
    auto& set = shard.by_nodeid.set;
    dead.reserve(set.size());
    for (auto it = set.begin(); it != set.end();) {
      Inode& inode = *it++;
      CACHE_CHECK(inode.pins_ == 0);
      inode.lookups_ = 0;
      dead.push_back(take_if_dead(shard, inode));
    }
  }
}

void InodeTable::clear() {
  for (Shard& shard : shards_) clear_shard(shard);
  std::shared_ptr<void> root_dir;
  {
    MutexLock lock(shard_of(kRootNodeId).mutex);
    root_dir.swap(root_->state_);
  }
}

uint64_t InodeTable::lookups(uint64_t nodeid) {
  Shard& shard = shard_of(nodeid);
  MutexLock lock(shard.mutex);
  const Inode* const inode = find_locked(shard, nodeid);
  return inode == nullptr ? 0 : inode->lookups_;
}

void InodeTable::check_invariants() {
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    CACHE_CHECK(shard.by_object.set.size() <= shard.by_nodeid.set.size());
    for (const Inode& inode : shard.by_nodeid.set) {
      CACHE_CHECK(&shard_of(inode.nodeid_) == &shard);
      CACHE_CHECK(&shard_of(inode.object_hash_) == &shard);
      CACHE_CHECK(inode.lookups_ != 0 || inode.pins_ != 0);
      CACHE_CHECK(inode.nodeid_ >> kShardBits <= shard.last_id);
    }
    for (const Inode& inode : shard.by_object.set) {
      CACHE_CHECK(find_locked(shard, inode.nodeid_) == &inode);
    }
  }
}

}  // namespace fusefs
