#include "fusefs/backends/sftp/sftp_options.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>

namespace fusefs::sftp {
namespace {

std::string wrong_port(const std::string& value) {
  return parse_port(value) ? "" : "not a number from 1 to 65535";
}

std::string wrong_command(const std::string& value) {
  const auto words = split_command(value);
  if (!words) return "has a quote without its end";
  return words->empty() ? "names no program" : "";
}

// NAME=VALUE, where a name is of letters.
std::string wrong_ssh_option(const std::string& value) {
  const size_t equals = value.find('=');
  const bool named = equals != std::string::npos && equals > 0 &&
                     std::all_of(value.begin(), value.begin() + static_cast<ptrdiff_t>(equals),
                                 [](unsigned char c) { return std::isalpha(c) != 0; });
  return named ? "" : "not an option of ssh's in the form NAME=VALUE";
}

std::string wrong_yes_no(const std::string& value) {
  return value == "yes" || value == "no" ? "" : "neither yes nor no";
}

constexpr auto kRequired = BackendOptionSpec::Value::kRequired;
constexpr size_t kOwnOptions = 6;

// Those of our own, then those of ssh's that are handed on under their names.
constexpr auto kSpecs = std::to_array<BackendOptionSpec>({
    {"ssh_command", "ssh_command=ssh", kRequired, wrong_command},
    {"sftp_server", "sftp_server=/usr/lib/sftp-server", kRequired, nullptr},
    {"port", "port=22", kRequired, wrong_port},
    {"ssh_config", "ssh_config=FILE", kRequired, nullptr},
    {"ssh_option", "ssh_option=NAME=VALUE", kRequired, wrong_ssh_option},
    {"compression", "compression=no", kRequired, wrong_yes_no},
    {"BatchMode", "BatchMode=yes", kRequired, nullptr},
    {"BindAddress", "BindAddress=ADDRESS", kRequired, nullptr},
    {"CertificateFile", "CertificateFile=FILE", kRequired, nullptr},
    {"Ciphers", "Ciphers=LIST", kRequired, nullptr},
    {"Compression", "Compression=no", kRequired, nullptr},
    {"ConnectTimeout", "ConnectTimeout=SECONDS", kRequired, nullptr},
    {"ConnectionAttempts", "ConnectionAttempts=N", kRequired, nullptr},
    {"ControlMaster", "ControlMaster=no", kRequired, nullptr},
    {"ControlPath", "ControlPath=PATH", kRequired, nullptr},
    {"GlobalKnownHostsFile", "GlobalKnownHostsFile=FILE", kRequired, nullptr},
    {"HostKeyAlgorithms", "HostKeyAlgorithms=LIST", kRequired, nullptr},
    {"HostKeyAlias", "HostKeyAlias=NAME", kRequired, nullptr},
    {"HostName", "HostName=NAME", kRequired, nullptr},
    {"IdentitiesOnly", "IdentitiesOnly=yes", kRequired, nullptr},
    {"IdentityAgent", "IdentityAgent=SOCKET", kRequired, nullptr},
    {"IdentityFile", "IdentityFile=FILE", kRequired, nullptr},
    {"KexAlgorithms", "KexAlgorithms=LIST", kRequired, nullptr},
    {"MACs", "MACs=LIST", kRequired, nullptr},
    {"PreferredAuthentications", "PreferredAuthentications=LIST", kRequired, nullptr},
    {"Port", "Port=22", kRequired, wrong_port},
    {"ProxyCommand", "ProxyCommand=COMMAND", kRequired, nullptr},
    {"ProxyJump", "ProxyJump=HOST", kRequired, nullptr},
    {"ServerAliveCountMax", "ServerAliveCountMax=N", kRequired, nullptr},
    {"ServerAliveInterval", "ServerAliveInterval=SECONDS", kRequired, nullptr},
    {"StrictHostKeyChecking", "StrictHostKeyChecking=yes", kRequired, nullptr},
    {"UserKnownHostsFile", "UserKnownHostsFile=FILE", kRequired, nullptr},
});

bool is_ssh_name(std::string_view name) {
  return std::any_of(kSpecs.begin() + kOwnOptions, kSpecs.end(),
                     [&](const BackendOptionSpec& spec) { return spec.name == name; });
}

// ssh may be started again when the daemon has left the directory that it was called in.
std::string absolute_file(const std::string& value) {
  const bool plain = value != "none" && value.find_first_of(" \t\"") == std::string::npos &&
                     std::string_view("/~%$").find(value.front()) == std::string_view::npos;
  if (!plain) return value;
  std::error_code wrong;
  const std::filesystem::path path = std::filesystem::absolute(value, wrong);
  return wrong ? value : path.string();
}

bool names_file(std::string_view option) {
  return option.ends_with("File") || option == "ssh_config" || option == "IdentityAgent" ||
         option == "ControlPath";
}

void take(const BackendOption& option, SftpOptions* options) {
  std::string value = option.value.value_or("");
  if (names_file(option.name)) value = absolute_file(value);
  if (option.name == "ssh_command") {
    options->ssh_command = *split_command(value);
  } else if (option.name == "sftp_server") {
    options->sftp_server = value;
  } else if (option.name == "port" || option.name == "Port") {
    options->port = *parse_port(value);
  } else if (option.name == "ssh_config") {
    options->ssh_config = value;
  } else if (option.name == "ssh_option") {
    options->ssh_options.push_back(value);
  } else if (option.name == "compression") {
    options->ssh_options.push_back("Compression=" + value);
  } else if (is_ssh_name(option.name)) {
    options->ssh_options.push_back(option.name + "=" + value);
  }
}

// One word of a command, its quotes resolved. False: a quote has no end.
bool take_word(std::string_view text, size_t* at, std::string* word) {
  char quote = '\0';
  for (; *at < text.size(); ++*at) {
    const char c = text[*at];
    if (quote == '\0' && (c == ' ' || c == '\t' || c == '\n')) return true;
    if (c == quote) {
      quote = '\0';
    } else if (quote == '\0' && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == '\\' && quote != '\'' && *at + 1 < text.size()) {
      word->push_back(text[++*at]);
    } else {
      word->push_back(c);
    }
  }
  return quote == '\0';
}

}  // namespace

BackendOptionSpecs sftp_option_specs() { return kSpecs; }

std::optional<SftpOptions> parse_sftp_options(const BackendOptions& given,
                                              std::string* error_text) {
  SftpOptions options;
  for (const BackendOption& option : given) {
    *error_text = wrong_option(kSpecs, option);
    if (!error_text->empty()) return std::nullopt;
    take(option, &options);
  }
  return options;
}

std::optional<std::vector<std::string>> split_command(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = 0; (at = text.find_first_not_of(" \t\n", at)) != std::string_view::npos;) {
    if (!take_word(text, &at, &words.emplace_back())) return std::nullopt;
  }
  return words;
}

std::vector<std::string> ssh_words(const SftpTarget& target, const SftpOptions& options) {
  std::vector<std::string> words = options.ssh_command;
  // Neither X11 nor agent nor ports are forwarded by a file system.
  words.insert(words.end(), {"-x", "-a", "-oClearAllForwardings=yes"});
  if (!options.ssh_config.empty()) words.insert(words.end(), {"-F", options.ssh_config});
  // The first of several settings counts with ssh, the last one on a command line of ours.
  for (auto option = options.ssh_options.rbegin(); option != options.ssh_options.rend(); ++option) {
    words.push_back("-o" + *option);
  }
  const uint16_t port = options.port != 0 ? options.port : target.port;
  if (port != 0) words.insert(words.end(), {"-p", std::to_string(port)});
  if (!target.user.empty()) words.insert(words.end(), {"-l", target.user});
  // A path is a program that the server runs, a word one of its subsystems.
  const bool subsystem = options.sftp_server.find('/') == std::string::npos;
  if (subsystem) words.emplace_back("-s");
  words.insert(words.end(), {"--", target.host, options.sftp_server});
  return words;
}

}  // namespace fusefs::sftp
