// cookiefsctl: what people ask a mounted cookiefs, and tell it. Its subcommands are in tools/ctl.
//
// Reaches the daemon by the ioctls of fusefs/control.h on directories of the mount and by ordinary
// file operations, nothing else.
// Exit status: 0, 1 failure, 2 usage. A failure is one line on stderr.

#include <CLI/CLI.hpp>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "tools/ctl/commands.h"

namespace {

constexpr int kExitUsage = 2;

int run(int argc, char* argv[]) {
  CLI::App app("Shows what a mounted cookiefs holds and does, and tells it what to hold.",
               "cookiefsctl");
  app.set_version_flag("-V,--version", "cookiefsctl " COOKIEFS_VERSION);
  app.require_subcommand(1);
  int status = EXIT_SUCCESS;
  ctl::add_list(app);
  ctl::add_stats(app);
  ctl::add_top(app);
  ctl::add_dir(app);
  ctl::add_map(app);
  ctl::add_check(app, &status);
  ctl::add_warm(app, &status);
  ctl::add_drop(app);
  ctl::add_invalidate(app);
  ctl::add_sync(app);
  ctl::add_metrics(app);
  ctl::add_log_level(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    std::fprintf(stderr, "cookiefsctl: %s; `cookiefsctl --help` tells more\n", error.what());
    return kExitUsage;
  }
  return status;
}

}  // namespace

int main(int argc, char* argv[]) {
  std::setlocale(LC_CTYPE, "");
  try {
    return run(argc, argv);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "cookiefsctl: %s\n", failure.what());
    return EXIT_FAILURE;
  }
}
