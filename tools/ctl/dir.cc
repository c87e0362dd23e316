// dir: what is held of one directory. map: which parts of its listing.

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tools/ctl/commands.h"
#include "tools/ctl/format.h"

namespace ctl {
namespace {

// ---- dir ----------------------------------------------------------------------------------------

void print_row(const char* name, const std::string& value) {
  std::printf("%-16s %s\n", name, value.c_str());
}

std::string ago(const Json& age) {
  return age.is_number() ? format_seconds(age.get<double>()) + " ago" : "never";
}

void print_directory(const std::string& path, const Json& json) {
  const auto count = [&](std::string_view key) {
    return format_count(static_cast<uint64_t>(figure(json, key)));
  };
  const double hits = figure(json, "readdir.hits");
  const double misses = figure(json, "readdir.misses");
  print_row("directory", printable(path));
  print_row("entries held", count("entries.resident") +
                                (json["complete"].get<bool>() ? ", complete" : ", not complete"));
  print_row("memory", format_bytes(figure(json, "bytes")));
  print_row("arrays", count("arrays.resident") + " held, " + count("arrays.with_attributes") +
                          " of them with attributes; " + count("arrays.known") + " known");
  print_row("listed", ago(json["listing_age_seconds"]));
  print_row("attributes", ago(json["attributes_age_seconds"]));
  print_row("confirmed", ago(json["token_age_seconds"]) + "; good for " +
                             format_seconds(figure(json, "ttl_seconds")));
  const Json& token = json["change_token"];
  print_row("change token", token.is_string() ? token.get<std::string>() : "not told");
  print_row("reads", count("readdir.hits") + " hits, " + count("readdir.misses") + " misses (" +
                         format_percent(hits, hits + misses) + "), waited " +
                         format_seconds(figure(json, "readdir.waited_seconds")));
  print_row("remote",
            count("remote.requests") + " requests, " + count("fills.active") + " fills under way");
  std::string invalidations = count("invalidations.count");
  if (json["invalidations"]["last_age_seconds"].is_number()) {
    invalidations += ", last " + ago(json["invalidations"]["last_age_seconds"]) + ": " +
                     json["invalidations"]["last_cause"].get<std::string>();
  }
  print_row("invalidations", invalidations);
}

void dir(const std::string& path, bool as_json) {
  const Directory directory(path);
  if (as_json) {
    std::puts(directory.ask_text(fusefs::kControlDirectory).c_str());
  } else {
    print_directory(path, directory.ask_json(fusefs::kControlDirectory));
  }
}

// ---- map ----------------------------------------------------------------------------------------

constexpr int kFull = 10;  // of a cell
constexpr size_t kRows = 8;

struct Map {
  uint64_t entries = 0;
  bool end_known = false;
  std::vector<int> cells;  // 0 to kFull
};

Map fetch_map(const std::string& path) {
  const Json json = Directory(path).ask_json(fusefs::kControlMap);
  Map map = {.entries = json.value("entries", uint64_t{0}),
             .end_known = json.value("end_known", false),
             .cells = {}};
  for (const char c : json.value("cells", "")) map.cells.push_back(std::clamp(c - '0', 0, kFull));
  return map;
}

// Fewer cells, each the mean of those that it stands for; what is held in part is never shown as
// nothing, nor as all.
std::vector<int> condensed(const std::vector<int>& cells, size_t most) {
  if (cells.size() <= most) return cells;
  std::vector<int> out(most);
  for (size_t i = 0; i < most; ++i) {
    const size_t from = i * cells.size() / most;
    const size_t to = (i + 1) * cells.size() / most;
    int sum = 0;
    for (size_t j = from; j < to; ++j) sum += cells[j];
    const int whole = kFull * static_cast<int>(to - from);
    const int mean = sum / static_cast<int>(to - from);
    out[i] = sum == 0 ? 0 : sum == whole ? kFull : std::clamp(mean, 1, kFull - 1);
  }
  return out;
}

std::string headline(const std::string& path, const Map& map) {
  const auto sum = [&] {
    uint64_t tenths = 0;
    for (const int cell : map.cells) tenths += static_cast<uint64_t>(cell);
    return static_cast<double>(tenths);
  }();
  return printable(path) + ": " + format_count(map.entries) + " entries" +
         (map.end_known ? "" : " or more") + ", " +
         format_percent(sum, static_cast<double>(map.cells.size()) * kFull) + " held";
}

void draw(const std::string& path, const Map& map) {
  static constexpr std::array<const char*, kFull + 1> kBlocks = {"·", "▁", "▁", "▂", "▃", "▄",
                                                                 "▅", "▅", "▆", "▇", "█"};
  static constexpr std::array<const char*, kFull + 1> kPlain = {".", "-", "-", "-", "=", "=",
                                                                "=", "+", "+", "+", "#"};
  const auto& shades = utf8_terminal() ? kBlocks : kPlain;
  const auto columns = static_cast<size_t>(std::clamp(terminal_columns() - 2, 10, 200));
  std::printf("%s\n", headline(path, map).c_str());
  const std::vector<int> cells = condensed(map.cells, columns * kRows);
  for (size_t i = 0; i < cells.size(); ++i) {
    std::fputs(shades[static_cast<size_t>(cells[i])], stdout);
    if ((i + 1) % columns == 0 || i + 1 == cells.size()) std::putchar('\n');
  }
  std::printf("%s none  %s some  %s all\n", shades[0], shades[5], shades[kFull]);
}

std::string xml(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&' || c == '<' || c == '>') {
      out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : "&gt;";
    } else {
      out += c;
    }
  }
  return out;
}

void write_svg(const std::string& path, const Map& map, const std::string& file) {
  constexpr size_t kColumns = 128;
  constexpr size_t kMostCells = kColumns * 32;
  constexpr size_t kSide = 7;
  constexpr size_t kTop = 24;
  const std::vector<int> cells = condensed(map.cells, kMostCells);
  const size_t rows = (cells.size() + kColumns - 1) / kColumns;
  std::ofstream out(file, std::ios::trunc);
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << kColumns * kSide << "\" height=\""
      << kTop + rows * kSide << "\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      << "<text x=\"2\" y=\"16\" font-family=\"sans-serif\" font-size=\"12\">"
      << xml(headline(path, map)) << "</text>\n";
  for (size_t i = 0; i < cells.size(); ++i) {
    const int grey = 230 - cells[i] * 190 / kFull;
    out << "<rect x=\"" << i % kColumns * kSide << "\" y=\"" << kTop + i / kColumns * kSide
        << "\" width=\"" << kSide - 1 << "\" height=\"" << kSide - 1 << "\" fill=\"rgb(" << grey
        << ',' << std::min(grey + 15, 235) << ',' << std::min(grey + 60, 240) << ")\"/>\n";
  }
  out << "</svg>\n";
  out.close();
  if (!out) throw Failure(file + ": can't be written");
}

}  // namespace

void add_dir(CLI::App& app) {
  const auto path = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false);
  CLI::App* const command = app.add_subcommand("dir", "Show what is held of one directory");
  command->add_option("PATH", *path, "The directory")->required();
  command->add_flag("--json", *json, "As JSON, with exact numbers");
  command->callback([=] { dir(*path, *json); });
}

void add_map(CLI::App& app) {
  const auto path = std::make_shared<std::string>();
  const auto svg = std::make_shared<std::string>();
  CLI::App* const command =
      app.add_subcommand("map", "Draw which parts of a directory's listing are held");
  command->add_option("PATH", *path, "The directory")->required();
  command->add_option("--svg", *svg, "Write it to this file, as an image");
  command->callback([=] {
    const Map map = fetch_map(*path);
    svg->empty() ? draw(*path, map) : write_svg(*path, map, *svg);
  });
}

}  // namespace ctl
