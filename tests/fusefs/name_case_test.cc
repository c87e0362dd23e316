#include "fusefs/name_case.h"

#include <catch2/catch.hpp>

using fusefs::has_letters;
using fusefs::in_other_case;
using fusefs::may_be_unlisted;
using fusefs::NameCase;

TEST_CASE("names that a listing may leave out, or have in another form, are known") {
  for (const char* const name : {".snapshot", ".zfs", "~snapshot", "caf\xc3\xa9", "\xff"}) {
    CHECK(may_be_unlisted(name));
  }
  for (const char* const name : {"snapshot", ".snapshot2", "README", "a b", "~", "\x7f"}) {
    CHECK_FALSE(may_be_unlisted(name));
  }
}

TEST_CASE("only letters have another case") {
  CHECK(in_other_case("Read_Me-1.txt@[`{") == "rEAD_mE-1.TXT@[`{");
  CHECK(in_other_case("\xc3\xa9z") == "\xc3\xa9Z");
  CHECK(has_letters("0z"));
  CHECK(has_letters("A"));
  CHECK_FALSE(has_letters("0-@[`{\xc3\xa9"));
  CHECK_FALSE(has_letters(""));
}

TEST_CASE("what is known of a directory is known of those that are made in it") {
  NameCase names;
  CHECK(!names.told_apart("name"));
  CHECK(names.told_apart("0001") == true);  // there is no other case of it
  CHECK(!names.sample());
  names.note_there("0001");
  CHECK(!names.sample());
  names.note_there("name");
  CHECK(names.sample() == "name");
  names.settle(true);
  CHECK(names.told_apart("name") == true);
  NameCase child;
  child.inherit(names);
  CHECK(child.told_apart("name") == true);
  names.settle(false);
  CHECK(names.told_apart("name") == false);
  CHECK(names.told_apart("0001") == true);
  CHECK(child.told_apart("name") == true);
}
