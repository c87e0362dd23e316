// Directory against a plain model: random reads, seeks, changes by others and of our own, evictions
// and faults; each entry that stays is given exactly once, every other at most once, and nothing
// that never was. What we removed ourselves is given by no read that begins later, what we added by
// every pass that begins later; and no name that is there is said to be absent.
#include <algorithm>
#include <atomic>
#include <unordered_map>
#include <unordered_set>

#include "tests/support/dir_rig.h"
#include "tests/support/random.h"

namespace test {
namespace {

struct Handle {
  explicit Handle(Directory& dir) : lister(dir) {}
  Lister lister;
  uint64_t began = 0;     // the listing, after so many changes
  uint64_t failures = 0;  // in a row
};

// An entry, by the changes of the directory. No name comes twice.
struct Life {
  uint64_t ino = 0;
  uint64_t born = 0;
  uint64_t died = UINT64_MAX;
  bool gone = false;  // the directory knows that it is removed
  bool late = false;  // the directory was told that it is there when others had removed it

  [[nodiscard]] bool alive() const { return died == UINT64_MAX; }
  // A listing that began then must give it, once; and may.
  [[nodiscard]] bool stays(uint64_t began) const { return alive() && born <= began; }
  [[nodiscard]] bool allowed(uint64_t began) const { return died > began; }
};

enum class Churn : uint8_t { kNone, kOthers, kOwn, kBoth };

struct Mode {
  CookieStyle style = CookieStyle::kOrdered;
  Churn churn = Churn::kNone;
  bool faults = false;
};

class Model {
 public:
  Model(const Mode& mode, uint64_t run_seed)
      : mode_(mode),
        random_(run_seed),
        rig_(options(mode, random_), memory(random_)),
        roomy_(rig_.cache.limit_bytes() > uint64_t{16} << 20) {
    rig_.source->fill(random_.below(3) == 0 ? random_.below(20) : random_.below(1200));
    for (const FakeEntry& entry : rig_.source->entries()) born(entry.name, entry.ino);
    if (mode.faults) rig_.source->on_answer(faults(run_seed));
    reopen();
  }

  void run(uint64_t steps) {
    for (uint64_t i = 0; i < steps && !failed_; ++i) step();
    for (auto& handle : handles_) {
      while (!failed_ && !read(*handle, kNoLimit)) {
      }
    }
    handles_.clear();
    rig_.source->end_hooks();
  }

 private:
  struct Own {
    std::string name;
    FakeSource::Told told;
    bool added = false;
  };

  static FakeSource::Options options(const Mode& mode, Random& random) {
    constexpr uint32_t kBatches[] = {20, 101, 202, 700};
    FakeSource::Options options = with_style(mode.style, kBatches[random.below(4)]);
    options.attrs = !random.one_in(4);
    options.eof_alone = random.one_in(3);
    options.strict_verifier = random.one_in(4) && mode.style != CookieStyle::kOrdinal;
    return options;
  }
  static cache::PageCacheOptions memory(Random& random) {
    cache::PageCacheOptions memory = DirRig::roomy();
    if (random.one_in(2)) memory.limit_bytes = uint64_t{1} << 20;
    return memory;
  }
  static FakeSource::AnswerHook faults(uint64_t run_seed) {
    auto random = std::make_shared<Random>(run_seed + 1);
    return [random](uint64_t, const DirRequest&, cache::DirAnswer& answer) {
      constexpr int kErrors[] = {EIO, ETIMEDOUT, EAGAIN, cache::kErrTooSmall};
      if (!random->one_in(8)) return;
      const uint64_t kind = random->below(6);
      if (kind == 4) {
        answer.eof = false;  // and nothing in it
      } else if (kind == 5 && !answer.entries.empty()) {
        answer.entries[0].name_offset = 0xffffff;
        return;
      } else {
        answer.error = kErrors[kind % 4];
      }
      answer.entries.clear();
      answer.attrs.clear();
    };
  }

  void reopen() {
    handles_.clear();
    rig_.close();
    rig_.open();
    for (int i = 0; i < 3; ++i) {
      handles_.push_back(std::make_unique<Handle>(*rig_.dir));
      begin(*handles_.back());
    }
  }

  // opendir, or rewinddir once the time-to-live has passed.
  void begin(Handle& handle) {
    // Where all changes are our own, and told, the listing is right without being compared.
    const bool known = mode_.churn == Churn::kOwn && untold_.empty() && random_.one_in(2);
    if (!known) rig_.revalidate();
    handle.lister.rewind();
    handle.began = changes_;
  }

  void step() {
    auto& owner = handles_[random_.below(handles_.size())];
    Handle& handle = *owner;
    constexpr uint64_t kLimits[] = {1, 2, 7, 50, 203, 1000, kNoLimit};
    const uint64_t what = random_.below(100);
    if (what < 60) {
      read(handle, kLimits[random_.below(7)]);
    } else if (what < 78) {
      if (mode_.churn != Churn::kNone) change();
    } else if (what < 82) {
      rig_.cache.drop_clean();
    } else if (what < 84) {
      rig_.cache.reclaim(3);
    } else if (what < 86) {
      rig_.dir->invalidate();
    } else if (what < 89) {
      rig_.revalidate();
    } else if (what < 92) {
      begin(handle);
    } else if (what < 97) {
      seek(owner);
    } else if (what < 98) {
      rig_.source->new_verifier();
    } else if (what < 99) {
      look_up();
    } else if (random_.one_in(5)) {
      reopen();
    }
  }

  void change() {
    for (uint64_t n = 1 + random_.below(3); n > 0; --n) {
      const bool own =
          mode_.churn == Churn::kOwn || (mode_.churn == Churn::kBoth && !random_.one_in(4));
      if (random_.one_in(2) && !names_.empty()) {
        const std::string& name = names_[random_.below(names_.size())];
        const auto told = rig_.source->remove_told(name);
        if (!told) continue;
        lives_[name].died = ++changes_;
        if (own) untold_.push_back({.name = name, .told = *told, .added = false});
      } else {
        std::string name = "m";
        name.append(std::to_string(100000 + ++added_));
        const auto told = rig_.source->add_told(name, random_.below(names_.size() + 1));
        ++changes_;
        born(name, told.ino);
        if (own) untold_.push_back({.name = name, .told = told, .added = true});
      }
    }
    tell(random_.one_in(3) ? 2 : 0);
  }
  void born(const std::string& name, uint64_t ino) {
    names_.push_back(name);
    lives_[name] = {.ino = ino, .born = changes_};
  }
  // Tells the directory of own changes, in any order (but of one name); leaves at most so many for
  // later: their replies are still under way.
  void tell(size_t leave) {
    while (untold_.size() > leave) {
      const size_t i = random_.below(untold_.size());
      const Own own = untold_[i];
      const bool first = std::none_of(untold_.begin(), untold_.begin() + static_cast<ptrdiff_t>(i),
                                      [&](const Own& other) { return other.name == own.name; });
      if (!first) continue;
      untold_.erase(untold_.begin() + static_cast<ptrdiff_t>(i));
      FakeSource::Told told = own.told;
      if (random_.one_in(16)) told.before = told.after = 0;
      tell(own, told);
    }
  }
  void tell(const Own& own, const FakeSource::Told& told) {
    if (own.added) {
      lives_[own.name].late = !lives_[own.name].alive();
      rig_.dir->note_added({.name = own.name,
                            .ino = told.ino,
                            .type = FakeSource::type_of(told.ino),
                            .attr = FakeSource::attr_of(told.ino),
                            .asked = std::chrono::steady_clock::now()},
                           told.before, told.after);
      // What a fill has not finished yet, or stands in many arrays, costs a lookup.
      const cache::DirectoryInfo info = rig_.dir->info();
      const bool few = info.arrays > 0 && info.arrays <= Directory::kFindAttrArrays;
      if (roomy_ && few && info.fills == 0 && rig_.dir->find_ino(own.name) != told.ino)
        wrong("not found: ", own.name);
      return;
    }
    rig_.dir->note_removed(own.name, told.before, told.after);
    lives_[own.name].gone = true;
    if (rig_.dir->find_ino(own.name)) wrong("still found: ", own.name);
  }
  void wrong(const char* what, const std::string& name) {
    INFO(what << name);
    CHECK(false);
    failed_ = true;
  }

  // Back to a place that this handle was given. Where the remote's cookies had to be mapped, a
  // place alone is as good as new only while the directory stands still: until the next read, which
  // knows names again.
  void seek(std::unique_ptr<Handle>& handle) {
    const bool mapped = is_opaque(mode_.style) || mode_.style == CookieStyle::kHuge;
    Lister& lister = handle->lister;
    if (lister.got.names.empty() || (mapped && handle->began < changes_)) return;
    const size_t keep = 1 + random_.below(lister.got.names.size());
    lister.got.names.resize(keep);
    lister.got.cookies.resize(keep);
    lister.got.inos.resize(keep);
    lister.position = lister.got.cookies.back();
    if (random_.one_in(2)) {  // another handle of the same directory
      auto other = std::make_unique<Handle>(*rig_.dir);
      other->lister.position = lister.position;
      other->lister.got = lister.got;
      other->began = handle->began;
      handle = std::move(other);
    }
    while (mapped && !failed_ && !read(*handle, 1) && handle->lister.last == 0) {
    }
  }

  void look_up() {
    if (names_.empty()) return;
    const std::string& name = names_[random_.below(names_.size())];
    const auto attr = rig_.dir->find_attr(name);
    if (attr) CHECK(attr->ino == lives_[name].ino);
    rig_.revalidate();
    using Presence = Directory::Presence;
    for (const auto& [other, life] : lives_) {
      const Presence presence = rig_.dir->presence(other);
      if (life.late) continue;
      if (presence == (life.alive() ? Presence::kAbsent : Presence::kThere)) {
        wrong(life.alive() ? "said to be absent: " : "said to be there: ", other);
      }
    }
  }

  // True at the listing's end, which is checked; the handle begins again then.
  bool read(Handle& handle, uint64_t limit) {
    ReadOptions how;
    how.want_attrs = random_.one_in(3);
    const size_t before = handle.lister.got.names.size();
    const Status status = handle.lister.read(limit, how);
    const auto& names = handle.lister.got.names;
    for (size_t i = before; i < names.size(); ++i) {
      const auto life = lives_.find(names[i]);
      if (life != lives_.end() && life->second.gone)
        wrong("given after it was removed: ", names[i]);
    }
    if (!status.ok()) {
      failed(handle, status.error_number());
      return false;
    }
    handle.failures = 0;
    if (handle.lister.last > 0) return false;
    check(handle);
    begin(handle);
    return true;
  }

  void failed(Handle& handle, int error) {
    // The entries around a place that cookies no longer tell may all be gone.
    const bool lost = error == ESTALE && mode_.churn != Churn::kNone;
    if (lost) begin(handle);
    const bool expected = lost || (mode_.faults && (error == EIO || error == ETIMEDOUT));
    INFO("errno " << error);
    CHECK(expected);
    CHECK(++handle.failures < 200);
    failed_ = !expected || handle.failures >= 200;
  }

  void check(Handle& handle) {
    const auto& got = handle.lister.got;
    std::unordered_set<std::string_view> seen;
    std::string repeated, ghost, missing, wrong;
    for (size_t i = 0; i < got.names.size(); ++i) {
      const std::string& name = got.names[i];
      if (!seen.insert(name).second) repeated = name;
      const auto life = lives_.find(name);
      if (life == lives_.end() || !life->second.allowed(handle.began)) ghost = name;
      if (life == lives_.end() || got.inos[i] != life->second.ino) wrong = name;
    }
    for (const auto& [name, life] : lives_) {
      if (life.stays(handle.began) && seen.count(name) == 0) missing = name;
    }
    CHECK(repeated.empty());
    CHECK(ghost.empty());
    CHECK(missing == "");
    CHECK(wrong.empty());
    failed_ |= !repeated.empty() || !ghost.empty() || !missing.empty() || !wrong.empty();
  }

  const Mode mode_;
  Random random_;
  DirRig rig_;
  std::vector<std::unique_ptr<Handle>> handles_;
  std::vector<std::string> names_;  // all that ever were
  std::unordered_map<std::string, Life> lives_;
  uint64_t changes_ = 0;
  std::vector<Own> untold_;  // own changes whose replies are under way
  const bool roomy_;
  uint64_t added_ = 0;
  bool failed_ = false;
};

const char* name_of(Churn churn) {
  constexpr const char* kNames[] = {"no changes", "changes by others", "own changes", "changes"};
  return kNames[static_cast<size_t>(churn)];
}

void run_models(Churn churn, uint64_t rounds) {
  const uint64_t first = seed();
  for (uint64_t round = 0; round < std::max<uint64_t>(scaled(rounds), 2); ++round) {
    for (const CookieStyle style : kAllStyles) {
      for (const bool faults : {false, true}) {
        INFO(name_of(style) << ", " << name_of(churn) << ", faults " << faults << ", round "
                            << round << ", COOKIEFS_TEST_SEED=" << first);
        Model model({.style = style, .churn = churn, .faults = faults}, first + round);
        model.run(300);
      }
    }
  }
}

// Of runs that failed once.
TEST_CASE("listings against a model that were wrong once") {
  const auto run = [](const Mode& mode, uint64_t seed_of_round) {
    INFO(name_of(mode.style) << ", " << seed_of_round);
    Model(mode, seed_of_round).run(300);
  };
  run({.style = CookieStyle::kHuge, .churn = Churn::kOwn, .faults = false},
      9728996678145725636u + 9);
  run({.style = CookieStyle::kName, .churn = Churn::kOwn, .faults = true},
      1345130848287932883u + 4);
  for (const CookieStyle style : kAllStyles) {
    for (const bool faults : {false, true}) {
      run({.style = style, .churn = Churn::kBoth, .faults = faults}, 7158513439246649051u + 8);
    }
  }
}

TEST_CASE("listings against a model, over every cookie style") { run_models(Churn::kNone, 6); }

TEST_CASE("listings of a changing directory against a model") { run_models(Churn::kOthers, 12); }

TEST_CASE("listings of a directory that we change against a model") { run_models(Churn::kOwn, 12); }

TEST_CASE("listings of a directory that all change against a model") {
  run_models(Churn::kBoth, 18);
}

// Several threads, each with its handle; a changer; reclaim and invalidations from all sides.
void run_threads(CookieStyle style, uint64_t run_seed) {
  cache::PageCacheOptions memory = DirRig::roomy();
  memory.limit_bytes = uint64_t{2} << 20;
  memory.background = cache::PageCacheOptions::Background::kThread;
  DirRig rig(with_style(style, 300), memory);
  rig.source->fill(1500);
  rig.revalidate();
  const auto stable = rig.source->names();
  constexpr size_t kThreads = 4;
  std::atomic<size_t> running{kThreads};
  std::vector<std::thread> threads;
  std::vector<std::string> failures(kThreads);
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random(run_seed + t);
      for (int listing = 0; listing < 4 && failures[t].empty(); ++listing) {
        Lister lister(*rig.dir);
        ReadOptions how;
        how.want_attrs = random.one_in(2);
        Status status;
        do {
          status = lister.read(1 + random.below(random.one_in(3) ? 10 : 400), how);
        } while (status.ok() && lister.last > 0);
        std::unordered_set<std::string_view> seen;
        for (const std::string& name : lister.got.names) {
          if (!seen.insert(name).second) failures[t] = std::string("twice: ").append(name);
        }
        for (const std::string& name : stable) {
          if (seen.count(name) == 0) failures[t] = std::string("missing: ").append(name);
        }
        if (!status.ok())
          failures[t].append("errno ").append(std::to_string(status.error_number()));
      }
      --running;
    });
  }
  Random random(run_seed + kThreads);
  std::vector<std::string> extra;
  for (uint64_t i = 0; running > 0; ++i) {
    const uint64_t what = random.below(8);
    const uint64_t answered = rig.source->answered();
    if (what < 2 && extra.size() < 300) {
      extra.push_back(std::string("x").append(std::to_string(i)));
      rig.source->add(extra.back(), random.below(1500));
    } else if (what == 2 && !extra.empty()) {
      rig.source->remove(extra[random.below(extra.size())]);
    } else if (what == 3) {
      rig.revalidate();
    } else if (what == 4 && random.one_in(4)) {
      rig.dir->invalidate();
    } else if (what == 5) {
      rig.cache.reclaim(4);
    } else {
      static_cast<void>(rig.dir->find_attr(stable[random.below(stable.size())]));
    }
    eventually([&] { return running == 0 || rig.source->answered() > answered || i % 4 != 0; });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& failure : failures) CHECK(failure == "");
}

TEST_CASE("listings in many threads under changes, reclaim and invalidations") {
  const uint64_t first = seed();
  for (uint64_t round = 0; round < std::max<uint64_t>(scaled(10), 1); ++round) {
    for (const CookieStyle style : kAllStyles) {
      // Its places do not survive a change elsewhere; the model above says what is left to promise.
      if (style == CookieStyle::kOrdinal) continue;
      INFO(name_of(style) << ", round " << round << ", COOKIEFS_TEST_SEED=" << first);
      run_threads(style, first + round);
    }
  }
}

}  // namespace
}  // namespace test
