// FakeFile: a remote's file in memory, whose answers a test holds, fails, shortens and reorders.
//
// Ownership:      shared by the test and the sources that it opens.
// Thread-safety:  all members from any thread.
// Answers:        kAtOnce: before the call returns. kThread: from a thread of its own, in random
//                 order. kHeld: when release() or fail() is called; carried out then, or at once
//                 with carry_out_held(false).
// Not stable:     writes are lost by crash() unless a commit came between; it changes the verifier.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cache/data/file_source.h"
#include "tests/support/random.h"

namespace test {

class FakeFile : public std::enable_shared_from_this<FakeFile> {
 public:
  enum class Answers : uint8_t { kAtOnce, kThread, kHeld };
  enum class Kind : uint8_t { kRead, kWrite, kCommit };
  enum class Access : uint8_t { kRead, kWrite, kBoth };
  struct Options {
    uint32_t max_read = 1U << 20;
    uint32_t max_write = 1U << 20;
    bool stable = true;
    bool file_sync = false;  // not stable: but for writes that are asked to be; they are durable
    Answers answers = Answers::kAtOnce;
    uint64_t seed = 1;
  };
  struct Call {
    Kind kind = Kind::kRead;
    uint64_t offset = 0;
    uint64_t size = 0;
    cache::StableHow how = cache::StableHow::kUnstable;  // of a write
  };
  // An errno for this call, or 0; runs when the call is carried out, with no lock held.
  using Fault = std::function<int(const Call&)>;

  static std::shared_ptr<FakeFile> make(const Options& options);
  ~FakeFile();
  FakeFile(const FakeFile&) = delete;
  FakeFile& operator=(const FakeFile&) = delete;

  std::shared_ptr<cache::FileSource> open(Access access = Access::kBoth);

  // As others change and see the file.
  void set_content(std::string content);
  void write_elsewhere(uint64_t offset, const std::string& bytes);
  void truncate(uint64_t size);
  [[nodiscard]] std::string content() const;
  [[nodiscard]] std::string durable() const;
  [[nodiscard]] uint64_t size() const { return content().size(); }
  void crash();

  void set_answers(Answers answers);
  void set_fault(Fault fault);
  // Held calls: whether they take effect when sent, and not only when answered.
  void carry_out_held(bool late);
  [[nodiscard]] size_t held() const;
  [[nodiscard]] size_t held(Kind kind) const;
  void release(size_t most = ~size_t{0});
  void release_all(Kind kind);
  void release_last();
  void fail(int error);

  [[nodiscard]] std::vector<Call> calls(Kind kind) const;
  [[nodiscard]] size_t count(Kind kind) const { return calls(kind).size(); }
  [[nodiscard]] size_t cancelled() const { return cancelled_.load(); }
  [[nodiscard]] size_t most_under_way() const;
  // Writes that overlapped another one under way: the remote may take them in any order.
  [[nodiscard]] size_t overlapping_writes() const { return overlapping_.load(); }

 private:
  class Source;
  struct Pending {
    uint64_t id = 0;
    Call call;
    std::function<int()> carry_out;  // the errno
    std::function<void(int)> answer;
    bool carried_out = false;
    int error = 0;
  };

  explicit FakeFile(const Options& options) : options_(options), random_(options.seed) {}
  uint64_t submit(const Call& call, std::function<int()> carry_out,
                  std::function<void(int)> answer);
  void cancel(uint64_t id);
  int carry_out(Pending& pending);
  void finish(Pending pending);
  bool take(size_t index, Pending* pending);
  void run();

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Random random_;
  std::string content_;
  std::string durable_;
  uint64_t verifier_ = 7;
  Answers answers_ = Answers::kAtOnce;
  Fault fault_;
  bool late_ = true;
  bool stopping_ = false;
  uint64_t next_id_ = 1;
  std::vector<Pending> pending_;
  std::vector<Call> calls_;
  std::vector<Call> writing_;
  size_t most_under_way_ = 0;
  std::atomic<size_t> cancelled_{0}, overlapping_{0};
  std::thread thread_;
};

}  // namespace test
