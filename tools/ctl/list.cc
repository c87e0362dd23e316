// list: the cookiefs mounts of this mount namespace, alive or not.
//
// A mount whose daemon hangs holds whoever asks it, past every signal. So a process of its own asks
// each; one that does not come back in time is left behind, and ends with the mount.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tools/ctl/commands.h"
#include "tools/ctl/format.h"

namespace ctl {
namespace {

constexpr std::chrono::seconds kPatience(3);

struct MountLine {
  std::string source;
  std::string mountpoint;
};

// A space is \040 in mountinfo, and so on.
std::string decoded(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t at) { return at < text.size() ? text[at] - '0' : -1; };
    const auto octal = [&](size_t at) { return digit(at) >= 0 && digit(at) < 8; };
    if (text[i] == '\\' && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      out += static_cast<char>(digit(i + 1) * 64 + digit(i + 2) * 8 + digit(i + 3));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// "36 35 98:0 /root /mount/point options optional... - type source super-options"
std::vector<MountLine> find_mounts() {
  std::ifstream file("/proc/self/mountinfo");
  if (!file) throw Failure("/proc/self/mountinfo: can't be read; is /proc mounted?");
  std::vector<MountLine> mounts;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    std::string mountpoint;
    std::string type;
    std::string source;
    for (int i = 0; i < 5; ++i) words >> mountpoint;
    while (words >> word && word != "-") {
    }
    words >> type >> source;
    if (type == "fuse.cookiefs") mounts.push_back({decoded(source), decoded(mountpoint)});
  }
  return mounts;
}

// ---- Asking one ---------------------------------------------------------------------------------

// What the process that asks sends back: a status, and the counters where there are any.
constexpr char kAlive = 'A', kDead = 'D', kRefused = 'R', kFailed = 'F';

class Question {
 public:
  explicit Question(const std::string& mountpoint) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw Failure("no pipe to be had", errno);
    answer_ = ends[0];
    asker_ = fork();
    if (asker_ == 0) ask(mountpoint, ends[1]);
    close(ends[1]);
    if (asker_ < 0) {
      close(answer_);
      throw Failure("no process to be had", errno);
    }
  }
  ~Question() {
    close(answer_);
    kill(asker_, SIGKILL);
    waitpid(asker_, nullptr, WNOHANG);  // one that hangs is not waited for
  }
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;

  // All of the answer; empty when it does not come in time.
  std::string wait(std::chrono::steady_clock::time_point deadline) {
    std::string text;
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - std::chrono::steady_clock::now());
      pollfd ready = {.fd = answer_, .events = POLLIN, .revents = 0};
      if (left.count() < 0 || poll(&ready, 1, static_cast<int>(left.count())) <= 0) return {};
      char piece[4096];
      const ssize_t got = read(answer_, piece, sizeof piece);
      if (got <= 0) return text;
      text.append(piece, static_cast<size_t>(got));
    }
  }

 private:
  [[noreturn]] static void ask(const std::string& mountpoint, int out) {
    // Nobody who reads what this program prints is to wait for this process.
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null, fd);
    std::string text;
    try {
      text = kAlive + Directory(mountpoint).ask_text(fusefs::kControlStats);
    } catch (const Failure& failure) {
      const int number = failure.number;
      const bool dead = number == ENOTCONN || number == ECONNABORTED;
      const bool refused = number == EACCES || number == EPERM;
      text = (dead ? kDead : refused ? kRefused : kFailed) + std::string(failure.what());
    }
    for (size_t sent = 0; sent < text.size();) {
      const ssize_t wrote = write(out, text.data() + sent, text.size() - sent);
      if (wrote <= 0) break;
      sent += static_cast<size_t>(wrote);
    }
    _exit(EXIT_SUCCESS);
  }

  int answer_;
  pid_t asker_;
};

Json describe(const MountLine& mount, const std::string& answer) {
  Json json = {{"source", mount.source}, {"mountpoint", mount.mountpoint}};
  const char status = answer.empty() ? '\0' : answer.front();
  const Json stats = status == kAlive ? Json::parse(answer.substr(1), nullptr, false) : Json();
  if (stats.is_object()) {
    json["state"] = "alive";
    json["bytes"] = static_cast<uint64_t>(figure(stats, "cache.bytes"));
    json["limit_bytes"] = static_cast<uint64_t>(figure(stats, "cache.limit_bytes"));
    json["entries"] = static_cast<uint64_t>(figure(stats, "entries.resident"));
  } else if (status == kDead) {
    json["state"] = "dead";
  } else if (status == kRefused) {
    json["state"] = "not permitted";
  } else {
    json["state"] = status == '\0' ? "no answer" : "failed";
  }
  return json;
}

// ---- The table ----------------------------------------------------------------------------------

void print_table(const std::vector<Json>& mounts) {
  if (mounts.empty()) {
    std::puts("no cookiefs is mounted here");
    return;
  }
  std::vector<std::vector<std::string>> rows = {
      {"SOURCE", "MOUNTPOINT", "CACHED", "LIMIT", "ENTRIES"}};
  for (const Json& mount : mounts) {
    std::vector<std::string> row = {printable(mount["source"].get<std::string>()),
                                    printable(mount["mountpoint"].get<std::string>())};
    if (mount["state"] == "alive") {
      row.push_back(format_bytes(mount["bytes"].get<double>()));
      row.push_back(format_bytes(mount["limit_bytes"].get<double>()));
      row.push_back(format_count(mount["entries"].get<uint64_t>()));
    } else {
      row.push_back(mount["state"].get<std::string>());
    }
    rows.push_back(std::move(row));
  }
  std::vector<size_t> widths(rows.front().size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - row[i].size(), ' ');
      const bool right = i >= 2 && row.size() == widths.size();
      if (i > 0) line += "  ";
      line += right ? space + row[i] : row[i] + (i + 1 < row.size() ? space : "");
    }
    std::puts(line.c_str());
  }
}

void list(bool as_json) {
  const std::vector<MountLine> mounts = find_mounts();
  std::fflush(stdout);  // or each process would have a copy of what is not printed yet
  std::vector<std::unique_ptr<Question>> questions;
  questions.reserve(mounts.size());
  for (const MountLine& mount : mounts) {
    questions.push_back(std::make_unique<Question>(mount.mountpoint));
  }
  // Side by side: many that hang cost no more than one.
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  std::vector<Json> described;
  for (size_t i = 0; i < mounts.size(); ++i) {
    described.push_back(describe(mounts[i], questions[i]->wait(deadline)));
  }
  if (!as_json) return print_table(described);
  const Json all = {{"mounts", described}};
  std::puts(all.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
}

}  // namespace

void add_list(CLI::App& app) {
  const auto json = std::make_shared<bool>(false);
  CLI::App* const command = app.add_subcommand("list", "List the cookiefs mounts of this machine");
  command->add_flag("--json", *json, "As JSON, with exact numbers");
  command->callback([=] { list(*json); });
}

}  // namespace ctl
