// Notifier: tells the kernel what it must not believe any more.
//
// Purpose:        a notification may block on pages that a parked READ holds, so it is never sent
//                 from inside a request: a thread of its own takes them from a queue.
// Ownership:      owns its thread; refers to the libfuse session, which outlives it.
// Thread-safety:  all members from any thread.
// Locks:          a leaf for the queue, never held while the kernel is told.
// Bounds:         kMaxQueued notifications that nobody waits for; beyond that new ones are dropped
//                 and counted (the kernel's own time-outs, at most ttl, then stand in).
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>
#include <thread>

#include "cache/base/mutex.h"

struct fuse_session;

namespace fusefs {

class Notifier {
 public:
  static constexpr size_t kMaxQueued = 4096;

  Notifier() = default;
  ~Notifier() { stop(); }
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  void start(fuse_session* session);
  // Drops what is queued and joins the thread. The mount must have ended, so that nothing blocks.
  void stop();

  // Attributes and pages of an inode, a directory's listing included.
  void inval_inode(uint64_t nodeid);
  // The same, and waits until the kernel has done it, for which that may have to write pages back:
  // not from a worker. False: it was not done (the mount ends).
  bool inval_inode_now(uint64_t nodeid);
  bool inval_attributes_now(uint64_t nodeid);
  // Nothing is queued and the kernel is told nothing: nobody waits for it.
  [[nodiscard]] bool idle();
  // Its attributes alone.
  void inval_attributes(uint64_t nodeid);
  // A name, present or absent, and its directory: the kernel refuses the first without looking at
  // the second when it never looked the name up.
  void inval_entry(uint64_t parent, std::string name);

  [[nodiscard]] uint64_t sent() const { return sent_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  enum class What : uint8_t { kInode, kAttributes, kEntry };
  struct Item {
    What what;
    uint64_t nodeid;
    std::string name = {};  // of the entry
    uint64_t ticket = 0;    // of somebody who waits; 0: nobody does
    bool operator==(const Item&) const = default;
  };

  bool send_now(What what, uint64_t nodeid);
  void enqueue(Item item);
  void run();
  void send(const Item& item);

  fuse_session* session_ = nullptr;
  std::thread thread_;
  std::atomic<uint64_t> sent_{0};  // relaxed: figures for statistics
  std::atomic<uint64_t> dropped_{0};
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  cache::CondVar changed_;
  std::deque<Item> queue_ GUARDED_BY(mutex_);
  uint64_t tickets_ GUARDED_BY(mutex_) = 0;
  uint64_t served_ GUARDED_BY(mutex_) = 0;  // the last ticket whose item was sent
  bool running_ GUARDED_BY(mutex_) = false;
  bool sending_ GUARDED_BY(mutex_) = false;
};

}  // namespace fusefs
