// A directory whose cookies stop fitting below 2^63 in the middle of its listing.
#include "tests/support/dir_rig.h"

using namespace test;  // NOLINT

namespace {

// The first `native` entries have cookies that fit, the others have not.
std::vector<FakeEntry> half_fitting(size_t native, size_t count) {
  std::vector<FakeEntry> entries(count);
  for (size_t i = 0; i < count; ++i) {
    entries[i].name = "entry-" + std::to_string(100000 + i);
    entries[i].cookie = i < native ? (i + 1) * 1000 : (uint64_t{1} << 63) + i * 1000;
  }
  return entries;
}

}  // namespace

TEST_CASE("trap 12: positions given before a directory switches to mapped cookies stay valid") {
  DirRig rig(with_style(CookieStyle::kHuge, 400));
  rig.source->set_entries(half_fitting(3000, 6000));
  rig.revalidate();
  Lister before(*rig.dir);
  std::vector<uint64_t> positions;
  std::vector<size_t> given;
  while (before.got.names.size() < 2500) {
    REQUIRE(before.read(70).ok());
    REQUIRE(before.last > 0);
    positions.push_back(before.position);
    given.push_back(before.got.names.size());
  }
  REQUIRE(before.read_all(70).ok());
  check_exact(before.got.names, rig.source->names());

  const std::vector<std::string> names = rig.source->names();
  for (const bool evicted : {false, true}) {
    for (size_t i = 0; i < positions.size(); i += 3) {
      if (evicted) rig.cache.drop_clean();
      Lister seeker(*rig.dir);
      seeker.seek(positions[i]);
      REQUIRE(seeker.read(300).ok());
      REQUIRE(seeker.last > 0);
      INFO("position " << positions[i]);
      CHECK(seeker.got.names.front() == names[given[i]]);
    }
  }
  Lister rest(*rig.dir);
  rest.seek(positions.front());
  REQUIRE(rest.read_all(500).ok());
  check_exact(rest.got.names, {names.begin() + static_cast<ptrdiff_t>(given.front()), names.end()});
}
