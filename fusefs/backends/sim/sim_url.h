// What a `sim:KEY=VALUE,...` source asks for.
//
// Purpose:        SimConfig holds it; parse_sim_url reads it from the text behind `sim:`.
// Thread-safety:  plain values and a pure function.
// Errors:         one line that says what is wrong and what would be right.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fusefs {

// How the simulated remote names a place in a directory.
enum class SimCookies : uint8_t {
  kOrdered,     // u64, ascending with the listing
  kHashed,      // u64 of 62 bits, unique, in no order
  kDescending,  // u64, small, descending with the listing
  kHuge,        // u64, ascending, spread up to 2^64-1
  kIndex,       // no cookies: an ordinal and the name found there
  kName,        // no cookies: the name, in bytewise order
};

// Chances, per request, that something goes wrong. At most one does.
struct SimFaultRates {
  double error = 0;       // the answer is EIO
  double timeout = 0;     // no answer, ever
  double disconnect = 0;  // everything in flight fails with ENOTCONN
  double repeat = 0;      // a listing repeats entries or its resume cookie
  double empty = 0;       // a listing has no entries and does not end
  double badname = 0;     // a listing has one more entry, with a name no file can have
  double lostreply = 0;   // a change is made, and then its asker told ENOTCONN
  double reboot = 0;      // before a change: what was written and not committed is lost
};

struct SimTreeShape {
  uint64_t directories = 0;
  uint64_t files = 0;  // in each
};

struct SimConfig {
  // The tree. Nothing of it given in a URL: big=1000,tree=10x100,mix.
  std::optional<uint64_t> big;       // files in `big`
  std::optional<SimTreeShape> tree;  // `tree`
  std::optional<uint64_t> deep;      // directories below `deep`, one in the other
  bool mix = false;                  // `mix`
  uint32_t name_len = 24;            // bytes of a file's name in `big`

  // The way to the remote.
  std::chrono::nanoseconds rtt{0};
  std::chrono::nanoseconds jitter{0};  // most that is added to a round trip
  uint64_t bandwidth = 0;              // bytes a second; 0: no limit
  uint32_t batch = 10000;              // most entries an answer
  uint32_t inflight = 0;               // most requests at once; 0: no limit

  // The remote's habits.
  SimCookies cookies = SimCookies::kOrdered;
  bool eof_sentinel = false;     // the last entry's cookie says 'the end' and nothing else
  bool strict_verifier = false;  // a verifier from before a change is a bad cookie
  uint64_t churn = 0;            // entries added, and as many removed, a second in `big`
  bool wcc = true;               // a change tells the directory's tokens from before and after it
  bool unstable = false;         // what is written may be lost until it is committed
  bool xattr = false;            // there are extended attributes
  bool fold = false;             // a name that is not there is looked for in small letters
  uint64_t space = 0;            // bytes of content that can be stored; 0: no limit
  SimFaultRates faults;
  uint64_t seed = 1;
};

// Largest numbers of objects: every inode number stays under 2^48 and every position in a
// directory under 2^61.
constexpr uint64_t kSimMaxObjects = 1'000'000'000'000;
constexpr uint64_t kSimMaxChurn = 1'000'000;

// Reads the text behind `sim:`. Nothing, and `error_text` filled, when it is malformed.
std::optional<SimConfig> parse_sim_url(std::string_view url_rest, std::string* error_text);

// What can't be carried out although every value is well-formed; empty when all is fine.
std::string check_sim_config(const SimConfig& config);

}  // namespace fusefs
