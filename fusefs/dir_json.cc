#include "fusefs/dir_json.h"

#include <nlohmann/json.hpp>

namespace fusefs {
namespace {

using Json = nlohmann::ordered_json;  // in the order in which it is written

std::string dump(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

double seconds(cache::Duration duration) { return std::chrono::duration<double>(duration).count(); }

Json age(bool known, cache::TimePoint then, cache::TimePoint now) {
  if (!known) return nullptr;
  return seconds(std::max(now - then, cache::Duration::zero()));
}

const char* cause(cache::Forgotten why) {
  switch (why) {
    case cache::Forgotten::kNever:
      break;
    case cache::Forgotten::kChanged:
      return "changed on the remote";
    case cache::Forgotten::kOwnChange:
      return "read again after own changes";
    case cache::Forgotten::kTold:
      return "told to";
    case cache::Forgotten::kOldAttributes:
      return "attributes too old";
    case cache::Forgotten::kNumbering:
      return "cookies lost their meaning";
  }
  return "never";
}

Json reads(const cache::DirectoryInfo& info) {
  return {{"hits", info.hits}, {"misses", info.misses}, {"waited_seconds", seconds(info.waited)}};
}

}  // namespace

std::string directory_json(const DirectoryFigures& figures) {
  const cache::DirectoryInfo& info = figures.info;
  const cache::DirectoryContent& content = figures.content;
  const cache::TimePoint now = figures.now;
  const bool forgotten = info.forgotten != cache::Forgotten::kNever;
  Json json;
  json["inode"] = figures.ino;
  json["arrays"] = {{"resident", info.arrays},
                    {"with_attributes", content.arrays_with_attrs},
                    {"known", info.anchors}};
  json["entries"] = {{"resident", content.entries}};
  json["bytes"] = content.bytes;
  json["complete"] = content.complete;
  json["listing_age_seconds"] =
      age(info.arrays > 0 && content.bytes > 0, content.oldest_listing, now);
  json["attributes_age_seconds"] = age(content.arrays_with_attrs > 0, content.oldest_attrs, now);
  json["token_age_seconds"] =
      age(figures.token_asked.has_value(), figures.token_asked.value_or(now), now);
  json["ttl_seconds"] = seconds(figures.ttl);
  json["change_token"] = info.change == 0 ? Json(nullptr) : Json(std::to_string(info.change));
  json["readdir"] = reads(info);
  json["remote"] = {{"requests", info.requests}};
  json["fills"] = {{"active", info.fills}};
  json["invalidations"] = {{"count", info.invalidations},
                           {"last_age_seconds", age(forgotten, info.forgotten_at, now)},
                           {"last_cause", cause(info.forgotten)}};
  return dump(json);
}

std::string top_json(const std::vector<TopDirectory>& top, size_t count, size_t max_bytes) {
  std::string text = dump({{"count", count}, {"directories", Json::array()}});
  text.resize(text.size() - 2);  // "]}"
  const char* separator = "";
  for (const TopDirectory& directory : top) {
    Json json;
    json["path"] = directory.path;
    json["bytes"] = directory.content.bytes;
    json["entries"] = directory.content.entries;
    json["complete"] = directory.content.complete;
    json["readdir"] = reads(directory.info);
    json["remote"] = {{"requests", directory.info.requests}};
    const std::string piece = dump(json);
    if (text.size() + piece.size() + 3 > max_bytes) break;
    text += separator + piece;
    separator = ",";
  }
  return text + "]}";
}

std::string map_json(const cache::DirectoryMap& map) {
  std::string cells;
  cells.reserve(map.filled.size());
  // What is held of it at all shows; whole is only what is.
  for (const uint8_t percent : map.filled) {
    cells += static_cast<char>('0' + (percent == 0     ? 0
                                      : percent == 100 ? 10
                                                       : 1 + percent * 9 / 100));
  }
  return dump({{"entries", map.entries}, {"end_known", map.end_known}, {"cells", cells}});
}

}  // namespace fusefs
