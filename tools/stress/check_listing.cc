// check_listing: does the output of ls or find hold every expected name exactly once?
//
//   ls --zero -f DIR     | check_listing --reference NAMES
//   ls --zero -lnU DIR   | check_listing --reference NAMES --format ls-l
//   find DIR -printf '%P\0' | check_listing --reference PATHS
//
// Reads NUL-separated records; prints one line of figures. Exit status: 0 right, 1 duplicates,
// gaps or unexpected names, 2 usage or unreadable reference.
#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>

#include "tools/stress/name_set.h"

namespace {

struct CheckOptions {
  std::string reference;
  std::string format = "names";
  std::string stable_prefix;
  bool churn = false;
  bool partial = false;
};

// The name in a line of `ls -ln --time-style=+%s`: behind mode, links, owner, group, size and time.
// Empty for the line 'total N'.
std::string_view name_of_long_line(std::string_view line) {
  if (line.starts_with("total ")) return {};
  const bool device = line.starts_with('b') || line.starts_with('c');  // size is 'major, minor'
  const bool link = line.starts_with('l');
  for (int field = 0; field < (device ? 7 : 6); ++field) {
    const size_t end = line.find(' ');
    if (end == std::string_view::npos) return {};
    const size_t next = line.find_first_not_of(' ', end);
    // A name may begin with spaces: behind the last field there is exactly one.
    line.remove_prefix(field == (device ? 6 : 5) ? end + 1 : next);
  }
  return link ? line.substr(0, line.find(" -> ")) : line;
}

int check_stdin(const CheckOptions& options) {
  stress::NameSet expected;
  if (!expected.read_file(options.reference, options.stable_prefix)) {
    std::fprintf(stderr, "check_listing: %s: %s\n", options.reference.c_str(),
                 std::strerror(errno));
    return 2;
  }
  stress::ListingCheck check(
      expected, options.churn ? stress::Others::kAtMostOnce : stress::Others::kUnexpected);
  const bool long_lines = options.format == "ls-l";
  std::string record;
  for (int c = getchar_unlocked(); c != EOF; c = getchar_unlocked()) {
    if (c != '\0') {
      record += static_cast<char>(c);
      continue;
    }
    const std::string_view name = long_lines ? name_of_long_line(record) : record;
    if (!name.empty()) check.see(name);
    record.clear();
  }
  if (!options.partial) check.finish();
  const stress::Figures& figures = check.figures();
  std::printf("listings=%lu entries=%lu duplicates=%lu gaps=%lu unexpected=%lu\n", figures.listings,
              figures.entries, figures.duplicates, figures.gaps, figures.unexpected);
  if (check.problem().empty()) return 0;
  std::fprintf(stderr, "check_listing: %s\n", check.problem().c_str());
  return 1;
}

int parse_and_run(int argc, char** argv) {
  CheckOptions options;
  CLI::App app("Checks a listing on standard input (NUL-separated) against the expected names.");
  app.add_option("--reference", options.reference, "File of expected names, NUL-separated")
      ->required();
  app.add_option("--format", options.format, "names, or ls-l (ls --zero -ln --time-style=+%s)")
      ->check(CLI::IsMember({"names", "ls-l"}));
  app.add_option("--stable", options.stable_prefix, "Expect only names that begin with this");
  app.add_flag("--churn", options.churn, "Names that are not expected may appear once");
  app.add_flag("--partial", options.partial, "The listing was cut off: count no gaps");
  try {
    app.parse(argc, argv);
    return check_stdin(options);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return parse_and_run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "check_listing: %s\n", error.what());
    return 2;
  }
}
