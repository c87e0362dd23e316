#include "tests/support/fake_file.h"

#include <algorithm>
#include <cerrno>

namespace test {

using cache::Result;
using cache::Status;
using cache::WriteAnswer;

class FakeFile::Source final : public cache::FileSource {
 public:
  Source(std::shared_ptr<FakeFile> file, Access access) : file_(std::move(file)), access_(access) {}

  RequestId read(uint64_t offset, uint32_t size, Done<std::string> done) override {
    auto bytes = std::make_shared<std::string>();
    return file_->submit(
        {Kind::kRead, offset, size},
        [file = file_.get(), offset, size, bytes] {
          const std::lock_guard lock(file->mutex_);
          if (offset < file->content_.size()) *bytes = file->content_.substr(offset, size);
          return 0;
        },
        [bytes, done](int error) {
          if (error != 0) return done(Status::error(error));
          done(std::move(*bytes));
        });
  }

  RequestId write(uint64_t offset, std::string bytes, cache::StableHow how,
                  Done<WriteAnswer> done) override {
    const uint64_t size = bytes.size();
    const bool syncs = file_->options_.file_sync && how == cache::StableHow::kFileSync;
    auto answer = std::make_shared<WriteAnswer>();
    return file_->submit(
        {Kind::kWrite, offset, size, how},
        [file = file_.get(), offset, syncs, bytes = std::move(bytes), answer] {
          const std::lock_guard lock(file->mutex_);
          const auto put = [&](std::string& to) {
            if (to.size() < offset + bytes.size()) to.resize(offset + bytes.size(), '\0');
            to.replace(offset, bytes.size(), bytes);
          };
          put(file->content_);
          if (file->options_.stable || syncs) put(file->durable_);
          *answer = {file->options_.stable || syncs, file->verifier_, syncs};
          return 0;
        },
        [answer, done](int error) {
          if (error != 0) return done(Status::error(error));
          done(*answer);
        });
  }

  RequestId commit(Done<uint64_t> done) override {
    auto verifier = std::make_shared<uint64_t>();
    return file_->submit(
        {Kind::kCommit, 0, 0},
        [file = file_.get(), verifier] {
          const std::lock_guard lock(file->mutex_);
          file->durable_ = file->content_;
          *verifier = file->verifier_;
          return 0;
        },
        [verifier, done](int error) {
          if (error != 0) return done(Status::error(error));
          done(*verifier);
        });
  }

  void cancel(RequestId id) override { file_->cancel(id); }
  [[nodiscard]] bool readable() const override { return access_ != Access::kWrite; }
  [[nodiscard]] bool writable() const override { return access_ != Access::kRead; }
  [[nodiscard]] uint32_t max_read() const override { return file_->options_.max_read; }
  [[nodiscard]] uint32_t max_write() const override { return file_->options_.max_write; }

 private:
  const std::shared_ptr<FakeFile> file_;
  const Access access_;
};

std::shared_ptr<FakeFile> FakeFile::make(const Options& options) {
  std::shared_ptr<FakeFile> file(new FakeFile(options));
  file->answers_ = options.answers;
  file->thread_ = std::thread([raw = file.get()] { raw->run(); });
  return file;
}

FakeFile::~FakeFile() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

std::shared_ptr<cache::FileSource> FakeFile::open(Access access) {
  return std::make_shared<Source>(shared_from_this(), access);
}

uint64_t FakeFile::submit(const Call& call, std::function<int()> carry_out_call,
                          std::function<void(int)> answer) {
  Pending pending{0, call, std::move(carry_out_call), std::move(answer)};
  bool at_once = false;
  bool early = false;
  uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    calls_.push_back(call);
    if (call.kind == Kind::kWrite) {
      for (const Call& other : writing_) {
        const bool apart =
            other.offset + other.size <= call.offset || call.offset + call.size <= other.offset;
        if (!apart) ++overlapping_;
      }
      writing_.push_back(call);
    }
    at_once = answers_ == Answers::kAtOnce;
    early = answers_ == Answers::kHeld && !late_;
    id = next_id_++;
    pending.id = id;
    most_under_way_ = std::max(most_under_way_, pending_.size() + 1);
  }
  if (early) carry_out(pending);
  if (at_once) {
    finish(std::move(pending));
    return 0;
  }
  const std::lock_guard lock(mutex_);
  pending_.push_back(std::move(pending));
  changed_.notify_all();
  return id;
}

void FakeFile::cancel(uint64_t id) {
  Pending gone;
  const std::lock_guard lock(mutex_);
  const auto it = std::find_if(pending_.begin(), pending_.end(),
                               [&](const Pending& pending) { return pending.id == id; });
  if (it == pending_.end()) return;
  gone = std::move(*it);
  pending_.erase(it);
  if (gone.call.kind == Kind::kWrite) {
    const auto same = [&](const Call& call) { return call.offset == gone.call.offset; };
    writing_.erase(std::find_if(writing_.begin(), writing_.end(), same));
  }
  ++cancelled_;
}

int FakeFile::carry_out(Pending& pending) {
  if (pending.carried_out) return pending.error;
  Fault fault;
  {
    const std::lock_guard lock(mutex_);
    fault = fault_;
  }
  pending.carried_out = true;
  pending.error = fault ? fault(pending.call) : 0;
  if (pending.error == 0) pending.error = pending.carry_out();
  return pending.error;
}

void FakeFile::finish(Pending pending) {
  const int error = carry_out(pending);
  if (pending.call.kind == Kind::kWrite) {
    const std::lock_guard lock(mutex_);
    const auto same = [&](const Call& call) { return call.offset == pending.call.offset; };
    writing_.erase(std::find_if(writing_.begin(), writing_.end(), same));
  }
  pending.answer(error);
}

bool FakeFile::take(size_t index, Pending* pending) {
  const std::lock_guard lock(mutex_);
  if (index >= pending_.size()) return false;
  *pending = std::move(pending_[index]);
  pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(index));
  return true;
}

void FakeFile::run() {
  for (;;) {
    Pending pending;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] {
        return stopping_ || (answers_ == Answers::kThread && !pending_.empty());
      });
      if (stopping_) return;
      const auto index = static_cast<ptrdiff_t>(random_.below(pending_.size()));
      pending = std::move(pending_[static_cast<size_t>(index)]);
      pending_.erase(pending_.begin() + index);
    }
    finish(std::move(pending));
  }
}

void FakeFile::set_content(std::string content) {
  const std::lock_guard lock(mutex_);
  content_ = durable_ = std::move(content);
}

void FakeFile::write_elsewhere(uint64_t offset, const std::string& bytes) {
  const std::lock_guard lock(mutex_);
  for (std::string* to : {&content_, &durable_}) {
    if (to->size() < offset + bytes.size()) to->resize(offset + bytes.size(), '\0');
    to->replace(offset, bytes.size(), bytes);
  }
}

void FakeFile::truncate(uint64_t size) {
  const std::lock_guard lock(mutex_);
  content_.resize(size, '\0');
  durable_.resize(size, '\0');
}

std::string FakeFile::content() const {
  const std::lock_guard lock(mutex_);
  return content_;
}

std::string FakeFile::durable() const {
  const std::lock_guard lock(mutex_);
  return durable_;
}

void FakeFile::crash() {
  const std::lock_guard lock(mutex_);
  content_ = durable_;
  ++verifier_;
}

void FakeFile::set_answers(Answers answers) {
  const std::lock_guard lock(mutex_);
  answers_ = answers;
  changed_.notify_all();
}

void FakeFile::set_fault(Fault fault) {
  const std::lock_guard lock(mutex_);
  fault_ = std::move(fault);
}

void FakeFile::carry_out_held(bool late) {
  const std::lock_guard lock(mutex_);
  late_ = late;
}

size_t FakeFile::held() const {
  const std::lock_guard lock(mutex_);
  return pending_.size();
}

size_t FakeFile::held(Kind kind) const {
  const std::lock_guard lock(mutex_);
  return static_cast<size_t>(
      std::count_if(pending_.begin(), pending_.end(),
                    [&](const Pending& pending) { return pending.call.kind == kind; }));
}

void FakeFile::release(size_t most) {
  Pending pending;
  for (size_t i = 0; i < most && take(0, &pending); ++i) finish(std::move(pending));
}

void FakeFile::release_all(Kind kind) {
  std::vector<Pending> released;
  {
    const std::lock_guard lock(mutex_);
    const auto other = [&](const Pending& pending) { return pending.call.kind != kind; };
    const auto first = std::stable_partition(pending_.begin(), pending_.end(), other);
    std::move(first, pending_.end(), std::back_inserter(released));
    pending_.erase(first, pending_.end());
  }
  for (Pending& pending : released) finish(std::move(pending));
}

void FakeFile::release_last() {
  Pending pending;
  const size_t count = held();
  if (count > 0 && take(count - 1, &pending)) finish(std::move(pending));
}

void FakeFile::fail(int error) {
  Pending pending;
  while (take(0, &pending)) {
    pending.carried_out = true;
    pending.error = error;
    finish(std::move(pending));
  }
}

std::vector<FakeFile::Call> FakeFile::calls(Kind kind) const {
  const std::lock_guard lock(mutex_);
  std::vector<Call> found;
  std::copy_if(calls_.begin(), calls_.end(), std::back_inserter(found),
               [&](const Call& call) { return call.kind == kind; });
  return found;
}

size_t FakeFile::most_under_way() const {
  const std::lock_guard lock(mutex_);
  return most_under_way_;
}

}  // namespace test
