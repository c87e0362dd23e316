// The subcommands of cookiefsctl: each adds itself to the program.
//
// Errors:         a command that fails throws Failure; one that has more than one thing to say
//                 about that has said it, and sets `status`.
#pragma once

#include <CLI/CLI.hpp>

namespace ctl {

void add_list(CLI::App& app);
void add_stats(CLI::App& app);
void add_drop(CLI::App& app);
void add_invalidate(CLI::App& app);
void add_sync(CLI::App& app);
void add_dir(CLI::App& app);
void add_map(CLI::App& app);
void add_check(CLI::App& app, int* status);
void add_warm(CLI::App& app, int* status);
void add_top(CLI::App& app);
void add_metrics(CLI::App& app);
void add_log_level(CLI::App& app);

}  // namespace ctl
