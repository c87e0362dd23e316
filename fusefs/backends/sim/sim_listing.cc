#include "fusefs/backends/sim/sim_listing.h"

#include <dirent.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "cache/base/check.h"
#include "cache/base/hash.h"

namespace fusefs {
namespace {

using cache::DirAnswer;
using cache::DirRequest;

constexpr uint64_t kRepeated = 3;  // most entries that a repeating answer gives again

// Goes over a directory's entries in listing order: the originals by number, merged with what
// was added, without what was removed. An added entry that shares an original's position (by name
// only) follows it.
class Walk {
 public:
  Walk(const SimTree& tree, const SimNode& directory)
      : tree_(tree),
        directory_(directory),
        places_(tree.places(directory)),
        overlay_(tree.overlay(directory)),
        added_(overlay_.added().begin()),
        removed_(overlay_.removed().begin()) {
    settle();
  }

  // Continues with original `number` and the first added entry behind `place`.
  void seek(uint64_t number, const SimPlace& place) {
    number_ = number;
    added_ = overlay_.added().upper_bound(place);
    removed_ = overlay_.removed().lower_bound(number);
    settle();
  }

  // Behind everything that stands at `position` or before it.
  void seek_behind(uint64_t position) {
    seek(places_.count_up_to(position), {.position = position, .name = last_name()});
  }

  void skip(uint64_t entries) {
    while (entries > 0 && !at_end()) {
      const uint64_t run = std::min(entries, originals_ahead());
      if (run == 0) {
        ++added_;
        --entries;
      } else {
        number_ += run;
        entries -= run;
      }
      settle();
    }
  }

  [[nodiscard]] bool at_end() const {
    return number_ >= places_.count && added_ == overlay_.added().end();
  }

  // The entry it stands at; valid until the next call.
  SimEntry entry() {
    if (at_original()) return tree_.original(directory_, number_, &buffer_);
    return {added_->first.name, added_->second, tree_.entry_type(added_->second)};
  }
  [[nodiscard]] uint64_t position() const {
    return at_original() ? places_.position(number_) : added_->first.position;
  }
  void next() {
    if (at_original()) {
      ++number_;
    } else {
      ++added_;
    }
    settle();
  }

 private:
  // Greater than every name: no name is longer, no byte larger.
  static std::string last_name() { return std::string(kSimMaxName + 1, '\xff'); }

  [[nodiscard]] bool at_original() const {
    if (number_ >= places_.count) return false;
    return added_ == overlay_.added().end() || places_.position(number_) <= added_->first.position;
  }

  // Originals in a row before the next added or removed one.
  [[nodiscard]] uint64_t originals_ahead() const {
    uint64_t end = places_.count;
    if (added_ != overlay_.added().end()) {
      end = std::min(end, places_.count_up_to(added_->first.position));
    }
    if (removed_ != overlay_.removed().end()) end = std::min(end, *removed_);
    return end > number_ ? end - number_ : 0;
  }

  void settle() {
    while (removed_ != overlay_.removed().end() && *removed_ <= number_) {
      if (*removed_ == number_) ++number_;
      ++removed_;
    }
  }

  const SimTree& tree_;
  const SimNode& directory_;
  const SimPlaces& places_;
  const SimOverlay& overlay_;
  uint64_t number_ = 0;
  SimOverlay::Added::const_iterator added_;
  SimOverlay::Removed::const_iterator removed_;
  SimNameBuffer buffer_;
};

class Listing {
 public:
  Listing(const SimTree& tree, const SimNode& directory, const DirRequest& request,
          const SimDraw& draw)
      : tree_(tree),
        style_(tree.config().cookies),
        directory_(directory),
        places_(tree.places(directory)),
        request_(request),
        draw_(draw),
        walk_(tree, directory),
        native_(style_ != SimCookies::kIndex && style_ != SimCookies::kName) {}

  DirAnswer make() {
    answer_.has_attrs = request_.want_attrs;
    answer_.verifier = verifier();
    if (stale() || !start()) {
      answer_.error = cache::kErrBadCookie;
      return std::move(answer_);
    }
    if (request_.max_entries == 0) answer_.error = cache::kErrTooSmall;
    if (answer_.error != 0 || draw_.fault == SimFault::kEmpty) return std::move(answer_);
    fill();
    return std::move(answer_);
  }

 private:
  [[nodiscard]] bool from_start() const {
    return native_ ? request_.after.cookie == 0 : request_.after.bytes.empty();
  }

  [[nodiscard]] uint64_t verifier() const {
    const SimConfig& config = tree_.config();
    const uint64_t version = config.strict_verifier ? tree_.overlay(directory_).version() : 0;
    return cache::mix64(directory_.ino + config.seed + (version << 20)) | 1;
  }

  [[nodiscard]] bool stale() const {
    return tree_.config().strict_verifier && !from_start() && request_.verifier != 0 &&
           request_.verifier != answer_.verifier;
  }

  // Moves the walk behind the request's place; false when that is not known. A fault may start
  // some entries earlier.
  bool start() {
    if (from_start()) return true;
    const bool earlier = draw_.fault == SimFault::kRepeat && (draw_.random & 1) == 0;
    const uint64_t back = earlier ? kRepeated : 0;
    if (style_ == SimCookies::kIndex) return start_at_index(back);
    if (style_ == SimCookies::kName) return start_behind_name(back);
    if (tree_.config().eof_sentinel && request_.after.cookie == tree_.cookies().sentinel()) {
      walk_.seek_behind(std::numeric_limits<uint64_t>::max());
      return true;
    }
    const auto position = tree_.cookies().decode(places_, request_.after.cookie);
    if (!position) return false;
    walk_.seek_behind(*position);
    if (earlier) seek_back(places_.count_up_to(*position));
    return true;
  }

  void seek_back(uint64_t number) {
    const uint64_t first = number > kRepeated ? number - kRepeated : 0;
    if (first == 0) {
      walk_.seek(0, {});
    } else {
      walk_.seek_behind(places_.position(first - 1));
    }
  }

  bool start_at_index(uint64_t back) {
    const std::string& token = request_.after.bytes;
    if (token.size() <= sizeof ordinal_) return false;
    std::memcpy(&ordinal_, token.data(), sizeof ordinal_);
    if (ordinal_ == 0) return false;
    walk_.skip(ordinal_ - 1);
    if (walk_.at_end()) return false;
    if (walk_.entry().name != std::string_view(token).substr(sizeof ordinal_)) return false;
    walk_.next();
    if (back == 0) return true;
    ordinal_ -= std::min(back, ordinal_);
    walk_.seek(0, {});
    walk_.skip(ordinal_);
    return true;
  }

  bool start_behind_name(uint64_t back) {
    const std::string& name = request_.after.bytes;
    const uint64_t number = tree_.originals_up_to(directory_, name);
    const uint64_t position = number == 0 ? 0 : places_.position(number - 1);
    walk_.seek(number, {.position = position, .name = name});
    if (back > 0) seek_back(number);
    return true;
  }

  void fill() {
    uint64_t limit = std::min(request_.max_entries, tree_.config().batch);
    const bool bad = draw_.fault == SimFault::kBadName && limit >= 2;
    if (bad) --limit;
    reserve(limit);
    const uint64_t bad_after = bad ? 1 + draw_.random % std::min<uint64_t>(limit, 4) : 0;
    for (uint64_t i = 1; i <= limit && !walk_.at_end(); ++i) {
      const uint64_t position = walk_.position();
      add_entry();
      if (i == bad_after) add_bad_name(position);
    }
    answer_.eof = walk_.at_end();
    const bool repeat_cookie = draw_.fault == SimFault::kRepeat && (draw_.random & 1) != 0;
    if (repeat_cookie && !from_start() && !answer_.entries.empty()) repeat_resume_place();
  }

  // The usual answer is as long as it may be; a huge wish of a small directory costs nothing.
  void reserve(uint64_t limit) {
    const uint64_t most = places_.count + tree_.overlay(directory_).added().size() + 1;
    const uint64_t entries = std::min(limit + 1, most);
    answer_.entries.reserve(entries);
    answer_.names.reserve(entries * (tree_.config().name_len + 1));
    if (request_.want_attrs) answer_.attrs.reserve(entries);
  }

  // Adds the entry the walk stands at, and goes on.
  void add_entry() {
    const SimEntry entry = walk_.entry();
    const uint64_t cookie = native_ ? tree_.cookies().encode(places_, walk_.position()) : 0;
    answer_.add(entry.name, entry.ino, entry.type, cookie);
    if (style_ == SimCookies::kName) answer_.add_token(entry.name);
    if (style_ == SimCookies::kIndex) add_index_token(entry.name);
    if (request_.want_attrs) answer_.attrs.push_back(tree_.attr(*tree_.node(entry.ino)));
    walk_.next();
    if (native_ && tree_.config().eof_sentinel && walk_.at_end()) {
      answer_.entries.back().cookie = tree_.cookies().sentinel();
    }
  }

  void add_index_token(std::string_view name) {
    char token[sizeof ordinal_ + kSimMaxName];
    ++ordinal_;
    std::memcpy(token, &ordinal_, sizeof ordinal_);
    std::memcpy(token + sizeof ordinal_, name.data(), name.size());
    answer_.add_token({token, sizeof ordinal_ + name.size()});
  }

  // Adds a name that no file can have, in the gap behind `position`; where places are tokens, with
  // that of the entry before it: continuing behind either is the same.
  void add_bad_name(uint64_t position) {
    if (native_ && (position >= places_.last || taken(position + 1))) return;
    constexpr uint64_t kBadIno = uint64_t{1} << 60;
    const std::string bad[] = {"bad/name", std::string("bad\0name", 8), "", std::string(300, 'b')};
    const std::string& name = bad[(draw_.random >> 20) % std::size(bad)];
    const DirAnswer::Entry before = answer_.entries.back();
    answer_.add(name, kBadIno + draw_.random % 1000, DT_REG,
                native_ ? tree_.cookies().encode(places_, position + 1) : 0);
    answer_.entries.back().token_offset = before.token_offset;
    answer_.entries.back().token_length = before.token_length;
    if (!request_.want_attrs) return;
    cache::Attr attr = answer_.attrs.back();
    attr.ino = answer_.entries.back().ino;
    answer_.attrs.push_back(attr);
  }

  [[nodiscard]] bool taken(uint64_t position) const {
    return tree_.overlay(directory_).taken(position) ||
           places_.count_up_to(position) > places_.count_up_to(position - 1);
  }

  // A listing that never gets on: its last entry stands where the caller already was.
  void repeat_resume_place() {
    answer_.entries.back().cookie = request_.after.cookie;
    if (native_) return;
    answer_.add_token(request_.after.bytes);
  }

  const SimTree& tree_;
  const SimCookies style_;
  const SimNode& directory_;
  const SimPlaces& places_;
  const DirRequest& request_;
  const SimDraw& draw_;
  Walk walk_;
  const bool native_;
  uint64_t ordinal_ = 0;  // kIndex: entries before the one the walk stands at
  DirAnswer answer_;
};

}  // namespace

DirAnswer make_sim_listing(const SimTree& tree, const SimNode& directory, const DirRequest& request,
                           const SimDraw& draw) {
  if (!tree.is_directory(directory)) {
    DirAnswer answer;
    answer.error = ENOTDIR;
    return answer;
  }
  return Listing(tree, directory, request, draw).make();
}

std::vector<SimListed> sim_contents(const SimTree& tree, const SimNode& directory) {
  std::vector<SimListed> contents;
  if (!tree.is_directory(directory)) return contents;
  for (Walk walk(tree, directory); !walk.at_end(); walk.next()) {
    const SimEntry entry = walk.entry();
    contents.push_back({std::string(entry.name), entry.ino, entry.type});
  }
  return contents;
}

}  // namespace fusefs
