#include "fusefs/backends/local/dir_lister.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "fusefs/backends/local/local_attr.h"

namespace fusefs::local {
namespace {

using cache::Attr;
using cache::DirAnswer;
using cache::DirRequest;
using cache::Result;
using cache::Status;

constexpr size_t kMinRecord = 24;        // bytes of a record with a name of up to 4 bytes
constexpr size_t kMaxBuffer = 64 << 10;  // below malloc's threshold for mappings of their own
// One record with the longest name any kernel filesystem gives (FUSE: 1024 bytes).
constexpr size_t kMinBuffer = 1088;

// A directory's end, an error (negated), or the number of bytes read.
long retry_getdents(int fd, void* buffer, size_t size) {
  long got;
  do {
    got = ::syscall(SYS_getdents64, fd, buffer, size);
  } while (got < 0 && errno == EINTR);
  return got < 0 ? -errno : got;
}

bool is_dot_or_dotdot(const char* name) {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

// Fills one answer from a positioned descriptor.
class AnswerFill {
 public:
  AnswerFill(int fd, const DirRequest& request)
      : fd_(fd),
        want_(std::clamp(request.max_entries, uint32_t{1}, kMaxBatch)),
        with_attrs_(request.want_attrs),
        buffer_(std::min(kMaxBuffer, std::max(kMinBuffer, want_ * kMinRecord)) / 8) {
    answer_.has_attrs = with_attrs_;
  }

  // Reads until the answer is full, at the directory's end, or failed. False: cancelled.
  bool run(const std::atomic<bool>& cancelled) {
    while (!done_) {
      if (cancelled.load(std::memory_order_relaxed)) return false;
      read_once();
    }
    return true;
  }

  DirAnswer take() { return std::move(answer_); }
  // Whether the descriptor stands after the answer's last entry.
  [[nodiscard]] bool positioned() const { return positioned_; }

 private:
  [[nodiscard]] size_t missing() const { return want_ - answer_.entries.size(); }

  void fail(int error_number) {
    done_ = true;
    if (answer_.entries.empty()) answer_.error = error_number == ENOENT ? ESTALE : error_number;
  }

  void read_once() {
    // A buffer of the smallest records can't hold more entries than are missing. One of
    // kMinBuffer can: then the descriptor must go back.
    const size_t size = std::clamp(missing() * kMinRecord, kMinBuffer, buffer_.size() * 8);
    const long got = retry_getdents(fd_, buffer_.data(), size);
    if (got < 0) return fail(static_cast<int>(-got));
    if (got == 0) {
      done_ = answer_.eof = true;
      return;
    }
    const bool all = add_records(static_cast<size_t>(got));
    if (done_) return;
    if (!all) {
      go_back();
    } else if (missing() == 0 || nearly_full()) {
      done_ = true;
    }
  }

  // A few entries short of a large answer beat a seek.
  [[nodiscard]] bool nearly_full() const {
    return missing() * kMinRecord < kMinBuffer && missing() <= want_ / 8;
  }

  // False: entries were left over.
  bool add_records(size_t bytes) {
    const cache::Timespec now = now_realtime();
    const char* const base = reinterpret_cast<const char*>(buffer_.data());
    for (size_t at = 0; at < bytes;) {
      const auto* record = reinterpret_cast<const struct dirent64*>(base + at);
      if (record->d_reclen < offsetof(struct dirent64, d_name) + 1 ||
          record->d_reclen > bytes - at) {
        fail(EIO);
        return true;
      }
      at += record->d_reclen;
      if (is_dot_or_dotdot(record->d_name)) continue;
      if (missing() == 0) return false;
      add_record(*record, now);
    }
    return true;
  }

  void add_record(const struct dirent64& record, const cache::Timespec& now) {
    uint64_t ino = record.d_ino;
    uint8_t type = record.d_type;
    if (with_attrs_) {
      const Result<Attr> attr = stat_at(fd_, record.d_name, now);
      if (attr.error_number() == ENOENT) return;  // removed in between
      if (attr.ok()) {
        answer_.attrs.push_back(attr.value());
        ino = attr.value().ino;  // at a mount point the directory tells the covered one
        type = static_cast<uint8_t>(IFTODT(attr.value().mode));
      } else {
        drop_attrs();
      }
    }
    answer_.add(record.d_name, ino, type, static_cast<uint64_t>(record.d_off));
  }

  // A directory that may be read and not searched, say: the names still count.
  void drop_attrs() {
    with_attrs_ = answer_.has_attrs = false;
    answer_.attrs.clear();
  }

  void go_back() {
    done_ = true;
    const auto place = static_cast<off_t>(answer_.entries.back().cookie);
    positioned_ = ::lseek(fd_, place, SEEK_SET) == place;
  }

 private:
  const int fd_;
  const size_t want_;
  bool with_attrs_;
  bool done_ = false;
  bool positioned_ = true;
  std::vector<uint64_t> buffer_;  // of words: records are aligned to 8
  DirAnswer answer_;
};

DirAnswer failure(int error_number) {
  DirAnswer answer;
  answer.error = error_number;
  return answer;
}

}  // namespace

std::optional<DirAnswer> DirLister::list(const std::string& directory, const DirRequest& request,
                                         const std::atomic<bool>& cancelled) {
  Result<Position> opened = open_at(directory, request.after.cookie);
  if (!opened.ok()) return failure(opened.error_number());
  Position position = std::move(opened).value();

  AnswerFill fill(position.fd.get(), request);
  if (!fill.run(cancelled)) return std::nullopt;
  DirAnswer answer = fill.take();
  if (answer.error != 0) return answer;

  const Result<Attr> after = stat_fd(position.fd.get());
  const bool unchanged = after.ok() && after.value().change == position.token;
  answer.change = unchanged ? position.token : unique_token();
  if (unchanged && !answer.eof && fill.positioned()) {
    descriptors_.keep({directory, answer.entries.back().cookie, position.token},
                      std::move(position.fd));
  }
  return answer;
}

Result<DirLister::Position> DirLister::open_at(const std::string& directory, uint64_t cookie) {
  if (cookie > static_cast<uint64_t>(std::numeric_limits<off_t>::max())) {
    return Status::error(cache::kErrBadCookie);
  }
  Result<UniqueFd> opened = open_fresh(directory);
  if (!opened.ok()) return opened.status();
  Position position;
  position.fd = std::move(opened).value();
  const Result<Attr> attr = stat_fd(position.fd.get());
  if (!attr.ok()) return attr.status();
  position.token = attr.value().change;
  if (cookie == 0) return position;

  UniqueFd kept = descriptors_.take({directory, cookie, position.token});
  if (kept.valid()) {
    position.fd = std::move(kept);
  } else if (::lseek(position.fd.get(), static_cast<off_t>(cookie), SEEK_SET) < 0) {
    return Status::error(errno == EINVAL ? cache::kErrBadCookie : errno);
  }
  return position;
}

Result<UniqueFd> DirLister::open_fresh(const std::string& directory) {
  Result<UniqueFd> opened = root_.open(directory, O_RDONLY | O_DIRECTORY);
  if (opened.error_number() != EMFILE && opened.error_number() != ENFILE) return opened;
  descriptors_.clear();  // ours may be the ones that are missing
  return root_.open(directory, O_RDONLY | O_DIRECTORY);
}

}  // namespace fusefs::local
