// Memory pressure: the policy as its specification, the watcher against a fake machine, the
// sampler against files as kernels write them.

#include "cache/mm/pressure.h"

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <deque>
#include <filesystem>
#include <fstream>

#include "cache/base/mutex.h"
#include "cache/mm/pressure_files.h"
#include "cache/mm/pressure_sampler.h"
#include "tests/support/sizes.h"

namespace cache {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

using test::kMiB;
constexpr uint64_t kGiB = uint64_t{1} << 30;

// A cache of 256 MiB that may be squeezed to 16 MiB.
PressureOptions options_256_16() {
  PressureOptions options;
  options.limit_bytes = 256 * kMiB;
  options.min_bytes = 16 * kMiB;
  return options;
}

// A room of 1000 MiB, whose low water therefore lies at 100 MiB.
PressureSample free_mib(uint64_t free) {
  PressureSample sample;
  sample.rooms.push_back({1000 * kMiB, free * kMiB});
  return sample;
}

PressureSample stalled(PressureSample sample, double percent) {
  sample.stalled_percent = percent;
  return sample;
}

// `count` samples, `period` apart; the bound after the last, in MiB.
uint64_t feed(PressurePolicy& policy, const PressureSample& sample, int count,
              Duration period = milliseconds(100)) {
  for (int i = 0; i < count; ++i) policy.update(sample, period);
  return policy.bound_bytes() / kMiB;
}

PressureLevel level_of(const PressureSample& sample) {
  PressurePolicy policy(options_256_16());
  policy.update(sample, seconds(1));
  return policy.level();
}

TEST_CASE("policy: with plenty free, and with nothing known, the bound is the limit") {
  PressurePolicy policy(options_256_16());
  CHECK(policy.bound_bytes() == 256 * kMiB);
  CHECK(feed(policy, free_mib(900), 100, seconds(1)) == 256);
  CHECK(feed(policy, PressureSample(), 100, seconds(1)) == 256);
}

TEST_CASE("policy: free memory decides the level") {
  CHECK(level_of(free_mib(1000)) == PressureLevel::kCalm);
  CHECK(level_of(free_mib(200)) == PressureLevel::kCalm);    // twice the low water
  CHECK(level_of(free_mib(199)) == PressureLevel::kSteady);  // hysteresis lies between
  CHECK(level_of(free_mib(100)) == PressureLevel::kSteady);  // the low water
  CHECK(level_of(free_mib(99)) == PressureLevel::kPressed);  // below it
  CHECK(level_of(free_mib(50)) == PressureLevel::kPressed);  //
  CHECK(level_of(free_mib(49)) == PressureLevel::kUrgent);   // half of it
  CHECK(level_of(free_mib(0)) == PressureLevel::kUrgent);
}

TEST_CASE("policy: the tightest room decides") {
  PressureSample sample = free_mib(1000);
  sample.rooms.push_back({100 * kMiB, 7 * kMiB});
  CHECK(level_of(sample) == PressureLevel::kPressed);
}

TEST_CASE("policy: on big machines the low water is the cap, not the share") {
  PressureSample sample;
  sample.rooms.push_back({512 * kGiB, 2 * kGiB});
  CHECK(level_of(sample) == PressureLevel::kCalm);
  sample.rooms[0].free = kGiB - 1;
  CHECK(level_of(sample) == PressureLevel::kPressed);
}

TEST_CASE("policy: stalls are pressure, unless memory is ample") {
  CHECK(level_of(stalled(free_mib(399), 10)) == PressureLevel::kPressed);
  CHECK(level_of(stalled(free_mib(399), 9.9)) == PressureLevel::kSteady);
  CHECK(level_of(stalled(free_mib(399), 2.1)) == PressureLevel::kSteady);
  CHECK(level_of(stalled(free_mib(399), 2)) == PressureLevel::kCalm);
  CHECK(level_of(stalled(free_mib(400), 100)) == PressureLevel::kCalm);  // somebody else's
  CHECK(level_of(stalled(PressureSample(), 10)) == PressureLevel::kPressed);
}

TEST_CASE("policy: being held at the limit is pressure where little is free") {
  PressureSample sample = free_mib(199);
  sample.held_at_limit = true;
  CHECK(level_of(sample) == PressureLevel::kPressed);
  sample = free_mib(200);  // held there by file pages that nobody needs
  sample.held_at_limit = true;
  CHECK(level_of(sample) == PressureLevel::kCalm);
}

TEST_CASE("policy: a kill by the OOM killer is urgent, whatever else is said") {
  PressureSample sample = free_mib(1000);
  sample.killed = true;
  CHECK(level_of(sample) == PressureLevel::kUrgent);
}

TEST_CASE(
    "policy: under pressure a quarter goes, then half at every step, when urgent always half") {
  PressurePolicy pressed(options_256_16());
  CHECK(feed(pressed, free_mib(80), 1) == 192);
  CHECK(feed(pressed, free_mib(80), 1) == 96);
  CHECK(feed(pressed, free_mib(80), 1) == 48);
  PressurePolicy urgent(options_256_16());
  CHECK(feed(urgent, free_mib(10), 1) == 128);
  CHECK(feed(urgent, free_mib(10), 1) == 64);
}

// Who takes what is given up comes back for more; who does not is left a quarter at a time.
TEST_CASE("policy: pressure that comes again within a second takes half, later a quarter again") {
  PressurePolicy policy(options_256_16());
  CHECK(feed(policy, free_mib(80), 1) == 192);
  CHECK(feed(policy, free_mib(150), 9) == 192);
  CHECK(feed(policy, free_mib(80), 1) == 96);  // a second after the step
  CHECK(feed(policy, free_mib(150), 10) == 96);
  CHECK(feed(policy, free_mib(80), 1) == 72);  // later
}

// 1 GiB down to 32 MiB in half a second leaves as much for seeing it and for doing it.
TEST_CASE("policy: the floor is reached within half a second, and kept") {
  PressureOptions options = options_256_16();
  options.limit_bytes = 1024 * kMiB;
  options.min_bytes = 32 * kMiB;
  PressurePolicy policy(options);
  CHECK(feed(policy, free_mib(80), 6) == 32);
  CHECK(feed(policy, free_mib(0), 100) == 32);
}

TEST_CASE("policy: samples that come faster than the steps shrink no faster") {
  PressurePolicy policy(options_256_16());
  CHECK(feed(policy, free_mib(80), 1, milliseconds(1)) == 192);   // the first at once
  CHECK(feed(policy, free_mib(80), 99, milliseconds(1)) == 192);  // 99 ms later
  CHECK(feed(policy, free_mib(80), 1, milliseconds(1)) == 96);    // 100 ms later
}

TEST_CASE("policy: between the marks the bound stays") {
  PressurePolicy policy(options_256_16());
  REQUIRE(feed(policy, free_mib(80), 2) == 96);
  CHECK(feed(policy, free_mib(150), 1000, seconds(1)) == 96);
}

TEST_CASE("policy: it grows after ten calm seconds, from floor to limit in a minute") {
  PressurePolicy policy(options_256_16());
  REQUIRE(feed(policy, free_mib(0), 10) == 16);
  CHECK(feed(policy, free_mib(500), 10, seconds(1)) == 16);
  CHECK(feed(policy, free_mib(500), 30, seconds(1)) == 136);  // half of the way
  CHECK(feed(policy, free_mib(500), 29, seconds(1)) < 256);
  CHECK(feed(policy, free_mib(500), 1, seconds(1)) == 256);
  CHECK(feed(policy, free_mib(500), 100, seconds(1)) == 256);
}

TEST_CASE("policy: the calm must last: one tense moment starts the ten seconds again") {
  PressurePolicy policy(options_256_16());
  REQUIRE(feed(policy, free_mib(0), 10) == 16);
  feed(policy, free_mib(500), 9, seconds(1));
  feed(policy, free_mib(150), 1, seconds(1));
  CHECK(feed(policy, free_mib(500), 10, seconds(1)) == 16);
  CHECK(feed(policy, free_mib(500), 1, seconds(1)) > 16);
}

TEST_CASE("policy: a suspended machine wakes up with one second's growth at most") {
  PressurePolicy policy(options_256_16());
  REQUIRE(feed(policy, free_mib(0), 10) == 16);
  CHECK(feed(policy, free_mib(500), 1, std::chrono::hours(10)) == 20);
}

TEST_CASE("policy: it looks again before the tightest room can be used up") {
  PressurePolicy policy(options_256_16());
  CHECK(policy.period() == PressurePolicy::kCalmPeriod);
  const auto period = [&](const PressureSample& sample, Duration elapsed) {
    policy.update(sample, elapsed);
    return policy.period();
  };
  PressureSample machine;
  machine.rooms = {{.limit = 24 * kGiB, .free = 20 * kGiB}};
  CHECK(period(machine, seconds(1)) == PressurePolicy::kCalmPeriod);
  CHECK(period(free_mib(900), seconds(1)) == milliseconds(390));  // 100 are the low water
  CHECK(period(free_mib(150), seconds(1)) == PressurePolicy::kTightPeriod);
  machine.rooms.push_back({.limit = 1000 * kMiB, .free = 700 * kMiB});
  CHECK(period(machine, seconds(1)) == milliseconds(292));
  CHECK(period(PressureSample(), seconds(1)) == PressurePolicy::kCalmPeriod);
  // Pressure, and ten seconds after it.
  CHECK(period(free_mib(90), milliseconds(100)) == PressurePolicy::kPressedPeriod);
  CHECK(period(free_mib(900), seconds(9)) == PressurePolicy::kPressedPeriod);
  CHECK(period(free_mib(900), seconds(1)) == milliseconds(390));
}

TEST_CASE("policy: a floor above the limit means the limit") {
  PressureOptions options;
  options.limit_bytes = 8 * kMiB;
  options.min_bytes = 16 * kMiB;
  PressurePolicy policy(options);
  CHECK(feed(policy, free_mib(0), 10) == 8);
}

TEST_CASE("policy: the bound stays between floor and limit under random samples") {
  PressurePolicy policy(options_256_16());
  uint64_t state = 12345;
  INFO("seed " << state);
  for (int i = 0; i < 100000; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const uint64_t bound = policy.update(stalled(free_mib(state >> 33 & 511), (state >> 20) % 30),
                                         milliseconds(state >> 40 & 2047));
    REQUIRE(bound >= 16 * kMiB);
    REQUIRE(bound <= 256 * kMiB);
  }
}

// --- The watcher ---

// A machine that shows the watcher one prepared sample after another.
class FakeMachine {
 public:
  using Listen = PressureSampler::Listen;
  using Woken = PressureSampler::Woken;
  struct Waited {
    milliseconds timeout;
    Listen listen;
    bool operator==(const Waited&) const = default;
  };

  // Lets the watcher's wait end as `woken`, and shows `sample` next. Returns how it waits then.
  Waited step(Woken woken, PressureSample sample) {
    MutexLock lock(mutex_);
    sample_ = std::move(sample);
    next_ = woken;
    changed_.notify_all();
    return await_waiting_locked(waits_ + 1);
  }
  Waited first_wait() {
    MutexLock lock(mutex_);
    return await_waiting_locked(1);
  }

  PressureSample sample() {
    MutexLock lock(mutex_);
    return sample_;
  }
  Woken wait(milliseconds timeout, Listen listen) {
    MutexLock lock(mutex_);
    waited_ = {timeout, listen};
    ++waits_;
    changed_.notify_all();
    while (!stop_ && !next_.has_value()) changed_.wait(mutex_);
    const Woken woken = stop_ ? Woken::kStop : *next_;
    next_.reset();
    return woken;
  }
  void wake() {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }

 private:
  Waited await_waiting_locked(int count) REQUIRES(mutex_) {
    const auto deadline = std::chrono::steady_clock::now() + seconds(30);
    while (waits_ < count) {
      if (!changed_.wait_until(mutex_, deadline)) break;
    }
    return waited_;
  }

  Mutex mutex_{LockRank::kLeaf};
  CondVar changed_;
  PressureSample sample_ GUARDED_BY(mutex_) = free_mib(900);
  std::optional<Woken> next_ GUARDED_BY(mutex_);
  Waited waited_ GUARDED_BY(mutex_) = {};
  int waits_ GUARDED_BY(mutex_) = 0;
  bool stop_ GUARDED_BY(mutex_) = false;
};

class FakeSampler final : public PressureSampler {
 public:
  explicit FakeSampler(FakeMachine& machine) : machine_(machine) {}
  PressureSample sample() override { return machine_.sample(); }
  Woken wait(milliseconds timeout, Listen listen) override {
    return machine_.wait(timeout, listen);
  }
  void wake() override { machine_.wake(); }

 private:
  FakeMachine& machine_;
};

TEST_CASE("watcher: tells each new bound, and waits as the level asks") {
  using Listen = PressureSampler::Listen;
  using Woken = PressureSampler::Woken;
  // 800 MiB above the low water, at 2 GiB/s.
  const FakeMachine::Waited calm{milliseconds(390), Listen::kEvents};
  const FakeMachine::Waited often{PressurePolicy::kPressedPeriod, Listen::kWakeOnly};
  FakeClock clock;
  FakeMachine machine;
  Mutex mutex(LockRank::kLeaf);
  std::vector<uint64_t> told;  // MiB; under `mutex`
  {
    PressureWatcher watcher(options_256_16(), std::make_unique<FakeSampler>(machine), clock,
                            [&](uint64_t bound) {
                              MutexLock lock(mutex);
                              told.push_back(bound / kMiB);
                            });
    CHECK(machine.first_wait() == calm);
    clock.advance(seconds(1));
    CHECK(machine.step(Woken::kTimeout, free_mib(900)) == calm);
    clock.advance(milliseconds(10));
    CHECK(machine.step(Woken::kEvent, free_mib(80)) == often);
    clock.advance(milliseconds(100));
    CHECK(machine.step(Woken::kTimeout, free_mib(80)) == often);
    clock.advance(milliseconds(100));
    CHECK(machine.step(Woken::kTimeout, free_mib(900)) == often);
    for (int i = 1; i < 100; ++i) {
      clock.advance(seconds(1));
      CHECK(machine.step(Woken::kTimeout, free_mib(900)) == (i < 10 ? often : calm));
    }
  }
  REQUIRE(told.size() > 4);
  CHECK(told[0] == 192);
  CHECK(told[1] == 96);
  CHECK(told[2] == 100);
  CHECK(told.back() == 256);
  CHECK(std::is_sorted(told.begin() + 1, told.end()));
}

TEST_CASE("watcher: a storm of events is sampled ten times a second, no more") {
  using Listen = PressureSampler::Listen;
  using Woken = PressureSampler::Woken;
  FakeClock clock;
  FakeMachine machine;
  PressureWatcher watcher(options_256_16(), std::make_unique<FakeSampler>(machine), clock,
                          [](uint64_t) {});
  machine.first_wait();
  const auto after_event = machine.step(Woken::kEvent, free_mib(900));
  CHECK(after_event.listen == Listen::kWakeOnly);
  CHECK(after_event.timeout == PressurePolicy::kPressedPeriod);
  CHECK(machine.step(Woken::kTimeout, free_mib(900)).listen == Listen::kEvents);
}

TEST_CASE("watcher: starts and stops at once, over the real machine") {
  RealClock clock;
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) {
    PressureWatcher watcher(options_256_16(), std::make_unique<SystemPressureSampler>(clock), clock,
                            [](uint64_t) {});
  }
  CHECK(std::chrono::steady_clock::now() - began < seconds(10));
}

// --- What the kernel's files say ---

TEST_CASE("files: meminfo, pressure, limits, keyed values") {
  CHECK(parse_meminfo("MemTotal:  2000 kB\nMemFree: 1 kB\nMemAvailable:   500 kB\n")->free ==
        500 * 1024);
  CHECK(parse_meminfo("MemTotal:  2000 kB\nMemAvailable: 9000 kB\n")->free == 2000 * 1024);
  CHECK_FALSE(parse_meminfo("MemTotal: 2000 kB\nMemFree: 1 kB\n").has_value());
  CHECK_FALSE(parse_meminfo("MemTotal: 0 kB\nMemAvailable: 1 kB\n").has_value());
  CHECK_FALSE(parse_meminfo("").has_value());

  CHECK(parse_psi_some_total("some avg10=1.00 avg60=0.00 avg300=0.00 total=777\n"
                             "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n") == 777);
  CHECK_FALSE(parse_psi_some_total("full avg10=0.00 total=5\n").has_value());
  CHECK_FALSE(parse_psi_some_total("some total=\n").has_value());

  CHECK(parse_bytes("4096\n") == 4096);
  CHECK_FALSE(parse_bytes("max\n").has_value());
  CHECK_FALSE(parse_bytes("9223372036854771712\n").has_value());
  CHECK_FALSE(parse_bytes("").has_value());

  CHECK(keyed_value("low 0\nhigh 3\noom 1\noom_kill 2", "oom_kill") == 2);
  CHECK(keyed_value("total_inactive_file 9\ninactive_file 4\n", "inactive_file") == 4);
  CHECK_FALSE(keyed_value("high x\n", "high").has_value());
}

TEST_CASE("files: the memory cgroup, in v2, v1, hybrid and containers") {
  using Version = MemoryCgroup::Version;
  const char* v2_mount = "30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
  const char* v1_mount =
      "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
      "35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
      "36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
  const char* v1_own = "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/init.scope\n";
  const auto v2 = find_memory_cgroup("0::/user.slice/x.scope\n", v2_mount);
  REQUIRE(v2.has_value());
  CHECK(*v2 == MemoryCgroup{Version::kV2,
                            {"/sys/fs/cgroup/user.slice/x.scope", "/sys/fs/cgroup/user.slice",
                             "/sys/fs/cgroup"}});
  CHECK(find_memory_cgroup("0::/\n", v2_mount)->directories ==
        std::vector<std::string>{"/sys/fs/cgroup"});
  CHECK(find_memory_cgroup("0::/../../other\n", v2_mount)->directories ==
        std::vector<std::string>{"/sys/fs/cgroup"});
  const auto v1 = find_memory_cgroup(v1_own, v1_mount);
  REQUIRE(v1.has_value());
  CHECK(*v1 == MemoryCgroup{Version::kV1,
                            {"/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a",
                             "/sys/fs/cgroup/memory"}});
  // A container without a cgroup namespace sees its own part mounted, and its whole path.
  CHECK(find_memory_cgroup("4:memory:/docker/7/sub\n",
                           "36 31 0:33 /docker/7 /cg\\040roup/memory ro - cgroup cgroup rw,memory")
            ->directories == std::vector<std::string>{"/cg roup/memory/sub", "/cg roup/memory"});
  CHECK(find_memory_cgroup("4:memory:/docker/77\n",
                           "36 31 0:33 /docker/7 /cg/memory ro - cgroup cgroup rw,memory")
            ->directories == std::vector<std::string>{"/cg/memory"});
  CHECK_FALSE(find_memory_cgroup("", v2_mount).has_value());
  CHECK_FALSE(find_memory_cgroup("0::/x\n", "").has_value());
  CHECK_FALSE(find_memory_cgroup("garbage\n::\n0:\n", "a b c\n - \n - cgroup2").has_value());
}

// A directory that stands for '/'.
class FakeRoot {
 public:
  FakeRoot() {
    char path[] = "/tmp/cookiefs-pressure-XXXXXX";
    REQUIRE(::mkdtemp(path) != nullptr);
    path_ = path;
    write("/proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n");
  }
  ~FakeRoot() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(path_ + path).parent_path());
    std::ofstream(path_ + path, std::ios::trunc) << text;
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST_CASE("sampler: a v2 cgroup, its parent, its events and stalls") {
  FakeRoot root;
  root.write("/proc/self/cgroup", "0::/p/c\n");
  root.write("/proc/self/mountinfo", "30 23 0:27 / /cg rw - cgroup2 cgroup2 rw\n");
  root.write("/cg/p/memory.max", "10000000\n");
  root.write("/cg/p/memory.current", "9000000\n");
  root.write("/cg/p/memory.stat", "anon 5\ninactive_file 4000000\n");
  root.write("/cg/p/c/memory.max", "max\n");
  root.write("/cg/p/c/memory.high", "2000000\n");
  root.write("/cg/p/c/memory.current", "2100000\n");
  root.write("/cg/p/c/memory.events.local", "low 0\nhigh 1\nmax 1\noom 0\noom_kill 0\n");
  root.write("/cg/p/c/memory.pressure", "some avg10=0 total=1000\nfull avg10=0 total=0\n");
  FakeClock clock;
  SystemPressureSampler sampler(clock, root.path());
  clock.advance(seconds(1));
  PressureSample sample = sampler.sample();
  REQUIRE(sample.rooms.size() == 3);
  CHECK(sample.rooms[0].free == 900000 * uint64_t{1024});
  CHECK(sample.rooms[1].limit == 2000000);
  CHECK(sample.rooms[1].free == 0);
  CHECK(sample.rooms[2].limit == 10000000);
  CHECK(sample.rooms[2].free == 5000000);
  CHECK_FALSE(sample.held_at_limit);
  CHECK_FALSE(sample.killed);
  CHECK(sample.stalled_percent == Approx(0));

  root.write("/cg/p/c/memory.events.local", "low 0\nhigh 2\nmax 1\noom 1\noom_kill 1\n");
  root.write("/cg/p/c/memory.pressure", "some avg10=0 total=251000\nfull avg10=0 total=0\n");
  clock.advance(seconds(1));
  sample = sampler.sample();
  CHECK(sample.held_at_limit);
  CHECK(sample.killed);
  CHECK(*sample.stalled_percent == Approx(25));
  clock.advance(seconds(1));
  sample = sampler.sample();
  CHECK_FALSE(sample.held_at_limit);
  CHECK_FALSE(sample.killed);
  CHECK(*sample.stalled_percent == Approx(0));
}

TEST_CASE("sampler: a v1 cgroup, and a move to another") {
  FakeRoot root;
  root.write("/proc/self/cgroup", "4:memory:/a\n");
  root.write("/proc/self/mountinfo", "36 31 0:33 / /cg rw - cgroup cgroup rw,memory\n");
  root.write("/cg/memory.limit_in_bytes", "9223372036854771712\n");
  root.write("/cg/memory.usage_in_bytes", "5\n");
  root.write("/cg/a/memory.limit_in_bytes", "1000\n");
  root.write("/cg/a/memory.usage_in_bytes", "900\n");
  root.write("/cg/a/memory.stat", "inactive_file 1\ntotal_inactive_file 300\n");
  root.write("/cg/a/memory.failcnt", "7\n");
  root.write("/cg/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
  root.write("/cg/b/memory.limit_in_bytes", "5000\n");
  root.write("/cg/b/memory.usage_in_bytes", "6000\n");
  root.write("/cg/b/memory.failcnt", "100\n");
  FakeClock clock;
  SystemPressureSampler sampler(clock, root.path());
  PressureSample sample = sampler.sample();
  REQUIRE(sample.rooms.size() == 2);
  CHECK(sample.rooms[1].limit == 1000);
  CHECK(sample.rooms[1].free == 400);
  CHECK_FALSE(sample.held_at_limit);
  root.write("/cg/a/memory.failcnt", "8\n");
  CHECK(sampler.sample().held_at_limit);

  root.write("/proc/self/cgroup", "4:memory:/b\n");
  sample = sampler.sample();
  REQUIRE(sample.rooms.size() == 2);
  CHECK(sample.rooms[1].limit == 5000);
  CHECK(sample.rooms[1].free == 0);
  CHECK_FALSE(sample.held_at_limit);  // the other group's count is no growth
}

TEST_CASE("sampler: a machine that tells nothing gives an empty sample") {
  FakeRoot root;
  root.write("/proc/meminfo", "");
  FakeClock clock;
  SystemPressureSampler sampler(clock, root.path());
  const PressureSample sample = sampler.sample();
  CHECK(sample.rooms.empty());
  CHECK_FALSE(sample.stalled_percent.has_value());
}

TEST_CASE("sampler: this machine tells how much memory it has; a wake-up stays") {
  RealClock clock;
  SystemPressureSampler sampler(clock);
  const PressureSample sample = sampler.sample();
  REQUIRE_FALSE(sample.rooms.empty());
  for (const MemoryRoom& room : sample.rooms) {
    CHECK(room.limit > 0);
    CHECK(room.free <= room.limit);
  }
  using Listen = PressureSampler::Listen;
  CHECK(sampler.wait(milliseconds(0), Listen::kWakeOnly) == PressureSampler::Woken::kTimeout);
  sampler.wake();
  CHECK(sampler.wait(seconds(30), Listen::kEvents) == PressureSampler::Woken::kStop);
  CHECK(sampler.wait(seconds(30), Listen::kWakeOnly) == PressureSampler::Woken::kStop);
}

}  // namespace
}  // namespace cache
