// Locks4: locks of ranges at a server of version 4.0 (RFC 7530, 9.1.5, 9.6.2, 9.8; 16.10 to 16.12,
// 16.37).
//
// An owner:       each file that was opened to be locked (File4) has a lock owner of its own, made
//                 known to the server with its first LOCK. Whole files (flock) are locked as the
//                 range of all bytes, as Linux does it, so that the two kinds heed each other.
// Turns:          an owner's calls are made one after the other; its number grows with every answer
//                 but those that RFC 7530, 9.1.7 names. Nobody cancels them: what became of one
//                 would not be known.
// Lost replies:   the same call with the same number is answered as before by the server.
// Lost state:     once the file was reclaimed after the server's restart, its locks are, too,
//                 before anything else is asked in its name. What can't be reclaimed is lost, which
//                 is logged, and the next to set a lock is told EOWNERDEAD.
// Waiting:        servers don't call back: EAGAIN, and the asker tries again.
// Ownership:      shared by calls under way; stop() comes before the client goes.
// Thread-safety:  all members from any thread.
// Locks:          leaves; held across no call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cache/base/mutex.h"
#include "fusefs/backends/nfs/nfs4_opens.h"

namespace fusefs::nfs {

class Locks4 {
 public:
  template <typename T>
  using Done = Backend::Done<T>;
  static constexpr std::chrono::seconds kGiveUpTime{2};

  // `opens` outlives it.
  Locks4(Client& client, Opens4& opens) : client_(client), opens_(opens) {}
  ~Locks4() { stop(); }
  Locks4(const Locks4&) = delete;
  Locks4& operator=(const Locks4&) = delete;

  // As Backend::set_lock() and test_lock(); `file` may be null there.
  void set(const CallerPtr& caller, const FilePtr4& file, const FileLock& lock, Done<Nothing> done);
  void test(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file, const FileLock& lock,
            Done<FileLock> done);
  // The file was opened anew.
  void restore(const FilePtr4& file);
  // Gives up all that is held, and then calls it.
  void let_go(const FilePtr4& file, std::function<void(const FilePtr4&)> then);
  // Waits a little for those.
  void stop();

 private:
  class Attempt;
  enum class Aim : uint8_t { kSet, kRestore };

  // Does not refer to the file: those that wait are part of it.
  using Turn = std::function<void(const FilePtr4&)>;
  static void take_turn(const FilePtr4& file, Turn turn);
  static void end_turn(const FilePtr4& file);
  void attempt(const CallerPtr& caller, const FilePtr4& file, const FileLock& lock, Aim aim,
               Done<Nothing> done);
  void ask(uint64_t id, const CallerPtr& caller, const OpenFilePtr& file, const std::string& owner,
           const FileLock& lock, Done<FileLock> done);
  void forget_owner(const FilePtr4& file);
  void gone(const FilePtr4& file, const Turn& then);

  Client& client_;
  Opens4& opens_;
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  cache::CondVar changed_;
  size_t letting_go_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace fusefs::nfs
