// DirStream: one enumeration of a remote directory: its handle, and what has been read ahead.
//
// Purpose:        SFTP lists by handle, forwards only, and names no place to go on from. A stream
//                 stands at a place that it can name (Place); reads on from there with many
//                 READDIR requests under way, whose replies it puts in the order of the requests;
//                 and can be opened at a place that another stream had named: it then reads from
//                 the beginning and drops what comes up to the name that the place tells. Names
//                 that came or went before it have moved it a little, which is no reason to lose
//                 it; a name that is somewhere else altogether was put there, and tells no place.
// Ownership:      owned by the listing (sftp_listing.h); owns its handle, and closes it at the end
//                 or when it is destroyed.
// Thread-safety:  the client's loop only.
// Errors:         what the server says, at the place where it says it: entries that came before are
//                 given first. ESTALE: the directory is gone. kErrBadCookie: the name that the
//                 place tells is not there any more. A connection that is lost is no error: the
//                 stream is opened again at the place that it has read up to.
//
//   IDLE -> OPENING       [open]       somebody waits: LSTAT and OPENDIR go out together
//   OPENING -> READING    [on_handle]
//   READING -> ENDED      [apply]      the server says so
//   OPENING, READING -> IDLE    [interrupt]   the connection was lost; the next advance() reopens
//   any -> FAILED         [fail]
// Bounds:         ReaddirWindow requests; kMaxAhead entries read and not taken, fewer at first.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "cache/dir/source.h"
#include "fusefs/backends/sftp/readdir_window.h"
#include "fusefs/backends/sftp/sftp_client.h"

namespace fusefs::sftp {

// A place in a directory: what its resume token says.
//
//   +--------------------+----------------+-------------------------+
//   | generation, 8      | ordinal, 4     | hash of the name, 8     |
//   +--------------------+----------------+-------------------------+
//
// The ordinal counts the entries before the place, without '.' and '..'; the hash (the entry's
// inode number) is of the last of them. The generation is the directory's change token when the
// enumeration began: two with the same list the same, so an array that is filled again gets the
// cookies that it had.
struct Place {
  uint64_t generation = 0;
  uint32_t ordinal = 0;
  uint64_t name = 0;
  bool operator==(const Place&) const = default;

  static constexpr size_t kTokenBytes = 20;
  [[nodiscard]] std::array<char, kTokenBytes> token() const;
  // The beginning for an empty token; nothing for one that is not ours.
  static std::optional<Place> of_token(std::string_view token);
};

class DirStream {
 public:
  static constexpr size_t kMaxAhead = 32768;  // entries
  static constexpr size_t kMaxAheadAtFirst = 24576;
  static constexpr size_t kNamesPerReply = 100;  // what servers give; only an estimate
  static constexpr uint32_t kMaxEmptyReplies = 16;
  static constexpr uint32_t kMaxNonsense = 1;  // reopens because the server spoke nonsense
  static constexpr uint32_t kMaxReopens = 16;  // in a row, without an entry
  static constexpr uint32_t kMaxDrift = 256;   // entries by which a place may have moved

  enum class Follow : uint8_t { kLinks, kNever };

  // `directory` is its inode number.
  DirStream(SftpClient& client, std::string path, Follow follow, uint64_t directory, Place start);
  ~DirStream();
  DirStream(const DirStream&) = delete;
  DirStream& operator=(const DirStream&) = delete;

  // Where the next entry to be taken stands.
  [[nodiscard]] const Place& place() const { return place_; }

  // Goes on to a later place of the same generation. False, and unchanged or of no more use, when
  // that is not where the place tells.
  bool skip_to(const Place& place);
  // To be called while somebody waits: opens what is not open, and reads ahead.
  void advance();
  // Reads ahead where the stream is open.
  void read_ahead();
  // True when take() has something to say: entries, the end, or an error.
  [[nodiscard]] bool ready() const;
  // False: all that there is, the end or the error included, can be taken now.
  [[nodiscard]] bool more_to_come() const {
    return state_ != State::kEnded && state_ != State::kFailed;
  }
  // The next entries, as many as are there and wanted. Only when ready().
  cache::DirAnswer take(const cache::DirRequest& request);
  // Nothing will come any more: the end or the error has been taken.
  [[nodiscard]] bool over() const { return over_; }
  // Entries read and not taken.
  [[nodiscard]] size_t ahead() const { return ahead_; }

 private:
  enum class State : uint8_t { kIdle, kOpening, kReading, kEnded, kFailed };
  struct Batch {
    Names names;
    size_t next = 0;
  };
  // A READDIR under way, or its reply that waits for those before it.
  struct Slot {
    SftpClient::RequestKey key = 0;
    bool answered = false;
    int error = 0;  // with answered; kEnd: no more names
    Names names;
  };
  static constexpr int kEnd = -1;

  void open();
  void on_attributes(const SftpClient::Answer& answer);
  void on_handle(const SftpClient::Answer& answer);
  void send_readdirs();
  void on_names(uint64_t serial, const SftpClient::Answer& answer);
  static void read_answer(const SftpClient::Answer& answer, Slot* slot);
  void apply_in_order();
  void apply(Slot&& slot);
  // False: the place to start from is not to be found.
  bool drop_known(Batch* batch);
  void pass_one();
  void interrupt();
  void fail(int error);
  void finish_reading();
  void close_handle();
  [[nodiscard]] size_t ahead_limit() const;

  SftpClient& client_;
  const std::string path_;
  const Follow follow_;
  const uint64_t directory_;

  State state_ = State::kIdle;
  int error_ = 0;  // FAILED: why
  bool over_ = false;
  Place place_;            // before the first entry of `batches_`
  Place tail_;             // behind the last of them
  bool dropping_ = false;  // what comes up to tail_.name
  uint32_t passed_ = 0;    // dropping: entries of this enumeration seen
  std::string handle_;
  uint64_t connection_ = 0;  // on which the handle was opened
  SftpClient::RequestKey attributes_key_ = 0, open_key_ = 0;
  uint64_t expected_ = 0;  // entries, by the directory's size; 0: unknown
  ReaddirWindow window_;
  std::deque<Slot> slots_;
  uint64_t first_serial_ = 0;  // of slots_.front()
  std::deque<Batch> batches_;
  size_t ahead_ = 0;
  uint64_t taken_ = 0;
  uint64_t last_batch_ = 0;  // its names, hashed: a server that repeats itself
  uint32_t empty_replies_ = 0;
  uint32_t reopens_ = 0, nonsense_ = 0;
};

}  // namespace fusefs::sftp
