// Whose turn it is on the loop of a connection: its own thread's, or that of a caller who comes
// while it is at rest.

#include "fusefs/backends/sftp/sftp_client.h"

#include <signal.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fusefs/backends/sftp/request_group.h"
#include "tests/fusefs/backends/sftp_harness.h"
#include "tests/support/eventually.h"
#include "tests/support/temp_dir.h"

namespace fusefs::sftp_test {
namespace {

using sftp::SftpClient;

std::unique_ptr<SftpClient> client_of_server() {
  auto client = std::make_unique<SftpClient>(
      std::vector<std::string>{"/usr/lib/openssh/sftp-server"}, "the server");
  std::string words;
  if (!client->connect(&words).ok()) throw std::runtime_error(words);
  return client;
}

// Asks for something that is always answered.
void ask(SftpClient& client, const std::function<void(int error)>& done) {
  client.submit(sftp::realpath_request("/"), SftpClient::kAnyConnection,
                [done](const SftpClient::Answer& answer) { done(answer.error); });
}

// The thread that runs a job which is given to the client now.
std::thread::id runner(SftpClient& client) {
  Pending<std::thread::id> ran;
  client.run_or_post([done = ran.completion()] { done(std::this_thread::get_id()); });
  return ran.get();
}

bool comes_to_rest(SftpClient& client) {
  return test::eventually([&] { return runner(client) == std::this_thread::get_id(); });
}

TEST_CASE("who asks while the loop is at rest sends it himself") {
  const auto client = client_of_server();
  REQUIRE(comes_to_rest(*client));
  for (int i = 0; i < 100; ++i) {
    Pending<int> answered;
    client->run_or_post([&client, done = answered.completion()] { ask(*client, done); });
    CHECK(answered.get() == 0);
  }
}

TEST_CASE("nobody overtakes what he has posted before") {
  const auto client = client_of_server();
  for (int i = 0; i < 500; ++i) {
    REQUIRE(comes_to_rest(*client));
    std::string order;
    Pending<std::string> both;
    client->post([&] { order += "posted "; });
    client->run_or_post([&order, done = both.completion()] { done(order + "run"); });
    REQUIRE(both.get() == "posted run");
  }
}

TEST_CASE("a job that comes from within the loop runs after what it comes from") {
  const auto client = client_of_server();
  REQUIRE(comes_to_rest(*client));
  for (const bool in_answer : {false, true}) {
    INFO(in_answer);
    std::string order;
    Pending<std::string> over;
    const auto outer = [&client, &order, done = over.completion()](int /*error*/) {
      client->run_or_post([&order, done] { done(order + "inner"); });
      order += "outer ";
    };
    client->run_or_post([&] { in_answer ? ask(*client, outer) : outer(0); });
    CHECK(over.get() == "outer inner");
  }
}

TEST_CASE("what the server does not take at once is sent by the loop") {
  const test::TempDir dir;
  const auto client = client_of_server();
  Pending<std::string> opened;
  client->post([&client, &dir, done = opened.completion()] {
    client->submit(sftp::open_request(dir / "file", sftp::kOpenWrite | sftp::kOpenCreate),
                   SftpClient::kOneConnection, [done](const SftpClient::Answer& answer) {
                     done(std::string(sftp::parse_handle(answer.body).value()));
                   });
  });
  const std::string handle = opened.get();
  REQUIRE(comes_to_rest(*client));
  const pid_t server = process_of("sftp-server");
  kill(server, SIGSTOP);
  const auto bytes = std::make_shared<const std::string>(SftpClient::kUsualLength, 'x');
  const uint64_t count = 500;
  Pending<int> written;
  client->run_or_post([&client, handle, bytes, done = written.completion()] {
    std::vector<sftp::Request> requests;
    for (uint64_t i = 0; i < count; ++i) {
      requests.push_back(sftp::write_request(handle, i * bytes->size(), bytes, 0, bytes->size()));
    }
    submit_group(*client, std::move(requests), SftpClient::kOneConnection,
                 [done](const sftp::GroupAnswer& answer) { done(answer.error); });
  });
  kill(server, SIGCONT);
  CHECK(written.get() == 0);
  CHECK(std::filesystem::file_size(dir / "file") == count * bytes->size());
}

TEST_CASE("what is asked for while there is no connection goes with the next one") {
  const auto client = client_of_server();
  for (int i = 0; i < 10; ++i) {
    REQUIRE(comes_to_rest(*client));
    kill(process_of("sftp-server"), SIGKILL);
    Pending<int> answered;
    client->run_or_post([&client, done = answered.completion()] { ask(*client, done); });
    CHECK(answered.get() == 0);
  }
}

TEST_CASE("one has the turn at a time, however many want it") {
  constexpr int kThreads = 6, kJobs = 400;
  const auto client = client_of_server();
  int begun = 0;  // by whoever has the turn
  std::atomic<int> given = 0, answered = 0, by_callers = 0;
  const auto give = [&](bool may_run) {
    const auto job = [&, caller = std::this_thread::get_id()] {
      ++begun;
      if (std::this_thread::get_id() == caller) ++by_callers;
      ask(*client, [&](int error) { answered += error == 0 ? 1 : 0; });
    };
    ++given;
    may_run ? client->run_or_post(job) : client->post(job);
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kJobs; ++i) give((i + t) % 5 != 0);
    });
  }
  CHECK(test::eventually([&] {
    give(true);
    return by_callers > 0;
  }));
  for (std::thread& thread : threads) thread.join();
  CHECK(test::eventually([&] { return answered == given; }));
  client->stop();
  CHECK(begun == given);
}

TEST_CASE("nothing runs once the loop has ended") {
  for (int i = 0; i < 20; ++i) {
    const auto client = client_of_server();
    std::atomic<bool> over = false;
    int runs = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        while (!over) client->run_or_post([&] { ++runs; });
      });
    }
    client->stop();
    const int at_stop = runs;
    std::this_thread::yield();
    CHECK(runs == at_stop);
    over = true;
    for (std::thread& thread : threads) thread.join();
    CHECK(runs == at_stop);
  }
}

}  // namespace
}  // namespace fusefs::sftp_test
