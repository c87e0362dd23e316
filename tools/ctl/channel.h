// The control channel, as cookiefsctl uses it: ioctls on open directories of a mount.
//
// Ownership:      a Directory owns its descriptor.
// Thread-safety:  a Directory by one thread at a time; the rest from any.
// Errors:         Failure, whose text is the one line that people see.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "fusefs/control.h"

namespace ctl {

using Json = nlohmann::ordered_json;  // keeps the daemon's order

// A failure that has its line. Its number is the errno, 0 where there is none.
class Failure : public std::runtime_error {
 public:
  explicit Failure(const std::string& line, int error_number = 0)
      : std::runtime_error(line), number(error_number) {}
  const int number;
};

std::string explain(const std::string& path, int error_number);

struct Entry {
  std::string_view name;
  unsigned char type;  // DT_*
};

// An open directory of the mount.
class Directory {
 public:
  explicit Directory(const std::string& path);
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const std::string& path() const { return path_; }

  template <typename Answer>
  void ask(unsigned long request, Answer* answer) const {
    ask_raw(request, answer);
  }
  void tell(unsigned long request) const { ask_raw(request, nullptr); }
  // The text as it comes; `in` is handed to the daemon before. And as JSON.
  [[nodiscard]] std::string ask_text(unsigned long request, std::string_view in = {}) const;
  [[nodiscard]] Json ask_json(unsigned long request, std::string_view in = {}) const;

  // Every entry but '.' and '..', through the mount, until `visit` returns false.
  void read(const std::function<bool(const Entry&)>& visit) const;
  // Every name as the remote lists it now.
  [[nodiscard]] std::vector<std::string> remote_names() const;

 private:
  void ask_raw(unsigned long request, void* answer) const;

  const std::string path_;
  const int fd_;
};

// `below` in `directory`.
std::string joined(const std::string& directory, std::string_view below);

// Whether an entry is a directory; asks for its type where the listing does not tell.
bool is_directory(const Directory& parent, const Entry& entry);

}  // namespace ctl
