// FakeSource: a remote directory in memory that does what a test tells it to.
//
// Purpose:        every cookie style a remote may have, answers that come when the test lets them,
//                 changes between a request and its answer, and every way of answering wrongly.
// Ownership:      outlives the Directory that asks it.
// Thread-safety:  all members from any thread; hooks and options are set before the first request.
//                 Completions run on its own thread, with none of its locks held.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cache/dir/source.h"

namespace test {

enum class CookieStyle : uint8_t {
  kOrdered,     // small, ascending with gaps
  kHashed,      // 63-bit hashes, in no order
  kDescending,  // small, descending with gaps
  kHuge,        // 64-bit hashes, about half of them above 2^63
  kSentinel,    // as tmpfs: small, descending; the last entry's is 0x7fffffff
  kName,        // opaque: the name; resumes at the next name in byte order
  kOrdinal,     // opaque: ordinal and name; a bad cookie when another name stands there
};
constexpr CookieStyle kAllStyles[] = {
    CookieStyle::kOrdered,  CookieStyle::kHashed, CookieStyle::kDescending, CookieStyle::kHuge,
    CookieStyle::kSentinel, CookieStyle::kName,   CookieStyle::kOrdinal};
const char* name_of(CookieStyle style);
bool is_opaque(CookieStyle style);

constexpr uint64_t kSentinelCookie = 0x7fffffff;

struct FakeEntry {
  std::string name;
  uint64_t cookie = 0;
  uint64_t ino = 0;
  bool alive = true;  // a removed entry's cookie still tells a place
};

class FakeSource final : public cache::DirSource {
 public:
  struct Options {
    CookieStyle style = CookieStyle::kOrdered;
    uint32_t batch = 1000;         // most entries an answer
    uint32_t announced = 0;        // what max_batch() says; 0: batch
    bool attrs = true;             // gives attributes where they are asked for
    bool tells_change = true;      // every answer carries the change token
    bool eof_alone = false;        // the end comes as an empty answer of its own
    bool strict_verifier = false;  // a change of the directory makes every cookie bad
    bool manual = false;           // answers only what allow() lets through
    bool deaf = false;             // cancel() is ignored: late completions run
  };
  using Number = uint64_t;  // of a request, from 1
  using BeforeHook = std::function<void(Number)>;
  using AnswerHook = std::function<void(Number, const cache::DirRequest&, cache::DirAnswer&)>;

  FakeSource() : FakeSource(Options{}) {}
  explicit FakeSource(const Options& options);
  ~FakeSource() override;

  RequestId read_dir(cache::DirRequest request, Completion done) override;
  void cancel(RequestId id) override;
  [[nodiscard]] cache::CookieKind cookie_kind() const override;
  [[nodiscard]] uint32_t max_batch() const override {
    return options_.announced != 0 ? options_.announced : options_.batch;
  }

  // Content. Names are prefix and number, `name_length` bytes where that is longer.
  void fill(size_t count, size_t name_length = 0, const std::string& prefix = "f");
  void set_entries(std::vector<FakeEntry> entries);
  void add(const std::string& name, size_t index);  // before the index-th, dead ones counted
  void append(const std::string& name) { add(name, SIZE_MAX); }
  bool remove(const std::string& name);
  // The same, by somebody whom the remote tells the tokens around it.
  struct Told {
    uint64_t before = 0;
    uint64_t after = 0;
    uint64_t ino = 0;  // of the entry
  };
  Told add_told(const std::string& name, size_t index = SIZE_MAX);
  std::optional<Told> remove_told(const std::string& name);
  void new_verifier();  // cookies keep their meaning, but only under the new one
  void renumber();      // a new verifier, and new cookies for everything
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] std::vector<FakeEntry> entries() const;
  [[nodiscard]] uint64_t change() const;
  static cache::Attr attr_of(uint64_t ino);
  static uint8_t type_of(uint64_t ino);

  // Hooks, on the fake's thread: before the answer is made (the request was sent long ago), and
  // after (what is changed in it is what the directory gets).
  void on_request(BeforeHook hook);
  void on_answer(AnswerHook hook);
  void end_hooks();  // none runs any more when it returns
  // Manual: lets so many more answers through.
  void allow(uint64_t answers);
  void allow_all();

  // What was asked. The waits return false at the deadline.
  [[nodiscard]] std::vector<cache::DirRequest> requests() const;
  [[nodiscard]] uint64_t request_count() const;
  [[nodiscard]] uint64_t answered() const;
  [[nodiscard]] uint64_t cancels() const;
  bool wait_idle() const;  // nothing is asked that could be answered
  bool wait_requests(uint64_t count) const;
  bool wait_answered(uint64_t count) const;
  void forget_requests();

 private:
  struct Pending {
    RequestId id = 0;
    Number number = 0;
    cache::DirRequest request;
    Completion done;
  };

  void run();
  cache::DirAnswer answer(const cache::DirRequest& request);
  [[nodiscard]] std::optional<size_t> place(const cache::DirRequest& request);
  [[nodiscard]] std::optional<size_t> native_place(uint64_t cookie);
  [[nodiscard]] std::optional<size_t> ordinal_place(const std::string& token);
  uint64_t add_locked(const std::string& name, size_t index);
  uint64_t remove_locked(const std::string& name);
  void reindex();
  void touched();
  uint64_t fresh_cookie(size_t index);
  void put(cache::DirAnswer& answer, size_t index, bool want_attrs) const;

  const Options options_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<FakeEntry> entries_;
  bool indexed_ = false;
  std::unordered_map<uint64_t, size_t> by_cookie_;  // the last entry with it
  std::vector<size_t> alive_;
  uint64_t change_ = 1000;
  uint64_t verifier_ = 7;
  uint64_t salt_ = 1;
  uint64_t next_ino_ = 100;
  BeforeHook before_;
  AnswerHook after_;
  std::deque<Pending> queue_;
  uint64_t permits_ = 0;
  bool answering_ = false;
  bool stopping_ = false;
  RequestId ids_ = 0;
  Number numbers_ = 0;
  uint64_t answered_ = 0;
  uint64_t cancels_ = 0;
  std::vector<cache::DirRequest> requests_;
  std::thread thread_;
};

// Ends the hooks before the locals that they refer to go.
class HookGuard {
 public:
  explicit HookGuard(FakeSource& source) : source_(source) {}
  ~HookGuard() { source_.end_hooks(); }
  HookGuard(const HookGuard&) = delete;
  HookGuard& operator=(const HookGuard&) = delete;

 private:
  FakeSource& source_;
};

}  // namespace test
