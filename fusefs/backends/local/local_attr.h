// Attributes and change tokens of local files.
//
// Purpose:        a token that is equal only when the object is unchanged, on filesystems whose
//                 times move in steps: two changes within one tick of the clock leave the same
//                 ctime, so an object that changed just now gets a token that never comes again.
// Thread-safety:  all functions may be called from any thread.
#pragma once

#include <cstdint>

#include "cache/base/result.h"
#include "cache/dir/attr.h"

struct statx;

namespace fusefs::local {

// The clock that filesystems stamp with (CLOCK_REALTIME).
cache::Timespec now_realtime();

// A ctime nearer to now than this says nothing about the next change: twice the coarsest kernel
// tick (10 ms) and room for reading the clock.
constexpr int64_t kTickNanoseconds = 50'000'000;
// The same for filesystems that keep whole or even seconds, which a ctime without nanoseconds
// gives away.
constexpr int64_t kWholeSecondNanoseconds = 2'050'000'000;

// True when a change made after `now` could leave the same ctime. Pure.
bool may_change_unseen(const cache::Timespec& ctime, const cache::Timespec& now);

// The token of an object with these attributes that lives on `device`, never 0. `now` is read
// *before* the attributes: a thread that slept in between must not believe an old stamp.
uint64_t change_token(const cache::Attr& attr, uint64_t device, const cache::Timespec& now);

// A token that never comes again, in this process or another.
uint64_t unique_token();

// Working form of a kernel answer, change token included.
cache::Attr to_attr(const struct ::statx& answer, const cache::Timespec& now);

// Attributes of an open descriptor (O_PATH too).
cache::Result<cache::Attr> stat_fd(int fd);
// Attributes of `name` in an open directory, links not followed. A plain name only.
cache::Result<cache::Attr> stat_at(int directory, const char* name, const cache::Timespec& now);

}  // namespace fusefs::local
