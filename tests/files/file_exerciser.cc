// file_exerciser: one file, done to at random in every way that programs have, against a vector of
// bytes that says what must be in it.
//
//   file_exerciser [options] FILE
//
// FILE is made, or emptied. Reads and writes go through one descriptor or through two, through
// mappings that stay, and past the page cache; the file is truncated, re-opened, punched and copied
// within. See usage() for options. Says one line: what was done, or what differed, with the seed
// that does it again. Exit status: 0 all as it must be, 1 not so, 2 usage.

#include <fcntl.h>
#include <getopt.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/files/op.h"

namespace {

constexpr uint64_t kPage = 4096;

struct Options {
  uint64_t seed = 0;
  uint64_t steps = 5000;
  uint64_t size = 400'000;  // at most, from `base`
  uint64_t base = 0;        // where in the file that is; a hole before it
  std::string hook;
  uint64_t hook_every = 100;
  uint64_t check_every = 50;
  uint64_t reopen_every = 60;
  bool two = false;  // descriptors
  bool map = true;
  bool direct = false;
  bool verbose = false;
  std::string path;
};

void usage(FILE* to) {
  std::fputs(
      "usage: file_exerciser [options] FILE\n"
      "  --seed N          what is random (default: anew each time)\n"
      "  --steps N         operations (5000)\n"
      "  --size BYTES      of the file, at most (400000)\n"
      "  --base BYTES      the file begins with a hole of that size, a multiple of 4096 (0)\n"
      "  --two             two descriptors, taken in turns\n"
      "  --no-map          no mappings\n"
      "  --direct          O_DIRECT too\n"
      "  --reopen-every N  one operation in N, about (60)\n"
      "  --check-every N   operations between two comparisons of everything (50)\n"
      "  --hook COMMAND    run every N operations of --hook-every (100)\n"
      "  --verbose         the last operations before a difference, on stderr\n",
      to);
}

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<char, Free>;

Buffer aligned_buffer(size_t size) {
  void* const memory = std::aligned_alloc(kPage, (size / kPage + 1) * kPage);
  if (memory == nullptr) throw std::runtime_error("no memory");
  return Buffer(static_cast<char*>(memory));
}

class Exerciser {
 public:
  explicit Exerciser(const Options& options) : options_(options), random_(options.seed) {
    open_again(O_CREAT | O_TRUNC);
    if (options.base > 0) call(ftruncate(fds_[0], base()), "ftruncate");
  }
  ~Exerciser() { close_all(); }
  Exerciser(const Exerciser&) = delete;
  Exerciser& operator=(const Exerciser&) = delete;

  void run() {
    for (step_ = 1; step_ <= options_.steps; ++step_) {
      one_step();
      check_size();
      if (step_ % options_.check_every == 0) check_all();
      if (!options_.hook.empty() && step_ % options_.hook_every == 0) {
        note("the hook");
        if (std::system(options_.hook.c_str()) != 0) throw std::runtime_error("the hook failed");
      }
    }
    note("the end");
    open_again(0);
    check_all();
  }
  [[nodiscard]] uint64_t step() const { return step_; }
  [[nodiscard]] const std::deque<std::string>& last() const { return last_; }

 private:
  void one_step() {
    if (random_.one_in(options_.reopen_every)) return open_again(0);
    const uint64_t dice = random_.below(20);
    if (dice < 6) return write_some();
    if (dice < 11) return read_some();
    if (dice < 13) return truncate_it();
    if (dice < 15) return options_.map ? write_mapped() : write_some();
    if (dice < 17) return options_.map ? read_mapped() : read_some();
    if (dice == 17) return flush();
    if (dice == 18) return change_space();
    return options_.direct ? write_direct() : copy_within();
  }

  // Where something begins that is to end within the most that the file may have.
  struct Range {
    uint64_t at = 0, length = 0;
  };
  Range range(uint64_t end) {
    const uint64_t at = files::random_offset(random_, end - 1);
    return {.at = at, .length = std::min(files::random_length(random_, 80'000), end - at)};
  }
  Range inside() { return bytes_.empty() ? Range() : range(bytes_.size()); }

  void write_some() {
    Range part = range(options_.size);
    if (random_.one_in(6)) part.at = std::min<uint64_t>(bytes_.size(), options_.size - part.length);
    note("write", part);
    const std::string data = files::content(random_.next(), part.length);
    write_fully(any_fd(), data.data(), part);
    put(part.at, data);
  }
  void read_some() {
    // Past the end too.
    const Range part = range(options_.size);
    const bool direct = options_.direct && random_.one_in(3);
    if (direct) return read_direct(part);
    note("read", part);
    std::string data(part.length, '\1');
    const ssize_t got = pread(any_fd(), data.data(), data.size(), base(part.at));
    call(got, "pread");
    compare(part.at, data.data(), static_cast<size_t>(got), part.length);
  }
  void read_direct(const Range& part) {
    const Range whole{.at = part.at / kPage * kPage,
                      .length = (part.length + kPage - 1) / kPage * kPage};
    note("direct read", whole);
    const Buffer buffer = aligned_buffer(whole.length);
    const ssize_t got = pread(direct_fd_, buffer.get(), whole.length, base(whole.at));
    call(got, "direct pread");
    compare(whole.at, buffer.get(), static_cast<size_t>(got), whole.length);
  }
  void write_direct() {
    const Range part = range(options_.size);
    const Range whole{.at = part.at / kPage * kPage,
                      .length = std::max(kPage, part.length / kPage * kPage)};
    note("direct write", whole);
    const std::string data = files::content(random_.next(), whole.length);
    const Buffer buffer = aligned_buffer(whole.length);
    std::memcpy(buffer.get(), data.data(), data.size());
    write_fully(direct_fd_, buffer.get(), whole);
    put(whole.at, data);
  }
  void write_fully(int fd, const char* data, const Range& part) {
    for (uint64_t done = 0; done < part.length;) {
      const ssize_t got = pwrite(fd, data + done, part.length - done, base(part.at + done));
      call(got, "pwrite");
      done += static_cast<uint64_t>(got);
    }
  }

  void truncate_it() {
    const uint64_t size = random_.one_in(8) ? 0 : files::random_offset(random_, options_.size);
    const bool by_name = random_.one_in(3);
    note(by_name ? "truncate" : "ftruncate", {.at = size, .length = 0});
    call(by_name ? truncate(options_.path.c_str(), base(size)) : ftruncate(any_fd(), base(size)),
         "truncate");
    bytes_.resize(size, '\0');
  }

  void write_mapped() {
    const Range part = inside();
    if (part.length == 0) return;
    note("mapped write", part);
    const std::string data = files::content(random_.next(), part.length);
    std::memcpy(mapping() + part.at, data.data(), data.size());
    put(part.at, data);
    if (!random_.one_in(2)) return;
    const uint64_t from = part.at / kPage * kPage;
    call(msync(mapping() + from, part.at + part.length - from,
               random_.one_in(2) ? MS_SYNC : MS_ASYNC),
         "msync");
  }
  void read_mapped() {
    const Range part = inside();
    if (part.length == 0) return;
    note("mapped read", part);
    compare(part.at, mapping() + part.at, part.length, part.length);
  }
  // Stays for many operations: what is written otherwise must be seen in it.
  char* mapping() {
    if (mapping_ == nullptr) {
      void* const memory = mmap(nullptr, options_.size + kPage, PROT_READ | PROT_WRITE, MAP_SHARED,
                                any_fd(), base());
      if (memory == MAP_FAILED) throw_errno("mmap");
      mapping_ = static_cast<char*>(memory);
    }
    return mapping_;
  }
  void unmap() {
    if (mapping_ != nullptr) munmap(mapping_, options_.size + kPage);
    mapping_ = nullptr;
  }

  void flush() {
    note("fsync");
    call(random_.one_in(2) ? fsync(any_fd()) : fdatasync(any_fd()), "fsync");
  }
  void change_space() {
    const Range part = range(options_.size);
    constexpr std::array kModes = {0, FALLOC_FL_KEEP_SIZE,
                                   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
    const int mode = kModes.at(random_.below(kModes.size()));
    note("fallocate " + std::to_string(mode), part);
    if (fallocate(any_fd(), mode, base(part.at), static_cast<off_t>(part.length)) != 0) {
      if (errno == EOPNOTSUPP || errno == ENOSYS) return;
      throw_errno("fallocate");
    }
    const uint64_t end = part.at + part.length;
    if (mode == 0 && end > bytes_.size()) bytes_.resize(end, '\0');
    if ((mode & FALLOC_FL_PUNCH_HOLE) != 0 && part.at < bytes_.size()) {
      std::fill(place(part.at), place(std::min<uint64_t>(end, bytes_.size())), '\0');
    }
  }
  void copy_within() {
    const Range part = inside();
    const uint64_t to = part.at + part.length + random_.below(10'000);
    if (part.length == 0 || to + part.length > options_.size) return;
    note("copy to " + std::to_string(to), part);
    const std::string data(place(part.at), place(part.at + part.length));
    off64_t from_at = base(part.at);
    off64_t to_at = base(to);
    for (uint64_t done = 0; done < part.length;) {
      const ssize_t got =
          copy_file_range(any_fd(), &from_at, any_fd(), &to_at, part.length - done, 0);
      call(got, "copy_file_range");
      if (got == 0) throw std::runtime_error("copy_file_range ended early");
      done += static_cast<uint64_t>(got);
    }
    put(to, data);
  }

  void open_again(int flags) {
    note("open again");
    close_all();
    const size_t count = options_.two ? 2 : 1;
    for (size_t i = 0; i < count; ++i) fds_.push_back(open_one(O_RDWR | (i == 0 ? flags : 0)));
    if (!options_.direct) return;
    direct_fd_ = open(options_.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    if (direct_fd_ < 0) direct_fd_ = open_one(O_RDWR);  // EINVAL: there is no such thing here
  }
  int open_one(int flags) {
    const int fd = open(options_.path.c_str(), flags | O_CLOEXEC, 0644);
    if (fd < 0) throw_errno("open");
    return fd;
  }
  void close_all() {
    unmap();
    for (const int fd : fds_) {
      if (close(fd) != 0) note(std::string("close: ") + std::strerror(errno));
    }
    fds_.clear();
    if (direct_fd_ >= 0) close(direct_fd_);
    direct_fd_ = -1;
  }
  int any_fd() { return fds_[random_.below(fds_.size())]; }

  void check_size() {
    struct stat status {};
    call(random_.one_in(2) ? fstat(any_fd(), &status) : stat(options_.path.c_str(), &status),
         "stat");
    const auto size = static_cast<uint64_t>(status.st_size);
    if (size != options_.base + bytes_.size()) {
      throw std::runtime_error("the size is " + std::to_string(size) + ", not " +
                               std::to_string(options_.base + bytes_.size()));
    }
  }
  void check_all() {
    note("check");
    std::string data(bytes_.size() + 1, '\1');
    size_t got = 0;
    for (ssize_t more = 1; more > 0; got += static_cast<size_t>(more)) {
      more = pread(any_fd(), data.data() + got, data.size() - got, base(got));
      call(more, "pread");
    }
    compare(0, data.data(), got, data.size());
  }
  // `got` bytes came of a read of `wanted` at `at`.
  void compare(uint64_t at, const char* data, size_t got, size_t wanted) const {
    const size_t left = at < bytes_.size() ? bytes_.size() - at : 0;
    const size_t expected = std::min(left, wanted);
    for (size_t i = 0; i < std::min(got, expected); ++i) {
      if (data[i] == bytes_[at + i]) continue;
      char text[120];
      std::snprintf(text, sizeof text, "byte %llu is %d, not %d",
                    static_cast<unsigned long long>(at + i), static_cast<unsigned char>(data[i]),
                    static_cast<unsigned char>(bytes_[at + i]));
      throw std::runtime_error(text);
    }
    if (got != expected) {
      throw std::runtime_error("a read at " + std::to_string(at) + " gave " + std::to_string(got) +
                               " bytes, not " + std::to_string(expected));
    }
  }

  void put(uint64_t at, const std::string& data) {
    if (bytes_.size() < at + data.size()) bytes_.resize(at + data.size(), '\0');
    std::copy(data.begin(), data.end(), place(at));
  }
  std::vector<char>::iterator place(uint64_t at) {
    return bytes_.begin() + static_cast<std::ptrdiff_t>(at);
  }
  [[nodiscard]] off_t base(uint64_t at = 0) const { return static_cast<off_t>(options_.base + at); }

  [[noreturn]] static void throw_errno(const std::string& what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
  }
  static void call(int64_t result, const char* what) {
    if (result < 0) throw_errno(what);
  }
  void note(const std::string& what) {
    constexpr size_t kLast = 80;
    last_.push_back("step " + std::to_string(step_) + ": " + what);
    if (last_.size() > kLast) last_.pop_front();
  }
  void note(const std::string& what, const Range& part) {
    note(what + " at " + std::to_string(part.at) + ", " + std::to_string(part.length) +
         " bytes, of " + std::to_string(bytes_.size()));
  }

  const Options& options_;
  files::Random random_;
  uint64_t step_ = 0;
  std::vector<char> bytes_;  // what must be in the file, from `base`
  std::vector<int> fds_;
  int direct_fd_ = -1;
  char* mapping_ = nullptr;
  std::deque<std::string> last_;
};

bool take(Options* options, int letter, const char* value) {
  char* end = nullptr;
  const uint64_t number = value != nullptr ? std::strtoull(value, &end, 0) : 0;
  const bool is_number = value != nullptr && end != value && *end == '\0';
  switch (letter) {
    case 's':
      options->seed = number;
      return is_number;
    case 'n':
      options->steps = number;
      return is_number;
    case 'z':
      options->size = number;
      return is_number && number > 0;
    case 'b':
      options->base = number;
      return is_number && number % kPage == 0;
    case 'k':
      options->hook = value;
      return true;
    case 'K':
      options->hook_every = number;
      return is_number && number > 0;
    case 'e':
      options->check_every = number;
      return is_number && number > 0;
    case 'r':
      options->reopen_every = number;
      return is_number && number > 0;
    case '2':
      options->two = true;
      return true;
    case 'm':
      options->map = false;
      return true;
    case 'd':
      options->direct = true;
      return true;
    case 'v':
      options->verbose = true;
      return true;
    default:
      return false;
  }
}

bool parse(int argc, char* argv[], Options* options) {
  const std::array<option, 13> known = {{{"seed", required_argument, nullptr, 's'},
                                         {"steps", required_argument, nullptr, 'n'},
                                         {"size", required_argument, nullptr, 'z'},
                                         {"base", required_argument, nullptr, 'b'},
                                         {"hook", required_argument, nullptr, 'k'},
                                         {"hook-every", required_argument, nullptr, 'K'},
                                         {"check-every", required_argument, nullptr, 'e'},
                                         {"reopen-every", required_argument, nullptr, 'r'},
                                         {"two", no_argument, nullptr, '2'},
                                         {"no-map", no_argument, nullptr, 'm'},
                                         {"direct", no_argument, nullptr, 'd'},
                                         {"verbose", no_argument, nullptr, 'v'},
                                         {nullptr, 0, nullptr, 0}}};
  std::random_device device;
  options->seed = device();
  for (int letter = 0; (letter = getopt_long(argc, argv, "", known.data(), nullptr)) != -1;) {
    if (!take(options, letter, optarg)) return false;
  }
  if (argc - optind != 1) return false;
  options->path = argv[optind];
  return true;
}

}  // namespace

int main(int argc, char* argv[]) {
  Options options;
  if (!parse(argc, argv, &options)) {
    usage(stderr);
    return 2;
  }
  const auto seed = static_cast<unsigned long long>(options.seed);
  std::unique_ptr<Exerciser> exerciser;
  try {
    exerciser = std::make_unique<Exerciser>(options);
    exerciser->run();
    std::printf("file_exerciser: seed %llu: %llu operations\n", seed,
                static_cast<unsigned long long>(options.steps));
    return EXIT_SUCCESS;
  } catch (const std::exception& exception) {
    if (exerciser && options.verbose) {
      for (const std::string& line : exerciser->last()) std::fprintf(stderr, "%s\n", line.c_str());
    }
    std::printf("file_exerciser: seed %llu: step %llu: %s\n", seed,
                static_cast<unsigned long long>(exerciser ? exerciser->step() : 0),
                exception.what());
    return EXIT_FAILURE;
  }
}
