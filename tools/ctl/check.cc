// check: a directory through the mount against the same as the remote lists it now.
//
// What changes meanwhile is no difference. So the remote is asked before the mount, and where they
// differ once more after it: missing is what was there both times. What was there neither time may
// have come and gone in between: stale is what the mount still gives after that, and the remote
// still does not.

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "tools/ctl/commands.h"
#include "tools/ctl/format.h"

namespace ctl {
namespace {

using Names = std::vector<std::string>;

struct Listing {
  Names names;  // sorted
  Names directories;
};

struct Differences {
  Names missing, stale, twice, twice_remote;
  [[nodiscard]] size_t count() const { return missing.size() + stale.size() + twice.size(); }
};

struct Totals {
  uint64_t directories = 0, names = 0, differences = 0, failures = 0;
};

Listing list_mount(const Directory& directory) {
  Listing listing;
  directory.read([&](const Entry& entry) {
    listing.names.emplace_back(entry.name);
    if (is_directory(directory, entry)) listing.directories.emplace_back(entry.name);
    return true;
  });
  std::sort(listing.names.begin(), listing.names.end());
  std::sort(listing.directories.begin(), listing.directories.end());
  return listing;
}

Names list_remote(const std::string& path) {
  Names names = Directory(path).remote_names();
  std::sort(names.begin(), names.end());
  return names;
}

// Those that come more than once, and leaves one of each.
Names take_repeated(Names* names) {
  Names repeated;
  for (size_t i = 1; i < names->size(); ++i) {
    const bool more = (*names)[i] == (*names)[i - 1];
    if (more && (repeated.empty() || repeated.back() != (*names)[i]))
      repeated.push_back((*names)[i]);
  }
  names->erase(std::unique(names->begin(), names->end()), names->end());
  return repeated;
}

Names only_in(const Names& some, const Names& others) {
  Names out;
  std::set_difference(some.begin(), some.end(), others.begin(), others.end(),
                      std::back_inserter(out));
  return out;
}

Names in_both(const Names& some, const Names& others) {
  Names out;
  std::set_intersection(some.begin(), some.end(), others.begin(), others.end(),
                        std::back_inserter(out));
  return out;
}

Differences compare(const std::string& path, Names before, Names* mount) {
  Differences found;
  found.twice_remote = take_repeated(&before);
  found.twice = only_in(take_repeated(mount), found.twice_remote);
  found.missing = only_in(before, *mount);
  found.stale = only_in(*mount, before);
  if (found.missing.empty() && found.stale.empty()) return found;
  const Names after = list_remote(path);
  found.missing = in_both(found.missing, after);
  found.stale = only_in(found.stale, after);
  if (found.stale.empty()) return found;
  const Names again = list_mount(Directory(path)).names;
  found.stale = only_in(in_both(found.stale, again), list_remote(path));
  return found;
}

void print_names(const char* what, const Names& names) {
  for (const std::string& name : names) std::printf("  %-12s %s\n", what, printable(name).c_str());
}

std::string age_text(const Json& json) {
  const auto since = [&](const char* key) {
    return json[key].is_number() ? format_seconds(json[key].get<double>()) + " ago" : "never";
  };
  return "listed " + since("listing_age_seconds") + ", confirmed " + since("token_age_seconds") +
         ", good for " + format_seconds(figure(json, "ttl_seconds"));
}

enum class Tell { kAlways, kDifferences };

// The directories in it.
Names check_one(const std::string& path, Tell tell, Totals* totals) {
  Names before = list_remote(path);
  const Directory directory(path);
  Listing listing = list_mount(directory);
  // Its age as of the listing, not of what compare() may take.
  const Json json = directory.ask_json(fusefs::kControlDirectory);
  const Differences found = compare(path, std::move(before), &listing.names);
  ++totals->directories;
  totals->names += listing.names.size();
  totals->differences += found.count();
  if (tell == Tell::kAlways || found.count() > 0) {
    const std::string verdict =
        found.count() == 0 ? "no difference" : format_count(found.count()) + " differences";
    std::printf("%s: %s names, %s; %s\n", printable(path).c_str(),
                format_count(listing.names.size()).c_str(), verdict.c_str(),
                age_text(json).c_str());
  }
  print_names("missing", found.missing);
  print_names("stale", found.stale);
  print_names("twice", found.twice);
  print_names("remote twice", found.twice_remote);
  return std::move(listing.directories);
}

int check(const std::string& root, bool recursive) {
  Totals totals;
  std::deque<std::string> queue = {root};
  while (!queue.empty()) {
    const std::string path = std::move(queue.front());
    queue.pop_front();
    try {
      const Names below = check_one(path, recursive ? Tell::kDifferences : Tell::kAlways, &totals);
      if (!recursive) break;
      for (const std::string& name : below) queue.push_back(joined(path, name));
    } catch (const Failure& failure) {
      if (totals.directories == 0) throw;      // the root
      if (failure.number == ENOENT) continue;  // removed meanwhile
      std::printf("%s\n", printable(failure.what()).c_str());
      ++totals.failures;
    }
  }
  if (recursive) {
    std::printf("%s directories, %s names: %s differences, %s failures\n",
                format_count(totals.directories).c_str(), format_count(totals.names).c_str(),
                format_count(totals.differences).c_str(), format_count(totals.failures).c_str());
  }
  return totals.differences + totals.failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

void add_check(CLI::App& app, int* status) {
  const auto path = std::make_shared<std::string>();
  const auto recursive = std::make_shared<bool>(false);
  CLI::App* const command =
      app.add_subcommand("check", "Compare a directory's listing with what the remote lists now");
  command->add_option("PATH", *path, "The directory")->required();
  command->add_flag("-r,--recursive", *recursive, "And those below it");
  command->callback([=] { *status = check(*path, *recursive); });
}

}  // namespace ctl
