#include "tools/stress/lister.h"

#include <time.h>

#include <cerrno>
#include <cstring>

namespace stress {
namespace {

constexpr size_t kSmallestBuffer = 24;
constexpr size_t kLargestRandomBuffer = size_t{96} * 1024;

void sleep_us(uint64_t microseconds) {
  const timespec pause{static_cast<time_t>(microseconds / 1000000),
                       static_cast<long>(microseconds % 1000000 * 1000)};
  (void)::nanosleep(&pause, nullptr);
}

// What a program sees when the mount went away underneath it.
bool is_vanished(int64_t error) {
  return error == -ENOTCONN || error == -ECONNABORTED || error == -ENOENT || error == -ENODEV ||
         error == -EIO || error == -ESTALE;
}

}  // namespace

ListerFigures& ListerFigures::operator+=(const ListerFigures& other) {
  names += other.names;
  rewinds += other.rewinds;
  seeks += other.seeks;
  bad_seeks += other.bad_seeks;
  bad_offsets += other.bad_offsets;
  retried += other.retried;
  errors += other.errors;
  if (problem.empty()) problem = other.problem;
  return *this;
}

bool ListerFigures::wrong() const {
  return names.duplicates + names.gaps + names.unexpected + bad_seeks + bad_offsets != 0;
}

Lister::Lister(const Plan& plan, Progress* progress, uint64_t number)
    : plan_(plan), progress_(progress), number_(number), random_(plan.seed * 1000003 + number) {}

void Lister::complain(const std::string& what) {
  if (!figures_.problem.empty()) return;
  figures_.problem = what + " (seed " + std::to_string(plan_.seed) + ", lister " +
                     std::to_string(number_) + ", listing " +
                     std::to_string(figures_.names.listings) + ", buffer " +
                     std::to_string(buffer_) + ")";
}

bool Lister::failed(const char* call, int64_t error) {
  if (plan_.may_vanish && is_vanished(error)) {
    progress_->stop = true;
    return false;
  }
  ++figures_.errors;
  complain(std::string(call) + ": " + std::strerror(static_cast<int>(-error)));
  return false;
}

bool Lister::open() {
  int error = stream_.open(plan_.directory);
  for (uint32_t attempt = 0; error < 0 && attempt < plan_.retries && !progress_->stop; ++attempt) {
    ++figures_.retried;
    error = stream_.open(plan_.directory);
  }
  return error == 0 || failed("open", error);
}

int64_t Lister::read_batch(const std::function<void(const DirEntry&)>& visit) {
  if (plan_.delay_us != 0) sleep_us(plan_.delay_us);
  const size_t bytes =
      buffer_ != 0 ? buffer_ : kSmallestBuffer + random(kLargestRandomBuffer - kSmallestBuffer);
  const auto checked = [&](const DirEntry& entry) {
    if (entry.offset == 0 || entry.offset > INT64_MAX) {
      ++figures_.bad_offsets;
      complain("offset of " + std::string(entry.name) + ": " + std::to_string(entry.offset));
    }
    visit(entry);
  };
  int64_t got = stream_.read(bytes, checked);
  for (uint32_t attempt = 0; got < 0 && attempt < plan_.retries && !progress_->stop; ++attempt) {
    ++figures_.retried;
    got = stream_.read(bytes, checked);
  }
  if (got > 0) progress_->entries.fetch_add(static_cast<uint64_t>(got), std::memory_order_relaxed);
  return got;
}

Lister::End Lister::read_to_end(ListingCheck* check, std::vector<Position>* positions) {
  const auto visit = [&](const DirEntry& entry) {
    const uint32_t index = check->see(entry.name);
    if (positions != nullptr) positions->push_back({entry.offset, index});
  };
  while (!progress_->stop) {
    const int64_t got = read_batch(visit);
    if (got == 0) {
      // Nothing at all: the empty directory below a mount that is gone.
      if (plan_.may_vanish && check->nothing_expected_seen()) progress_->stop = true;
      if (progress_->stop) break;
      check->finish();
      return End::kReached;
    }
    if (got < 0) {
      failed("getdents64", got);
      return End::kFailed;
    }
  }
  return End::kStopped;
}

bool Lister::list_plain(ListingCheck* check) {
  return read_to_end(check, nullptr) == End::kReached;
}

bool Lister::list_rewound(ListingCheck* check) {
  const uint64_t batches = 1 + random(20);
  for (uint64_t batch = 0; batch < batches && !progress_->stop; ++batch) {
    const int64_t got = read_batch([&](const DirEntry& entry) { check->see(entry.name); });
    if (got < 0) return failed("getdents64", got);
    if (got == 0) break;
  }
  const int error = stream_.seek(0);
  if (error < 0) return failed("lseek", error);
  ++figures_.rewinds;
  check->restart();
  return read_to_end(check, nullptr) == End::kReached;
}

bool Lister::list_and_seek(ListingCheck* check) {
  std::vector<Position> positions;
  if (read_to_end(check, &positions) != End::kReached) return false;
  for (uint32_t i = 0; i < plan_.seeks && !positions.empty() && !progress_->stop; ++i) {
    if (!check_seek(positions)) return false;
  }
  return true;
}

// Goes to a remembered place, on this descriptor or on a new one, and compares what follows with
// what followed before. Names outside the expected set may have come or gone since.
bool Lister::check_seek(const std::vector<Position>& positions) {
  if (random(2) == 0 && !open()) return false;
  const size_t from = random(positions.size());
  const int error = stream_.seek(positions[from].offset);
  if (error < 0) return failed("lseek", error);
  ++figures_.seeks;
  size_t next = from + 1;
  const auto skip_others = [&] {
    while (next < positions.size() && positions[next].index == kNotInSet) ++next;
  };
  bool right = true;
  const auto visit = [&](const DirEntry& entry) {
    const uint32_t index = plan_.expected.find(entry.name);
    if (index == kNotInSet || !right) return;
    skip_others();
    right = next < positions.size() && positions[next].index == index;
    if (!right) {
      complain("after a seek to " + std::to_string(positions[from].offset) + ", entry " +
               std::to_string(from + 1) + ": " + std::string(entry.name) + " instead of " +
               (next < positions.size() ? std::string(plan_.expected.name(positions[next].index))
                                        : "the end"));
    }
    ++next;
  };
  const uint64_t batches = random(8) == 0 ? UINT64_MAX : 1 + random(4);  // sometimes to the end
  int64_t got = 1;
  for (uint64_t batch = 0; batch < batches && got > 0 && right && !progress_->stop; ++batch) {
    got = read_batch(visit);
  }
  if (got < 0) return failed("getdents64", got);
  skip_others();
  if (got == 0 && next == from + 1 && plan_.may_vanish && next < positions.size()) {
    progress_->stop = true;  // nothing at all: the empty directory below a mount that is gone
    return false;
  }
  if (got == 0 && right && next < positions.size()) {
    right = false;
    complain("after a seek to " + std::to_string(positions[from].offset) + ": the end instead of " +
             std::string(plan_.expected.name(positions[next].index)));
  }
  if (!right) ++figures_.bad_seeks;
  return true;
}

bool Lister::run_once() {
  std::vector<bool (Lister::*)(ListingCheck*)> kinds;
  if (plan_.plain) kinds.push_back(&Lister::list_plain);
  if (plan_.rewind) kinds.push_back(&Lister::list_rewound);
  if (plan_.seek) kinds.push_back(&Lister::list_and_seek);
  buffer_ = plan_.buffers[random(plan_.buffers.size())];
  if (!open()) return false;
  ListingCheck check(plan_.expected, plan_.others);
  const bool done = (this->*kinds[random(kinds.size())])(&check);
  figures_.names += check.figures();
  if (!check.problem().empty()) complain(check.problem());
  return done;
}

}  // namespace stress
