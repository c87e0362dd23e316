// MadeAhead: files that programs take for made, and that the remote is still making (close=nowait;
// Backend::create_ahead()).
//
// Purpose:        brings together what the remote says of such a file in the end and the inode that
//                 it was given here, whichever comes first; has others wait until all are made.
// Ownership:      of the session and of every answer that is still to come: one that comes after
//                 close() finds nothing and does nothing.
// Thread-safety:  all members from any thread.
// Locks:          LockRank::kLeaf, never held while `settle` or a waiter runs.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cache/base/mutex.h"
#include "fusefs/backends/backend.h"

namespace fusefs {

class MadeAhead {
 public:
  struct File {
    uint64_t parent = 0;  // node ids
    uint64_t nodeid = 0;  // 0: it was told to nobody
    std::string name;
  };
  using Answer = Result<CreatedAnswer>;
  // Once for each file that was told to somebody; in the thread of whichever comes last.
  using Settle = std::function<void(const File&, const Answer&)>;

  explicit MadeAhead(Settle settle) : settle_(std::move(settle)) {}

  // One more is about to be asked for. Its number, above 0.
  uint64_t begin(uint64_t parent, std::string name);
  // What programs know it by; 0: nothing, and the answer concerns nobody.
  void introduced(uint64_t number, uint64_t nodeid);
  void answered(uint64_t number, const Answer& answer);

  // Runs it once all that have begun by now are settled: at once where there are none.
  void when_settled(std::function<void()> then);
  // Nothing is settled any more afterwards; waits for what just is. Waiters run. How many were
  // left: nobody knows what has become of these files.
  size_t close();

 private:
  struct Item {
    File file;
    bool introduced = false;
    std::optional<Answer> answer = {};
  };
  void settle_if_ready(uint64_t number);
  std::vector<std::function<void()>> take_waiters() REQUIRES(mutex_);

  cache::Mutex mutex_{cache::LockRank::kLeaf};
  cache::CondVar idle_;
  const Settle settle_;
  uint64_t last_ GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Item> items_ GUARDED_BY(mutex_);  // until they are settled
  size_t settling_ GUARDED_BY(mutex_) = 0;
  bool closed_ GUARDED_BY(mutex_) = false;
  // By the last number that each waits for.
  std::multimap<uint64_t, std::function<void()>> waiters_ GUARDED_BY(mutex_);
};

}  // namespace fusefs
