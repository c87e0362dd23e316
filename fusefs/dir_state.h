// DirState: the cached listing of one directory inode, bound to its back end.
//
// Purpose:        owns the cache::Directory of an inode, the adapter through which it asks the back
//                 end, and the ages that say when to ask again (listing_age.h).
// Ownership:      shared by the inode and the handles that have it open; refers to the page cache
//                 and the back end, which outlive it. Destroyed with no lock held.
// Thread-safety:  all members from any thread.
// Locks:          LockRank::kInode, never across a call into the directory that may wait.
#pragma once

#include <optional>
#include <string_view>

#include "cache/base/clock.h"
#include "cache/base/mutex.h"
#include "cache/dir/directory.h"
#include "fusefs/backends/backend.h"
#include "fusefs/inode.h"
#include "fusefs/listing_age.h"
#include "fusefs/name_case.h"
#include "fusefs/renew_credit.h"

namespace fusefs {

// One directory of a back end, as the cache wants to see it. Many readers share a request: it goes
// under the identity of the one who last read the directory, as that one was when it opened it.
class BackendDirSource final : public cache::DirSource {
 public:
  BackendDirSource(Backend& backend, ObjectId object)
      : backend_(backend), object_(std::move(object)) {}

  RequestId read_dir(cache::DirRequest request, Completion done) override {
    return backend_.read_dir(caller(), object(), std::move(request), std::move(done));
  }
  void cancel(RequestId id) override { backend_.cancel(id); }
  [[nodiscard]] cache::CookieKind cookie_kind() const override { return backend_.cookie_kind(); }
  [[nodiscard]] uint32_t max_batch() const override { return backend_.max_batch(); }

  void act_for(const CallerPtr& caller) {
    CallerPtr old = caller;  // destroyed outside the lock
    cache::MutexLock lock(mutex_);
    caller_.swap(old);
  }
  void act_first_for(const CallerPtr& caller) {
    cache::MutexLock lock(mutex_);
    if (!caller_) caller_ = caller;
  }
  // A rename has given the directory this id.
  void set_object(const ObjectId& object) {
    cache::MutexLock lock(mutex_);
    object_ = object;
  }

 private:
  CallerPtr caller() {
    cache::MutexLock lock(mutex_);
    return caller_;
  }
  ObjectId object() {
    cache::MutexLock lock(mutex_);
    return object_;
  }

  Backend& backend_;
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  ObjectId object_ GUARDED_BY(mutex_);
  CallerPtr caller_ GUARDED_BY(mutex_);
};

class DirState {
 public:
  // A listing of so many arrays may be fetched again for the sake of its attributes.
  static constexpr uint64_t kFewArrays = cache::Directory::kFindAttrArrays;

  // A listing of so many, 12,928 entries, is long.
  static constexpr uint64_t kLongArrays = 64;

  // `walk` outlives it.
  DirState(cache::PageCache& cache, Backend& backend, const ObjectId& object, cache::Duration ttl,
           WalkHint& walk)
      : source_(backend, object), directory_(cache, source_), walk_(walk), age_(ttl) {}

  cache::Directory& directory() { return directory_; }

  // A rename has given the directory this id.
  void set_object(const ObjectId& object) { source_.set_object(object); }
  // Whose identity the directory's next requests have. Only where the back end wants callers.
  void act_for(const CallerPtr& caller) { source_.act_for(caller); }
  // ... unless somebody has opened it already.
  void act_first_for(const CallerPtr& caller) { source_.act_first_for(caller); }

  [[nodiscard]] bool token_expired(cache::TimePoint now);
  // When it was last confirmed; none: not known.
  [[nodiscard]] std::optional<cache::TimePoint> token_asked();
  // The remote's token as of `asked`. True when the listing was forgotten over it.
  bool revalidate(uint64_t change, cache::TimePoint asked);
  // Forgets the listing; the number of arrays it had.
  uint64_t invalidate(cache::TimePoint now);

  // ---- Own changes, which the remote has confirmed; see cache::Directory. `asked`: when the
  // remote was asked for the change. Where `change` proves that nobody else changed the directory,
  // its token counts as confirmed then; else it is not known, and the next listing asks.
  void note_removed(std::string_view name, const DirChange& change, cache::TimePoint asked);
  void note_added(const cache::Directory::NewEntry& entry, const DirChange& change);
  // The remote made this directory when it was asked, and it has that token (0: unknown).
  void adopt_empty(uint64_t change, cache::TimePoint asked);

  // ---- Names that are not there. Of use with ttl alone.
  // The complete listing is held and has no such name. When that was right: the time that its token
  // was asked for. Costs no request; nothing where no token is known.
  [[nodiscard]] std::optional<cache::TimePoint> absent_since(std::string_view name);
  // The same, less than ttl ago, where it is known that the remote tells names apart.
  [[nodiscard]] bool known_absent(std::string_view name, cache::TimePoint now) {
    return names_.told_apart(name) == true && !token_expired(now) && absent_since(name);
  }
  [[nodiscard]] NameCase& name_case() { return names_; }
  // A name with letters that is there. Empty: there is none. None: it can't be told.
  [[nodiscard]] std::optional<std::string> lettered_name();
  // Reads what is missing of it, or all where names were added.
  void complete(cache::TimePoint now, const cache::ReadOptions& options);

  // So much has been listed that one asks for it in the largest pieces.
  [[nodiscard]] bool is_long() const;
  // True once, when that has come about.
  bool became_long();

  // Something is held, or under way.
  [[nodiscard]] bool holds_anything() const;
  // Begins to fetch the listing for somebody who is expected; see Directory::fetch_ahead().
  bool fetch_ahead(cache::TimePoint now, bool want_attrs);

  // The kernel is about to keep what a handle opened now lists. What it kept before:
  enum class Lends : uint8_t {
    kFirst,  // nothing
    kAgain,  // the same, and it was confirmed less than ttl ago
    kOther,  // something that may not be right any more
  };
  Lends lend_to_kernel(cache::TimePoint now);
  // It was not told, or may not have done it.
  void forget_lent();

  // A change of ours was refused for a reason that the listing does not show: the next one asks.
  void doubt() {
    cache::MutexLock lock(mutex_);
    age_.forget_token();
  }
  // What a listing that begins now says of its entries. Forgets what is held where it must.
  enum class Asks : uint8_t { kNames, kAttributes };
  ListingAge::Attributes begin_pass(cache::TimePoint now, Asks asks);
  void pass_continues(cache::TimePoint now);
  void note_wanted();
  // Which entries a pass links, and that it did; that the kernel looked up a listed file.
  [[nodiscard]] bool still_linked(ListingAge::Linked what, cache::TimePoint now);
  void note_linked(ListingAge::Linked what, cache::TimePoint until);
  void note_file_looked_up();
  // The listing goes on after its first reply, and the kernel may have nodes of its files.
  [[nodiscard]] bool goes_on_with_known_files();
  // Attributes asked for before this are too old to go with a listing.
  [[nodiscard]] cache::TimePoint oldest_listed(cache::TimePoint now);
  // The entry of that name as the listing told it, where that is recent enough.
  std::optional<TimedAttr> find_attr(std::string_view name, cache::TimePoint now);
  // After find_attr() found nothing: many lookups of names in the listing have come since it was
  // read, and it is not long. Asks nobody.
  [[nodiscard]] bool worth_renewing(std::string_view name);
  // Reads the listing again, with attributes. When that is done find_attr() may find them.
  Status renew_attrs(cache::TimePoint now, cache::ReadOptions options);
  // The same for longer listings, a part at a time where the name is, as RenewCredit allows. The
  // remote was asked for a listed name:
  void note_asked(cache::Duration took);
  // True when a part was read. Takes at most kMostRenewing.
  static constexpr std::chrono::seconds kMostRenewing{1};
  bool renew_around(std::string_view name, cache::TimePoint now, cache::ReadOptions options);

 private:
  // Reads on from the start, so many times at most or to the end.
  Status pass_over(const cache::ReadOptions& options, uint64_t most_reads);
  // 0: not proven.
  void own_token(uint64_t token, cache::TimePoint asked);
  // How many are held, or known to be where they were.
  [[nodiscard]] uint64_t listed_arrays() const;

  BackendDirSource source_;
  cache::Directory directory_;
  WalkHint& walk_;
  cache::Mutex mutex_{cache::LockRank::kInode};
  ListingAge age_ GUARDED_BY(mutex_);
  // The remote's token as last confirmed; 0: unknown. The directory itself compares tokens with
  // what it fetched, but keeps none of what it gave past the cache, which the kernel may have.
  uint64_t token_ GUARDED_BY(mutex_) = 0;
  struct Lent {
    uint64_t generation = 0;  // of the listing
    uint64_t token = 0;
    bool operator==(const Lent&) const = default;
  };
  Lent lent_ GUARDED_BY(mutex_);
  bool told_long_ GUARDED_BY(mutex_) = false;
  RenewCredit credit_ GUARDED_BY(mutex_);
  NameCase names_;
};

}  // namespace fusefs
