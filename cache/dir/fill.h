// Fill: one chain of remote requests that builds arrays from a key onwards.
//
// Purpose:        the state of a fill; the directory (dir_core.h) drives it.
// Ownership:      shared by the directory, completions under way, and waiters that read what was
//                 built so far.
// Thread-safety:  every field is guarded by the directory's mutex.
//
//   IDLE -> ASKING      [send_request]    a request is under way
//   ASKING -> TAKING    [on_answer]       its answer is being put into arrays; usually the next
//                                         request is under way again meanwhile
//   TAKING -> IDLE      [on_answer]       far enough ahead of the readers: waits for demand
//   any -> OUTLIVED    [invalidate]      by number only: the mapping's sequence has moved since
//                                         `stamp`. It goes on for those who wait, array by array,
//                                         when they ask; nothing of it is kept
//   any -> ENDED        [end_fill]        end of directory, joined a resident array, error,
//                                         invalidated, nobody waits: the page is unlocked, and
//                                         removed unless it was sealed
#pragma once

#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cache/dir/array_builder.h"
#include "cache/dir/source.h"
#include "cache/mm/page.h"

namespace cache {

// What was known when a request was sent; what arrives is no fresher.
struct RequestStamp {
  uint64_t sequence = 0;  // the mapping's invalidation sequence
  uint64_t change = 0;    // the directory's change token
  int64_t when = 0;       // steady_clock ticks
  uint64_t own = 0;       // own changes that were known: what it brings is patched by later ones
};

// The last two entries taken in, to prove after a bad cookie that places have not moved.
struct FillTail {
  ResumeToken before_last;  // after this comes the last entry
  std::string last_name;    // empty: nothing was taken in, and no reader has told it
};

// Where the listing goes on after an array.
struct ArrayEnd {
  uint64_t next_key = 0;
  std::string token;
  bool eof = false;
};

// What whoever begins a fill wants of it.
struct FillWish {
  bool attrs = false;
  TimePoint attrs_since = TimePoint::min();  // older ones are no better than none
  uint32_t most_arrays = 0;                  // then it ends; 0: it goes on
};

struct Fill : boost::intrusive::list_base_hook<> {
  // The array being built.
  uint64_t key = 0;
  PageRef page;         // locked until sealed or ended; pinned as long as `builder` is on it
  bool sealed = false;  // the array is complete and in the cache
  ArrayBuilder builder;
  std::optional<ArrayEnd> complete;  // all of it is there, whether it could be kept or not
  RequestStamp stamp;                // the oldest of the requests that gave entries to this array

  // The conversation with the remote.
  ResumeToken after;  // where the next request goes on
  FillTail tail;
  uint64_t verifier = 0;
  uint32_t ask = 0;          // entries to ask for
  uint32_t reached = 0;      // position of the next entry to be asked for
  uint32_t asked_until = 0;  // position that the request under way reaches
  bool want_attrs = false;   // of the next request
  TimePoint attrs_since = TimePoint::min();
  bool sent_attrs = false;  // of the request under way
  uint32_t sent_ask = 0;    // entries that it asked for
  bool in_flight = false;
  bool taking = false;    // a thread is in on_answer
  bool renewing = false;  // the request under way only fetches a new verifier
  bool renewed = false;   // has been, since an answer was taken in
  bool proving = false;   // the answer under way must begin with tail.last_name
  uint64_t serial = 0;    // of the request under way; older answers are ignored
  DirSource::RequestId request = 0;
  RequestStamp sent;                // of the request under way
  std::optional<DirAnswer> queued;  // arrived while another thread was taking
  uint32_t renewals = 0;            // bad cookies in a row
  uint32_t failures = 0;            // answers in a row that gave nothing
  uint32_t arrays_left = 0;         // until it ends, this one included; 0: it goes on
  bool bounded = false;             // begun with a bound
  uint32_t unread = 0;              // answers taken in that no reader has reached

  bool expected = false;  // fetched ahead of a reader: Directory::fetch_ahead()
  bool counted = false;   // in stats.fills_active, which divides the room among fills
  uint32_t waiters = 0;
  uint32_t hungry = 0;  // of them, those who wait for the array being built
  bool ended = false;
  int error = 0;  // with ended: why, 0 for a good end
};

}  // namespace cache
