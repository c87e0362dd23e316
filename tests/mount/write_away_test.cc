// Remotes that are away, or slow, while there is something to be written: who is told, how much may
// be dirty meanwhile, and that it is there in the end.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/mount/write_rig.h"
#include "tests/support/delay_proxy.h"
#include "tests/support/sizes.h"
#ifdef COOKIEFS_HAVE_NFS
#include "tests/support/ganesha.h"
#endif

namespace fs = std::filesystem;

using test::Fd;
using test::kMiB;
using test::Mount;
using test::noise;
using test::read_file;
using test::wait_until;
using test::write_file;

namespace {

constexpr int64_t kCache = 8 * kMiB;
constexpr int64_t kMayBeDirty = kCache / 100 * 40;

// A remote of that kind which falls silent, and answers again; NFS may be far away, too.
class SilentRemote {
 public:
  explicit SilentRemote(const std::string& kind,
                        std::chrono::milliseconds rtt = std::chrono::milliseconds(0)) {
#ifdef COOKIEFS_HAVE_NFS
    if (kind.starts_with("nfs")) {
      remote_ = std::make_unique<test::Remote>(kind);
      test::DelayProxy::Options options;
      options.target_port = test::nfs_server().nfs_port();
      options.rtt = rtt;
      proxy_ = std::make_unique<test::DelayProxy>(options);
      source_ =
          test::nfs_server().url("/plain/" + fs::path(remote_->directory()).filename().string(),
                                 proxy_->port(), kind.substr(3));
      return;
    }
#endif
    server_ = std::make_unique<test::StoppableServer>();
    source_ = server_->source();
  }

  [[nodiscard]] const std::string& source() const { return source_; }
  [[nodiscard]] std::string options(const std::string& more) const {
    return server_ ? server_->options(more) : more;
  }
  [[nodiscard]] std::string operator/(const std::string& name) const {
    return server_ ? *server_ / name : *remote_ / name;
  }
  void stop() { proxy_ ? proxy_->stall() : server_->stop(); }
  void go() { proxy_ ? proxy_->resume() : server_->go(); }
  // Of NFS: how often its clients have connected.
  [[nodiscard]] uint64_t accepted() const { return proxy_->accepted(); }

 private:
  std::unique_ptr<test::StoppableServer> server_;
  std::unique_ptr<test::Remote> remote_;
  std::unique_ptr<test::DelayProxy> proxy_;
  std::string source_;
};

std::string away_options(const std::string& more) {
  return "cache_size=" + std::to_string(kCache) + ",ttl=1h," + more;
}

// Dirty, under way, or not committed; while what moves from one to the other may be in both or
// none.
int64_t unwritten(const Mount& mount) {
  return mount.figure("unwritten.dirty_bytes") + mount.figure("unwritten.under_way_bytes") +
         mount.figure("unwritten.uncommitted_bytes");
}

// Looks at what is dirty, until it is told to stop.
class DirtyWatch {
 public:
  explicit DirtyWatch(const Mount& mount)
      : thread_([this, &mount] {
          while (!stop_) most_ = std::max(most_, mount.figure("unwritten.dirty_bytes"));
        }) {}
  ~DirtyWatch() { most(); }
  DirtyWatch(const DirtyWatch&) = delete;
  DirtyWatch& operator=(const DirtyWatch&) = delete;
  // The most that there were; it has stopped.
  int64_t most() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return most_;
  }

 private:
  std::atomic<bool> stop_{false};
  int64_t most_ = 0;
  std::thread thread_;
};

// Writes from a thread of its own, then fsync and close.
class SlowWriter {
 public:
  SlowWriter(const std::string& path, const std::string& text)
      : file_(path, O_RDWR | O_CREAT), text_(text) {}
  ~SlowWriter() {
    if (thread_.joinable()) thread_.join();
  }
  SlowWriter(const SlowWriter&) = delete;
  SlowWriter& operator=(const SlowWriter&) = delete;

  void start() {
    thread_ = std::thread([this] {
      write();
      sync_error_ = file_.sync();
      close_error_ = file_.shut();
      ended_ = true;
    });
  }
  [[nodiscard]] int open_error() const { return file_.error(); }
  [[nodiscard]] bool ended() const { return ended_; }
  // Once it has ended: bytes that were taken, and the errno of each.
  [[nodiscard]] size_t taken() const { return taken_; }
  [[nodiscard]] int write_error() const { return write_error_; }
  [[nodiscard]] int sync_error() const { return sync_error_; }
  [[nodiscard]] int close_error() const { return close_error_; }

 private:
  void write() {
    constexpr size_t kPiece = size_t{256} << 10;
    while (taken_ < text_.size()) {
      const size_t size = std::min(kPiece, text_.size() - taken_);
      const ssize_t got =
          pwrite(file_.get(), text_.data() + taken_, size, static_cast<off_t>(taken_));
      write_error_ = got < 0 ? errno : 0;
      if (got < 0) return;
      taken_ += static_cast<size_t>(got);
    }
  }

  Fd file_;
  const std::string text_;
  size_t taken_ = 0;
  int write_error_ = 0, sync_error_ = 0, close_error_ = 0;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

std::vector<std::string> silent_kinds() {
  std::vector<std::string> kinds = {"sftp"};
#ifdef COOKIEFS_HAVE_NFS
  kinds.insert(kinds.end(), {"nfs3", "nfs4"});
#endif
  return kinds;
}

}  // namespace

// `timeout` is that of the remote's own options with `soft`.
TEST_CASE("write: away: soft: fsync and close give up, and what was taken goes there later") {
  const std::string text = noise(1, 16 * kMiB);
  for (const std::string& kind : silent_kinds()) {
    INFO(kind);
    SilentRemote remote(kind);
    Mount mount(
        remote.source(),
        remote.options(away_options(kind == "sftp" ? "timeout=2s" : "soft,timeo=5,retrans=1")));
    REQUIRE(write_file(mount / "before", "text") == 0);
    Fd other(mount / "file", O_RDWR | O_CREAT);
    SlowWriter writer(mount / "file", text);
    REQUIRE(writer.open_error() == 0);
    remote.stop();
    {
      DirtyWatch watch(mount);
      writer.start();
      const bool ended = wait_until([&] { return writer.ended(); });
      const int64_t most = watch.most();
      if (!ended) remote.go();
      REQUIRE(ended);
      CHECK(most <= kMayBeDirty);
      CHECK(wait_until([&] {
        const int64_t kept = unwritten(mount);
        return kept <= kMayBeDirty && kept >= static_cast<int64_t>(writer.taken());
      }));
      CHECK(mount.figure("data.throttled") > 0);
    }
    // It could go on as long as there was room, and was then made to wait.
    CHECK(writer.taken() >= static_cast<size_t>(kMayBeDirty) / 2);
    CHECK(writer.write_error() == ETIMEDOUT);
    CHECK(writer.sync_error() == ETIMEDOUT);
    CHECK(writer.close_error() == ETIMEDOUT);
    remote.go();
    CHECK(wait_until([&] { return unwritten(mount) == 0; }));
    const bool there =
        read_file(remote / "file").substr(0, writer.taken()) == text.substr(0, writer.taken());
    CHECK(there);
    // Nothing of it was lost: there is nothing to be told.
    CHECK(other.sync() == 0);
    CHECK(other.shut() == 0);
    CHECK(write_file(mount / "after", "text") == 0);
    CHECK(read_file(remote / "after") == "text");
    CHECK(mount.end() == "");
  }
}

#ifdef COOKIEFS_HAVE_NFS
TEST_CASE("write: away: hard: a writer waits for as long as it takes, and all is there") {
  const std::string text = noise(2, 8 * kMiB);
  for (const std::string kind : {"nfs3", "nfs4"}) {
    INFO(kind);
    SilentRemote remote(kind);
    Mount mount(remote.source(), away_options("hard,timeo=5,retrans=1,nconnect=1"));
    REQUIRE(write_file(mount / "before", "text") == 0);
    SlowWriter writer(mount / "file", text);
    REQUIRE(writer.open_error() == 0);
    const uint64_t connections = remote.accepted();
    remote.stop();
    DirtyWatch watch(mount);
    writer.start();
    const bool throttled = wait_until([&] { return mount.figure("data.throttled") > 0; });
    // A connection is given up after `timeo`: with `soft` the writer would have been told by then.
    const bool given_up = wait_until([&] { return remote.accepted() >= connections + 6; });
    const bool waits = !writer.ended();
    const bool bounded = wait_until([&] { return unwritten(mount) <= kMayBeDirty; });
    remote.go();
    CHECK(throttled);
    CHECK(given_up);
    CHECK(waits);
    CHECK(bounded);
    REQUIRE(wait_until([&] { return writer.ended(); }));
    CHECK(watch.most() <= kMayBeDirty);
    CHECK(writer.taken() == text.size());
    CHECK(writer.write_error() == 0);
    CHECK(writer.sync_error() == 0);
    CHECK(writer.close_error() == 0);
    const bool there = read_file(remote / "file") == text;
    CHECK(there);
    CHECK(mount.end() == "");
  }
}
#endif

TEST_CASE("write: slow: of what is written faster than the remote takes it little is dirty") {
  const std::string texts[] = {noise(3, 12 * kMiB), noise(4, 12 * kMiB)};
  std::vector<std::string> kinds = silent_kinds();
  kinds.front() = "sim";
  for (const std::string& kind : kinds) {
    INFO(kind);
    std::unique_ptr<SilentRemote> remote;
    if (kind != "sim") {
      remote = std::make_unique<SilentRemote>(kind, std::chrono::milliseconds(100));
    }
    Mount mount(remote ? remote->source() : "sim:big=10,rtt=20ms,bandwidth=8M",
                away_options("timeout=5m"));
    SlowWriter one(mount / "one", texts[0]);
    SlowWriter two(mount / "two", texts[1]);
    REQUIRE(one.open_error() == 0);
    REQUIRE(two.open_error() == 0);
    DirtyWatch watch(mount);
    one.start();
    two.start();
    CHECK(wait_until([&] { return one.ended() && two.ended(); }));
    const int64_t most = watch.most();
    CHECK(most <= kMayBeDirty);
    CHECK(most > kMayBeDirty / 4);
    CHECK(mount.figure("data.throttled") > 0);
    for (const SlowWriter* writer : {&one, &two}) {
      CHECK(writer->write_error() == 0);
      CHECK(writer->sync_error() == 0);
      CHECK(writer->close_error() == 0);
    }
    mount.drop();
    const bool first = read_file(mount / "one") == texts[0];
    CHECK(first);
    const bool second = read_file(mount / "two") == texts[1];
    CHECK(second);
    CHECK(mount.end() == "");
  }
}
