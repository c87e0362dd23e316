// fs_model: does the same random operations to a file system under test and to a native one, and
// compares what comes of them: results, errors, data, attributes, and now and then whole trees.
//
//   fs_model [options] TESTED_DIR NATIVE_DIR
//   fs_model --compare [--profile NAME] TESTED_DIR NATIVE_DIR     the trees only
//
// Both directories are to be empty; what was made in them is left there. See usage() for options.
// Says one line: what was done, or what differed, with the seed that does it again (of one thread:
// exactly). Exit status: 0 the same, 1 not so, 2 usage.

#include <fcntl.h>
#include <getopt.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/files/generator.h"
#include "tests/files/op.h"
#include "tests/files/profile.h"
#include "tests/files/side.h"
#include "tests/files/tree_compare.h"

namespace fs = std::filesystem;
using files::Op;
using files::Outcome;

namespace {

struct Options {
  uint64_t seed = 0;
  uint64_t steps = 5000;  // of each thread
  unsigned threads = 1;
  const files::Profile* profile = files::find_profile("local");
  uint64_t check_every = 500;  // steps
  std::string hook;            // a command, beside the steps
  uint64_t hook_every = 200;
  std::set<std::string> without;  // operations that are left out
  bool shrink = false;
  bool direct = false;
  bool verbose = false;
  bool compare = false;
  std::string tested, native;
};

void usage(FILE* to) {
  std::fprintf(
      to,
      "usage: fs_model [options] TESTED_DIR NATIVE_DIR\n"
      "  --seed N         what is random (default: anew each time)\n"
      "  --steps N        operations of each thread (5000)\n"
      "  --threads N      each in a directory of its own, and one that only looks (1)\n"
      "  --profile NAME   what the remote can do: %s\n"
      "  --check-every N  steps between two comparisons of the whole trees (500)\n"
      "  --hook COMMAND   run by the first thread every N steps of --hook-every (200)\n"
      "  --without NAME   leaves an operation out, 'link' for one; may be given again\n"
      "  --direct         with O_DIRECT, sometimes\n"
      "  --shrink         after a difference the fewest operations that show one, on stderr\n"
      "  --verbose        the last operations before a difference, on stderr\n"
      "  --compare        no operations: the trees as they are\n",
      files::profile_names().c_str());
}

// What all threads share.
class Run {
 public:
  explicit Run(const Options& given) : options(given) {}

  // The first one is told; everybody stops.
  void fail(const std::string& text) {
    const std::lock_guard lock(mutex_);
    if (problem_.empty()) problem_ = text;
    stopping = true;
  }
  [[nodiscard]] std::string problem() {
    const std::lock_guard lock(mutex_);
    return problem_;
  }

  const Options& options;
  std::atomic<bool> stopping{false};
  std::atomic<uint64_t> steps{0};
  std::atomic<uint64_t> refused{0};  // what the remote may leave undone

 private:
  std::mutex mutex_;
  std::string problem_;
};

// The fewest operations that still differ, as far as leaving out more and more of them shows. Each
// trial is in new directories.
class Shrinker {
 public:
  explicit Shrinker(const Options& options) : options_(options) {}

  std::vector<Op> shrink(std::vector<Op> ops) {
    for (size_t chunk = ops.size() / 2; chunk > 0; chunk /= 2) {
      for (size_t at = 0; at < ops.size();) {
        std::vector<Op> fewer = ops;
        const auto from = fewer.begin() + static_cast<std::ptrdiff_t>(at);
        fewer.erase(from, from + static_cast<std::ptrdiff_t>(std::min(chunk, ops.size() - at)));
        if (differs(&fewer)) {
          ops = std::move(fewer);
        } else {
          at += chunk;
        }
      }
    }
    return ops;
  }
  // What differs after them.
  [[nodiscard]] const std::string& found() const { return found_; }

 private:
  // Cuts off what comes after the difference.
  bool differs(std::vector<Op>* ops) {
    const std::string name = "/shrink-" + std::to_string(++trials_);
    for (const std::string* root : {&options_.tested, &options_.native}) {
      if (mkdir((*root + name).c_str(), 0755) != 0) return false;
      if (mkdir((*root + name + "/root").c_str(), 0755) != 0) return false;
    }
    files::Side tested(options_.tested + name + "/root", options_.direct);
    files::Side native(options_.native + name + "/root", options_.direct);
    for (size_t i = 0; i < ops->size(); ++i) {
      const Op& op = (*ops)[i];
      const Outcome ours = tested.run(op);
      if (files::may_refuse(*options_.profile, op, ours)) continue;
      const std::string found = files::difference(*options_.profile, op, ours, native.run(op));
      if (found.empty()) continue;
      found_ = found;
      ops->resize(i + 1);
      return true;
    }
    return false;
  }

  const Options& options_;
  unsigned trials_ = 0;
  std::string found_;
};

// One thread's operations, in its own directory of either side: two levels of it, for symbolic
// links may lead one up.
class Worker {
 public:
  Worker(Run& run, unsigned number)
      : run_(run),
        number_(number),
        name_("t" + std::to_string(number)),
        tested_(run.options.tested + "/" + name_ + "/root", run.options.direct),
        native_(run.options.native + "/" + name_ + "/root", run.options.direct),
        generator_(*run.options.profile, run.options.seed + number, run.options.direct,
                   geteuid() == 0 && run.options.profile->owners) {}

  void work() {
    for (const std::string* root : {&run_.options.tested, &run_.options.native}) {
      const std::string top = *root + "/" + name_;
      if (mkdir(top.c_str(), 0755) != 0 || mkdir((top + "/root").c_str(), 0755) != 0) {
        return run_.fail("can't make " + top + "/root: " + std::strerror(errno));
      }
    }
    const Options& options = run_.options;
    for (step_ = 1; step_ <= options.steps && !run_.stopping; ++step_) {
      if (!one_step()) return;
      if (step_ % options.check_every == 0 && !compare_trees("step " + std::to_string(step_))) {
        return;
      }
      const bool hook = number_ == 0 && !options.hook.empty() && step_ % options.hook_every == 0;
      if (hook && std::system(options.hook.c_str()) != 0) return run_.fail("the hook failed");
    }
    tested_.close_all();
    native_.close_all();
    if (!run_.stopping) compare_trees("the end");
  }

 private:
  // False: they differ.
  bool one_step() {
    const Op op = generator_.next();
    if (run_.options.without.contains(files::name_of(op.kind))) return true;
    if (run_.options.verbose) remember(op);
    if (run_.options.shrink) done_.push_back(op);
    Outcome tested = tested_.run(op);
    if (files::may_refuse(*run_.options.profile, op, tested)) {
      ++run_.refused;
      return true;
    }
    Outcome native = native_.run(op);
    if (was_in_the_way(op, tested, native)) tested = run_again(op, &native);
    const std::string found = files::difference(*run_.options.profile, op, tested, native);
    if (!found.empty()) {
      differ("step " + std::to_string(step_) + ": " + files::describe(op) + ": " + found);
      if (run_.options.shrink) tell_fewest();
      return false;
    }
    generator_.learn(op, native);
    ++run_.steps;
    return true;
  }

  // Hidden names of removed files are in the directory until these are closed; and closing is told
  // to the daemon after close() has returned.
  [[nodiscard]] bool was_in_the_way(const Op& op, const Outcome& tested,
                                    const Outcome& native) const {
    const bool removes = op.kind == files::Kind::kRmdir || op.kind == files::Kind::kRename;
    return run_.options.profile->hides && removes && native.result == 0 && tested.result < 0 &&
           (tested.error == ENOTEMPTY || tested.error == EEXIST || tested.error == EBUSY);
  }
  // `native` had looked at a file that is closed now.
  Outcome run_again(const Op& op, Outcome* native) {
    constexpr std::chrono::seconds kPatience{20};
    native_.close_nameless();
    if (op.look) native->looks.back() = native_.look_at_slot(op.slot);
    close_as_native();
    const auto end = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      Outcome outcome = tested_.run(op);
      if (outcome.result == 0 || std::chrono::steady_clock::now() > end) return outcome;
      std::this_thread::yield();
    }
  }
  void close_as_native() {
    for (unsigned slot = 0; slot < files::kSlots; ++slot) {
      if (native_.look_at_slot(slot).error != 0 && tested_.look_at_slot(slot).error == 0) {
        Op close{.kind = files::Kind::kClose};
        close.slot = slot;
        tested_.run(close);
      }
    }
  }

  bool compare_trees(const std::string& when) {
    const std::string found =
        files::tree_difference(*run_.options.profile, tested_.path(".."), native_.path(".."));
    if (!found.empty()) differ("trees at " + when + ": " + found);
    return found.empty();
  }

  void remember(const Op& op) {
    constexpr size_t kLast = 60;
    last_.push_back("step " + std::to_string(step_) + ": " + files::describe(op));
    if (last_.size() > kLast) last_.pop_front();
  }
  void differ(const std::string& what) {
    for (const std::string& line : last_) std::fprintf(stderr, "%s\n", line.c_str());
    run_.fail("thread " + std::to_string(number_) + ", " + what);
  }

  void tell_fewest() {
    tested_.close_all();
    native_.close_all();
    Shrinker shrinker(run_.options);
    for (const Op& op : shrinker.shrink(done_)) {
      std::fprintf(stderr, "fewest: %s%s\n", files::describe(op).c_str(), op.look ? ", look" : "");
    }
    std::fprintf(stderr, "fewest: %s\n", shrinker.found().c_str());
  }

  Run& run_;
  const unsigned number_;
  const std::string name_;
  files::Side tested_;
  files::Side native_;
  files::Generator generator_;
  uint64_t step_ = 0;
  std::deque<std::string> last_;
  std::vector<Op> done_;
};

// Walks through everything while others change it: nothing may be listed twice, and nothing may
// fail but for what is not there any more.
class Looker {
 public:
  explicit Looker(Run& run) : run_(run) {}

  void work() {
    while (!run_.stopping) look_into(run_.options.tested);
  }

 private:
  void look_into(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return excuse(path, errno);
    std::string lines;
    const int error = files::list_directory(fd, 4096, &lines);
    close(fd);
    if (error != 0) return excuse(path, error);
    std::set<std::string> seen;
    size_t at = 0;
    for (size_t end = 0; (end = lines.find('\n', at)) != std::string::npos; at = end + 1) {
      const std::string entry = lines.substr(at, end - at);
      const size_t tab = entry.rfind('\t');
      if (tab == std::string::npos) continue;  // of a name with a line break
      if (!seen.insert(entry).second) return run_.fail("listed twice in " + path + ": " + entry);
      if (run_.stopping) return;
      look_at(path + "/" + entry.substr(0, tab));
    }
  }
  void look_at(const std::string& path) {
    struct stat status {};
    if (lstat(path.c_str(), &status) != 0) return excuse(path, errno);
    if (S_ISDIR(status.st_mode)) return look_into(path);
    if (S_ISREG(status.st_mode)) read_file(path);
  }
  // Where a FIFO has taken the name since, nobody may find a reader in it.
  void read_file(const std::string& path) {
    const int found = open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (found < 0) return excuse(path, errno);
    struct stat status {};
    if (fstat(found, &status) != 0) excuse(path, errno);
    if (S_ISREG(status.st_mode)) {
      const std::string same = "/proc/self/fd/" + std::to_string(found);
      const int fd = open(same.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
      char buffer[4096];
      if (fd < 0 || read(fd, buffer, sizeof buffer) < 0) excuse(path, errno);
      if (fd >= 0) close(fd);
    }
    close(found);
  }
  void excuse(const std::string& path, int error) {
    for (const int fine : {ENOENT, ENOTDIR, ELOOP, ESTALE, ENAMETOOLONG, EISDIR, ENXIO}) {
      if (error == fine) return;
    }
    run_.fail("looking at " + path + " failed: " + std::strerror(error));
  }

  Run& run_;
};

bool read_number(const char* text, uint64_t* number) {
  char* end = nullptr;
  *number = std::strtoull(text, &end, 0);
  return end != text && *end == '\0';
}

// False: usage.
bool take(Options* options, int letter, const char* value) {
  uint64_t number = 0;
  const bool is_number = value != nullptr && read_number(value, &number);
  switch (letter) {
    case 's':
      options->seed = number;
      return is_number;
    case 'n':
      options->steps = number;
      return is_number;
    case 't':
      options->threads = static_cast<unsigned>(number);
      return is_number && number > 0;
    case 'e':
      options->check_every = number;
      return is_number && number > 0;
    case 'k':
      options->hook = value;
      return true;
    case 'K':
      options->hook_every = number;
      return is_number && number > 0;
    case 'w':
      options->without.insert(value);
      return true;
    case 'r':
      options->shrink = true;
      return true;
    case 'd':
      options->direct = true;
      return true;
    case 'v':
      options->verbose = true;
      return true;
    case 'c':
      options->compare = true;
      return true;
    case 'p':
      options->profile = files::find_profile(value);
      return options->profile != nullptr;
    default:
      return false;
  }
}

bool parse(int argc, char* argv[], Options* options) {
  const std::array<option, 13> known = {{{"seed", required_argument, nullptr, 's'},
                                         {"steps", required_argument, nullptr, 'n'},
                                         {"threads", required_argument, nullptr, 't'},
                                         {"profile", required_argument, nullptr, 'p'},
                                         {"check-every", required_argument, nullptr, 'e'},
                                         {"hook", required_argument, nullptr, 'k'},
                                         {"hook-every", required_argument, nullptr, 'K'},
                                         {"without", required_argument, nullptr, 'w'},
                                         {"shrink", no_argument, nullptr, 'r'},
                                         {"direct", no_argument, nullptr, 'd'},
                                         {"verbose", no_argument, nullptr, 'v'},
                                         {"compare", no_argument, nullptr, 'c'},
                                         {nullptr, 0, nullptr, 0}}};
  std::random_device device;
  options->seed = device();
  for (int letter = 0; (letter = getopt_long(argc, argv, "", known.data(), nullptr)) != -1;) {
    if (!take(options, letter, optarg)) return false;
  }
  if (argc - optind != 2) return false;
  options->tested = argv[optind];
  options->native = argv[optind + 1];
  return true;
}

int tell(const Options& options, const std::string& problem, const std::string& done) {
  if (!problem.empty()) {
    std::printf("fs_model: seed %llu: %s\n", static_cast<unsigned long long>(options.seed),
                problem.c_str());
    return EXIT_FAILURE;
  }
  std::printf("fs_model: seed %llu: %s\n", static_cast<unsigned long long>(options.seed),
              done.c_str());
  return EXIT_SUCCESS;
}

int run_all(const Options& options) {
  Run run(options);
  std::thread looker;
  if (options.threads > 1) looker = std::thread([&] { Looker(run).work(); });
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < options.threads; ++i) {
    threads.emplace_back([&run, i] { Worker(run, i).work(); });
  }
  for (std::thread& thread : threads) thread.join();
  run.stopping = true;
  if (looker.joinable()) looker.join();
  return tell(options, run.problem(),
              std::to_string(run.steps) + " operations, the same on both sides" +
                  (run.refused == 0 ? "" : "; refused: " + std::to_string(run.refused)));
}

}  // namespace

int main(int argc, char* argv[]) {
  Options options;
  if (!parse(argc, argv, &options)) {
    usage(stderr);
    return 2;
  }
  umask(022);
  // A FIFO without a reader is an EPIPE on both sides, and not the end.
  if (std::signal(SIGPIPE, SIG_IGN) == SIG_ERR) return EXIT_FAILURE;
  if (!options.compare) return run_all(options);
  return tell(options, files::tree_difference(*options.profile, options.tested, options.native),
              "the trees are the same");
}
