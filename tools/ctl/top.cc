// top: the directories that hold or took most, live.

#include <curses.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <clocale>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tools/ctl/commands.h"
#include "tools/ctl/format.h"

namespace ctl {
namespace {

using Clock = std::chrono::steady_clock;

struct TopWish {
  std::string mountpoint;
  double interval = 2;  // seconds
  bool once = false;
};

// What the daemon said at one time.
struct Sample {
  Clock::time_point when;
  Json stats;
  Json top;
};

// A table of what has come, with rates since the sample before.
class View {
 public:
  explicit View(const TopWish& wish) : wish_(wish), directory_(wish.mountpoint) {}

  void sort_by(char order) { order_ = order; }
  void drop() const {
    fusefs::ControlCount answer{};
    directory_.ask(fusefs::kControlDrop, &answer);
  }
  void sample() {
    before_ = std::move(now_);
    now_ = {.when = Clock::now(),
            .stats = directory_.ask_json(fusefs::kControlStats),
            .top = directory_.ask_json(fusefs::kControlTop, std::string_view(&order_, 1))};
  }
  // The headlines, the heading of the table, its rows.
  [[nodiscard]] std::vector<std::string> head() const;
  [[nodiscard]] std::string heading() const;
  [[nodiscard]] std::vector<std::string> rows() const;

 private:
  [[nodiscard]] double rate(double now, double before) const {
    const double seconds = std::chrono::duration<double>(now_.when - before_.when).count();
    return before_.stats.is_null() || seconds <= 0 ? 0 : std::max(0.0, now - before) / seconds;
  }
  [[nodiscard]] double stats_rate(std::string_view path) const {
    return rate(figure(now_.stats, path), figure(before_.stats, path));
  }

  const TopWish& wish_;
  const Directory directory_;
  char order_ = fusefs::kTopByMemory;
  Sample before_;
  Sample now_;
};

std::vector<std::string> View::head() const {
  const auto at = [&](std::string_view path) { return figure(now_.stats, path); };
  const double hits = at("readdir.hits");
  return {printable(now_.stats.value("source", "")) + " on " + printable(wish_.mountpoint),
          "cache " + format_bytes(at("cache.bytes")) + " of " +
              format_bytes(at("cache.limit_bytes")) + ", " +
              format_count(static_cast<uint64_t>(at("entries.resident"))) + " entries of " +
              format_count(static_cast<uint64_t>(figure(now_.top, "count"))) + " directories",
          "reads/s " + format_rate(stats_rate("readdir.calls")) + ", requests/s " +
              format_rate(stats_rate("remote.requests")) + ", hit ratio " +
              format_percent(hits, hits + at("readdir.misses") + at("readdir.uncached")) +
              ", reclaimed pages/s " + format_rate(stats_rate("reclaim.pages"))};
}

constexpr const char* kPattern = "%10s %11s %9s %8s %9s %8s %9s  %s";

std::string row(const std::array<std::string, 8>& cells) {
  std::array<char, 1024> text{};
  std::snprintf(text.data(), text.size(), kPattern, cells[0].c_str(), cells[1].c_str(),
                cells[2].c_str(), cells[3].c_str(), cells[4].c_str(), cells[5].c_str(),
                cells[6].c_str(), cells[7].c_str());
  return text.data();
}

std::string View::heading() const {
  const auto marked = [&](char order, const char* name) {
    return std::string(order_ == order ? "*" : "") + name;
  };
  return row({marked(fusefs::kTopByMemory, "MEMORY"), "ENTRIES", marked(fusefs::kTopByHits, "HITS"),
              "HITS/S", marked(fusefs::kTopByRequests, "REQUESTS"), "REQ/S",
              marked(fusefs::kTopByWait, "WAIT"), "DIRECTORY"});
}

std::vector<std::string> View::rows() const {
  std::map<std::string, const Json*> earlier;
  const auto before = before_.top.find("directories");
  if (before_.top.is_object() && before != before_.top.end()) {
    for (const Json& directory : *before) earlier[directory.value("path", "")] = &directory;
  }
  std::vector<std::string> rows;
  for (const Json& directory : now_.top.value("directories", Json::array())) {
    const std::string path = directory.value("path", "");
    const auto old = earlier.find(path);
    const auto change = [&](std::string_view key) {
      return old == earlier.end()
                 ? std::string("-")
                 : format_rate(rate(figure(directory, key), figure(*old->second, key)));
    };
    const auto count = [&](std::string_view key) {
      return format_count(static_cast<uint64_t>(figure(directory, key)));
    };
    rows.push_back(row(
        {format_bytes(figure(directory, "bytes")),
         count("entries") + (directory.value("complete", false) ? "" : "+"), count("readdir.hits"),
         change("readdir.hits"), count("remote.requests"), change("remote.requests"),
         format_seconds(figure(directory, "readdir.waited_seconds")), printable(path)}));
  }
  return rows;
}

void print(const View& view) {
  for (const std::string& line : view.head()) std::puts(line.c_str());
  std::puts(view.heading().c_str());
  for (const std::string& line : view.rows()) std::puts(line.c_str());
  std::fflush(stdout);
}

// ---- On a terminal ------------------------------------------------------------------------------

class Screen {
 public:
  Screen() {
    if (initscr() == nullptr) throw Failure("top: this terminal can't be used; try --once");
    cbreak();
    noecho();
    keypad(stdscr, TRUE);
    curs_set(0);
  }
  ~Screen() { endwin(); }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  void draw(const View& view) const {
    erase();
    int y = 0;
    for (const std::string& line : view.head()) put(y++, line);
    ++y;
    attron(A_REVERSE);
    put(y, padded(view.heading()));
    attroff(A_REVERSE);
    ++y;
    for (const std::string& line : view.rows()) {
      if (y >= LINES - 1) break;
      put(y++, line);
    }
    attron(A_BOLD);
    put(LINES - 1, "m memory  h hits  r requests  w wait  d drop the cache  q quit");
    attroff(A_BOLD);
    refresh();
  }

 private:
  static void put(int y, const std::string& line) {
    if (y >= 0 && y < LINES) mvaddnstr(y, 0, line.c_str(), COLS);
  }
  static std::string padded(std::string line) {
    line.resize(std::max(line.size(), static_cast<size_t>(COLS)), ' ');
    return line;
  }
};

void run_screen(View* view, const TopWish& wish) {
  const Screen screen;
  const auto interval =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(wish.interval));
  auto due = Clock::now();
  for (;;) {
    if (Clock::now() >= due) {
      view->sample();
      due = Clock::now() + interval;
    }
    screen.draw(*view);
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(due - Clock::now()).count();
    timeout(static_cast<int>(std::max<int64_t>(left, 0)));
    const int key = getch();
    switch (key) {
      case 'q':
        return;
      case 'd':
        view->drop();
        due = Clock::now();
        break;
      case fusefs::kTopByMemory:
      case fusefs::kTopByHits:
      case fusefs::kTopByRequests:
      case fusefs::kTopByWait:
        view->sort_by(static_cast<char>(key));
        due = Clock::now();
        break;
      default:  // in time, or KEY_RESIZE: drawn again
        break;
    }
  }
}

void top(const TopWish& wish) {
  View view(wish);
  if (!wish.once && isatty(STDOUT_FILENO) != 0 && isatty(STDIN_FILENO) != 0) {
    return run_screen(&view, wish);
  }
  for (;;) {
    view.sample();
    print(view);
    if (wish.once || std::ferror(stdout) != 0) return;
    std::this_thread::sleep_for(std::chrono::duration<double>(wish.interval));
    std::puts("");
  }
}

}  // namespace

void add_top(CLI::App& app) {
  const auto wish = std::make_shared<TopWish>();
  CLI::App* const command =
      app.add_subcommand("top", "Show the directories that hold or took most, live");
  command->add_option("MOUNTPOINT", wish->mountpoint, "Any directory of the mount")->required();
  command->add_option("--interval", wish->interval, "Seconds; 2 if not given")
      ->check(CLI::Range(0.1, 3600.0));
  command->add_flag("--once", wish->once, "One table, as plain lines");
  command->callback([=] { top(*wish); });
}

}  // namespace ctl
