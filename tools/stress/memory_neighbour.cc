// memory_neighbour: takes memory and gives it back, so that others in its cgroup feel the pressure.
//
// Purpose:  real pressure for tests and the demo: anonymous memory that grows step by step, is held
//           and freed, again and again, and (with --file) page cache that the kernel must reclaim.
// Bounds:   never more than --size. With the cgroup's files named it leaves --margin of it free,
//           and gives back at once when less than three quarters of that are left: it presses
//           on the others and leaves it to them whether they grow until somebody is killed.
// Ends on SIGTERM, or when its parent is gone.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr uint64_t kStep = uint64_t{1} << 20;  // bytes taken at a time

struct NeighbourOptions {
  uint64_t size = uint64_t{32} << 20;   // bytes, at most
  uint64_t margin = uint64_t{2} << 20;  // bytes of the cgroup left free
  uint32_t step_ms = 3;                 // pause after each step
  uint32_t hold_ms = 1000;              // how long it goes on once it can take no more
  std::string usage_file, limit_file;   // of the cgroup
  std::string stat_file;                // memory.stat: what of the usage is page cache
  std::string file;                     // read again and again
  uint64_t rounds = 0;                  // 0: for ever
};

volatile sig_atomic_t stopped = 0;

void stop_on_signal(int) { stopped = 1; }

void pause_ms(uint32_t milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

uint64_t number_in(const std::string& path) {
  std::ifstream file(path);
  uint64_t number = 0;
  return file >> number ? number : UINT64_MAX;
}

// Page cache that the kernel can drop at will: it does not count as taken.
uint64_t reclaimable(const std::string& path) {
  std::ifstream file(path);
  std::string key;
  uint64_t value = 0, sum = 0;
  while (file >> key >> value) {
    if (key == "inactive_file" || key == "active_file") sum += value;
  }
  return sum;
}

enum class Room : uint8_t { kPlenty, kEnough, kTight };

Room look(const NeighbourOptions& options) {
  if (options.usage_file.empty()) return Room::kPlenty;
  const uint64_t limit = number_in(options.limit_file), usage = number_in(options.usage_file);
  if (limit == UINT64_MAX || usage == UINT64_MAX) return Room::kEnough;
  const uint64_t firm = usage - std::min(usage, reclaimable(options.stat_file));
  if (firm + kStep + options.margin <= limit) return Room::kPlenty;
  return firm + options.margin / 4 * 3 <= limit ? Room::kEnough : Room::kTight;
}

// The page cache's part: the whole file, over and over, with pauses.
void read_for_ever(const std::string& path) {
  std::vector<char> buffer(kStep);
  while (stopped == 0) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    while (stopped == 0 && ::read(fd, buffer.data(), buffer.size()) > 0) pause_ms(1);
    ::close(fd);
    pause_ms(20);
  }
}

class Hoard {
 public:
  Hoard() = default;
  Hoard(const Hoard&) = delete;
  Hoard& operator=(const Hoard&) = delete;
  ~Hoard() { give_back(steps_.size()); }

  bool take_step() {
    void* step = ::mmap(nullptr, kStep, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (step == MAP_FAILED) return false;
    std::memset(step, 0x5a, kStep);
    steps_.push_back(step);
    return true;
  }
  void give_back(size_t steps) {
    for (; steps > 0 && !steps_.empty(); --steps) {
      ::munmap(steps_.back(), kStep);
      steps_.pop_back();
    }
  }
  [[nodiscard]] uint64_t bytes() const { return steps_.size() * kStep; }

 private:
  std::vector<void*> steps_;
};

// One rise and fall. Returns the most bytes that it had.
uint64_t rise_and_fall(const NeighbourOptions& options) {
  using Clock = std::chrono::steady_clock;
  Hoard hoard;
  uint64_t peak = 0;
  auto last_taken = Clock::now();
  while (stopped == 0 && Clock::now() - last_taken < std::chrono::milliseconds(options.hold_ms)) {
    const Room room = look(options);
    if (room == Room::kTight) {
      hoard.give_back(2);
    } else if (room == Room::kPlenty && hoard.bytes() < options.size) {
      if (!hoard.take_step()) break;
      if (hoard.bytes() > peak) last_taken = Clock::now();
      peak = std::max(peak, hoard.bytes());
      pause_ms(options.step_ms);
    } else {
      pause_ms(1);
    }
  }
  return peak;
}

int run(const NeighbourOptions& options) {
  // To give back in time it must run when it wants to; without the right to, it does without.
  (void)::setpriority(PRIO_PROCESS, 0, -10);
  std::thread reader;
  if (!options.file.empty()) reader = std::thread(read_for_ever, options.file);
  uint64_t peak = 0;
  uint64_t rounds = 0;
  for (; stopped == 0 && (options.rounds == 0 || rounds < options.rounds); ++rounds) {
    peak = std::max(peak, rise_and_fall(options));
  }
  stopped = 1;
  if (reader.joinable()) reader.join();
  std::printf("rounds=%lu peak_bytes=%lu\n", rounds, peak);
  return 0;
}

void declare_options(CLI::App* app, NeighbourOptions* options) {
  app->add_option("--size", options->size, "Most bytes taken (units: K, M, G)")
      ->transform(CLI::AsSizeValue(false));
  app->add_option("--margin", options->margin, "Bytes of the cgroup left free")
      ->transform(CLI::AsSizeValue(false));
  app->add_option("--step-ms", options->step_ms, "Pause after each MiB");
  app->add_option("--hold-ms", options->hold_ms, "How long it goes on once it can take no more");
  app->add_option("--usage-file", options->usage_file, "The cgroup's usage");
  app->add_option("--limit-file", options->limit_file, "The cgroup's limit");
  app->add_option("--stat-file", options->stat_file, "The cgroup's memory.stat");
  app->add_option("--file", options->file, "Read this again and again: page cache");
  app->add_option("--rounds", options->rounds, "How often to grow and give back; 0: for ever");
}

int parse_and_run(int argc, char** argv) {
  NeighbourOptions options;
  CLI::App app("Takes memory and gives it back, within bounds, to press on its cgroup.");
  declare_options(&app, &options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  (void)::prctl(PR_SET_PDEATHSIG, SIGTERM);
  (void)std::signal(SIGTERM, stop_on_signal);
  (void)std::signal(SIGINT, stop_on_signal);
  return run(options);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return parse_and_run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "memory_neighbour: %s\n", error.what());
    return 2;
  }
}
