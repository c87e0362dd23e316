// How long things take: histograms of what the kernel asks of us, and of what we ask of the remote.
//
// Purpose:        tells a slow remote from a slow daemon while the mount is in use, at a cost that
//                 does not show in either.
// Shape:          bucket i counts what took at most 1024 ns * 2^i, the last one all that took
//                 longer than 68.7 s. A quantile read from them is off by less than half its size.
// Thread-safety:  all members from any thread. Relaxed atomics: every record counts once, a
//                 snapshot taken beside records may lack some in its sum and have them in a bucket.
// Ownership:      plain memory, no allocation.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cache/base/clock.h"

namespace fusefs {

struct HistogramSnapshot {
  static constexpr size_t kBounds = 27;
  static constexpr size_t kBuckets = kBounds + 1;  // the last has no bound

  static constexpr uint64_t bound_ns(size_t bucket) { return uint64_t{1024} << bucket; }

  std::array<uint64_t, kBuckets> counts{};
  uint64_t sum_ns = 0;
  uint64_t max_ns = 0;

  [[nodiscard]] uint64_t count() const;
  // The time that a share `q` of (0, 1] took at most, even within a bucket; 0 of nothing.
  [[nodiscard]] uint64_t quantile_ns(double q) const;
};

// Two atomic additions a record, and a comparison with the longest so far.
class alignas(64) Histogram {
 public:
  void record(cache::Duration took);
  [[nodiscard]] HistogramSnapshot snapshot() const;

 private:
  std::array<std::atomic<uint64_t>, HistogramSnapshot::kBuckets> counts_{};
  std::atomic<uint64_t> sum_ns_{0};
  std::atomic<uint64_t> max_ns_{0};
};

// Requests of the kernel, from their arrival to the reply.
enum class RequestKind : uint8_t {
  kLookup,
  kGetattr,
  kOpendir,
  kReaddir,
  kReaddirplus,
  kRead,
  kWrite,
  kChange,  // of the tree, or of attributes
  kOther
};
constexpr std::array<std::string_view, 9> kRequestKinds = {
    "lookup", "getattr", "opendir", "readdir", "readdirplus", "read", "write", "change", "other"};

// Requests to the remote, from the call to its completion. What is cancelled is not counted.
enum class RemoteKind : uint8_t {
  kLookup,
  kGetattr,
  kReaddir,
  kOpen,
  kRead,
  kWrite,
  kChange,
  kOther
};
constexpr std::array<std::string_view, 8> kRemoteKinds = {"lookup", "getattr", "readdir", "open",
                                                          "read",   "write",   "change",  "other"};

struct LatencyFigures {
  std::array<HistogramSnapshot, kRequestKinds.size()> requests;
  std::array<HistogramSnapshot, kRemoteKinds.size()> remote;
};

// Those of one mount.
class Latencies {
 public:
  Histogram& of(RequestKind kind) { return requests_[static_cast<size_t>(kind)]; }
  Histogram& of(RemoteKind kind) { return remote_[static_cast<size_t>(kind)]; }
  [[nodiscard]] LatencyFigures figures() const;

 private:
  std::array<Histogram, kRequestKinds.size()> requests_;
  std::array<Histogram, kRemoteKinds.size()> remote_;
};

}  // namespace fusefs
