// The subcommands of cookiefsctl that look into a running daemon: metrics, log-level.
//
// Errors:  exceptions, as those that `ask` throws.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace ctl {

// An ioctl of fusefs/control.h on a directory of the mount.
using Ask = std::function<void(const std::string& path, unsigned long request, void* answer)>;

void add_observing_commands(CLI::App* app, const Ask& ask);

}  // namespace ctl
