// bench_list: lists a directory by raw getdents64 and says how long it took, as JSON.
//
// Purpose:        the clock of tools/bench/bench: opens, reads to the end, closes, and looks at
//                 every entry once, as `ls -f` does, but without libc's own buffer size and without
//                 output. With --check the numbers at the names' ends are ticked off one by one.
// Thread-safety:  each lister owns its descriptor, buffer and figures; nothing is shared but the
//                 start.
// Errors:         the first failing call on standard error, exit status 1; 2 for usage.
//
// Several directories are given to the threads in turn. "call_us" holds the time of a getdents64,
// median, 99 %, 99.9 % and the longest, over all threads of a pass.
// "first_name_seconds" runs from before open() to the first entry that is neither '.' nor '..',
// "opened_seconds" to the return of open(). A pass of several threads lasts as long as the slowest.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <latch>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct ListOptions {
  std::vector<std::string> directories;
  size_t buffer = 32768;
  uint32_t threads = 1;
  uint32_t repeat = 1;
  uint64_t check = 0;  // names numbered from 0 to here are expected; 0: not checked
  bool stat = false;
};

struct Pass {
  uint64_t entries = 0;  // without '.' and '..'
  uint64_t calls = 0;
  double seconds = 0;
  double opened = 0;
  double first_name = 0;
  uint64_t duplicates = 0;
  uint64_t unexpected = 0;
  uint64_t missing = 0;
  std::vector<float> call_us;
};

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// Which of the numbers 0 to n-1 have been seen: a bit each.
class Numbers {
 public:
  explicit Numbers(uint64_t count) : seen_(count) {}

  void tick(std::string_view name, Pass* pass) {
    size_t digits = name.size();
    while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9') --digits;
    uint64_t number = 0;
    for (const char c : name.substr(digits)) number = number * 10 + static_cast<uint64_t>(c - '0');
    if (digits == name.size() || number >= seen_.size()) {
      ++pass->unexpected;
    } else if (seen_[number]) {
      ++pass->duplicates;
    } else {
      seen_[number] = true;
      ++ticked_;
    }
  }
  [[nodiscard]] uint64_t missing() const { return seen_.size() - ticked_; }

 private:
  std::vector<bool> seen_;
  uint64_t ticked_ = 0;
};

class Descriptor {
 public:
  explicit Descriptor(const std::string& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ < 0) fail("open");
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  const int fd_;
};

bool is_dot(const char* name) {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

Pass list_once(const ListOptions& options, const std::string& path,
               std::vector<std::byte>* buffer) {
  Numbers numbers(options.check);
  Pass pass;
  const Clock::time_point start = Clock::now();
  const Descriptor directory(path);
  pass.opened = since(start);
  for (;;) {
    const Clock::time_point asked = Clock::now();
    const ssize_t got = ::getdents64(directory.get(), buffer->data(), buffer->size());
    pass.call_us.push_back(static_cast<float>(since(asked) * 1e6));
    ++pass.calls;
    if (got < 0) fail("getdents64");
    if (got == 0) break;
    for (ssize_t at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer->data() + at);
      at += entry->d_reclen;
      if (is_dot(entry->d_name)) continue;
      if (pass.entries++ == 0) pass.first_name = since(start);
      if (options.check != 0) numbers.tick(entry->d_name, &pass);
      struct stat attr;
      if (options.stat &&
          ::fstatat(directory.get(), entry->d_name, &attr, AT_SYMLINK_NOFOLLOW) != 0) {
        fail("fstatat");
      }
    }
  }
  pass.seconds = since(start);
  pass.missing = numbers.missing();
  return pass;
}

const std::string& directory_of(const ListOptions& options, uint32_t thread) {
  return options.directories[thread % options.directories.size()];
}

// One pass of all threads, which begin at the same moment.
Pass list_together(const ListOptions& options, std::vector<std::vector<std::byte>>* buffers) {
  std::vector<Pass> passes(options.threads);
  std::vector<std::exception_ptr> errors(options.threads);
  std::latch begin(options.threads);
  std::vector<std::thread> threads;
  for (uint32_t i = 1; i < options.threads; ++i) {
    threads.emplace_back([&, i] {
      begin.arrive_and_wait();
      try {
        passes[i] = list_once(options, directory_of(options, i), &(*buffers)[i]);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    });
  }
  begin.arrive_and_wait();
  try {
    passes[0] = list_once(options, directory_of(options, 0), &(*buffers)[0]);
  } catch (...) {
    errors[0] = std::current_exception();
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  Pass all = std::move(passes[0]);
  for (uint32_t i = 1; i < options.threads; ++i) {
    all.entries += passes[i].entries;
    all.calls += passes[i].calls;
    all.seconds = std::max(all.seconds, passes[i].seconds);
    all.opened = std::max(all.opened, passes[i].opened);
    all.first_name = std::max(all.first_name, passes[i].first_name);
    all.duplicates += passes[i].duplicates;
    all.unexpected += passes[i].unexpected;
    all.missing += passes[i].missing;
    all.call_us.insert(all.call_us.end(), passes[i].call_us.begin(), passes[i].call_us.end());
  }
  return all;
}

void print(Pass& pass, bool checked) {
  std::printf(
      "{\"entries\": %llu, \"calls\": %llu, \"seconds\": %.6f, \"opened_seconds\": %.6f, "
      "\"first_name_seconds\": %.6f",
      static_cast<unsigned long long>(pass.entries), static_cast<unsigned long long>(pass.calls),
      pass.seconds, pass.opened, pass.first_name);
  if (checked) {
    std::printf(", \"duplicates\": %llu, \"unexpected\": %llu, \"missing\": %llu",
                static_cast<unsigned long long>(pass.duplicates),
                static_cast<unsigned long long>(pass.unexpected),
                static_cast<unsigned long long>(pass.missing));
  }
  std::sort(pass.call_us.begin(), pass.call_us.end());
  const auto quantile = [&](double share) {
    const auto last = static_cast<double>(pass.call_us.size() - 1);
    return static_cast<double>(pass.call_us[static_cast<size_t>(std::lround(share * last))]);
  };
  std::printf(", \"call_us\": {\"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}}",
              quantile(0.5), quantile(0.99), quantile(0.999), quantile(1));
}

int run(const ListOptions& options) {
  // Touched before the clock runs.
  std::vector<std::vector<std::byte>> buffers(options.threads,
                                              std::vector<std::byte>(options.buffer));
  std::printf("{\"buffer\": %zu, \"threads\": %u, \"passes\": [", options.buffer, options.threads);
  for (uint32_t i = 0; i < options.repeat; ++i) {
    Pass pass = list_together(options, &buffers);
    if (i != 0) std::printf(", ");
    print(pass, options.check != 0);
  }
  std::printf("]}\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app("Lists a directory by getdents64 and prints how long it took, as JSON");
  ListOptions options;
  app.add_option("DIRECTORY", options.directories, "what to list")->required();
  app.add_option("--buffer", options.buffer, "bytes a getdents64 asks for")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(static_cast<size_t>(512), static_cast<size_t>(64) << 20));
  app.add_option("--threads", options.threads, "listers side by side")->check(CLI::Range(1, 1024));
  app.add_option("--repeat", options.repeat, "passes, one after the other")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--check", options.check, "expect names that end in 0 to N-1, each once");
  app.add_flag("--stat", options.stat, "stat every entry as it comes, as ls -l does");
  CLI11_PARSE(app, argc, argv);
  return run(options);
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_list: %s\n", error.what());
  return 1;
}
