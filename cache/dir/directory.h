// Directory: the cached listing of one remote directory, as the daemon uses it.
//
// Purpose:        serves reads by position from chained readdir arrays, fills what is missing from
//                 a DirSource, and forgets everything on demand.
// Ownership:      owns its address space, its anchors and its fills; refers to the PageCache and
//                 the DirSource, which outlive it. A DirCursor belongs to an open handle and may
//                 not outlive its Directory.
// Thread-safety:  all members from any thread; one DirCursor by one thread at a time.
// Locks:          takes LockRank::kDirectory and higher; holds none of them while the sink runs on
//                 sealed arrays, and kDirectory alone while it runs on an array still being filled
//                 (the sink may take no lock below kBackend and may not block).
// Own changes:    what we did to the directory ourselves is applied to what is held at once.
//                 Whether the listing may be trusted after that is a question of its own: only
//                 where the remote's reply proves that nobody else changed the directory.
// Errors:         Status with an errno; what was already consumed stays consumed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/base/clock.h"
#include "cache/base/interrupt.h"
#include "cache/base/result.h"
#include "cache/dir/readdir_array.h"
#include "cache/dir/source.h"

namespace cache {

class PageCache;
class DirCore;
struct CursorState;

// Takes entries [from, to) of a view, in order; returns how many it took. Taking fewer than
// to - from means that the reply is full.
class EntrySink {
 public:
  virtual ~EntrySink() = default;
  virtual uint32_t consume(const ArrayView& view, uint32_t from, uint32_t to) = 0;
};

// The place of one open handle in a listing.
class DirCursor {
 public:
  DirCursor();
  ~DirCursor();
  DirCursor(const DirCursor&) = delete;
  DirCursor& operator=(const DirCursor&) = delete;

 private:
  friend class DirCore;
  std::unique_ptr<CursorState> state_;
};

struct ReadOptions {
  bool want_attrs = false;                        // refill arrays that lack attributes
  TimePoint attrs_not_before = TimePoint::min();  // ... or whose attributes are older
  uint32_t most_arrays = 0;  // a fill that is begun ends after so many; 0: goes on
  // For those who will come: what is begun is shared with them like what was fetched ahead, and
  // goes on when this reader gives up.
  bool ahead = false;
  TimePoint deadline = TimePoint::max();  // on std::chrono::steady_clock
  Interrupt* interrupt = nullptr;
};

// Why a whole listing was forgotten.
enum class Forgotten : uint8_t {
  kNever,
  kChanged,        // the remote has another change token by now, or tells none
  kOwnChange,      // it had to be read again to have what we changed ourselves
  kTold,           // somebody asked for it
  kOldAttributes,  // most of its attributes were too old, and wanted
  kNumbering,      // the remote's cookies lost their meaning, or led in a circle
};

// What one directory holds, for statistics and virtual attributes. Costs the same whatever it
// holds.
struct DirectoryInfo {
  uint64_t arrays = 0;
  uint64_t anchors = 0;
  uint64_t change = 0;
  uint64_t invalidations = 0;
  uint32_t fills = 0;
  bool attrs_refused = false;  // the remote was asked for attributes and gave none
  uint64_t hits = 0;           // arrays that readers found, and had to wait for
  uint64_t misses = 0;
  uint64_t requests = 0;                    // sent to the remote
  Duration waited{};                        // by readers, for the remote
  Forgotten forgotten = Forgotten::kNever;  // at the last invalidation
  TimePoint forgotten_at;
  uint64_t own_changes = 0;   // note_removed() and note_added()
  uint64_t own_searched = 0;  // arrays that were looked through for them
};

// What the arrays held say. Costs a look at each of them.
struct DirectoryContent {
  uint64_t entries = 0;
  uint64_t bytes = 0;  // pages, names and attributes
  uint64_t arrays_with_attrs = 0;
  bool complete = false;     // from the first entry to the end, with no gap
  TimePoint oldest_attrs;    // when the remote was asked for them; only with arrays_with_attrs
  TimePoint oldest_listing;  // ... and for the arrays; only where there are any
};

// Where in a listing the arrays held stand: cells of equal numbers of entries.
struct DirectoryMap {
  uint64_t entries = 0;         // that the listing is known to reach to
  bool end_known = false;       // ... and it ends there
  std::vector<uint8_t> filled;  // percent of each cell's entries that are held
};

// A directory in a listing, as the listing tells it.
struct Subdirectory {
  std::string name;
  uint64_t ino = 0;
  std::optional<Attr> attr;  // where the listing carried attributes
  TimePoint asked;           // ... and when the remote was asked for them
};

class Directory {
 public:
  Directory(PageCache& cache, DirSource& source);
  ~Directory();  // ends fills without waiting for the remote; waits for reclaim's grip
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  // Gives the entries after `position` (0: from the start; else a cookie that this directory gave)
  // to the sink. Returns with at least one entry consumed, or at the directory's end with none, or
  // with an error. What is at hand is given at once: it waits only for the first entry.
  // Errors: ETIMEDOUT, EINTR, and what the remote says.
  Status read(DirCursor& cursor, uint64_t position, const ReadOptions& options, EntrySink& sink);

  // Says what the directory's change token is now (0: unknown). When it differs from what the
  // arrays were filled under, they are invalidated. Returns true when it did.
  // To be called before a listing begins, as often as the mount's time-to-live asks.
  bool revalidate(uint64_t change);
  // True when arrays are held and the token they were filled under is known.
  [[nodiscard]] bool holds_listing() const;

  // Forgets every array at once, whoever reads them; fills under way are not installed.
  void invalidate(Forgotten why = Forgotten::kTold);

  // Moves with each invalidation, whether anything was held or not.
  [[nodiscard]] uint64_t generation() const;

  // The entry of that name when a resident array has it with attributes no older than `not_before`.
  // Costs no request. `asked`, where given, tells when the remote was asked for them. Looked at is
  // the array found last, and the next; of at most kFindAttrArrays all; of more those that an index
  // of names tells, which is made when some have been missed (and where there is room).
  static constexpr uint32_t kFindAttrArrays = 8;
  [[nodiscard]] std::optional<Attr> find_attr(std::string_view name,
                                              TimePoint not_before = TimePoint::min(),
                                              TimePoint* asked = nullptr);

  // The inode number of the entry of that name, looked for likewise, in arrays with attributes and
  // without.
  [[nodiscard]] std::optional<uint64_t> find_ino(std::string_view name);

  // A position from which read() comes by the whole array of that name but its first entry, and
  // fetches it again where attributes are wanted that it lacks. Looked for likewise.
  [[nodiscard]] std::optional<uint64_t> place_of(std::string_view name);

  // Begins to fetch the listing from its start, for a reader that is expected. Waits for nothing;
  // what fails shows when it is read. False: something is held already, or under way.
  bool fetch_ahead(bool want_attrs);

  // The first name that `wanted` takes, of the arrays from the start on. Costs no request, and
  // looks at kLookAhead arrays. Empty: the complete listing is held, nothing was added to it, and
  // it has no such name. None: not found there.
  std::optional<std::string> find_name(bool (*wanted)(std::string_view));

  // Adds at most `most` directories to `out`: those that the arrays held tell after the entry with
  // this inode number (0: from the start), in the listing's order. It is looked for as in
  // find_attr(); false where it is not found. Costs no request, and looks at kLookAhead arrays.
  static constexpr uint32_t kLookAhead = 64;
  bool subdirectories(uint64_t after_ino, size_t most, std::vector<Subdirectory>* out);

  // ---- Own changes, which the remote has confirmed --------------------------------------------
  // `before`, `after`: the directory's change tokens around the change; 0: not told. Where `before`
  // is the token that the listing is held under, nobody else changed the directory: the listing
  // stays, under `after` from now on, and so does what is being fetched. Changes made side by side
  // may be told in any order: proof is complete when the last of a chain has come.
  // Returned is the token that the listing is held under now; 0: not proven. Then what is held has
  // the change all the same, for those who read it now, but is not to be trusted at the next
  // opendir before the remote was asked: its token differs, and the listing is forgotten.

  // The entry leaves its array at once, in O(array): a read that begins later does not give it. Its
  // cookie still tells the place, so a reader who stands there goes on right after it. Looked for
  // first where entries are removed in the listing's order, then with the index of names, which is
  // made for it; where that finds no room the listing is forgotten instead.
  uint64_t note_removed(std::string_view name, uint64_t before, uint64_t after);

  // There is no cookie for it yet. It is found by name at once; a listing that begins at its start
  // while such names are there is read again, once for all of them. A listing under way need not
  // give it. They are kept within the budget, together with the indexes of names: where there are
  // too many the listing counts as incomplete, and is read again likewise.
  // A name that was listed with another inode number has been replaced: it stays listed, for those
  // who are listing now, with the new number.
  struct NewEntry {
    std::string_view name;
    uint64_t ino = 0;
    uint8_t type = 0;  // DT_*
    std::optional<Attr> attr;
    TimePoint asked;  // when the remote was asked: how old `attr` is
  };
  uint64_t note_added(const NewEntry& entry, uint64_t before, uint64_t after);

  // The attributes that are held of that name are no longer right.
  void note_attr_changed(std::string_view name);

  // What is held says whether there is such a name. kAbsent: the complete listing is held, under a
  // known token, and the name is neither in it nor among those added. How long ago the token was
  // confirmed is the caller's question. Costs no request, and some 0.1 us; the first time in a long
  // listing an index of names is made.
  enum class Presence : uint8_t { kUnsure, kThere, kAbsent };
  [[nodiscard]] Presence presence(std::string_view name);

  // The remote has just made this directory: it is empty, under that token (0: nothing is adopted).
  // It then costs no request to list. Nothing happens where anything is held or under way.
  void adopt_empty(uint64_t change);

  // A token that the listing had until an own change: the one it has now. Any other: itself. For
  // answers that were under way meanwhile.
  [[nodiscard]] uint64_t present_token(uint64_t change) const;

  // One handle fewer/more has the directory open. With none, fills nobody waits for end.
  void opened();
  void closed();

  [[nodiscard]] DirectoryInfo info() const;
  [[nodiscard]] DirectoryContent content() const;
  // At most so many cells; fewer where the listing is shorter.
  [[nodiscard]] DirectoryMap map(uint32_t most_cells) const;

 private:
  std::shared_ptr<DirCore> core_;
};

}  // namespace cache
