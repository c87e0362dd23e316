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
      root_(std::make_unique<Inode>(
          kRootNodeId, root.id, root_hash_,
          ObjectFacts{.ino = root.attr.ino, .parent_ino = root.attr.ino, .mode = root.attr.mode})) {
  Shard& shard = shard_of(kRootNodeId);
  MutexLock lock(shard.mutex);
  root_->lookups_ = 1;  // the kernel's own, never forgotten
}

InodeTable::~InodeTable() { clear(); }

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
  auto& objects = shard.by_object.set;
  Inode* const known = find_locked(shard, object, hash);
  if (known != nullptr && known->type_ == (facts.mode & S_IFMT)) return *known;
  shard.by_nodeid.reserve_one();
  shard.by_object.reserve_one();
  const uint64_t nodeid = (shard.last_id + 1) << kShardBits | hash % kShards;
  auto fresh = std::make_unique<Inode>(nodeid, std::move(object), hash, facts);
  ++shard.last_id;
  // Replaced: found by its node id alone from now on.
  if (known != nullptr) objects.erase(objects.iterator_to(*known));
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

InodeRef InodeTable::find(const ObjectId& object) {
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
  if (hash == root_hash_ && object == root_->object_) return {};
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
  const bool is_root = hash == root_hash_ && object == root_->object_;
  Shard& shard = shard_of(is_root ? kRootNodeId : hash);
  MutexLock lock(shard.mutex);
  Inode& inode = is_root ? *root_ : obtain_locked(shard, object, hash, facts);
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
    if (hash == root_hash_ && entry.object == root_->object_) continue;
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
  try {
    for (size_t i = 0; i < items.size();) {
      Shard& shard = shard_of(items[i].hash);
      MutexLock lock(shard.mutex);
      for (; i < items.size() && &shard_of(items[i].hash) == &shard; ++i) {
        PrimedEntry& entry = *items[i].entry;
        Inode& inode = obtain_locked(shard, entry.object, items[i].hash, entry.facts);
        ++inode.lookups_;
        entry.nodeid = inode.nodeid_;
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
  using ObjectHook = boost::intrusive::unordered_set_base_hook<boost::intrusive::tag<ByObject>>;
  if (static_cast<ObjectHook&>(inode).is_linked()) {
    shard.by_object.set.erase(shard.by_object.set.iterator_to(inode));
  }
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

void InodeTable::set_attr(const Inode& inode, const TimedAttr& attr) {
  auto fresh = std::make_unique<TimedAttr>(attr);
  Shard& shard = shard_of(inode.nodeid_);
  MutexLock lock(shard.mutex);
  Inode& mine = const_cast<Inode&>(inode);  // NOLINT: the table owns its inodes
  // An answer that overtook a later one does not replace it.
  if (!mine.attr_ || mine.attr_->asked <= attr.asked) mine.attr_.swap(fresh);
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

std::shared_ptr<DirState> InodeTable::dir(const Inode& inode) {
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  return inode.dir_;
}

std::shared_ptr<DirState> InodeTable::install_dir(const Inode& inode,
                                                  std::shared_ptr<DirState> fresh) {
  MutexLock lock(shard_of(inode.nodeid_).mutex);
  auto& slot = const_cast<Inode&>(inode).dir_;  // NOLINT: the table owns its inodes
  if (!slot) slot = std::move(fresh);
  return slot;
}

std::vector<InodeTable::OpenedDirectory> InodeTable::opened_directories() {
  std::vector<OpenedDirectory> all;
  const auto add = [&all](const Inode& inode) {
    if (!inode.dir_) return;
    all.push_back({inode.nodeid_, inode.ino_, inode.parent_, inode.dir_});
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
  std::shared_ptr<DirState> root_dir;
  {
    MutexLock lock(shard_of(kRootNodeId).mutex);
    root_dir.swap(root_->dir_);
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
