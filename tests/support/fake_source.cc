#include "tests/support/fake_source.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "cache/base/hash.h"
#include "tests/support/eventually.h"

namespace test {
namespace {

constexpr uint64_t kGap = 1 << 20;  // between ordered cookies, for entries that come between
constexpr uint64_t kBelow63 = (uint64_t{1} << 63) - 1;

std::string ordinal_token(uint64_t ordinal, const std::string& name) {
  std::string token(sizeof(ordinal), '\0');
  std::memcpy(token.data(), &ordinal, sizeof(ordinal));
  return token + name;
}

bool descends(CookieStyle style) {
  return style == CookieStyle::kDescending || style == CookieStyle::kSentinel;
}

}  // namespace

const char* name_of(CookieStyle style) {
  constexpr const char* kNames[] = {"ordered",  "hashed", "descending", "huge",
                                    "sentinel", "name",   "ordinal"};
  return kNames[static_cast<size_t>(style)];
}

bool is_opaque(CookieStyle style) {
  return style == CookieStyle::kName || style == CookieStyle::kOrdinal;
}

FakeSource::FakeSource(const Options& options) : options_(options), thread_([this] { run(); }) {}

FakeSource::~FakeSource() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

// --- requests ---------------------------------------------------------------------------------

FakeSource::RequestId FakeSource::read_dir(cache::DirRequest request, Completion done) {
  std::unique_lock lock(mutex_);
  const RequestId id = ++ids_;
  requests_.push_back(request);
  queue_.push_back(
      {.id = id, .number = ++numbers_, .request = std::move(request), .done = std::move(done)});
  lock.unlock();  // or who wakes up waits for it
  changed_.notify_all();
  return id;
}

void FakeSource::cancel(RequestId id) {
  Completion dropped;  // what it captured is released without the lock
  const std::lock_guard lock(mutex_);
  ++cancels_;
  changed_.notify_all();
  if (options_.deaf) return;
  const auto at =
      std::find_if(queue_.begin(), queue_.end(), [id](const Pending& p) { return p.id == id; });
  if (at == queue_.end()) return;
  dropped = std::move(at->done);
  queue_.erase(at);
}

void FakeSource::run() {
  for (;;) {
    Pending next;
    BeforeHook before;
    AnswerHook after;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] {
        return stopping_ || (!queue_.empty() && (!options_.manual || permits_ > 0));
      });
      if (stopping_) return;
      if (options_.manual && permits_ != UINT64_MAX) --permits_;
      next = std::move(queue_.front());
      queue_.pop_front();
      answering_ = true;
      before = before_;
      after = after_;
    }
    if (before) before(next.number);
    cache::DirAnswer reply = answer(next.request);
    if (after) after(next.number, next.request, reply);
    next.done(std::move(reply));
    next.done = nullptr;
    const std::lock_guard lock(mutex_);
    ++answered_;
    answering_ = false;
    changed_.notify_all();
  }
}

cache::CookieKind FakeSource::cookie_kind() const {
  return is_opaque(options_.style) ? cache::CookieKind::kOpaque : cache::CookieKind::kNative;
}

// --- answers ----------------------------------------------------------------------------------

void FakeSource::reindex() {
  if (indexed_) return;
  by_cookie_.clear();
  alive_.clear();
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!is_opaque(options_.style)) by_cookie_[entries_[i].cookie] = i;
    if (entries_[i].alive) alive_.push_back(i);
  }
  indexed_ = true;
}

// Index into entries_ of the first that follows the place; none: a bad cookie.
std::optional<size_t> FakeSource::native_place(uint64_t cookie) {
  if (cookie == 0) return 0;
  if (options_.style == CookieStyle::kSentinel && cookie == kSentinelCookie) {
    return entries_.size();
  }
  const auto at = by_cookie_.find(cookie);
  if (at != by_cookie_.end()) return at->second + 1;
  const bool down = descends(options_.style);
  if (!down && options_.style != CookieStyle::kOrdered) return std::nullopt;
  size_t i = 0;
  while (i < entries_.size() &&
         (down ? entries_[i].cookie >= cookie : entries_[i].cookie <= cookie)) {
    ++i;
  }
  return i;
}

std::optional<size_t> FakeSource::ordinal_place(const std::string& token) {
  uint64_t ordinal = 0;
  if (token.size() <= sizeof(ordinal)) return std::nullopt;
  std::memcpy(&ordinal, token.data(), sizeof(ordinal));
  if (ordinal == 0 || ordinal > alive_.size()) return std::nullopt;
  const size_t i = alive_[ordinal - 1];
  if (entries_[i].name != token.substr(sizeof(ordinal))) return std::nullopt;
  return i + 1;
}

std::optional<size_t> FakeSource::place(const cache::DirRequest& request) {
  if (request.after == cache::ResumeToken{}) return 0;
  if (request.verifier != verifier_ && (options_.strict_verifier || request.verifier != 0)) {
    return std::nullopt;
  }
  if (!is_opaque(options_.style)) return native_place(request.after.cookie);
  if (options_.style == CookieStyle::kOrdinal) return ordinal_place(request.after.bytes);
  const auto at = std::upper_bound(
      entries_.begin(), entries_.end(), request.after.bytes,
      [](const std::string& name, const FakeEntry& entry) { return name < entry.name; });
  return static_cast<size_t>(at - entries_.begin());
}

void FakeSource::put(cache::DirAnswer& answer, size_t index, bool want_attrs) const {
  const FakeEntry& entry = entries_[index];
  const bool last = index == alive_.back();
  const bool sentinel = options_.style == CookieStyle::kSentinel && last;
  answer.add(entry.name, entry.ino, type_of(entry.ino), sentinel ? kSentinelCookie : entry.cookie);
  if (options_.style == CookieStyle::kName) answer.add_token(entry.name);
  if (options_.style == CookieStyle::kOrdinal) {
    const auto at = std::lower_bound(alive_.begin(), alive_.end(), index);
    const auto ordinal = static_cast<uint64_t>(at - alive_.begin()) + 1;
    answer.add_token(ordinal_token(ordinal, entry.name));
  }
  if (want_attrs) answer.attrs.push_back(attr_of(entry.ino));
}

cache::DirAnswer FakeSource::answer(const cache::DirRequest& request) {
  const std::lock_guard lock(mutex_);
  reindex();
  cache::DirAnswer reply;
  reply.verifier = verifier_;
  reply.change = options_.tells_change ? change_ : 0;
  const std::optional<size_t> from = place(request);
  if (!from) {
    reply.error = cache::kErrBadCookie;
    return reply;
  }
  const uint64_t most = std::min<uint64_t>(request.max_entries, options_.batch);
  reply.has_attrs = request.want_attrs && options_.attrs;
  auto next = std::lower_bound(alive_.begin(), alive_.end(), *from);
  while (next != alive_.end() && reply.entries.size() < most) {
    put(reply, *next++, reply.has_attrs);
  }
  reply.eof = next == alive_.end() && (!options_.eof_alone || reply.entries.empty());
  return reply;
}

cache::Attr FakeSource::attr_of(uint64_t ino) {
  cache::Attr attr;
  attr.ino = ino;
  attr.mode = (type_of(ino) == DT_DIR ? S_IFDIR | 0755U : S_IFREG | 0644U);
  attr.size = ino * 10;
  attr.mtime.seconds = static_cast<int64_t>(ino) + 1'000'000;
  return attr;
}

uint8_t FakeSource::type_of(uint64_t ino) { return ino % 7 == 0 ? DT_DIR : DT_REG; }

// --- content ----------------------------------------------------------------------------------

void FakeSource::touched() {
  indexed_ = false;
  ++change_;
  if (options_.strict_verifier) ++verifier_;
}

void FakeSource::fill(size_t count, size_t name_length, const std::string& prefix) {
  std::vector<FakeEntry> entries(count);
  const size_t digits =
      std::max<size_t>(8, name_length > prefix.size() ? name_length - prefix.size() : 0);
  for (size_t i = 0; i < count; ++i) {
    const std::string number = std::to_string(i);
    entries[i].name = prefix + std::string(digits - number.size(), '0') + number;
    const uint64_t k = descends(options_.style) ? count - i : i + 1;
    const uint64_t hash = cache::mix64(i + salt_ * 0x10001);
    entries[i].cookie = options_.style == CookieStyle::kHashed ? (hash & kBelow63)
                        : options_.style == CookieStyle::kHuge ? hash
                                                               : k * kGap;
  }
  set_entries(std::move(entries));
}

void FakeSource::set_entries(std::vector<FakeEntry> entries) {
  const std::lock_guard lock(mutex_);
  entries_ = std::move(entries);
  for (FakeEntry& entry : entries_) {
    if (entry.ino == 0) entry.ino = next_ino_++;
  }
  touched();
}

uint64_t FakeSource::fresh_cookie(size_t index) {
  const uint64_t hash = cache::mix64(++salt_ * 0x9e3779b9);
  if (options_.style == CookieStyle::kHuge) return hash;
  if (options_.style == CookieStyle::kHashed) return hash & kBelow63;
  const bool down = descends(options_.style);
  const bool first = index == 0;
  const bool last = index == entries_.size();
  if (first && last) return kGap;
  if (down ? first : last) return entries_[first ? 0 : index - 1].cookie + kGap;
  const uint64_t above = entries_[down ? index - 1 : index].cookie;
  const bool open = down ? last : first;
  const uint64_t below = open ? 0 : entries_[down ? index : index - 1].cookie;
  return below + (above - below) / 2;
}

void FakeSource::add(const std::string& name, size_t index) {
  const std::lock_guard lock(mutex_);
  add_locked(name, index);
}

FakeSource::Told FakeSource::add_told(const std::string& name, size_t index) {
  const std::lock_guard lock(mutex_);
  const uint64_t before = change_;
  const uint64_t ino = add_locked(name, index);
  return {.before = before, .after = change_, .ino = ino};
}

// The new entry's number.
uint64_t FakeSource::add_locked(const std::string& name, size_t index) {
  index = std::min(index, entries_.size());
  if (options_.style == CookieStyle::kName) {
    const auto at = std::lower_bound(
        entries_.begin(), entries_.end(), name,
        [](const FakeEntry& entry, const std::string& other) { return entry.name < other; });
    index = static_cast<size_t>(at - entries_.begin());
    // A name that comes back takes its old place.
    if (at != entries_.end() && at->name == name) entries_.erase(at);
  }
  FakeEntry entry{.name = name, .cookie = 0, .ino = next_ino_++, .alive = true};
  if (!is_opaque(options_.style)) entry.cookie = fresh_cookie(index);
  const uint64_t ino = entry.ino;
  entries_.insert(entries_.begin() + static_cast<ptrdiff_t>(index), std::move(entry));
  touched();
  return ino;
}

bool FakeSource::remove(const std::string& name) {
  const std::lock_guard lock(mutex_);
  return remove_locked(name) != 0;
}

std::optional<FakeSource::Told> FakeSource::remove_told(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const uint64_t before = change_;
  const uint64_t ino = remove_locked(name);
  if (ino == 0) return std::nullopt;
  return Told{.before = before, .after = change_, .ino = ino};
}

// The number that the entry had; 0: there is none.
uint64_t FakeSource::remove_locked(const std::string& name) {
  for (FakeEntry& entry : entries_) {
    if (!entry.alive || entry.name != name) continue;
    entry.alive = false;
    touched();
    return entry.ino;
  }
  return 0;
}

void FakeSource::new_verifier() {
  const std::lock_guard lock(mutex_);
  ++verifier_;
  ++change_;
}

void FakeSource::renumber() {
  const std::lock_guard lock(mutex_);
  ++salt_;
  const bool hashed = options_.style == CookieStyle::kHashed;
  for (FakeEntry& entry : entries_) {
    const uint64_t hash = cache::mix64(entry.cookie + salt_ * 0x51ed);
    if (hashed) {
      entry.cookie = hash & kBelow63;
    } else if (options_.style == CookieStyle::kHuge) {
      entry.cookie = hash;
    } else {
      entry.cookie += kGap / 3;
    }
  }
  indexed_ = false;
  ++change_;
  ++verifier_;
}

std::vector<std::string> FakeSource::names() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const FakeEntry& entry : entries_) {
    if (entry.alive) names.push_back(entry.name);
  }
  return names;
}

std::vector<FakeEntry> FakeSource::entries() const {
  const std::lock_guard lock(mutex_);
  return entries_;
}

uint64_t FakeSource::change() const {
  const std::lock_guard lock(mutex_);
  return change_;
}

// --- the test's side --------------------------------------------------------------------------

void FakeSource::on_request(BeforeHook hook) {
  const std::lock_guard lock(mutex_);
  before_ = std::move(hook);
}

void FakeSource::on_answer(AnswerHook hook) {
  const std::lock_guard lock(mutex_);
  after_ = std::move(hook);
}

void FakeSource::end_hooks() {
  std::unique_lock lock(mutex_);
  before_ = nullptr;
  after_ = nullptr;
  changed_.wait_for(lock, kDeadline, [&] { return !answering_; });
}

void FakeSource::allow(uint64_t answers) {
  const std::lock_guard lock(mutex_);
  permits_ += answers;
  changed_.notify_all();
}

void FakeSource::allow_all() {
  const std::lock_guard lock(mutex_);
  permits_ = UINT64_MAX;
  changed_.notify_all();
}

std::vector<cache::DirRequest> FakeSource::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

uint64_t FakeSource::request_count() const {
  const std::lock_guard lock(mutex_);
  return numbers_;
}

uint64_t FakeSource::answered() const {
  const std::lock_guard lock(mutex_);
  return answered_;
}

uint64_t FakeSource::cancels() const {
  const std::lock_guard lock(mutex_);
  return cancels_;
}

bool FakeSource::wait_idle() const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kDeadline, [&] {
    return !answering_ && (queue_.empty() || (options_.manual && permits_ == 0));
  });
}

bool FakeSource::wait_requests(uint64_t count) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kDeadline, [&] { return numbers_ >= count; });
}

bool FakeSource::wait_answered(uint64_t count) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kDeadline, [&] { return answered_ >= count; });
}

void FakeSource::forget_requests() {
  const std::lock_guard lock(mutex_);
  requests_.clear();
}

}  // namespace test
