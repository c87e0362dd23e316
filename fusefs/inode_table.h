// InodeTable: node ids and objects, and how often the kernel was told of each.
//
// Purpose:        finds the inode of a node id and of an object; counts lookups exactly as the
//                 kernel counts them. Node ids come from 64-bit counters and are never reused.
//                 An ObjectId has one live inode. Should an object of another type turn up under a
//                 name-like ObjectId, it gets a new inode and node id; the old one stays with those
//                 who hold it. (Inode numbers are no such sign: a listing's d_ino and a stat's
//                 st_ino differ at the mount points of a local tree.)
// Ownership:      owns all inodes (inode.h tells their lives). The root lives as long as the table.
// Thread-safety:  all members from any thread.
// Locks:          LockRank::kInodeTable, one of 64 shards at a time. An object's shard is part of
//                 its node id, so one lock covers both indexes. Objects that a rename has given
//                 another id stay in their shard and are found by a map of their own
//                 (LockRank::kMovedObjects), which nobody looks at while there are none. Inodes are
//                 destroyed with no lock held.
// Errors:         an unknown node id gives an empty InodeRef; std::bad_alloc passes through and
//                 leaves every count as it was.
#pragma once

#include <array>
#include <atomic>
#include <boost/intrusive/unordered_set.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cache/base/mutex.h"
#include "fusefs/inode.h"

namespace fusefs {

class InodeTable;

// A pin on an inode; move-only.
class InodeRef {
 public:
  InodeRef() = default;
  InodeRef(InodeRef&& other) noexcept
      : table_(other.table_), inode_(std::exchange(other.inode_, nullptr)) {}
  InodeRef& operator=(InodeRef&& other) noexcept {
    if (this != &other) {
      reset();
      table_ = other.table_;
      inode_ = std::exchange(other.inode_, nullptr);
    }
    return *this;
  }
  ~InodeRef() { reset(); }

  void reset();
  explicit operator bool() const { return inode_ != nullptr; }
  const Inode& operator*() const { return *inode_; }
  const Inode* operator->() const { return inode_; }

 private:
  friend class InodeTable;
  InodeRef(InodeTable* table, Inode* inode) : table_(table), inode_(inode) {}

  InodeTable* table_ = nullptr;
  Inode* inode_ = nullptr;
};

// One object that a listing told of. `nodeid` is the answer: 0 without an object's name, and for
// the root, which the kernel takes as nobody's child.
struct PrimedEntry {
  ObjectId object;
  ObjectFacts facts;
  uint64_t nodeid = 0;
  cache::TimePoint asked = cache::TimePoint::max();  // when the remote was, for its attributes
  // The object was changed through this mount after that: these are not its attributes any more.
  bool outdated = false;
  bool opened_file = false;  // it has a FileState, which may have changes that nobody else knows of
  uint32_t ids = 0;          // InodeTable::id_count()
};

// An object whose id has changed. A file's state does not hold it.
struct MovedObject {
  ObjectId to;
  std::shared_ptr<DirState> dir;  // null: never opened, or no directory
};

class InodeTable {
 public:
  explicit InodeTable(const LookupAnswer& root);
  ~InodeTable();
  InodeTable(const InodeTable&) = delete;
  InodeTable& operator=(const InodeTable&) = delete;

  InodeRef find(uint64_t nodeid);
  InodeRef find(const ObjectId& object);  // empty: not known

  // This object's inode, made when there is none. The kernel is not told. Empty where an object of
  // another type is known by that id, and for the root, which is nobody's child.
  InodeRef obtain(ObjectId object, const ObjectFacts& facts);
  // One more lookup of this object. These two alone take a count from 0 to 1.
  InodeRef lookup(ObjectId object, const ObjectFacts& facts);
  void lookup_batch(std::span<PrimedEntry> entries);

  // The kernel forgot this many lookups; more than it was told count as all.
  void forget(uint64_t nodeid, uint64_t count);

  // The id by which the remote knows it now.
  ObjectId object(const Inode& inode);
  // No id leads to it any more.
  bool detached(const Inode& inode);
  // How many ids lead to it: over a remote whose ids are names, the names that are known of it.
  uint32_t id_count(const Inode& inode);
  // The object has this id as well: another name of a file.
  void add_id(const Inode& inode, const ObjectId& object);
  // The name of this id is gone, or is about to be another object's. Whoever holds the inode keeps
  // it, and finds it by its node id, and by its other ids.
  void detach(const ObjectId& object);
  // The object of id `from`, below `parent` now, has the id `to`.
  std::vector<MovedObject> move(const ObjectId& from, const ObjectId& to, const Inode& parent);
  // Some objects were renamed, or have several ids.
  [[nodiscard]] bool any_moved() const { return moved_count_.load(std::memory_order_acquire) != 0; }
  void set_parent(const Inode& inode, const Inode& parent);
  // Every object for which `moved` gives an id has that one now. Looks at all inodes.
  std::vector<MovedObject> move_all(const std::function<ObjectId(const ObjectId& id)>& moved);

  // Attributes last seen, whatever their age.
  std::optional<TimedAttr> attr(const Inode& inode);
  // False: outdated, or overtaken by a later answer; what is known stays.
  bool set_attr(const Inode& inode, const TimedAttr& attr);
  void drop_attr(const Inode& inode);
  // Changed through this mount at that time: what was asked for before is of no use any more.
  void note_changed(const Inode& inode, cache::TimePoint when);
  [[nodiscard]] bool outdated(const Inode& inode, cache::TimePoint asked);

  // The name by which the kernel was last told of a directory; empty: the root, and what it was
  // never told of.
  std::string name(const Inode& inode);
  void set_name(const Inode& inode, std::string_view name);

  // The directory's state; null when it was never opened. The first one installed stays.
  std::shared_ptr<DirState> dir(const Inode& inode);
  std::shared_ptr<DirState> install_dir(const Inode& inode, std::shared_ptr<DirState> fresh);

  // The same of a file.
  std::shared_ptr<FileState> file(const Inode& inode);
  std::shared_ptr<FileState> install_file(const Inode& inode, std::shared_ptr<FileState> fresh);
  // Every file that was opened. Looks at all inodes, a shard at a time.
  struct OpenedFile {
    uint64_t nodeid;
    std::shared_ptr<FileState> file;
  };
  std::vector<OpenedFile> opened_files();

  // Every directory that was opened. Looks at all inodes, a shard at a time.
  struct OpenedDirectory {
    uint64_t nodeid, ino, parent;  // as in Inode
    std::shared_ptr<DirState> dir;
  };
  std::vector<OpenedDirectory> opened_directories();

  // Unmount: forgets every lookup. No InodeRef may be left but the table's own.
  void clear();

  [[nodiscard]] uint64_t size() const { return size_.load(std::memory_order_relaxed); }
  // How many entries of batches got a node id, in all.
  [[nodiscard]] uint64_t linked() const { return linked_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t lookups(uint64_t nodeid);  // for tests
  void check_invariants();

 private:
  friend class InodeRef;
  static constexpr uint32_t kShardBits = 6;
  static constexpr uint32_t kShards = 1u << kShardBits;

  struct ObjectKey {
    const ObjectId& object;
    uint64_t hash;
  };
  struct NodeIdHash {
    size_t operator()(uint64_t nodeid) const { return nodeid >> kShardBits; }
    size_t operator()(const Inode& inode) const { return (*this)(inode.nodeid()); }
  };
  struct NodeIdEqual {
    bool operator()(uint64_t nodeid, const Inode& inode) const { return nodeid == inode.nodeid(); }
    bool operator()(const Inode& a, const Inode& b) const { return a.nodeid() == b.nodeid(); }
  };
  struct ObjectHash {
    size_t operator()(const ObjectKey& key) const { return key.hash >> kShardBits; }
    size_t operator()(const Inode& inode) const { return inode.object_hash() >> kShardBits; }
  };
  struct ObjectEqual {
    bool operator()(const ObjectKey& key, const Inode& inode) const {
      return key.hash == inode.object_hash() && key.object == inode.object_;
    }
    bool operator()(const Inode& a, const Inode& b) const { return a.object_ == b.object_; }
  };

  // A hash set of two to four buckets for each of its inodes: a chain's second inode is a miss of
  // the processor's caches that nobody foresees.
  template <typename Tag, typename Hash, typename Equal>
  class Index {
   public:
    using Set = boost::intrusive::unordered_set<
        Inode,
        boost::intrusive::base_hook<
            boost::intrusive::unordered_set_base_hook<boost::intrusive::tag<Tag>>>,
        boost::intrusive::hash<Hash>, boost::intrusive::equal<Equal>,
        boost::intrusive::power_2_buckets<true>>;
    using Buckets = std::unique_ptr<typename Set::bucket_type[]>;

    void reserve_one();  // may throw; insert() does not
    void insert(Inode& inode) { set.insert(inode); }

    size_t bucket_count = 16;
    Buckets buckets{new typename Set::bucket_type[16]};
    Set set{typename Set::bucket_traits(buckets.get(), 16)};
  };

  struct alignas(64) Shard {
    cache::Mutex mutex{cache::LockRank::kInodeTable};
    Index<ByNodeId, NodeIdHash, NodeIdEqual> by_nodeid GUARDED_BY(mutex);
    Index<ByObject, ObjectHash, ObjectEqual> by_object GUARDED_BY(mutex);
    uint64_t last_id GUARDED_BY(mutex) = 0;
  };

  // An entry of a batch.
  struct Item {
    uint64_t hash;
    PrimedEntry* entry;
  };
  // Among those that a rename gave their id: its inode, with the lock of its shard for `use(shard,
  // inode)`. False: none, or of another type than `type` (0: any), which has lost its name then.
  template <typename Use>
  bool use_moved(const ObjectId& object, uint32_t type, const Use& use);
  // With the shard's lock, which the analysis can't always be shown. The id is one of the inode's,
  // or is to be.
  void add_id_locked(Inode& inode, const ObjectId& id);
  void remove_id_locked(Shard& shard, Inode& inode, const ObjectId& id);
  MovedObject rename_locked(Shard& shard, Inode& inode, const ObjectId& from, const ObjectId& to);
  void forget_moved(const Inode& inode, const ObjectId& id);
  std::vector<Item> by_shard(std::span<PrimedEntry> entries) const;
  void prefetch(std::span<const Item> items);

  Shard& shard_of(uint64_t nodeid_or_hash) { return shards_[nodeid_or_hash % kShards]; }
  Inode* find_locked(Shard& shard, uint64_t nodeid) REQUIRES(shard.mutex);
  Inode* find_locked(Shard& shard, const ObjectId& object, uint64_t hash) REQUIRES(shard.mutex);
  // The live inode of this object, made when there is none. `object` is moved from only then.
  Inode& obtain_locked(Shard& shard, ObjectId& object, uint64_t hash, const ObjectFacts& facts)
      REQUIRES(shard.mutex);
  // Out of the table when nothing holds it any more; to be destroyed once the lock is dropped.
  std::unique_ptr<Inode> take_if_dead(Shard& shard, Inode& inode) REQUIRES(shard.mutex);
  void unpin(Inode& inode);
  [[nodiscard]] bool is_root(const ObjectId& object) const;
  template <typename State>
  std::shared_ptr<State> state(const Inode& inode);
  template <typename State>
  std::shared_ptr<State> install(const Inode& inode, std::shared_ptr<State> fresh);
  void clear_shard(Shard& shard);

  std::array<Shard, kShards> shards_;
  cache::Mutex moved_mutex_{cache::LockRank::kMovedObjects};
  std::unordered_map<ObjectId, uint64_t> moved_ GUARDED_BY(moved_mutex_);  // to node ids
  std::atomic<uint64_t> moved_count_{0};
  std::atomic<uint64_t> size_{1};  // relaxed: figures for statistics
  std::atomic<uint64_t> linked_{0};
  const uint64_t root_hash_;
  const ObjectId root_object_;
  const std::unique_ptr<Inode> root_;  // in no index
};

}  // namespace fusefs
