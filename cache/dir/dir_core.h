// DirCore: the state behind a Directory, shared with completions that may come late.
//
// Purpose:        the chain of arrays, its fills and anchors, and the reading of them.
// Ownership:      held by the Directory and by every completion under way. close() ends its use of
//                 the page cache and the source; what comes later finds it closed and does nothing.
// Thread-safety:  all public members from any thread.
// Locks:          mutex_ (LockRank::kDirectory). Never held while the source is called or while a
//                 sink runs on a sealed array; held while arrays are sealed, which may reclaim.
// Bounds:         kMaxUnread answers ahead of the readers; kMaxFailures fruitless answers in a row;
//                 kMaxFills fills a directory, kMaxWidth of them for what lies ahead of one reader;
//                 kMaxLogged own removals while one request is under way, kMaxSteps own changes of
//                 the token, kMaxStamps tokens of arrays side by side.
#pragma once

#include <array>
#include <atomic>
#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cache/base/mutex.h"
#include "cache/dir/anchors.h"
#include "cache/dir/array_hooks.h"
#include "cache/dir/directory.h"
#include "cache/dir/fill.h"
#include "cache/dir/name_index.h"
#include "cache/dir/own_names.h"
#include "cache/mm/address_space.h"
#include "cache/mm/page_cache.h"

namespace cache {

// The place of an open handle: the last entry it got, and where the next one is.
struct CursorState {
  uint64_t held = 0;           // the position as the program holds it
  uint64_t position = 0;       // the same place in today's numbers; 0: the beginning
  uint64_t key = 0;            // of the array that holds the next entry
  std::string token;           // mapped cookies: what the remote is told for that array
  uint64_t seek_key = 0;       // mapped: walking the chain from its start to this array; 0: not
  bool maybe_native = false;   // the remote's own cookie, if no array on that walk has the key
  uint64_t native = 0;         // the same place in the remote's own cookies; 0: not known
  uint32_t index = 0;          // of the next entry, as far as known
  Page* hint = nullptr;        // where that array was; looked at again before use
  uint64_t ordinal = 0;        // entries given in this pass
  std::vector<PageRef> own;    // uncached arrays, oldest first, never in the index
  uint64_t own_removals = 0;   // of the directory, when they were made
  bool mapped = false;         // position and key are mapped cookies
  bool lost = false;           // position and key mean nothing any more: the names tell the place
  uint16_t era = 0;            // the numbering that position and key are from
  uint64_t placed_change = 0;  // the directory's token when a number alone told the place
  bool uncached = false;       // `own` is being read, or the next array must be an own one
  uint32_t uncached_ask = 0;   // entries the next uncached request asks for
  uint32_t refill_width = 1;   // fills side by side for this reader; doubles while it reads on
  // Up to here all that is missing ahead of the reader has been asked for.
  struct Frontier {
    uint64_t key = 0;
    uint32_t position = 0;
  } frontier;
  // What was asked for ahead and evicted unread makes it pause, longer each time.
  bool lost_ahead = false;
  uint32_t refill_pause = 0;   // occasions still to let pass
  uint32_t refill_pauses = 0;  // the last pause
  // Names (hashed) of the last entries given, a ring, and of those that come next, as far as their
  // array was known: the way back when cookies have lost their meaning or the entry at the position
  // is gone. Several, because some of them may be gone too.
  static constexpr size_t kRecent = 16;
  std::array<uint64_t, kRecent> recent{};
  std::array<uint64_t, kRecent> ahead{};
  uint64_t recent_count = 0;
  uint32_t ahead_count = 0;
  // Mapped cookies: names (hashed) given from the present array, in order; from its start or not.
  // About the place of an entry that is gone the remote can't be asked here.
  std::vector<uint64_t> given_here;
  bool given_whole = false;
  // The last reply, when it was short: a program with a small buffer takes less of it than the
  // kernel asked for, and comes back to a place in its middle. That is no seek to an unknown place.
  struct Given {
    uint64_t cookie;
    uint64_t name;  // hashed
  };
  static constexpr size_t kMaxGiven = 128;
  std::vector<Given> given;
  // The last entry of the array passed last, whichever way it was passed, and the place before it:
  // to prove under a new verifier that the remote's cookies have kept their meaning.
  struct Edge {
    uint64_t key = 0;  // of the array that follows it; 0: none is known
    std::string name;
    uint64_t before = 0;
  } edge;
  // Brent's cycle detection over one pass: a chain that comes back to a key, or to an entry under
  // the same cookie and name, is a server's bug. (A cookie alone may be another's by mistake.)
  static constexpr uint64_t kNoCheckpoint = ~uint64_t{0};
  uint64_t checkpoint = 0;
  uint64_t checkpoint_cookie = 0;
  uint64_t checkpoint_name = 0;  // hashed
  uint64_t arrays_passed = 0;
  uint64_t next_checkpoint = 1;
  void forget_checkpoint() {
    checkpoint = kNoCheckpoint;
    checkpoint_cookie = 0;
    arrays_passed = 0;
    next_checkpoint = 1;
  }
  int owed_error = 0;  // met after entries had been given: the next read() reports it
};

class DirCore final : public IndexOwner, public std::enable_shared_from_this<DirCore> {
 public:
  static constexpr uint32_t kMaxUnread = 2;
  static constexpr uint32_t kMaxFailures = 6;
  static constexpr uint32_t kMaxRenewals = 12;
  static constexpr uint32_t kMaxFills = 16;
  static constexpr uint32_t kMaxWidth = 12;
  static constexpr uint32_t kReadsOn = 5;  // arrays passed: more than one reply of 32 KiB takes
  static constexpr uint32_t kMaxPause = 63;
  static constexpr uint32_t kGrowth = 8;        // an answer asks for so many times the last one's
  static constexpr uint32_t kMaxOwnArrays = 8;  // one uncached answer
  static constexpr size_t kMaxLogged = 4096;
  static constexpr size_t kMaxSteps = 64;
  static constexpr size_t kMaxStamps = 8;

  DirCore(PageCache& cache, DirSource& source);
  void close() EXCLUDES(mutex_);

  static CursorState& state_of(DirCursor& cursor) { return *cursor.state_; }

  Status read(CursorState& cursor, uint64_t position, const ReadOptions& options, EntrySink& sink)
      EXCLUDES(mutex_);
  bool revalidate(uint64_t change) EXCLUDES(mutex_);
  [[nodiscard]] bool holds_listing() const EXCLUDES(mutex_);
  void invalidate(Forgotten why) EXCLUDES(mutex_);
  std::optional<uint64_t> find_ino(std::string_view name) EXCLUDES(mutex_);
  std::optional<uint64_t> place_of(std::string_view name) EXCLUDES(mutex_);
  bool fetch_ahead(bool want_attrs) EXCLUDES(mutex_);
  std::optional<std::string> find_name(bool (*wanted)(std::string_view)) EXCLUDES(mutex_);
  bool subdirectories(uint64_t after_ino, size_t most, std::vector<Subdirectory>* out)
      EXCLUDES(mutex_);
  std::optional<Attr> find_attr(std::string_view name, TimePoint not_before, TimePoint* asked)
      EXCLUDES(mutex_);
  void opened() EXCLUDES(mutex_);
  void closed() EXCLUDES(mutex_);
  void drop_names() override EXCLUDES(index_mutex_);
  [[nodiscard]] uint64_t generation() const { return pages_->sequence(); }
  // dir_own.cc: own changes.
  uint64_t note_removed(std::string_view name, uint64_t before, uint64_t after) EXCLUDES(mutex_);
  uint64_t note_added(const Directory::NewEntry& entry, uint64_t before, uint64_t after)
      EXCLUDES(mutex_);
  void note_attr_changed(std::string_view name) EXCLUDES(mutex_);
  [[nodiscard]] Directory::Presence presence(std::string_view name) EXCLUDES(mutex_);
  void adopt_empty(uint64_t change) EXCLUDES(mutex_);
  [[nodiscard]] uint64_t present_token(uint64_t change) const EXCLUDES(mutex_);
  // dir_info.cc: what is held.
  [[nodiscard]] DirectoryInfo info() const EXCLUDES(mutex_);
  [[nodiscard]] DirectoryContent content() const EXCLUDES(mutex_);
  [[nodiscard]] DirectoryMap map(uint32_t most_cells) const EXCLUDES(mutex_);

 private:
  using FillPtr = std::shared_ptr<Fill>;
  enum class Step : uint8_t { kAgain, kDone, kLost, kUncached, kNative };
  struct Outcome {
    Step step = Step::kAgain;
    Status status;
  };
  struct Reading;  // one read() call

  // dir_switch.cc
  // From now on this directory shows mapped cookies. Ends all fills but `met`, which has met one
  // that does not fit, where it was a fill.
  void switch_to_mapped(const Fill* met) REQUIRES(mutex_);
  // Arrays that may stay, with other cookies.
  [[nodiscard]] std::vector<PageRef> arrays_to_map() REQUIRES(mutex_);
  bool map_array(PageRef held) REQUIRES(mutex_);
  // `position` is the remote's own cookie: the place after it, mapped.
  void place_native(CursorState& cursor) REQUIRES(mutex_);
  // Of a cursor from before the switch: the same place, mapped. False: there is none.
  bool map_place(CursorState& cursor) EXCLUDES(mutex_);

  // dir_read.cc: reading.
  void place(CursorState& cursor, uint64_t position) EXCLUDES(mutex_);
  static bool step_back(CursorState& cursor, uint64_t position);
  void place_mapped(CursorState& cursor) EXCLUDES(mutex_);
  void place_by_order(CursorState& cursor) EXCLUDES(mutex_);
  void place_by_scan(CursorState& cursor) EXCLUDES(mutex_);
  void know_around(CursorState& cursor) const;
  enum class Extent : uint8_t { kPartial, kSealed };
  [[nodiscard]] std::optional<uint32_t> locate_exactly(const CursorState& cursor,
                                                       const ArrayView& view, Extent extent) const;
  [[nodiscard]] std::optional<uint32_t> locate(const CursorState& cursor, const ArrayView& view,
                                               Extent extent) const;
  Outcome read_step(Reading& reading) EXCLUDES(mutex_);
  Outcome read_array(Reading& reading, PageRef page) EXCLUDES(mutex_);
  Outcome read_view(Reading& reading, const ArrayView& view, const ArrayEnd& end);
  Outcome read_fill(Reading& reading) EXCLUDES(mutex_);
  // The caller has been counted among the fill's waiters.
  Outcome wait_for_fill(Reading& reading, const FillPtr& fill) REQUIRES(mutex_);
  bool begin_search(Reading& reading, const ArrayView& view, uint32_t next);
  Outcome consume(Reading& reading, const ArrayView& view, uint32_t from);
  Outcome consume_marked(Reading& reading, const ArrayView& view, uint32_t from);
  void note_given(Reading& reading, const ArrayView& view, uint32_t from, uint32_t taken);
  static void remember(CursorState& cursor, const ArrayView& view, uint32_t from, uint32_t to);
  static void remember_names(CursorState& cursor, const ArrayView& view, uint32_t from,
                             uint32_t to);
  static void remember_here(CursorState& cursor, const ArrayView& view, uint32_t from, uint32_t to);
  static bool goes_round(CursorState& cursor, const ArrayView& left);
  Outcome recover(Reading& reading, int error) EXCLUDES(mutex_);
  // Whether the cursor's numbers are of another kind than the directory shows by now.
  [[nodiscard]] bool outdated(const CursorState& cursor) const {
    return cursor.mapped != mapped_.load(std::memory_order_acquire);
  }
  Outcome next_array(Reading& reading, const ArrayView& left, const ArrayEnd& end);
  // It reads on for nobody: what comes after its arrays is left as it is.
  [[nodiscard]] static bool bounded(const Reading& reading);
  [[nodiscard]] bool lacks_attrs(const Reading& reading, const ArrayView& view) const;
  static void step_to(CursorState& cursor, uint64_t key, std::string_view token);
  void set_waker(const ReadOptions& options);
  // True when the wait must end: interrupted, past the deadline, or closing; says why.
  bool wait_a_while(const Reading& reading, int* error) REQUIRES(mutex_);
  void prefetch(const Reading& reading) EXCLUDES(mutex_);
  bool find_way_back(Reading& reading, const ArrayView& view);
  static void find_way_back_by_place(Reading& reading, const ArrayView& view);
  Outcome way_back_ended(Reading& reading);
  // dir_uncached.cc: the uncached path.
  Outcome read_own(Reading& reading) EXCLUDES(mutex_);
  Outcome fetch_own(Reading& reading) EXCLUDES(mutex_);
  Outcome ask_own(Reading& reading) EXCLUDES(mutex_);
  // `known`: own changes when it was asked for.
  Outcome build_own(Reading& reading, const DirAnswer& answer, uint64_t known) EXCLUDES(mutex_);

  // Where an entry was found last. Torn, it only costs the search.
  struct SearchHint {
    std::atomic<Page*> page{nullptr};
    std::atomic<uint64_t> key{0};
    std::atomic<uint32_t> index{0};

    void set(Page* new_page, uint64_t new_key, uint32_t new_index) {
      key.store(new_key, std::memory_order_relaxed);
      index.store(new_index, std::memory_order_relaxed);
      page.store(new_page, std::memory_order_release);
    }
  };
  struct FoundEntry {
    PageRef page;  // empty: not found
    uint32_t index = 0;
  };
  template <typename Usable, typename Find>
  FoundEntry find_near(SearchHint& hint, const Usable& usable, const Find& find) EXCLUDES(mutex_);
  template <typename Usable>
  FoundEntry find_name(SearchHint& hint, const Usable& usable, std::string_view name)
      EXCLUDES(mutex_);
  void drop_index() EXCLUDES(index_mutex_);
  void make_index() EXCLUDES(mutex_, index_mutex_);
  void index_sealed(const Page& page) EXCLUDES(index_mutex_);

  // dir_own.cc: where a name is held, and what own changes do to it.
  enum class Search : uint8_t {
    kDone,        // every place has been seen
    kSomeGone,    // ... that is left; some were reclaimed meanwhile
    kNeedsIndex,  // ... can be, with an index of names
    kNoRoom,      // ... which can't be had
  };
  enum class Index : uint8_t { kMayBeMade, kWasTried };
  struct TokenStep {
    uint64_t before = 0;
    uint64_t after = 0;
  };
  // visit(HeldEntry) for every entry of that name, in arrays and fills.
  template <typename Visit>
  Search visit_held(std::string_view name, Index index, const Visit& visit) REQUIRES(mutex_);
  template <typename Visit>
  bool visit_next(std::string_view name, const Visit& visit) REQUIRES(mutex_);
  template <typename Visit>
  Search visit_all(std::string_view name, const Visit& visit) REQUIRES(mutex_);
  template <typename Visit>
  Search visit_indexed(std::string_view name, const Visit& visit) REQUIRES(mutex_);
  template <typename Visit>
  void visit_array(const PageRef& page, std::string_view name, const Visit& visit) REQUIRES(mutex_);
  // Those of these keys that are held; kSomeGone: not all are.
  template <typename Visit>
  Search visit_arrays(std::span<const uint64_t> keys, std::string_view name, const Visit& visit)
      REQUIRES(mutex_);
  std::optional<uint64_t> remove_held(std::string_view name, const TokenStep& step, Index index)
      EXCLUDES(mutex_);
  std::optional<uint64_t> add_held(const Directory::NewEntry& entry, const TokenStep& step,
                                   Index index, bool* noted) EXCLUDES(mutex_);
  std::optional<Directory::Presence> presence_held(std::string_view name, Index index)
      EXCLUDES(mutex_);
  uint64_t move_token(const TokenStep& step) REQUIRES(mutex_);
  void add_step(const TokenStep& step) REQUIRES(mutex_);
  // What own changes, as far as they are known, have made of that token.
  [[nodiscard]] uint64_t latest(uint64_t change) const REQUIRES(mutex_);
  [[nodiscard]] bool all_under(uint64_t change) const REQUIRES(mutex_);
  [[nodiscard]] bool anything_held() const REQUIRES(mutex_);
  [[nodiscard]] bool answers_expected() const REQUIRES(mutex_);
  void log_removal(std::string_view name) REQUIRES(mutex_);
  void patch_appended(Fill& fill, std::string_view name, uint64_t known) REQUIRES(mutex_);
  void forget_for_added() EXCLUDES(mutex_);
  void forget_own_changes() REQUIRES(mutex_);  // the listing is forgotten
  [[nodiscard]] uint64_t boundary_of(const Fill& fill) const REQUIRES(mutex_);
  [[nodiscard]] bool boundary_moved(const Fill& fill) const REQUIRES(mutex_);
  [[nodiscard]] bool holds_all() REQUIRES(mutex_);

  // dir_fill.cc: filling.
  static FillTail tail_at(const CursorState& cursor);
  void lend_tail(const CursorState& cursor, Fill& fill) REQUIRES(mutex_);
  FillPtr find_fill(uint64_t key) REQUIRES(mutex_);
  // Null with `error` 0: somebody else has the page, look again.
  // kWaiter: the caller is counted as one already, and ends in wait_for_fill().
  enum class FillFor : uint8_t { kWaiter, kLater, kExpected };
  FillPtr start_fill(const CursorState& cursor, const FillWish& wish, FillFor whom, int* error,
                     uint32_t ask = kEntriesPerArray) REQUIRES(mutex_);
  // Who reads for others wants what they do.
  [[nodiscard]] FillWish wish_of(const ReadOptions& options) const {
    const bool others = options.ahead && attrs_wanted_.load(std::memory_order_relaxed);
    return {options.want_attrs || others, options.attrs_not_before, options.most_arrays};
  }
  // The fill puts its own in the place of that array.
  [[nodiscard]] bool replaces(const Fill& fill, const Page& page) const REQUIRES(mutex_);
  static uint32_t left_of(const Fill& fill);
  void count_fill(Fill& fill, bool counts) REQUIRES(mutex_);
  void send_request(const FillPtr& fill) REQUIRES(mutex_);
  [[nodiscard]] bool wants_more(const Fill& fill) const REQUIRES(mutex_);
  void on_answer(const FillPtr& fill, uint64_t serial, DirAnswer&& answer) EXCLUDES(mutex_);
  void take_answer(const FillPtr& fill, DirAnswer& answer) REQUIRES(mutex_);
  void take_entries(Fill& fill, const DirAnswer& answer, size_t from, const RequestStamp& stamp)
      REQUIRES(mutex_);
  [[nodiscard]] bool outlived(const Fill& fill) const {
    return fill.stamp.sequence != pages_->sequence();
  }
  void take_outlived(Fill& fill, const DirAnswer& answer, size_t from, uint64_t known)
      REQUIRES(mutex_);
  void complete_array(Fill& fill, uint16_t flags, std::string_view token) REQUIRES(mutex_);
  void take_failure(const FillPtr& fill, int error) REQUIRES(mutex_);
  // One entry into the array being built, if its name is good. `known`: own changes when the
  // answer was asked for.
  bool append(Fill& fill, const DirAnswer& answer, size_t index, uint64_t known) REQUIRES(mutex_);
  // Both end the fill and return false when it can't go on.
  bool seal_array(Fill& fill, uint16_t flags, std::string_view token) REQUIRES(mutex_);
  bool begin_next_array(Fill& fill, std::string_view token, const RequestStamp& stamp)
      REQUIRES(mutex_);
  void note_order(const Fill& fill) REQUIRES(mutex_);
  bool cookies_fit(Fill& fill, const DirAnswer& answer) REQUIRES(mutex_);
  // kGoesBack: the answer leads back to where it was asked to begin.
  static constexpr size_t kGoesBack = ~size_t{0};
  [[nodiscard]] size_t first_new_entry(const Fill& fill, const DirAnswer& answer) const
      REQUIRES(mutex_);
  void advance_token(Fill& fill, const DirAnswer& answer) REQUIRES(mutex_);
  void end_fill(Fill& fill, int error) REQUIRES(mutex_);
  void try_again(const FillPtr& fill, int error) REQUIRES(mutex_);
  // A reader came to the arrays that an answer filled: the fill ahead of it goes on.
  void demand(CursorState& cursor, uint32_t position) REQUIRES(mutex_);
  // Anchors know the keys of what was evicted: it is asked for side by side, a window that doubles
  // while a reader reads on, and not each part after the answer before it.
  void refill_ahead(CursorState& cursor, uint32_t position) REQUIRES(mutex_);
  static void note_lost_ahead(CursorState& cursor, const Fill& begun);
  [[nodiscard]] uint32_t asked_until(uint32_t position) const REQUIRES(mutex_);
  [[nodiscard]] uint32_t missing_after(const Fill& fill) const REQUIRES(mutex_);
  [[nodiscard]] uint64_t mapped_key_of(std::string_view token) const REQUIRES(mutex_);
  [[nodiscard]] uint64_t fills_active() const;  // of all directories; at least 1
  [[nodiscard]] uint32_t max_ask() const;
  // How many entries a request for so many brings.
  [[nodiscard]] uint32_t expected_of(uint32_t ask) const REQUIRES(mutex_);
  [[nodiscard]] uint32_t max_ask_of(uint64_t fills) const;  // when so many share the room
  [[nodiscard]] uint64_t room_under_way() const;            // entries
  [[nodiscard]] uint32_t widest() const REQUIRES(mutex_);   // fills side by side for one reader
  [[nodiscard]] ResumeToken resume_token(uint64_t key, const std::string& token) const;
  [[nodiscard]] ResumeToken place_after(const DirAnswer& answer, size_t index) const;
  [[nodiscard]] std::string mapped_token(const DirAnswer& answer, size_t index) const;
  void note_stamp(uint64_t change) REQUIRES(mutex_);
  void note_verifier(Fill& fill, uint64_t verifier) REQUIRES(mutex_);
  void begin_era() REQUIRES(mutex_);
  uint64_t invalidate_locked(Forgotten why) REQUIRES(mutex_);
  void cancel_later(DirSource::RequestId id) REQUIRES(mutex_);
  void flush_cancels() EXCLUDES(mutex_);

  PageCache& cache_;
  DirSource& source_;
  ArrayHooks& hooks_;
  Stats& stats_;
  const CookieKind kind_;
  std::unique_ptr<AddressSpace> pages_;  // set until close(); readers are gone by then

  mutable Mutex mutex_{LockRank::kDirectory};
  CondVar progress_;  // a fill moved or ended, an uncached answer came, closing, an interrupt
  boost::intrusive::list<Fill> fills_ GUARDED_BY(mutex_);
  std::vector<FillPtr> fill_owners_ GUARDED_BY(mutex_);
  Anchors anchors_ GUARDED_BY(mutex_);
  std::vector<DirSource::RequestId> cancels_ GUARDED_BY(mutex_);
  uint64_t serials_ GUARDED_BY(mutex_) = 0;
  uint32_t usual_answer_ GUARDED_BY(mutex_) = 0;  // entries; 0: none was shorter than its request
  uint64_t change_ GUARDED_BY(mutex_) = 0;        // latest known token
  uint64_t verifier_ GUARDED_BY(mutex_) = 0;      // latest known
  uint64_t stamp_ GUARDED_BY(mutex_) = 0;         // token the arrays were filled under
  bool has_stamp_ GUARDED_BY(mutex_) = false;
  std::vector<uint64_t> other_stamps_ GUARDED_BY(mutex_);  // arrays of several tokens
  std::atomic<bool> mapped_;           // visible cookies are mapped; only ever set
  std::atomic<uint16_t> era_{0};       // the remote's numbering, see ArrayHeader
  std::atomic<bool> ascending_{true};  // every sealed array so far
  std::atomic<bool> descending_{true};
  bool gave_native_ GUARDED_BY(mutex_) = false;  // before mapped_ was set, where it was not always
  uint64_t switch_change_ GUARDED_BY(mutex_) = 0;  // the token when it was set
  bool attrs_refused_ GUARDED_BY(mutex_) = false;  // asked for and not given
  bool closed_ GUARDED_BY(mutex_) = false;
  uint32_t calls_out_ GUARDED_BY(mutex_) = 0;  // threads inside the source
  uint32_t handles_ GUARDED_BY(mutex_) = 0;
  uint64_t invalidations_ GUARDED_BY(mutex_) = 0;
  Forgotten forgotten_ GUARDED_BY(mutex_) = Forgotten::kNever;
  TimePoint forgotten_at_ GUARDED_BY(mutex_);
  std::atomic<uint64_t> hits_{0};  // relaxed: a figure; counted without the mutex
  uint64_t misses_ GUARDED_BY(mutex_) = 0;
  uint64_t requests_ GUARDED_BY(mutex_) = 0;
  Duration waited_ GUARDED_BY(mutex_){};
  std::atomic<bool> attrs_wanted_{false};  // what reads past the beginning asked for last
  // Names by hash, once enough lookups had to do without. What is sealed while it is made waits.
  enum class IndexState : uint8_t { kNone, kMaking, kReady };
  static constexpr int32_t kIndexMisses = 16;
  static constexpr int32_t kIndexPause = 4096;  // misses, where there was no room
  Mutex index_mutex_{LockRank::kLeaf};
  std::atomic<IndexState> index_state_{IndexState::kNone};  // changed under the mutex
  std::atomic<int32_t> index_misses_{0};
  std::unique_ptr<NameIndex> index_ GUARDED_BY(index_mutex_);
  std::vector<uint64_t> index_later_ GUARDED_BY(index_mutex_);  // keys
  SearchHint attr_hint_;                                        // find_attr
  SearchHint walk_hint_;                                        // find_ino, subdirectories
  // Own changes.
  OwnNames own_names_;
  uint64_t own_changes_ GUARDED_BY(mutex_) = 0;  // the number of the last
  std::atomic<uint64_t> own_removals_{0};        // changed under the mutex; relaxed: see read_own()
  uint64_t own_searched_ GUARDED_BY(mutex_) = 0;
  // What is held has been changed: an array that is filled again may end elsewhere.
  bool patched_ GUARDED_BY(mutex_) = false;
  // Readers from before it was forgotten go on with arrays that end elsewhere than those of a
  // listing from the start: a name may be in two.
  bool overlaps_ GUARDED_BY(mutex_) = false;
  bool unproven_ GUARDED_BY(mutex_) = false;  // changed by something of which no tokens were told
  // Own changes of the token, a ring; `after` is what the latest that is known has made of it.
  std::array<TokenStep, kMaxSteps> steps_ GUARDED_BY(mutex_){};
  uint64_t step_count_ GUARDED_BY(mutex_) = 0;
  uint64_t steps_before_ GUARDED_BY(mutex_) = 0;  // of them, before the listing was forgotten last
  // Names removed since the oldest request under way was sent, with the change's number.
  std::unordered_map<std::string, uint64_t> removal_log_ GUARDED_BY(mutex_);
  uint64_t log_begins_ GUARDED_BY(mutex_) = 0;   // removals up to this number are not in it
  uint32_t own_fetches_ GUARDED_BY(mutex_) = 0;  // uncached requests under way
  // Where the next removal is expected.
  struct {
    Page* page = nullptr;
    uint64_t key = 0;
    uint32_t index = 0;
  } next_removal_ GUARDED_BY(mutex_);
  static constexpr uint32_t kOwnScans = 2;              // of all arrays, before an index is made
  uint32_t own_scans_ GUARDED_BY(mutex_) = 0;           // since the listing was forgotten
  uint64_t arrays_begun_ GUARDED_BY(mutex_) = 0;        // pages that came into the mapping
  std::optional<uint64_t> eof_key_ GUARDED_BY(mutex_);  // of the array sealed last that ends it
  // What holds_all() found last, and whether it still stands.
  struct Chain {
    bool complete = false;
    std::optional<uint64_t> hole;  // a key that was missing
    uint64_t sequence = 0;
    uint64_t arrays_begun = 0;
    uint64_t pages = 0;
  };
  Chain chain_ GUARDED_BY(mutex_);
};

// One read() call.
struct DirCore::Reading {
  Reading(CursorState& at, const ReadOptions& how, EntrySink& to)
      : cursor(at), options(how), sink(to), deadline(how.deadline) {
    if (deadline != TimePoint::max()) patience = deadline - std::chrono::steady_clock::now();
  }
  CursorState& cursor;
  const ReadOptions& options;
  EntrySink& sink;
  // On the way to a place that only the listing tells, each array passed is a sign of life.
  TimePoint deadline;
  Duration patience{};
  bool consumed = false;
  int stuck = EIO;  // what it ends with when it gets nowhere; ENOMEM once there was no memory
  PageRef filled;   // of the array that this call waited for
  // Looking for the place of the names that the cursor knows, from the listing's beginning, or in
  // so many arrays from where it was.
  bool way_back = false;
  uint32_t arrays_to_search = 0;  // 0: all
  struct Place {
    uint32_t score = 0;  // 0: nothing found yet; see find_way_back
    uint64_t key = 0;
    uint64_t position = 0;
    uint64_t name = 0;  // of the entry before it, hashed
    uint32_t index = 0;
    uint16_t era = 0;
    std::string token;
  };
  Place best;
  uint64_t sequence = 0;  // of the mapping, when this call began or recovered last
  uint32_t recoveries = 0;
  uint32_t rounds = 0;  // steps without an entry, bounded
};

}  // namespace cache
