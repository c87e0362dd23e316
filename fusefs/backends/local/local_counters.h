// LocalCounters: what BackendCounters reports, kept by scoped operations.
//
// Thread-safety:  all members may be called from any thread.
// Memory order:   relaxed throughout: these are statistics, and order nothing.
#pragma once

#include <atomic>
#include <cerrno>

#include "fusefs/backends/backend.h"

namespace fusefs::local {

class LocalCounters {
 public:
  // Counts a request and holds it in flight until finish(), or while it lives; the counters
  // outlive it.
  class Operation {
   public:
    explicit Operation(LocalCounters& counters) : counters_(counters) { counters_.begin(); }
    ~Operation() { finish(); }
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;

    // Counts answers that are failures of the disk or of the system, not of the question.
    void note(int error_number) {
      if (is_failure(error_number)) counters_.errors_.fetch_add(1, std::memory_order_relaxed);
    }

    // Before the asker hears of the answer. Any number of times.
    void finish() {
      if (finished_.exchange(true, std::memory_order_relaxed)) return;
      counters_.inflight_.fetch_sub(1, std::memory_order_relaxed);
    }

   private:
    LocalCounters& counters_;
    std::atomic<bool> finished_{false};
  };

  [[nodiscard]] BackendCounters read() const {
    BackendCounters counters;
    counters.requests = requests_.load(std::memory_order_relaxed);
    counters.inflight = inflight_.load(std::memory_order_relaxed);
    counters.inflight_peak = inflight_peak_.load(std::memory_order_relaxed);
    counters.errors = errors_.load(std::memory_order_relaxed);
    return counters;
  }

 private:
  static bool is_failure(int error_number) {
    switch (error_number) {
      case EIO:
      case ENOMEM:
      case EMFILE:
      case ENFILE:
      case ENXIO:
      case ENODEV:
      case ETIMEDOUT:
      case EUCLEAN:
      case EBADMSG:
      case EREMOTEIO:
        return true;
      default:
        return false;
    }
  }

  void begin() {
    requests_.fetch_add(1, std::memory_order_relaxed);
    const uint64_t now = inflight_.fetch_add(1, std::memory_order_relaxed) + 1;
    uint64_t peak = inflight_peak_.load(std::memory_order_relaxed);
    while (peak < now &&
           !inflight_peak_.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
    }
  }

  std::atomic<uint64_t> requests_{0};
  std::atomic<uint64_t> inflight_{0};
  std::atomic<uint64_t> inflight_peak_{0};
  std::atomic<uint64_t> errors_{0};
};

}  // namespace fusefs::local
