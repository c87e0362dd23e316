#include "fusefs/tree_ahead.h"

#include <sys/stat.h>

#include <algorithm>
#include <unordered_set>

#include "fusefs/dirent_encoder.h"
#include "fusefs/session_impl.h"

namespace fusefs {

using cache::MutexLock;
using cache::Subdirectory;

namespace {

bool tells_directory(const Attr& attr) { return presentable(attr) && S_ISDIR(attr.mode); }

uint32_t bounded(uint32_t most, uint64_t cache_bytes) {
  const uint64_t room = cache_bytes / TreeAhead::kShares / TreeAhead::kBytesEach;
  return static_cast<uint32_t>(std::min<uint64_t>(most, room));
}

}  // namespace

// Lets completions in while there is something for them to come to.
class TreeAhead::Gate {
 public:
  // False: it is closed. Else leave() follows.
  bool enter() {
    MutexLock lock(mutex_);
    inside_ += closed_ ? 0 : 1;
    return !closed_;
  }
  void leave() {
    MutexLock lock(mutex_);
    if (--inside_ == 0) left_.notify_all();
  }
  void close() {
    MutexLock lock(mutex_);
    closed_ = true;
    while (inside_ > 0) left_.wait(mutex_);
  }

 private:
  cache::Mutex mutex_{cache::LockRank::kLeaf};
  cache::CondVar left_;
  bool closed_ GUARDED_BY(mutex_) = false;
  uint32_t inside_ GUARDED_BY(mutex_) = 0;
};

namespace {

// One of those that would, at a time.
class Turn {
 public:
  explicit Turn(std::atomic<bool>& taken)
      : taken_(taken), mine_(!taken.exchange(true, std::memory_order_acquire)) {}
  ~Turn() {
    if (mine_) taken_.store(false, std::memory_order_release);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  [[nodiscard]] bool mine() const { return mine_; }

 private:
  std::atomic<bool>& taken_;
  const bool mine_;
};

}  // namespace

struct TreeAhead::Prediction {
  const CallerPtr& caller;
  cache::TimePoint now;
  uint32_t left;  // directories to fetch
  const uint32_t most_looked;
  uint32_t looked = 0;                       // directories that were looked at
  std::unordered_set<uint64_t> under_way{};  // node ids

  [[nodiscard]] bool over() const { return left == 0 || looked >= most_looked; }
};

TreeAhead::TreeAhead(SessionImpl& session, uint32_t most)
    : session_(session),
      most_(session.backend().answers_at_once() || session.options().ttl.count() == 0
                ? 0
                : bounded(most, session.cache().limit_bytes())),
      gate_(std::make_shared<Gate>()),
      window_(most_) {}

TreeAhead::~TreeAhead() { gate_->close(); }

void TreeAhead::pass_begins(const Inode& directory, const DirState& dir, const CallerPtr& caller) {
  if (most_ == 0) return;
  const bool fetched = take(directory);
  // Of what is there already nobody can tell by whom it was wanted.
  const bool held = !fetched && dir.holds_anything();
  const bool right = fetched || (!held && follows(directory));
  uint32_t count = 0;
  {
    MutexLock lock(mutex_);
    if (!held) right ? window_.hit() : window_.miss();
    recent_[opened_++ % kRecent] = {
        .nodeid = directory.nodeid(), .parent = directory.parent(), .ino = directory.ino()};
    if (pause_ > 0) {
      --pause_;
      return;
    }
    // By halves of the window: each is looked for once or twice.
    const auto waiting = static_cast<uint32_t>(ahead_.size());
    if (right && waiting <= window_.size() / 2) count = window_.size() - waiting;
  }
  if (count == 0) return;
  const Turn turn(predicting_);
  if (turn.mine()) fetch(directory, caller, count);
}

// True when it had been fetched.
bool TreeAhead::take(const Inode& directory) {
  AheadPtr taken;  // destroyed with no lock held
  MutexLock lock(mutex_);
  const auto at = std::find_if(ahead_.begin(), ahead_.end(), [&](const AheadPtr& ahead) {
    return ahead->inode->nodeid() == directory.nodeid();
  });
  if (at == ahead_.end()) return false;
  taken = std::move(*at);
  ahead_.erase(at);
  if (taken->begun.load(std::memory_order_relaxed)) ++figures_.used;
  return true;
}

void TreeAhead::add(const AheadPtr& ahead) {
  MutexLock lock(mutex_);
  ahead_.push_back(ahead);
}

void TreeAhead::drop_old() {
  std::vector<AheadPtr> dropped;  // destroyed with no lock held
  const cache::TimePoint now = session_.now();
  MutexLock lock(mutex_);
  uint64_t wasted = 0;
  while (!ahead_.empty() && now - ahead_.front()->since > kLife) {
    wasted += ahead_.front()->begun.load(std::memory_order_relaxed) ? 1 : 0;
    dropped.push_back(std::move(ahead_.front()));
    ahead_.pop_front();
  }
  figures_.wasted += wasted;
  if (wasted > 0) window_.wasted();
}

// Whether it comes next, or nearly so, after a directory that was opened lately.
bool TreeAhead::follows(const Inode& directory) {
  std::vector<Opened> recent;
  {
    MutexLock lock(mutex_);
    const uint64_t count = std::min<uint64_t>(opened_, kRecent);
    for (uint64_t i = 1; i <= count; ++i) recent.push_back(recent_[(opened_ - i) % kRecent]);
  }
  const InodeRef parent = session_.inodes().find(directory.parent());
  const auto listing = parent ? session_.inodes().dir(*parent) : nullptr;
  if (!listing || directory.ino() == 0) return false;
  const Order before = order_.load(std::memory_order_relaxed);
  for (const Order order : {before, before == Order::kListed ? Order::kByName : Order::kListed}) {
    if (!near(directory, recent, *listing, order)) continue;
    order_.store(order, std::memory_order_relaxed);
    return true;
  }
  return false;
}

bool TreeAhead::near(const Inode& directory, const std::vector<Opened>& recent, DirState& listing,
                     Order order) {
  const auto among = [&](const Siblings& next) {
    return std::any_of(next.begin(), next.end(),
                       [&](const Subdirectory& told) { return told.ino == directory.ino(); });
  };
  bool looked_at_first = false;
  for (const Opened& last : recent) {
    if (last.parent == directory.parent() && last.nodeid != directory.nodeid()) {
      if (among(following(listing, last.ino, kNear, order))) return true;
      if (order == Order::kByName) return false;  // one look at all names is enough
    }
    if (last.nodeid == directory.parent() && !std::exchange(looked_at_first, true)) {
      if (among(following(listing, 0, kNear, order))) return true;
    }
  }
  return false;
}

TreeAhead::Siblings TreeAhead::following(DirState& listing, uint64_t after_ino, size_t most,
                                         Order order) {
  Siblings found;
  if (order == Order::kListed) {
    listing.directory().subdirectories(after_ino, most, &found);
    return found;
  }
  listing.directory().subdirectories(0, kMostSorted, &found);
  if (found.size() == kMostSorted) return {};
  std::sort(found.begin(), found.end(),
            [](const Subdirectory& a, const Subdirectory& b) { return a.name < b.name; });
  auto first = found.begin();
  if (after_ino != 0) {
    first = std::find_if(found.begin(), found.end(),
                         [&](const Subdirectory& told) { return told.ino == after_ino; });
    if (first != found.end()) ++first;
  }
  found.erase(found.begin(), first);
  if (found.size() > most) found.resize(most);
  return found;
}

void TreeAhead::fetch(const Inode& from, const CallerPtr& caller, uint32_t count) {
  Prediction prediction{
      .caller = caller, .now = session_.now(), .left = count, .most_looked = 4 * most_};
  {
    MutexLock lock(mutex_);
    for (const AheadPtr& ahead : ahead_) prediction.under_way.insert(ahead->inode->nodeid());
  }
  predict(prediction, from);
  MutexLock lock(mutex_);
  if (prediction.left == count) pause_ = prediction.looked / 2;
}

// In the order of a walk: what is in it, then what follows it, then what follows its parent.
void TreeAhead::predict(Prediction& prediction, const Inode& from) {
  predict_within(prediction, from, 0, 0);
  InodeRef above = session_.inodes().find(from.parent());
  uint64_t after = from.ino();
  for (uint32_t level = 0; above && after != 0 && level < kDeepest && !prediction.over(); ++level) {
    predict_within(prediction, *above, after, 0);
    after = above->ino();
    above = session_.inodes().find(above->parent());
  }
}

void TreeAhead::predict_within(Prediction& prediction, const Inode& parent, uint64_t after_ino,
                               uint32_t depth) {
  const auto listing = session_.inodes().dir(parent);
  if (!listing || depth > kDeepest) return;
  const Order order = order_.load(std::memory_order_relaxed);
  const ObjectId object = session_.inodes().object(parent);
  for (const Subdirectory& told : following(*listing, after_ino, prediction.most_looked, order)) {
    if (prediction.over()) return;
    ++prediction.looked;
    ObjectId id = session_.backend().child_id(object, told.name, told.ino);
    if (id.empty() || told.ino == 0) continue;
    InodeRef child = session_.inodes().obtain(
        std::move(id),
        {.ino = told.ino, .parent_ino = parent.ino(), .parent = parent.nodeid(), .mode = S_IFDIR});
    if (!child) continue;
    const auto known = session_.inodes().dir(*child);
    if (known && known->holds_anything()) {
      predict_within(prediction, *child, 0, depth + 1);
    } else if (prediction.under_way.count(child->nodeid()) == 0) {
      fetch_one(prediction, std::move(child), told);
    }
  }
}

void TreeAhead::fetch_one(Prediction& prediction, InodeRef child, const Subdirectory& told) {
  if (told.attr && tells_directory(*told.attr)) session_.keep_attr(*child, *told.attr, told.asked);
  const auto attr = session_.inodes().attr(*child);
  auto dir = session_.obtain_dir(*child);
  if (prediction.caller) dir->act_first_for(prediction.caller);
  auto ahead = std::make_shared<Ahead>(std::move(child), std::move(dir), prediction.now);
  add(ahead);
  // The token first: it must be older than the listing.
  const bool young = attr && prediction.now - attr->asked < session_.options().ttl;
  if (young) {
    begin(*ahead, *attr);
  } else {
    ask_token(ahead, prediction.caller);
  }
  --prediction.left;
}

void TreeAhead::ask_token(const AheadPtr& ahead, const CallerPtr& caller) {
  const cache::TimePoint asked = session_.now();
  const auto came = [this, gate = gate_, weak = std::weak_ptr<Ahead>(ahead),
                     asked](const cache::Result<Attr>& attr) {
    if (!gate->enter()) return;
    if (const AheadPtr waiting = weak.lock();
        waiting && attr.ok() && tells_directory(attr.value())) {
      session_.keep_attr(*waiting->inode, attr.value(), asked);
      const auto known = session_.inodes().attr(*waiting->inode);
      if (known && known->asked == asked) begin(*waiting, *known);  // else it was overtaken
    }
    gate->leave();
  };
  session_.backend().getattr(caller, session_.inodes().object(*ahead->inode), came);
}

void TreeAhead::begin(Ahead& ahead, const TimedAttr& attr) {
  if (attr.attr.change == 0) return;  // who opens it would have to read it again
  ahead.dir->revalidate(attr.attr.change, attr.asked);
  const bool want_attrs =
      session_.options().readdirplus != ReaddirPlus::kNever && !session_.children_need_lookup();
  if (!ahead.dir->fetch_ahead(session_.now(), want_attrs)) return;
  ahead.begun.store(true, std::memory_order_relaxed);
  MutexLock lock(mutex_);
  ++figures_.fetched;
}

WalkFigures TreeAhead::figures() {
  MutexLock lock(mutex_);
  WalkFigures figures = figures_;
  figures.window = window_.size();
  return figures;
}

}  // namespace fusefs
