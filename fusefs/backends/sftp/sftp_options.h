// Options of an SFTP mount, and the command that reaches the server.
//
// Purpose:        what users of sshfs type behind -o: ssh_command, sftp_server, port, ssh_config,
//                 ssh_option=NAME=VALUE for any of ssh's own options, and the usual ones of them by
//                 their own names (IdentityFile=..., ProxyJump=..., ...).
// Thread-safety:  pure functions.
// Errors:         one line that says what is wrong and what would be right.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fusefs/backends/backend_options.h"
#include "fusefs/backends/sftp/sftp_url.h"

namespace fusefs::sftp {

struct SftpOptions {
  std::vector<std::string> ssh_command = {"ssh"};  // the program and its first arguments
  std::string sftp_server = "sftp";                // a subsystem's name, or a program's path
  std::string ssh_config;                          // as ssh's -F; empty: ssh's own choice
  uint16_t port = 0;                               // as ssh's -p; 0: the URL's, or ssh's own choice
  std::vector<std::string> ssh_options;            // NAME=VALUE, as ssh's -o
};

BackendOptionSpecs sftp_option_specs();

std::optional<SftpOptions> parse_sftp_options(const BackendOptions& given, std::string* error_text);

// A command line in words: separated by blanks; quotes and backslashes as in a shell, and nothing
// else of it. Nothing for a quote without its end.
std::optional<std::vector<std::string>> split_command(std::string_view text);

// What to run: ssh, its options, the host, the subsystem.
std::vector<std::string> ssh_words(const SftpTarget& target, const SftpOptions& options);

}  // namespace fusefs::sftp
