// Directories as JSON: what is not known is null, and what is too long is left out.
#include "fusefs/dir_json.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

namespace {

using Json = nlohmann::json;
using fusefs::DirectoryFigures;
using fusefs::TopDirectory;
using std::chrono::seconds;

const cache::TimePoint kNow = cache::TimePoint() + seconds(1000);

}  // namespace

TEST_CASE("a directory that was never listed has no ages") {
  DirectoryFigures figures;
  figures.now = kNow;
  const Json json = Json::parse(fusefs::directory_json(figures));
  for (const char* const key :
       {"listing_age_seconds", "attributes_age_seconds", "token_age_seconds", "change_token"}) {
    INFO(key);
    CHECK(json.at(key).is_null());
  }
  CHECK(json["complete"] == false);
  CHECK(json["invalidations"]["last_age_seconds"].is_null());
  CHECK(json["invalidations"]["last_cause"] == "never");
}

TEST_CASE("a directory's ages, counters and token") {
  DirectoryFigures figures;
  figures.ino = 7;
  figures.now = kNow;
  figures.ttl = seconds(3);
  figures.token_asked = kNow - seconds(2);
  figures.info.arrays = 5;
  figures.info.change = 0xffff'ffff'ffff'fff7;
  figures.info.hits = 11;
  figures.info.misses = 12;
  figures.info.requests = 13;
  figures.info.waited = std::chrono::milliseconds(1500);
  figures.info.forgotten = cache::Forgotten::kOldAttributes;
  figures.info.forgotten_at = kNow - seconds(9);
  figures.content = {.entries = 1000,
                     .bytes = 40'000,
                     .arrays_with_attrs = 4,
                     .complete = true,
                     .oldest_attrs = kNow - seconds(4),
                     .oldest_listing = kNow - seconds(5)};
  const Json json = Json::parse(fusefs::directory_json(figures));
  CHECK(json["inode"] == 7);
  CHECK(json["entries"]["resident"] == 1000);
  CHECK(json["arrays"] == Json({{"resident", 5}, {"with_attributes", 4}, {"known", 0}}));
  CHECK(json["complete"] == true);
  CHECK(json["change_token"] == "18446744073709551607");
  CHECK(json["ttl_seconds"] == 3.0);
  CHECK(json["token_age_seconds"] == 2.0);
  CHECK(json["attributes_age_seconds"] == 4.0);
  CHECK(json["listing_age_seconds"] == 5.0);
  CHECK(json["readdir"] == Json({{"hits", 11}, {"misses", 12}, {"waited_seconds", 1.5}}));
  CHECK(json["remote"]["requests"] == 13);
  CHECK(json["invalidations"]["last_age_seconds"] == 9.0);
  CHECK(json["invalidations"]["last_cause"] == "attributes too old");
}

TEST_CASE("as many directories as there is room for") {
  std::vector<TopDirectory> top(50);
  for (TopDirectory& directory : top) directory.path = "/a \"name\"\n\xff/" + std::string(100, 'x');
  for (const size_t room : {100u, 1000u, 5000u, 100'000u}) {
    const std::string text = fusefs::top_json(top, 1234, room);
    CHECK(text.size() <= room);
    const Json json = Json::parse(text);
    CHECK(json["count"] == 1234);
    CHECK((json["directories"].size() == 50) == (room == 100'000));
  }
  CHECK(Json::parse(fusefs::top_json(top, 1234, 5000))["directories"].size() > 10);
  CHECK(Json::parse(fusefs::top_json({}, 0, 1000))["directories"].empty());
}

TEST_CASE("a map has a character a cell") {
  const cache::DirectoryMap map = {
      .entries = 500, .end_known = true, .filled = {0, 1, 50, 99, 100}};
  const Json json = Json::parse(fusefs::map_json(map));
  CHECK(json["entries"] == 500);
  CHECK(json["end_known"] == true);
  const std::string cells = json["cells"];
  REQUIRE(cells.size() == 5);
  CHECK(cells[0] == '0');
  CHECK(cells[1] == '1');
  CHECK((cells[2] > '1' && cells[2] < '9'));
  CHECK(cells[3] == '9');
  CHECK(cells[4] == ':');
}
