// The example of fusefs/backends/README.md keeps what the guide says it keeps.

#include "tests/fusefs/backends/example_backend.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <optional>
#include <string>

#include "cache/mm/page_cache.h"
#include "fusefs/dir_state.h"
#include "fusefs/request.h"
#include "tests/support/dir_rig.h"

namespace fusefs {
namespace {

// Several answers, and arrays few enough to be all searched for a name.
constexpr uint64_t kCount = 1500;

struct Mounted {
  Mounted() {
    std::string error_text;
    Result<LookupAnswer> answer = backend.connect(&error_text);
    REQUIRE(answer.ok());
    root = answer.value();
    names = find(root.id, "names").value();
  }

  Result<LookupAnswer> find(const ObjectId& parent, const std::string& name) {
    return call_backend<LookupAnswer>(backend, {}, [&](Backend::Done<LookupAnswer> done) {
      return backend.lookup(nullptr, parent, name, std::move(done));
    });
  }

  cache::PageCache cache{test::DirRig::roomy()};
  ExampleBackend backend{kCount};
  LookupAnswer root;
  LookupAnswer names;
};

TEST_CASE("example back end: a directory is listed through the cache, once from the remote") {
  Mounted mounted;
  BackendDirSource source(mounted.backend, mounted.names.id);
  cache::Directory directory(mounted.cache, source);
  directory.opened();
  directory.revalidate(mounted.names.attr.change);  // the token that the listing is read under
  test::Lister first(directory);
  REQUIRE(first.read_all(100, {.want_attrs = true}).ok());
  REQUIRE(first.got.names.size() == kCount);
  REQUIRE(first.got.attrs.size() == kCount);
  for (uint64_t i = 0; i < kCount; ++i) {
    CHECK(first.got.names[i] == ExampleBackend::name_of(i));
    CHECK(first.got.inos[i] == first.got.attrs[i].ino);
    CHECK(first.got.cookies[i] == i + 1);  // native cookies reach the kernel unchanged
  }
  const uint64_t requests = mounted.backend.counters().requests;
  CHECK(requests >= kCount / mounted.backend.max_batch());

  CHECK_FALSE(directory.revalidate(mounted.names.attr.change));
  test::Lister second(directory);
  REQUIRE(second.read_all(test::kNoLimit).ok());
  CHECK(second.got.names == first.got.names);
  CHECK(mounted.backend.counters().requests == requests);
  CHECK(mounted.backend.counters().errors == 0);
  CHECK(mounted.cache.stats().bad_answers.get() == 0);
  directory.closed();
}

TEST_CASE("example back end: a lookup, a listing and child_id name the same object") {
  Mounted mounted;
  const std::string name = ExampleBackend::name_of(kCount - 1);
  const Result<LookupAnswer> found = mounted.find(mounted.names.id, name);
  REQUIRE(found.ok());
  CHECK(S_ISREG(found.value().attr.mode));
  CHECK(found.value().id == mounted.backend.child_id(mounted.names.id, name, 0));

  BackendDirSource source(mounted.backend, mounted.names.id);
  cache::Directory directory(mounted.cache, source);
  test::Lister lister(directory);
  REQUIRE(lister.read_all(test::kNoLimit, {.want_attrs = true}).ok());
  const std::optional<Attr> listed = directory.find_attr(name);
  REQUIRE(listed.has_value());
  CHECK(listed->ino == found.value().attr.ino);
  CHECK(listed->mode == found.value().attr.mode);
}

TEST_CASE("example back end: what is not there has an errno") {
  Mounted mounted;
  for (const char* name : {"nothing", "name-5000000", "name-1", "name-0000001x", ""}) {
    INFO(name);
    CHECK(mounted.find(mounted.names.id, name).error_number() == ENOENT);
  }
  const Result<Attr> gone = call_backend<Attr>(mounted.backend, {}, [&](Backend::Done<Attr> done) {
    return mounted.backend.getattr(nullptr, "f9999999", done);
  });
  CHECK(gone.error_number() == ESTALE);

  for (const auto& [id, error] : {std::pair("f0", ENOTDIR), std::pair("gone", ESTALE)}) {
    BackendDirSource source(mounted.backend, id);
    cache::Directory directory(mounted.cache, source);
    CHECK(test::Lister(directory).read(1).error_number() == error);
  }
  CHECK(mounted.backend.counters().errors == 2);
}

}  // namespace
}  // namespace fusefs
