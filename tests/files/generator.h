// Generator: the next random operation.
//
// Purpose:        picks names so that operations meet: few names, of which it remembers which are
//                 there as what, and sometimes any other.
// Thread-safety:  one thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/files/op.h"
#include "tests/files/profile.h"

namespace files {

class Generator {
 public:
  Generator(const Profile& profile, uint64_t seed, bool direct, bool owner);

  Op next();
  // What has become of an operation on the native side.
  void learn(const Op& op, const Outcome& native);

 private:
  // Of what is known to be there: 'f', 'd', 'l'. A path that is not, where there is none.
  std::string existing(char type);
  std::string directory();
  // Anything, there or not.
  std::string any();
  std::string fresh_name();
  Op data_op();
  Op open_op();
  Op name_op();
  Op attribute_op();
  Op look_op();
  uint32_t file_mode();
  void move(const std::string& from, const std::string& to);

  const Profile& profile_;
  const bool direct_;
  const bool owner_;
  Random random_;
  std::map<std::string, char> known_;  // path: type; the root is not in it
};

}  // namespace files
