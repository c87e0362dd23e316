// The source of one directory's entries: what the readdir arrays ask of a remote.
//
// Purpose:        the only thing that cache/dir knows of back ends and protocols.
// Ownership:      a Source belongs to whoever made the Directory and outlives it.
// Thread-safety:  all members may be called from any thread, with no lock held by the caller that
//                 the completion takes.
// Errors:         a DirAnswer carries an errno; see `DirAnswer::error`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/dir/attr.h"

namespace cache {

// How the remote names a place in a directory.
enum class CookieKind : uint8_t {
  // A u64 after every entry. Values in [1, 2^63-1] are shown to the kernel unchanged; a directory
  // in which another value turns up is switched to mapped cookies.
  kNative,
  // Bytes after every entry (a name, an ordinal and a name, ...), at most kMaxTokenBytes.
  // The kernel sees mapped cookies (cookie_map.h).
  kOpaque,
};

constexpr uint32_t kMaxTokenBytes = 320;  // a 255-byte name and an ordinal, with room to spare

// A place to resume from. `cookie` counts for kNative, `bytes` for kOpaque.
// Cookie 0 and empty bytes: the directory's beginning.
struct ResumeToken {
  uint64_t cookie = 0;
  std::string bytes;
  bool operator==(const ResumeToken&) const = default;
};

struct DirRequest {
  ResumeToken after;         // entries that follow this place
  uint64_t verifier = 0;     // as the last answer of this listing gave it; 0: none yet
  uint32_t max_entries = 0;  // a wish, at least 1; the remote may give fewer, never more
  bool want_attrs = false;   // attributes with every entry, where the remote can
};

// One remote answer, packed: entries in listing order, names and tokens back to back.
// Nothing in it has been checked yet: names may be bad and cookies may repeat.
struct DirAnswer {
  struct Entry {
    uint64_t cookie = 0;  // kNative: the place after this entry
    uint64_t ino = 0;
    uint32_t name_offset = 0;   // into `names`
    uint32_t name_length = 0;   // bytes, no terminator
    uint32_t token_offset = 0;  // into `tokens`, kOpaque only
    uint32_t token_length = 0;
    uint8_t type = 0;  // DT_*; DT_UNKNOWN where the remote does not tell
  };
  // 0 or an errno. Special meanings: kErrBadCookie: the place is no longer known;
  // EAGAIN: try the same request again later; kErrTooSmall: nothing fits in max_entries.
  int error = 0;
  bool eof = false;
  bool has_attrs = false;  // then attrs.size() == entries.size()
  uint64_t verifier = 0;
  uint64_t change = 0;  // the directory's change token after this answer; 0: not told
  std::vector<Entry> entries;
  std::string names;
  std::string tokens;
  std::vector<Attr> attrs;

  void add(std::string_view name, uint64_t ino, uint8_t type, uint64_t cookie);
  void add_token(std::string_view token);  // for the entry added last
  [[nodiscard]] std::string_view name(const Entry& entry) const {
    return std::string_view(names).substr(entry.name_offset, entry.name_length);
  }
  [[nodiscard]] std::string_view token(const Entry& entry) const {
    return std::string_view(tokens).substr(entry.token_offset, entry.token_length);
  }
  // True when every offset and length lies inside its buffer: to be asked before anything else.
  [[nodiscard]] bool well_formed() const;
};

// Errnos of our own, outside the kernel's range for user space; never shown to a program.
constexpr int kErrBadCookie = 100001;
constexpr int kErrTooSmall = 100002;

class DirSource {
 public:
  using RequestId = uint64_t;  // never 0
  using Completion = std::function<void(DirAnswer&&)>;

  virtual ~DirSource() = default;

  // Starts a request; `done` is called exactly once, on a thread of the source's own and never
  // from inside read_dir(), unless the request is cancelled before.
  virtual RequestId read_dir(DirRequest request, Completion done) = 0;

  // Nobody waits any more. The completion may still run, or may be dropped; whatever it captured
  // is released in the end. Unknown ids are ignored.
  virtual void cancel(RequestId id) = 0;

  [[nodiscard]] virtual CookieKind cookie_kind() const = 0;
  // The most entries worth asking for at once.
  [[nodiscard]] virtual uint32_t max_batch() const = 0;
};

}  // namespace cache
