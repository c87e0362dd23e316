// Sources as users write them: which back end they name, and what they are told otherwise.

#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "fusefs/backends/backend.h"

namespace fusefs {
namespace {

std::string description_of(const std::string& source) {
  std::string error_text;
  const auto backend = make_backend(source, {}, &error_text);
  INFO(source << ": " << error_text);
  REQUIRE(backend != nullptr);
  return backend->description();
}

std::string error_of(const std::string& source) {
  std::string error_text;
  INFO(source);
  CHECK(make_backend(source, {}, &error_text) == nullptr);
  CHECK_FALSE(error_text.empty());
  CHECK(error_text.find('\n') == std::string::npos);
  return error_text;
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("paths and file URLs name the same directory") {
  CHECK(description_of("/srv/data") == "/srv/data");
  CHECK(description_of("file:///srv/data") == "/srv/data");
  CHECK(description_of("FILE:///srv/data") == "/srv/data");
  CHECK(description_of("file://localhost/srv/data") == "/srv/data");
  CHECK(description_of("file:/srv/data") == "/srv/data");
  CHECK(description_of("file:///") == "/");
}

TEST_CASE("relative paths are taken from the working directory of now") {
  char here[4096];
  REQUIRE(::getcwd(here, sizeof(here)) != nullptr);
  CHECK(description_of("data") == std::string(here) + "/data");
  CHECK(description_of("./host:/data") == std::string(here) + "/./host:/data");
  CHECK(description_of(".") == std::string(here) + "/.");
  CHECK(description_of("a/b:c") == std::string(here) + "/a/b:c");
  CHECK(description_of(":x") == std::string(here) + "/:x");
  CHECK(description_of("100%") == std::string(here) + "/100%");
}

TEST_CASE("file URLs are decoded") {
  CHECK(description_of("file:///a%20b%2Fc%25%3f%0a") == "/a b/c%?\n");
  CHECK(description_of("file:///a+b") == "/a+b");
  for (const char* bad : {"file:///a%", "file:///a%2", "file:///a%zz", "file:///a%00b"}) {
    CHECK(says(error_of(bad), "%25"));
  }
  CHECK(says(error_of("file:///a?b"), "%3F"));
  CHECK(says(error_of("file:///a#b"), "%23"));
}

TEST_CASE("file URLs of other machines, and without a path, are refused") {
  CHECK(says(error_of("file://server/data"), "server"));
  CHECK(says(error_of("file://server"), "server"));
  CHECK(says(error_of("file://"), "file:///path"));
  CHECK(says(error_of("file:data"), "file:///path"));
  CHECK(says(error_of("file:"), "file:///path"));
}

TEST_CASE("schemes that are not known say which are") {
  for (const char* source : {"http://host/x", "smi:big=5", "host:/data", "s3://bucket", "s3:"}) {
    const std::string error_text = error_of(source);
    CHECK(says(error_text, "is not a known source"));
    CHECK(says(error_text, "sim:"));
    CHECK(says(error_text, "file:///"));
  }
  CHECK(says(error_of("host:/data"), "'./host:/data'"));
  CHECK(description_of("sftp://host/path") == "sftp://host/path");
  CHECK(says(error_of("sftp://host:0/path"), "port"));
  CHECK(says(error_of(""), "no source"));
}

TEST_CASE("sim sources reach the simulated remote") {
  std::string error_text;
  CHECK(make_backend("sim:big=10", {}, &error_text) != nullptr);
  CHECK(make_backend("sim:no_such_key=1", {}, &error_text) == nullptr);
  CHECK_FALSE(error_text.empty());
}

TEST_CASE("an option that the source does not know is named") {
  std::string error_text;
  CHECK(make_backend("/srv", {{"nconnect", "4"}}, &error_text) == nullptr);
  CHECK(error_text == "nconnect: unknown option; this source has no options of its own");
}

}  // namespace
}  // namespace fusefs
