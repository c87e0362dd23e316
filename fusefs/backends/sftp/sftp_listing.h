// SftpListing: the listings under way, and who waits for them.
//
// Purpose:        finds the stream (dir_stream.h) that stands where a request goes on, or opens
//                 one; answers with what has been read ahead. The first entries of a stream are
//                 told at once; later answers gather some, because each one wakes a reader, and
//                 the replies of 100 names that they are made of come in quick succession.
// Ownership:      owns the streams. Those that nobody waits for are kept a while at their place:
//                 the next request of a listing comes when its reader has come that far.
// When it is right: a request that begins a listing always opens a stream of its own, so what it
//                 lists is no older than the request. One that goes on takes a stream of the same
//                 generation only (see Place): one that began before the directory changed is
//                 never taken by a listing that began after. Where none stands at the place, one
//                 that nobody has asked for a while goes on to it from before.
// Thread-safety:  the client's loop only. Completions run on it, with no lock held.
// Bounds:         kMaxStreams streams, further requests wait in a queue; kMaxIdle streams that
//                 nobody waits for, none longer than kMaxAge; kMaxAheadTotal entries read ahead.
#pragma once

#include <deque>
#include <list>
#include <optional>
#include <string>

#include "cache/base/clock.h"
#include "cache/dir/source.h"
#include "fusefs/backends/sftp/dir_stream.h"

namespace fusefs::sftp {

class SftpListing {
 public:
  static constexpr size_t kMaxStreams = 128;
  static constexpr size_t kMaxIdle = 32;
  static constexpr std::chrono::seconds kMaxAge{20};
  static constexpr size_t kMaxAheadTotal = 4 * DirStream::kMaxAhead;

  // A stream that was not asked for so long may be led on to another reader's place.
  static constexpr std::chrono::milliseconds kLeft{100};
  // A later answer waits until it has so many entries, or so long.
  static constexpr size_t kGather = 1000;
  static constexpr std::chrono::milliseconds kGatherTime{4};

  using RequestId = cache::DirSource::RequestId;

  // A directory, as the streams want to know it.
  struct Directory {
    std::string path;  // on the server
    DirStream::Follow follow = DirStream::Follow::kNever;
    uint64_t ino = 0;
  };

  explicit SftpListing(SftpClient& client) : client_(client) {}

  void read_dir(RequestId id, Directory directory, cache::DirRequest request,
                cache::DirSource::Completion done);
  // The stream stays where it is.
  void cancel(RequestId id);
  // That directory and those below it have gone, or have other names: what nobody waits for is let
  // go of, and what somebody waits for after its answer.
  void forget(const std::string& path);
  // Answers whom it can, and reads on. After each batch of replies; tells when to call it again at
  // the latest.
  cache::TimePoint serve();
  void tick(cache::TimePoint now);
  void clear();

 private:
  struct Waiter {
    RequestId id = 0;
    cache::DirRequest request;
    cache::DirSource::Completion done;
    cache::TimePoint since;
  };
  struct Open {
    Open(SftpClient& client, const Directory& directory, const Place& start)
        : path(directory.path),
          stream(client, directory.path, directory.follow, directory.ino, start) {}
    std::string path;
    DirStream stream;
    bool forgotten = false;
    std::optional<Waiter> waiter;
    cache::TimePoint idle_since;
  };
  struct Parked {
    Directory directory;
    Waiter waiter;
  };
  using Streams = std::list<Open>;

  void start(Directory&& directory, Waiter&& waiter);
  Streams::iterator find(const std::string& path, const Place& place);
  Streams::iterator lead_on(const std::string& path, const Place& place);
  bool make_room();
  void start_parked();
  static bool has_enough(const Open& open, cache::TimePoint now);
  static void answer(SftpClient& client, Open& open);

  SftpClient& client_;
  Streams streams_;
  std::deque<Parked> parked_;
};

}  // namespace fusefs::sftp
