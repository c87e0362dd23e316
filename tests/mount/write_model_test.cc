// Random operations on a writable mount, compared with a native directory after each; one file in
// every way that programs have. With a cache that is far too small, and with the kernel's own
// write-back.
//
// COOKIEFS_TEST_SEED: another run of the model, which has the same seed otherwise (of random ones
// some still fail), or the same one of the exerciser; each failure tells the seed that it had.

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>

#include "tests/mount/write_rig.h"
#include "tests/support/random.h"

namespace fs = std::filesystem;

using test::Mounted;
using test::Remote;
using test::run_beside;
using test::TempDir;

namespace {

std::string number(uint64_t value) { return std::to_string(value); }

// Names that hide what was removed while it was open must not outlive the last close.
size_t hidden_names(const std::string& directory) {
  size_t count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    count += entry.path().filename().string().starts_with(".nfs") ? 1 : 0;
  }
  return count;
}

struct Model {
  std::string options;
  uint64_t steps;
  uint64_t threads;
  std::string without = {};  // one operation that is left out
};

void check_model(const std::string& kind, const Model& model) {
  const uint64_t seed = std::getenv("COOKIEFS_TEST_SEED") != nullptr ? test::seed() : 1;
  INFO(kind << ", -o " << model.options << ", COOKIEFS_TEST_SEED=" << seed);
  const Remote remote(kind);
  const TempDir native;
  fs::create_directory(native / "w");
  Mounted mount(remote, model.options);
  REQUIRE(mkdir((mount / "w").c_str(), 0755) == 0);
  const std::string drop = test::beside("cookiefsctl") + " drop " + mount.path() + " > /dev/null";
  std::vector<std::string> words = {"--profile",     kind,
                                    "--seed",        number(seed),
                                    "--steps",       number(model.steps),
                                    "--threads",     number(model.threads),
                                    "--hook",        drop,
                                    "--hook-every",  "150",
                                    "--check-every", "400",
                                    "--direct",      "--verbose"};
  if (!model.without.empty()) words.insert(words.end(), {"--without", model.without});
  words.insert(words.end(), {mount / "w", native / "w"});
  CHECK(run_beside("fs_model", words) == "");
  CHECK(mount.end() == "");
  if (remote.directory().empty()) return;
  // What is on the remote afterwards.
  CHECK(hidden_names(remote.directory()) == 0);
  CHECK(run_beside("fs_model", {"--compare", "--profile", kind, remote / "w", native / "w"}) == "");
}

void check_exerciser(const std::string& kind, const std::string& options,
                     const std::vector<std::string>& more) {
  const uint64_t seed = test::seed();
  INFO(kind << ", -o " << options << ", COOKIEFS_TEST_SEED=" << seed);
  const Remote remote(kind);
  Mounted mount(remote, options);
  REQUIRE(mkdir((mount / "w").c_str(), 0755) == 0);
  std::vector<std::string> words = {
      "--seed",   number(seed),
      "--steps",  number(test::scaled(2500)),
      "--hook",   test::beside("cookiefsctl") + " drop " + mount.path() + " > /dev/null",
      "--verbose"};
  words.insert(words.end(), more.begin(), more.end());
  words.push_back(mount / "w/file");
  CHECK(run_beside("file_exerciser", words) == "");
  CHECK(mount.end() == "");
}

}  // namespace

TEST_CASE("write: random operations come out as on a native directory") {
  for (const std::string kind : {"local", "sim", "sftp", "nfs3", "nfs4"}) {
    check_model(kind, {"cache_size=4M", test::scaled(1500), 1});
  }
}

TEST_CASE("write: random operations with the kernel's write-back") {
  for (const std::string kind : {"local", "sim", "sftp", "nfs3", "nfs4"}) {
    // The kernel has given the file a new time before it hears that there is no fallocate.
    const bool has_fallocate = kind == "local" || kind == "sim";
    check_model(kind, {"cache_size=4M,writeback_cache", test::scaled(800), 1,
                       has_fallocate ? "" : "fallocate"});
  }
}

TEST_CASE("write: random operations where close does not wait") {
  for (const std::string kind : {"local", "sim", "sftp", "nfs3", "nfs4"}) {
    check_model(kind, {"cache_size=4M,close=nowait", test::scaled(800), 1});
  }
}

TEST_CASE("write: random operations side by side, and one who looks on") {
  for (const std::string kind : {"local", "sim", "sftp", "nfs3", "nfs4"}) {
    check_model(kind, {"cache_size=4M,ttl=0", test::scaled(400), 3});
  }
}

TEST_CASE("write: one file, by reads, writes, mappings and O_DIRECT") {
  for (const std::string& kind : test::remote_kinds()) {
    check_exerciser(kind, "cache_size=4M", {"--direct", "--two"});
  }
}

TEST_CASE("write: one file, larger than the cache, with the kernel's write-back") {
  for (const std::string& kind : test::remote_kinds()) {
    check_exerciser(kind, "cache_size=1M,writeback_cache",
                    {"--size", "3000000", "--check-every", "200"});
  }
}

TEST_CASE("write: one file beyond 4 GiB") {
  for (const std::string& kind : test::remote_kinds()) {
    check_exerciser(kind, "cache_size=4M,ttl=0",
                    {"--base", "8589934592", "--direct", "--check-every", "100", "--steps",
                     number(test::scaled(1000))});
  }
}
