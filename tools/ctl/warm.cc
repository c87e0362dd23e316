// warm: brings trees into the cache ahead of use, by walking them through the mount.
//
//   main     shows progress, looks whether the cache is full, ends the workers early
//   workers  take directories from a queue, breadth first, read them, add those below
//
// It ends early when the daemon begins to reclaim: what is fetched from then on only drives out
// what was fetched before.

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tools/ctl/commands.h"
#include "tools/ctl/format.h"

namespace ctl {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kTick = std::chrono::milliseconds(100);
constexpr auto kLineEvery = std::chrono::seconds(5);  // where there is no terminal
constexpr int kNoLimit = -1;

struct WarmWish {
  std::vector<std::string> roots;
  bool attributes = false;
  int depth = kNoLimit;  // 0: the roots alone
  unsigned jobs = 8;
};

std::atomic<bool> interrupted{false};

void on_interrupt(int /*signal*/) { interrupted.store(true); }
void on_nudge(int /*signal*/) {}  // only ends a wait

class Walk {
 public:
  explicit Walk(const WarmWish& wish) : wish_(wish) {
    for (const std::string& root : wish.roots) queue_.push_back({root, 0});
  }

  struct Counts {
    uint64_t done = 0, queued = 0, entries = 0, ready = 0, failed = 0;
    uint64_t unfit = 0;     // done, but not all of it is held
    uint64_t given_up = 0;  // not done
    unsigned busy = 0, workers = 0;
  };
  Counts counts() {
    const std::lock_guard lock(mutex_);
    Counts counts = counts_;
    counts.queued = queue_.size();
    counts.entries = entries_.load();
    return counts;
  }

  void start();
  // Waits a tick. False: every worker has ended.
  bool wait();
  // No more directories are begun, and those under way are given up.
  void stop();
  void join();
  // Directories that were warm and have been driven out since.
  uint64_t count_lost();

 private:
  struct Item {
    std::string path;
    int depth;
  };
  void work();
  void warm(const Item& item);
  [[nodiscard]] bool is_ready(const Json& json) const;
  void note(const std::string& problem);

  const WarmWish& wish_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> queue_;
  std::vector<std::string> warm_;  // paths
  Counts counts_;
  std::atomic<uint64_t> entries_{0};
  std::atomic<bool> stopped_{false};
  std::vector<std::thread> threads_;
};

// Complete, and so young that nobody would ask the remote.
bool Walk::is_ready(const Json& json) const {
  const double ttl = figure(json, "ttl_seconds");
  const auto young = [&](const char* key) {
    return json[key].is_number() && json[key].get<double>() < ttl;
  };
  if (!json.value("complete", false) || !young("token_age_seconds")) return false;
  if (!wish_.attributes || figure(json, "entries.resident") == 0) return true;
  return figure(json, "arrays.with_attributes") == figure(json, "arrays.resident") &&
         young("attributes_age_seconds");
}

double reads_of(const Json& json) {
  return figure(json, "readdir.hits") + figure(json, "readdir.misses");
}

void Walk::warm(const Item& item) {
  const Directory directory(item.path);
  const Json before = directory.ask_json(fusefs::kControlDirectory);
  const bool ready = is_ready(before);
  const bool deeper = wish_.depth == kNoLimit || item.depth < wish_.depth;
  std::vector<std::string> below;
  if (!ready && wish_.attributes) directory.tell(fusefs::kControlWantAttributes);
  if (!ready || deeper) {
    directory.read([&](const Entry& entry) {
      entries_.fetch_add(1, std::memory_order_relaxed);
      if (deeper && is_directory(directory, entry)) below.emplace_back(entry.name);
      return !stopped_.load(std::memory_order_relaxed);
    });
  }
  const Json after = ready ? before : directory.ask_json(fusefs::kControlDirectory);
  // With kernel_listings=yes the kernel may have it, and then asks the daemon nothing.
  const bool by_kernel = !ready && reads_of(before) == reads_of(after);
  const bool complete = by_kernel || after.value("complete", false);
  const std::lock_guard lock(mutex_);
  ++counts_.done;
  if (ready) ++counts_.ready;
  if (by_kernel) {
    ++counts_.ready;
  } else if (complete) {
    warm_.push_back(item.path);
  } else {
    ++counts_.unfit;
  }
  for (const std::string& name : below) queue_.push_back({joined(item.path, name), item.depth + 1});
}

void Walk::note(const std::string& problem) {
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  std::fprintf(stderr, "%scookiefsctl: %s\n", terminal ? "\r\033[K" : "", problem.c_str());
}

void Walk::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    // Others may still find directories.
    changed_.wait(lock, [&] { return stopped_ || !queue_.empty() || counts_.busy == 0; });
    if (stopped_ || queue_.empty()) break;
    const Item item = std::move(queue_.front());
    queue_.pop_front();
    ++counts_.busy;
    lock.unlock();
    std::string problem;
    int number = 0;
    try {
      warm(item);
    } catch (const Failure& failure) {
      problem = failure.what();
      number = failure.number;
    }
    lock.lock();
    --counts_.busy;
    if (!problem.empty()) {
      const bool given_up = number == EINTR && stopped_;
      ++(given_up ? counts_.given_up : counts_.failed);
      if (!given_up) note(problem);
    }
    changed_.notify_all();
  }
  --counts_.workers;
  changed_.notify_all();
}

void Walk::start() {
  sigset_t interrupt;
  sigset_t before;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  sigaddset(&interrupt, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &interrupt, &before);  // for the main thread alone
  counts_.workers = wish_.jobs;
  for (unsigned i = 0; i < wish_.jobs; ++i) threads_.emplace_back([this] { work(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool Walk::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kTick, [&] { return counts_.workers == 0; });
  // Whoever waits for the remote is called back, as often as it takes.
  if (stopped_) {
    for (std::thread& thread : threads_) pthread_kill(thread.native_handle(), SIGUSR1);
  }
  return counts_.workers > 0;
}

void Walk::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

void Walk::join() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

uint64_t Walk::count_lost() {
  uint64_t lost = 0;
  for (const std::string& path : warm_) {
    try {
      const Directory directory(path);
      if (!directory.ask_json(fusefs::kControlDirectory).value("complete", false)) ++lost;
    } catch (const Failure&) {
      ++lost;
    }
  }
  return lost;
}

// ---- What it shows ------------------------------------------------------------------------------

std::string bar(double part) {
  constexpr int kCells = 24;
  const int full = std::clamp(static_cast<int>(part * kCells), 0, kCells);
  return "[" + std::string(static_cast<size_t>(full), '#') +
         std::string(static_cast<size_t>(kCells - full), '.') + "]";
}

std::string progress(const Walk::Counts& counts, double elapsed) {
  const double done = static_cast<double>(counts.done + counts.failed);
  const double known = done + static_cast<double>(counts.queued + counts.busy);
  std::string text = format_count(counts.done) + " of " +
                     format_count(static_cast<uint64_t>(known)) + " directories known, " +
                     format_count(counts.entries) + " entries, " +
                     format_rate(elapsed > 0 ? static_cast<double>(counts.entries) / elapsed : 0) +
                     "/s, " + format_seconds(elapsed);
  // Of directories that nobody has seen yet it knows nothing.
  if (done >= 10 && elapsed > 1) {
    text += ", at least " + format_seconds(elapsed * (known - done) / done) + " more";
  }
  return text;
}

class Progress {
 public:
  void show(const Walk::Counts& counts) {
    const auto now = Clock::now();
    const double elapsed = std::chrono::duration<double>(now - began_).count();
    if (terminal_) {
      const double known = static_cast<double>(counts.done + counts.queued + counts.busy);
      const double part = known > 0 ? static_cast<double>(counts.done) / known : 0;
      const std::string line = bar(part) + " " + progress(counts, elapsed);
      const auto room = static_cast<size_t>(std::max(terminal_columns() - 1, 10));
      std::printf("\r\033[K%s", line.substr(0, room).c_str());
      std::fflush(stdout);
    } else if (now - last_ >= kLineEvery) {
      last_ = now;
      std::printf("%s\n", progress(counts, elapsed).c_str());
      std::fflush(stdout);
    }
  }
  void clear() const {
    if (terminal_) std::fputs("\r\033[K", stdout);
  }
  [[nodiscard]] double elapsed() const {
    return std::chrono::duration<double>(Clock::now() - began_).count();
  }

 private:
  const bool terminal_ = isatty(STDOUT_FILENO) != 0;
  const Clock::time_point began_ = Clock::now();
  Clock::time_point last_ = began_;
};

// ---- The command --------------------------------------------------------------------------------

// One for each root, which may lie in different mounts.
class Reclaim {
 public:
  explicit Reclaim(const std::vector<std::string>& roots) {
    for (const std::string& root : roots) {
      directories_.push_back(std::make_unique<Directory>(root));
      before_.push_back(reclaimed(*directories_.back()));
    }
  }
  // The cache of one of them has begun to drive out what it holds.
  [[nodiscard]] bool begun() const {
    for (size_t i = 0; i < directories_.size(); ++i) {
      if (reclaimed(*directories_[i]) > before_[i]) return true;
    }
    return false;
  }
  [[nodiscard]] Json stats() const { return directories_.front()->ask_json(fusefs::kControlStats); }

 private:
  static double reclaimed(const Directory& directory) {
    return figure(directory.ask_json(fusefs::kControlStats), "reclaim.pages");
  }
  std::vector<std::unique_ptr<Directory>> directories_;
  std::vector<double> before_;
};

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = on_nudge;
  sigaction(SIGUSR1, &action, nullptr);
}

int warm(const WarmWish& wish) {
  const Reclaim reclaim(wish.roots);  // tells what is wrong with a root before anything begins
  catch_signals();
  Walk walk(wish);
  Progress shown;
  bool full = false;
  walk.start();
  while (walk.wait()) {
    shown.show(walk.counts());
    full = full || reclaim.begun();
    if (full || interrupted) walk.stop();
  }
  walk.join();
  shown.clear();
  full = full || reclaim.begun();
  const Walk::Counts counts = walk.counts();
  const uint64_t lost = full ? walk.count_lost() : 0;
  const uint64_t warm = counts.done - counts.unfit - lost;
  std::printf("%s %s warm (%s of them before), %s entries read in %s\n", format_count(warm).c_str(),
              warm == 1 ? "directory" : "directories",
              format_count(std::min(warm, counts.ready)).c_str(),
              format_count(counts.entries).c_str(), format_seconds(shown.elapsed()).c_str());
  const uint64_t left = counts.queued + counts.given_up + counts.unfit + lost;
  if (left > 0) {
    const Json stats = reclaim.stats();
    const std::string why = full ? "the cache is full (" +
                                       format_bytes(figure(stats, "cache.bytes")) + " of " +
                                       format_bytes(figure(stats, "cache.limit_bytes")) + ")"
                            : interrupted ? "interrupted"
                                          : "they changed while they were read";
    std::printf("%s directories known are not, and what lies below them: %s\n",
                format_count(left).c_str(), why.c_str());
  }
  if (counts.failed > 0) std::printf("%s failed\n", format_count(counts.failed).c_str());
  return left + counts.failed == 0 && !interrupted ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

void add_warm(CLI::App& app, int* status) {
  const auto wish = std::make_shared<WarmWish>();
  CLI::App* const command = app.add_subcommand("warm", "Fetch trees into the cache ahead of use");
  command->add_option("PATH", wish->roots, "Directories of the mount")->required();
  command->add_flag("--attributes", wish->attributes, "With the attributes of every entry");
  command->add_option("--depth", wish->depth, "So many levels below PATH; 0: PATH alone")
      ->check(CLI::Range(0, 1'000'000));
  command->add_option("--jobs", wish->jobs, "Directories at a time; 8 if not given")
      ->check(CLI::Range(1, 256));
  command->callback([=] { *status = warm(*wish); });
}

}  // namespace ctl
