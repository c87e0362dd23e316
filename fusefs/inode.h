// Inode: what the daemon keeps of an object for which the kernel holds a node id.
//
// Ownership:      owned by the InodeTable. Held alive by
//                   - its lookup count: what the kernel was told less what it forgot;
//                   - its pins: InodeRefs of requests in progress, of open handles, and of
//                     listings fetched ahead (tree_ahead.h).
//                 Not by: the kernel's dentries of its children, its parent, cached listings that
//                 name it, its DirState (which it holds, not the other way).
// End of life:    the event that takes both counts to zero unlinks it from the table under the
//                 shard's lock; it is destroyed, with its listing, after that lock is dropped.
//                   FORGET takes the last lookup, with no request and no handle [forget]
//                   the last InodeRef goes after the kernel forgot [InodeRef::reset]
//                   unmount [InodeTable::clear]
// The race:       a LOOKUP and the FORGET of an earlier one. Both change the count under the
//                 shard's lock: either the LOOKUP finds the inode and its count keeps it, or it
//                 finds none and makes a new one with a new id. An id is never reused, so a FORGET
//                 that comes late can't hit another object.
// Names:          an object's id may hold its path, so a rename changes it, and a link() through
//                 this mount adds one: it is asked of the table (InodeTable::object), and is never
//                 kept. What was unlinked, or lost its name to another object, and has no other, is
//                 detached: no id leads to it.
// Thread-safety:  const members by anyone who holds an InodeRef; the rest belongs to InodeTable and
//                 is guarded by the shard's mutex.
// Memory:         about 150 bytes an inode, the object's name beyond 15 bytes and a directory's own
//                 name; as many as the kernel chooses to remember, and outside the cache's bound.
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <boost/intrusive/unordered_set_hook.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cache/base/clock.h"
#include "cache/dir/attr.h"
#include "fusefs/backends/backend.h"

namespace fusefs {

class DirState;
class FileState;

constexpr uint64_t kRootNodeId = 1;

// Attributes and when the remote was asked for them.
struct TimedAttr {
  Attr attr;
  cache::TimePoint asked;
};

// What is known of an object when the kernel is first told of it.
struct ObjectFacts {
  uint64_t ino = 0;         // as the remote tells it
  uint64_t parent_ino = 0;  // of the directory it was found in
  uint64_t parent = 0;      // that directory's node id
  uint32_t mode = 0;
};

struct ByNodeId;
struct ByObject;

class Inode : public boost::intrusive::unordered_set_base_hook<boost::intrusive::tag<ByNodeId>>,
              public boost::intrusive::unordered_set_base_hook<boost::intrusive::tag<ByObject>> {
 public:
  Inode(uint64_t nodeid, ObjectId object, uint64_t object_hash, const ObjectFacts& facts)
      : object_hash_(object_hash),
        nodeid_(nodeid),
        type_(facts.mode & S_IFMT),
        object_(std::move(object)),
        ino_(facts.ino),
        parent_ino_(facts.parent_ino),
        parent_(facts.parent) {}
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;

  [[nodiscard]] uint64_t nodeid() const { return nodeid_; }
  // Of the id that it was made with: decides over its shard for life.
  [[nodiscard]] uint64_t object_hash() const { return object_hash_; }
  // As the remote tells it, 0 if it does not; the parent's as of the first lookup or the last
  // rename through this mount.
  [[nodiscard]] uint64_t ino() const { return ino_; }
  [[nodiscard]] uint64_t parent_ino() const { return parent_ino_.load(std::memory_order_relaxed); }
  // Its node id, forgotten or not.
  [[nodiscard]] uint64_t parent() const { return parent_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint32_t type() const { return type_; }  // S_IFMT bits
  [[nodiscard]] bool is_directory() const { return type_ == S_IFDIR; }

 private:
  friend class InodeTable;

  [[nodiscard]] bool has_id(const ObjectId& id) const {
    if (detached_) return false;
    return object_ == id ||
           (others_ && std::find(others_->begin(), others_->end(), id) != others_->end());
  }

  [[nodiscard]] uint32_t id_count() const {
    if (detached_) return 0;
    return 1 + (others_ ? static_cast<uint32_t>(others_->size()) : 0);
  }

  // What a READDIRPLUS touches of each inode comes first, beside the hooks.
  const uint64_t object_hash_;
  const uint64_t nodeid_;
  uint64_t lookups_ = 0;  // guarded by the shard's mutex, as are the others that are not const
  uint32_t pins_ = 0;
  const uint32_t type_;
  bool moved_ = false;     // object_ is in InodeTable's map of moved objects
  bool detached_ = false;  // no id leads to it
  ObjectId object_;
  const uint64_t ino_;
  std::atomic<uint64_t> parent_ino_;  // relaxed: a number that is read alone
  std::atomic<uint64_t> parent_;
  std::unique_ptr<std::vector<ObjectId>> others_;  // further ids, all in that map; null: none
  std::unique_ptr<TimedAttr> attr_;                // null: never asked for, or dropped
  // When it was last changed through this mount: attributes asked for before that are outdated.
  cache::TimePoint changed_ = cache::TimePoint::min();
  std::shared_ptr<void>
      state_;  // a DirState or, of any other type, a FileState; null: never opened
  // Of a directory, as the kernel was last told it. Only for people.
  std::unique_ptr<const std::string> name_;
};

}  // namespace fusefs
