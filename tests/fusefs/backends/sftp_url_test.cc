// SFTP sources and options as users write them, and the ssh command that comes of them.

#include "fusefs/backends/sftp/sftp_url.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "fusefs/backends/sftp/sftp_options.h"

namespace fusefs::sftp {
namespace {

SftpTarget target_of(const std::string& source) {
  std::string error;
  const auto target = parse_sftp_url(source, &error);
  INFO(source << ": " << error);
  REQUIRE(target);
  return *target;
}

std::string error_of(const std::string& source) {
  std::string error;
  INFO(source);
  CHECK(!parse_sftp_url(source, &error));
  CHECK(!error.empty());
  CHECK(error.find('\n') == std::string::npos);
  return error;
}

std::string joined(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += line.empty() ? word : " " + word;
  return line;
}

std::string command_of(const std::string& source, const BackendOptions& given) {
  std::string error;
  const auto options = parse_sftp_options(given, &error);
  INFO(error);
  REQUIRE(options);
  return joined(ssh_words(target_of(source), *options));
}

std::string option_error(const BackendOption& option) {
  std::string error;
  CHECK(!parse_sftp_options({option}, &error));
  return error;
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("a source names user, host, port and path") {
  const SftpTarget target = target_of("sftp://me@example.org:2222/srv/data");
  CHECK(target.user == "me");
  CHECK(target.host == "example.org");
  CHECK(target.port == 2222);
  CHECK(target.path == "/srv/data");
  CHECK(target.url() == "sftp://me@example.org:2222/srv/data");
  CHECK(target_of("SFTP://host/").path == "/");
  CHECK(target_of("sftp://host:/").port == 0);
  CHECK(target_of("sftp://user%40corp@host/").user == "user@corp");
}

TEST_CASE("paths below the login's directory") {
  CHECK(target_of("sftp://host").path == ".");
  CHECK(target_of("sftp://host/~").path == ".");
  CHECK(target_of("sftp://host/~/").path == ".");
  CHECK(target_of("sftp://host/~/a/b").path == "a/b");
  CHECK(target_of("sftp://host/~//a").path == "a");
  CHECK(target_of("sftp://host/%7E").path == "/~");
  CHECK(target_of("sftp://host/a/~").path == "/a/~");
  CHECK(says(error_of("sftp://host/~other/x"), "%7E"));
}

TEST_CASE("what is shown of a source leads to the same place") {
  for (const char* source :
       {"sftp://host/~", "sftp://host/~/a%20b", "sftp://[::1]:22/x", "sftp://u@h/%7Ex/%25",
        "sftp://h/%3F%23%0A", "sftp://[fe80::1%25eth0]/"}) {
    const SftpTarget target = target_of(source);
    CHECK(target.url() == source);
    CHECK(target_of(target.url()).path == target.path);
  }
}

TEST_CASE("IPv6 addresses stand in brackets") {
  CHECK(target_of("sftp://[2001:db8::1]/x").host == "2001:db8::1");
  CHECK(target_of("sftp://me@[::1]:22/x").port == 22);
  CHECK(target_of("sftp://[fe80::1%25eth0]/").host == "fe80::1%eth0");
  CHECK(says(error_of("sftp://::1/x"), "brackets"));
  error_of("sftp://[::1/x");
  error_of("sftp://[host]/x");
}

TEST_CASE("paths are decoded") {
  CHECK(target_of("sftp://h/a%20b%2Fc%25").path == "/a b/c%");
  for (const char* bad : {"sftp://h/a%", "sftp://h/%2", "sftp://h/%zz", "sftp://h/%00"}) {
    CHECK(says(error_of(bad), "%25"));
  }
  CHECK(says(error_of("sftp://h/a?b"), "%3F"));
  CHECK(says(error_of("sftp://h/a#b"), "%23"));
}

TEST_CASE("sources that can't be meant are refused") {
  error_of("sftp:host/path");
  error_of("sftp:");
  error_of("sftp:///path");
  error_of("sftp://host:0/");
  error_of("sftp://host:99999/");
  error_of("sftp://host:ssh/");
  error_of("sftp://@host/");
  // What ssh would take for an option of its own.
  error_of("sftp://-oProxyCommand=date/");
  error_of("sftp://-lroot@host/");
  error_of("sftp://%2doops@host/");
  const std::string told = error_of("sftp://me:secret@host/");
  CHECK(says(told, "password"));
  CHECK(!says(told, "secret"));
}

TEST_CASE("the command is ssh as its users know it") {
  CHECK(command_of("sftp://me@host:2222/x", {}) ==
        "ssh -x -a -oClearAllForwardings=yes -p 2222 -l me -s -- host sftp");
  CHECK(command_of("sftp://host/", {{"ssh_command", "/opt/ssh -v"}}) ==
        "/opt/ssh -v -x -a -oClearAllForwardings=yes -s -- host sftp");
  CHECK(command_of("sftp://host/", {{"sftp_server", "/usr/lib/sftp-server"}}) ==
        "ssh -x -a -oClearAllForwardings=yes -- host /usr/lib/sftp-server");
  CHECK(command_of("sftp://host:1/", {{"port", "2"}, {"ssh_config", "/f"}}) ==
        "ssh -x -a -oClearAllForwardings=yes -F /f -p 2 -s -- host sftp");
}

TEST_CASE("ssh's own options are handed on; of two the later one counts") {
  const std::string command = command_of("sftp://host/", {{"IdentityFile", "/k"},
                                                          {"ssh_option", "ProxyJump=a"},
                                                          {"compression", "yes"},
                                                          {"ProxyJump", "b"}});
  CHECK(says(command, "-oIdentityFile=/k"));
  CHECK(says(command, "-oCompression=yes"));
  CHECK(command.find("-oProxyJump=b") < command.find("-oProxyJump=a"));
}

TEST_CASE("files are named so that they are found again from another directory") {
  const std::string here = std::filesystem::current_path();
  CHECK(
      says(command_of("sftp://h/", {{"IdentityFile", "key"}}), "-oIdentityFile=" + here + "/key"));
  CHECK(says(command_of("sftp://h/", {{"ssh_config", "c"}}), "-F " + here + "/c"));
  for (const char* as_it_is : {"/k", "~/.ssh/k", "%d/k", "none"}) {
    CHECK(says(command_of("sftp://h/", {{"IdentityFile", as_it_is}}),
               std::string("-oIdentityFile=") + as_it_is + " "));
  }
}

TEST_CASE("options that can't be meant are refused") {
  CHECK(says(option_error({"port", "0"}), "port=22"));
  CHECK(says(option_error({"ssh_command", "a 'b"}), "quote"));
  CHECK(says(option_error({"ssh_command", " "}), "no program"));
  CHECK(says(option_error({"ssh_option", "yes"}), "NAME=VALUE"));
  CHECK(says(option_error({"ssh_option", "-v=1"}), "NAME=VALUE"));
  CHECK(says(option_error({"compression", "9"}), "yes"));
  CHECK(says(option_error({"reconect", std::nullopt}), "unknown"));
}

TEST_CASE("a command is split as a shell would") {
  using Words = std::vector<std::string>;
  CHECK(split_command("a  b\tc ") == Words{"a", "b", "c"});
  CHECK(split_command("sh -c 'exec x \"y\"'") == Words{"sh", "-c", "exec x \"y\""});
  CHECK(split_command("\"a b\"c\\ d '\\'") == Words{"a bc d", "\\"});
  CHECK(split_command("''") == Words{""});
  CHECK(split_command("") == Words{});
  CHECK(!split_command("'a"));
}

}  // namespace
}  // namespace fusefs::sftp
