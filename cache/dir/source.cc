#include "cache/dir/source.h"

namespace cache {

void DirAnswer::add(std::string_view name, uint64_t ino, uint8_t type, uint64_t cookie) {
  Entry entry;
  entry.cookie = cookie;
  entry.ino = ino;
  entry.type = type;
  entry.name_offset = static_cast<uint32_t>(names.size());
  entry.name_length = static_cast<uint32_t>(name.size());
  names.append(name);
  entries.push_back(entry);
}

void DirAnswer::add_token(std::string_view token) {
  entries.back().token_offset = static_cast<uint32_t>(tokens.size());
  entries.back().token_length = static_cast<uint32_t>(token.size());
  tokens.append(token);
}

bool DirAnswer::well_formed() const {
  if (has_attrs && attrs.size() != entries.size()) return false;
  for (const Entry& entry : entries) {
    if (uint64_t{entry.name_offset} + entry.name_length > names.size()) return false;
    if (uint64_t{entry.token_offset} + entry.token_length > tokens.size()) return false;
  }
  return true;
}

}  // namespace cache
