// Open files and what becomes of their server's state: restarts, leases, owners, names that others
// change.

#include <atomic>
#include <chrono>
#include <ctime>
#include <future>
#include <memory>

#include "tests/nfs/nfs_change_rig.h"
#include "tests/nfs/nfs_writer.h"
#include "tests/support/delay_proxy.h"
#include "tests/support/eventually.h"

using test::change_version;
using test::ChangeRig;
using test::DelayProxy;
using test::Ganesha;
using test::NfsRig;
using test::ObjectId;
using test::put_file;
using test::text_of;
using test::WritableDir;

namespace {

// A server that the test may restart, and a file that is open on it.
struct Restartable {
  Ganesha server;
  ChangeRig rig{server, "disk"};
  std::string path(const std::string& name) const { return server.directory("disk") + "/" + name; }
};

}  // namespace

TEST_CASE("state: a file that is open is written on when the server has restarted") {
  Restartable own;
  const auto file = own.rig.create(own.rig.root().id, "file");
  REQUIRE(file.ok());
  const auto before = own.rig.write(file.value().file, 0, "before ");
  REQUIRE(before.ok());
  const auto committed = own.rig.fsync(file.value().file);
  REQUIRE(committed.ok());
  // nfs-ganesha's verifier is the second in which it started.
  own.server.stop();
  const time_t stopped = time(nullptr);
  REQUIRE(test::wait_until([&] { return time(nullptr) > stopped; }));
  own.server.start();
  const auto after = own.rig.write(file.value().file, 7, "after");
  REQUIRE(after.ok());
  const auto again = own.rig.fsync(file.value().file);
  REQUIRE(again.ok());
  CHECK(again.value() != committed.value());  // what was not stable by then would be lost
  CHECK(text_of(own.path("file")) == "before after");
  test::SetAttr set;
  set.valid = test::SetAttr::kSize;
  set.size = 6;
  CHECK(own.rig.setattr(file.value().entry.id, set, file.value().file).ok());
  CHECK(text_of(own.path("file")) == "before");
  own.rig.backend().release(file.value().file);
  // And others are opened as ever.
  const auto other = own.rig.create(own.rig.root().id, "other");
  REQUIRE(other.ok());
  CHECK(own.rig.write(other.value().file, 0, "x").ok());
  own.rig.backend().release(other.value().file);
}

TEST_CASE("state: after a restart a file goes on by its handle where its name is another's") {
  Restartable own;
  const auto file = own.rig.create(own.rig.root().id, "file");
  REQUIRE(file.ok());
  REQUIRE(own.rig.write(file.value().file, 0, "one").ok());
  REQUIRE(own.rig.fsync(file.value().file).ok());
  std::filesystem::rename(own.path("file"), own.path("renamed"));
  put_file(own.path("file"), "another");
  own.server.restart();
  REQUIRE(own.rig.write(file.value().file, 3, " two").ok());
  REQUIRE(own.rig.fsync(file.value().file).ok());
  CHECK(text_of(own.path("renamed")) == "one two");
  CHECK(text_of(own.path("file")) == "another");
  own.rig.backend().release(file.value().file);
}

TEST_CASE("state: a file whose name another client changed is opened by its handle") {
  const WritableDir dir("plain", "state_named");
  put_file(dir / "file", "content");
  ChangeRig rig("plain");
  const ObjectId file = rig.find("state_named/file");
  test::NfsWriter writer(test::change_server().url("/plain"));
  writer.rename("/state_named/file", "/state_named/new");
  writer.create("/state_named/file");
  const auto open = rig.open(file, nullptr, O_RDWR);
  REQUIRE(open.ok());
  REQUIRE(rig.write(open.value(), 0, "CONTENT").ok());
  REQUIRE(rig.fsync(open.value()).ok());
  CHECK(text_of(dir / "new") == "CONTENT");
  CHECK(text_of(dir / "file").empty());
  rig.backend().release(open.value());
}

TEST_CASE("state: to open and to close is a request each, once an owner is known") {
  const WritableDir dir("plain", "state_owner");
  put_file(dir / "file", "content");
  ChangeRig rig("plain");
  const ObjectId file = rig.find("state_owner/file");
  const auto cycle = [&] {
    const auto open = rig.open(file, nullptr, O_RDWR);
    REQUIRE(open.ok());
    rig.backend().release(open.value());
    REQUIRE(test::eventually([&] { return rig.backend().counters().inflight == 0; }));
  };
  cycle();
  const uint64_t before = rig.backend().counters().requests;
  for (int i = 0; i < 10; ++i) cycle();
  CHECK(rig.backend().counters().requests - before <= 20);
}

TEST_CASE("state: many files are opened, written and closed side by side") {
  const WritableDir dir("plain", "state_many");
  ChangeRig rig("plain");
  const ObjectId parent = rig.find("state_many");
  constexpr int kFiles = 64;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::future<bool>> all;
    for (int i = 0; i < kFiles; ++i) {
      all.push_back(std::async(std::launch::async, [&, i] {
        const std::string name = "file" + std::to_string(i);
        const auto file = rig.create(parent, name, 0644, O_RDWR);
        if (!file.ok()) return false;
        const std::string text = name + " " + std::to_string(round);
        const bool written =
            rig.write(file.value().file, 0, text).ok() && rig.fsync(file.value().file).ok();
        rig.backend().release(file.value().file);
        return written && text_of(dir / name) == text;
      }));
    }
    int good = 0;
    for (auto& one : all) good += one.get() ? 1 : 0;
    CHECK(good == kFiles);
  }
}

TEST_CASE("state: an open that is cancelled is told to nobody, and the next one works") {
  const WritableDir dir("plain", "state_cancelled");
  put_file(dir / "file", "content");
  DelayProxy proxy(DelayProxy::Options{.target_port = test::change_server().nfs_port()});
  ChangeRig rig("plain", proxy.port());
  const ObjectId file = rig.find("state_cancelled/file");
  const auto told = std::make_shared<std::atomic<int>>(0);
  for (int i = 0; i < 20; ++i) {
    proxy.stall();
    const auto id =
        rig.backend().open(nullptr, file, O_RDWR, [told](const auto& /*opened*/) { ++*told; });
    rig.backend().cancel(id);
    proxy.resume();
    const auto open = rig.open(file, nullptr, O_RDWR);
    REQUIRE(open.ok());
    CHECK(rig.write(open.value(), 0, "CONTENT").ok());
    rig.backend().release(open.value());
  }
  CHECK(*told == 0);
}

TEST_CASE("state: a lease is renewed, and what is lost with one is opened anew") {
  if (change_version() != "4") return;  // there are none
  const WritableDir dir("plain", "state_lease");
  DelayProxy proxy(DelayProxy::Options{.target_port = test::change_server().nfs_port()});
  ChangeRig rig("plain", proxy.port());
  const auto file = rig.create(rig.find("state_lease"), "file");
  REQUIRE(file.ok());
  REQUIRE(rig.write(file.value().file, 0, "one").ok());
  // It is renewed without being asked to.
  const uint64_t before = rig.backend().counters().requests;
  REQUIRE(test::wait_until([&] { return rig.backend().counters().requests > before; }));
  // Longer than the server's lease nothing comes through.
  const auto silent = std::chrono::steady_clock::now() + std::chrono::seconds(13);
  proxy.cut();
  REQUIRE(test::wait_until([&] { return std::chrono::steady_clock::now() > silent; }));
  proxy.resume();
  REQUIRE(rig.write(file.value().file, 3, " two").ok());
  REQUIRE(rig.fsync(file.value().file).ok());
  CHECK(text_of(dir / "file") == "one two");
  rig.backend().release(file.value().file);
}
