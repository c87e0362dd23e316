#include "fusefs/backends/sim/sim_mix.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>

namespace fusefs {
namespace {

// Names that have broken somebody's program.
const std::vector<std::string>& odd_names() {
  static const std::vector<std::string> names = {" ",
                                                 " leading space",
                                                 "trailing space ",
                                                 "two  spaces",
                                                 "tab\there",
                                                 "new\nline",
                                                 "\n",
                                                 "carriage\rreturn",
                                                 "-",
                                                 "-rf",
                                                 "--help",
                                                 "--",
                                                 "*",
                                                 "?",
                                                 "[a-z]",
                                                 "~",
                                                 "$HOME",
                                                 "`id`",
                                                 "$(id)",
                                                 "single'quote",
                                                 "double\"quote",
                                                 "back\\slash",
                                                 "semi;colon",
                                                 "pipe|",
                                                 "amper&sand",
                                                 "#hash#",
                                                 "%s%n",
                                                 "a:b",
                                                 "...",
                                                 "..hidden",
                                                 ".hidden",
                                                 ".nfs0001",
                                                 "README",
                                                 "readme",
                                                 "a",
                                                 "1",
                                                 "0",
                                                 "\x01\x7f",
                                                 "\xc3\xa9 composed",
                                                 "e\xcc\x81 decomposed",
                                                 "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
                                                 "\xf0\x9f\x8d\xaa",
                                                 "\xe2\x80\xae right to left",
                                                 "\xff\xfe",
                                                 "latin-1 caf\xe9",
                                                 "cut off \xe6\x97",
                                                 "\xc0\xaf overlong"};
  return names;
}

std::string repeated(std::string_view piece, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += piece;
  return text;
}

class MixBuilder {
 public:
  MixBuilder() {
    mix_.directories.emplace_back();
    mix_.objects.push_back({.mode = S_IFDIR | 0755, .nlink = 2});
  }

  uint32_t add(uint32_t directory, const std::string& name, SimMixObject object) {
    const auto number = static_cast<uint32_t>(mix_.objects.size());
    mix_.objects.push_back(std::move(object));
    mix_.directories[directory].push_back({name, number});
    return number;
  }

  void link(uint32_t directory, const std::string& name, uint32_t object) {
    mix_.directories[directory].push_back({name, object});
    ++mix_.objects[object].nlink;
  }

  uint32_t add_directory(uint32_t parent, const std::string& name, uint32_t permissions) {
    const auto number = static_cast<uint32_t>(mix_.directories.size());
    mix_.directories.emplace_back();
    const uint32_t mode = S_IFDIR | permissions;
    add(parent, name, {.mode = mode, .nlink = 2, .size = -1, .directory = number});
    for (SimMixObject& object : mix_.objects) {
      if (S_ISDIR(object.mode) && object.directory == parent) ++object.nlink;
    }
    return number;
  }

  SimMix take() {
    for (auto& entries : mix_.directories) {
      std::sort(entries.begin(), entries.end(),
                [](const auto& a, const auto& b) { return a.name < b.name; });
    }
    return std::move(mix_);
  }

 private:
  SimMix mix_;
};

void add_types(MixBuilder* mix) {
  constexpr uint32_t kFile = S_IFREG | 0644;
  mix->add(0, "regular", {.mode = kFile});
  mix->add(0, "empty-file", {.mode = kFile, .size = 0});
  mix->add(0, "largest-file", {.mode = kFile, .size = 65536});
  mix->add(0, "executable", {.mode = S_IFREG | 0755});
  mix->add(0, "setuid", {.mode = S_IFREG | 04755});
  mix->add(0, "no-access", {.mode = S_IFREG});
  mix->add(0, "fifo", {.mode = S_IFIFO | 0644, .size = 0});
  mix->add(0, "socket", {.mode = S_IFSOCK | 0755, .size = 0});
  mix->add(0, "char-device", {.mode = S_IFCHR | 0666, .size = 0, .rdev = makedev(1, 3)});
  mix->add(0, "block-device", {.mode = S_IFBLK | 0660, .size = 0, .rdev = makedev(7, 0)});
}

void add_symlinks(MixBuilder* mix) {
  const auto add = [&](const std::string& name, const std::string& target) {
    const auto size = static_cast<int64_t>(target.size());
    mix->add(0, name, {.mode = S_IFLNK | 0777, .size = size, .target = target});
  };
  add("symlink", "regular");
  add("symlink-to-directory", "subdir");
  add("symlink-dangling", "nowhere");
  add("symlink-loop", "symlink-loop");
  add("symlink-odd", "new\nline");
  add("symlink-longest", repeated("x", 4095));
}

void add_links_and_directories(MixBuilder* mix) {
  const uint32_t subdir = mix->add_directory(0, "subdir", 0755);
  mix->add_directory(0, "empty-directory", 0755);
  mix->add_directory(0, "sticky-directory", 01777);
  mix->add(mix->add_directory(subdir, "inner", 0755), "innermost", {.mode = S_IFREG | 0644});
  const uint32_t linked = mix->add(0, "hard-link-1", {.mode = S_IFREG | 0644});
  mix->link(0, "hard-link-2", linked);
  mix->link(0, "hard-link-3", linked);
  mix->link(subdir, "hard-link-4", linked);
}

void add_names(MixBuilder* mix) {
  for (const std::string& name : odd_names()) mix->add(0, name, {.mode = S_IFREG | 0644});
  for (const std::string& name :
       {repeated("n", 255), repeated("n", 254) + "o", repeated("\xe6\x97\xa5", 85),
        repeated("\xff", 255), repeated("-", 255), repeated("n", 254)}) {
    mix->add(0, name, {.mode = S_IFREG | 0644});
  }
}

}  // namespace

SimMix make_sim_mix() {
  MixBuilder mix;
  add_types(&mix);
  add_symlinks(&mix);
  add_links_and_directories(&mix);
  add_names(&mix);
  return mix.take();
}

}  // namespace fusefs
