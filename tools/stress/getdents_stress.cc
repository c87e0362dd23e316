// getdents_stress: lists one directory by raw getdents64, in every way a program may, and checks
// that each name comes exactly once and that remembered positions stay what they were.
//
// What must appear is learned from the first listing, or read from --reference; --expect says how
// many names that must be. Prints one line of figures (key=value, or JSON). Exit status: 0 right,
// 1 duplicates, gaps, unexpected names or wrong seeks, 2 usage, 3 the directory could not be read.
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "tools/stress/lister.h"

namespace {

using Clock = std::chrono::steady_clock;
using stress::ListerFigures;

struct StressOptions {
  stress::Plan plan;
  std::vector<std::string> buffers{"280", "1024", "4096", "32768", "1048576", "random"};
  std::vector<std::string> operations{"plain", "rewind", "seek"};
  std::string reference;      // file of NUL-separated names
  std::string write_names;    // where to put the names that were learned
  std::string stable_prefix;  // only names that begin with it are expected
  uint64_t expect = 0;        // how many; 0: not known
  uint32_t threads = 1;
  uint64_t rounds = 0;  // listings a thread; 0: as many as fit into `seconds`
  double seconds = 0;
  bool once = false;
  bool first_name = false;
  bool json = false;
  bool progress = false;
};

// Written by the signal handler, read by every lister. Lock-free, so safe in a handler.
stress::Progress progress;

void stop_on_signal(int) { progress.stop.store(true); }

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Prints how far all listers are, on standard error: in place on a terminal, else not at all.
class ProgressLine {
 public:
  ProgressLine(bool wanted, uint64_t expected)
      : wanted_(wanted && ::isatty(STDERR_FILENO) != 0), expected_(expected) {}
  void update(uint64_t entries, double seconds) {
    if (!wanted_ || seconds < next_) return;
    next_ = seconds + 0.1;
    if (expected_ != 0) {
      std::fprintf(stderr, "\r\033[K  %lu of %lu names, %.1f s", entries, expected_, seconds);
    } else {
      std::fprintf(stderr, "\r\033[K  %lu names, %.1f s", entries, seconds);
    }
    shown_ = true;
  }
  ~ProgressLine() {
    if (shown_) std::fprintf(stderr, "\r\033[K");
  }

 private:
  const bool wanted_;
  const uint64_t expected_;
  double next_ = 0.2;  // seconds
  bool shown_ = false;
};

// One line of figures. `first_name_us` is 0 when nobody measured it.
void print_figures(const StressOptions& options, const ListerFigures& figures,
                   uint64_t first_name_us, double seconds) {
  const struct {
    const char* name;
    uint64_t value;
  } rows[] = {
      {"listings", figures.names.listings},
      {"entries", figures.names.entries},
      {"rewinds", figures.rewinds},
      {"seeks", figures.seeks},
      {"duplicates", figures.names.duplicates},
      {"gaps", figures.names.gaps},
      {"unexpected", figures.names.unexpected},
      {"bad_seeks", figures.bad_seeks},
      {"bad_offsets", figures.bad_offsets},
      {"retried", figures.retried},
      {"errors", figures.errors},
      {"first_name_us", first_name_us},
      {"microseconds", static_cast<uint64_t>(seconds * 1e6)},
      {"entries_per_second",
       static_cast<uint64_t>(static_cast<double>(figures.names.entries) / (seconds + 1e-9))},
  };
  const char* separator = options.json ? "{" : "";
  for (const auto& row : rows) {
    std::printf(options.json ? "%s\"%s\":%lu" : "%s%s=%lu", separator, row.name, row.value);
    separator = options.json ? "," : " ";
  }
  std::puts(options.json ? "}" : "");
}

int exit_status(const ListerFigures& figures) {
  if (!figures.problem.empty()) {
    std::fprintf(stderr, "getdents_stress: %s\n", figures.problem.c_str());
  }
  if (figures.wrong()) return 1;
  return figures.errors != 0 ? 3 : 0;
}

// The first listing, from which the expected names are learned.
struct Lesson {
  ListerFigures figures;
  uint64_t first_name_us = 0;
};

void learn_failed(const StressOptions& options, const char* call, int64_t error, Lesson* lesson) {
  if (options.plan.may_vanish) return;
  ++lesson->figures.errors;
  lesson->figures.problem =
      options.plan.directory + ": " + call + ": " + std::strerror(static_cast<int>(-error));
}

void note_duplicate(std::string_view name, Lesson* lesson) {
  ++lesson->figures.names.duplicates;
  lesson->figures.problem = "duplicate: " + std::string(name);
}

Lesson learn(StressOptions* options, bool only_first) {
  Lesson lesson;
  const auto start = Clock::now();
  ProgressLine line(options->progress, options->expect);
  stress::DirStream stream;
  stress::NameSet others;
  uint32_t retries = 0;
  int64_t got = stream.open(options->plan.directory);
  while (got < 0 && retries++ < options->plan.retries) got = stream.open(options->plan.directory);
  if (got < 0) {
    learn_failed(*options, "open", got, &lesson);
    return lesson;
  }
  const auto visit = [&](const stress::DirEntry& entry) {
    ++lesson.figures.names.entries;
    const bool dots = entry.name == "." || entry.name == "..";
    const bool expected = !dots && entry.name.starts_with(options->stable_prefix);
    if (!(expected ? options->plan.expected : others).add(entry.name)) {
      note_duplicate(entry.name, &lesson);
    }
  };
  while (!progress.stop) {
    got = stream.read(only_first ? 4096 : 256 * 1024, visit);
    if (got < 0 && retries++ < options->plan.retries) continue;
    if (lesson.first_name_us == 0) {
      lesson.first_name_us = static_cast<uint64_t>(seconds_since(start) * 1e6) + 1;
    }
    if (got <= 0 || only_first) break;
    line.update(lesson.figures.names.entries, seconds_since(start));
  }
  lesson.figures.retried = retries;
  if (got < 0) learn_failed(*options, "getdents64", got, &lesson);
  if (got == 0) lesson.figures.names.listings = 1;
  return lesson;
}

// Compares what is expected with how many names there must be.
void check_count(const StressOptions& options, ListerFigures* figures) {
  const uint64_t found = options.plan.expected.size();
  if (options.expect == 0 || found == options.expect) return;
  figures->names.gaps += found < options.expect ? options.expect - found : 0;
  figures->names.unexpected += found > options.expect ? found - options.expect : 0;
  if (figures->problem.empty()) {
    figures->problem = "the first listing held " + std::to_string(found) + " names instead of " +
                       std::to_string(options.expect);
  }
}

ListerFigures run_listers(const StressOptions& options, Clock::time_point start) {
  std::vector<ListerFigures> results(options.threads);
  std::vector<std::thread> threads;
  std::atomic<uint32_t> running{options.threads};
  for (uint32_t number = 0; number < options.threads; ++number) {
    threads.emplace_back([&, number] {
      stress::Lister lister(options.plan, &progress, number);
      for (uint64_t round = 0; options.rounds == 0 || round < options.rounds; ++round) {
        if (!lister.run_once() || progress.stop) break;
      }
      results[number] = lister.figures();
      --running;
    });
  }
  ProgressLine line(options.progress, 0);
  while (running != 0) {
    if (options.rounds == 0 && seconds_since(start) >= options.seconds) progress.stop = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    line.update(progress.entries, seconds_since(start));
  }
  for (std::thread& thread : threads) thread.join();
  ListerFigures sum;
  for (const ListerFigures& figures : results) sum += figures;
  return sum;
}

// Brings the expected names in: from a file, or by a first listing. Returns false when that failed.
bool prepare(StressOptions* options, Lesson* lesson) {
  if (options->reference.empty()) {
    *lesson = learn(options, false);
  } else if (!options->plan.expected.read_file(options->reference, options->stable_prefix)) {
    std::perror(options->reference.c_str());
    return false;
  }
  if (!progress.stop && lesson->figures.errors == 0) check_count(*options, &lesson->figures);
  if (options->write_names.empty()) return true;
  if (options->plan.expected.write_file(options->write_names)) return true;
  std::perror(options->write_names.c_str());
  return false;
}

int run(StressOptions options) {
  const auto start = Clock::now();
  if (options.first_name) {
    const Lesson lesson = learn(&options, true);
    print_figures(options, lesson.figures, lesson.first_name_us, seconds_since(start));
    return exit_status(lesson.figures);
  }
  Lesson lesson;
  if (!prepare(&options, &lesson)) return 2;
  ListerFigures figures = lesson.figures;
  if (!options.once && figures.errors == 0 && !progress.stop) {
    figures += run_listers(options, Clock::now());
  }
  print_figures(options, figures, lesson.first_name_us, seconds_since(start));
  return exit_status(figures);
}

void declare_options(CLI::App* app, StressOptions* options) {
  app->add_option("DIRECTORY", options->plan.directory, "What to list")->required();
  app->add_option("--rounds", options->rounds, "Listings a thread (default 1)");
  app->add_option("--seconds", options->seconds, "Or: how long")->check(CLI::PositiveNumber);
  app->add_option("--threads", options->threads, "Threads that list")->check(CLI::Range(1, 1024));
  app->add_option("--buffers", options->buffers, "Bytes a call, or 'random'; a list")
      ->delimiter(',');
  app->add_option("--operations", options->operations, "Of plain, rewind, seek; a list")
      ->delimiter(',')
      ->check(CLI::IsMember({"plain", "rewind", "seek"}));
  app->add_option("--seeks", options->plan.seeks, "Seeks after each pass that remembers positions");
  app->add_option("--expect", options->expect, "How many names there must be");
  app->add_option("--reference", options->reference, "File of the names, NUL-separated");
  app->add_option("--stable", options->stable_prefix,
                  "Names that begin with this must appear exactly once, others at most once");
  app->add_option("--write-names", options->write_names, "Write the expected names to this file");
  app->add_option("--retries", options->plan.retries, "How often to repeat a call that fails");
  app->add_option("--delay-us", options->plan.delay_us, "Pause before each call: a slow reader");
  app->add_option("--seed", options->plan.seed, "Of what is random");
  app->add_flag("--may-vanish", options->plan.may_vanish, "The mount may go: no error");
  app->add_flag("--once", options->once, "Only the first listing");
  app->add_flag("--first-name", options->first_name, "Only opendir and the first names");
  app->add_flag("--json", options->json, "Print the figures as JSON");
  app->add_flag("--progress", options->progress, "Show how far it is, on a terminal");
}

// Turns the lists of words into the plan. Returns false, with a line printed, on a bad size.
bool finish_options(StressOptions* options) {
  const auto has = [&](const char* word) {
    return std::find(options->operations.begin(), options->operations.end(), word) !=
           options->operations.end();
  };
  options->plan.plain = has("plain");
  options->plan.rewind = has("rewind");
  options->plan.seek = has("seek");
  if (!options->stable_prefix.empty()) options->plan.others = stress::Others::kAtMostOnce;
  if (options->rounds == 0 && options->seconds == 0) options->rounds = 1;
  for (const std::string& size : options->buffers) {
    const uint64_t bytes = size == "random" ? 0 : std::strtoull(size.c_str(), nullptr, 10);
    if (size != "random" && (bytes < 24 || bytes > (64U << 20))) {
      std::fprintf(stderr, "getdents_stress: --buffers: '%s' is not 24 to 67108864 or 'random'\n",
                   size.c_str());
      return false;
    }
    options->plan.buffers.push_back(bytes);
  }
  return true;
}

int parse_and_run(int argc, char** argv) {
  StressOptions options;
  CLI::App app("Lists a directory by raw getdents64, again and again, and checks every listing.");
  declare_options(&app, &options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (!finish_options(&options)) return 2;
  for (const int signal : {SIGTERM, SIGINT}) {
    struct sigaction action = {};
    action.sa_handler = stop_on_signal;
    (void)::sigaction(signal, &action, nullptr);
  }
  return run(std::move(options));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return parse_and_run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "getdents_stress: %s\n", error.what());
    return 2;
  }
}
