// What the tests of the simulated remote share: asking and waiting for the answer, listing a
// directory to its end. In virtual time, so nothing waits long.
#pragma once

#include <chrono>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include "fusefs/backends/sim/sim_backend.h"

namespace fusefs::sim_test {

using cache::DirAnswer;
using cache::DirRequest;
using cache::ResumeToken;
using Mode = SimScheduler::Mode;

constexpr std::chrono::seconds kDeadline{60};
// Of cookies.
inline const char* const kStyles[] = {"ordered", "hashed", "descending", "huge", "index", "name"};

inline SimConfig config_of(const std::string& url_rest) {
  std::string error;
  const auto config = parse_sim_url(url_rest, &error);
  if (!config) throw std::runtime_error(error);
  return *config;
}

// A back end in virtual time; the session owns one through the interface, so tests do too.
inline std::unique_ptr<SimBackend> make_sim(const std::string& url_rest) {
  return std::make_unique<SimBackend>(config_of(url_rest), Mode::kVirtual);
}

// An answer that is on its way. get() throws when it has not come in time.
template <typename T>
class Pending {
 public:
  std::function<void(T)> completion() {
    return [promise = promise_](T value) { promise->set_value(std::move(value)); };
  }
  bool arrived() { return future_.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }
  T get() {
    if (future_.wait_for(kDeadline) != std::future_status::ready) {
      throw std::runtime_error("no answer within the deadline");
    }
    return future_.get();
  }

 private:
  std::shared_ptr<std::promise<T>> promise_ = std::make_shared<std::promise<T>>();
  std::future<T> future_ = promise_->get_future();
};

inline Pending<DirAnswer> start_listing(SimBackend& sim, const ObjectId& directory,
                                        DirRequest request, Backend::RequestId* id = nullptr) {
  Pending<DirAnswer> pending;
  const auto done = pending.completion();
  const Backend::RequestId given =
      sim.read_dir(nullptr, directory, std::move(request),
                   [done](DirAnswer&& answer) { done(std::move(answer)); });
  if (id != nullptr) *id = given;
  return pending;
}

inline DirAnswer ask(SimBackend& sim, const ObjectId& directory, DirRequest request) {
  return start_listing(sim, directory, std::move(request)).get();
}

inline Pending<Result<Attr>> start_getattr(SimBackend& sim, const ObjectId& id) {
  Pending<Result<Attr>> pending;
  sim.getattr(nullptr, id, pending.completion());
  return pending;
}

inline Result<Attr> getattr(SimBackend& sim, const ObjectId& id) {
  return start_getattr(sim, id).get();
}

inline Result<LookupAnswer> lookup(SimBackend& sim, const ObjectId& parent,
                                   const std::string& name) {
  Pending<Result<LookupAnswer>> pending;
  sim.lookup(nullptr, parent, name, pending.completion());
  return pending.get();
}

// The place behind an entry of an answer.
inline ResumeToken place_behind(const SimBackend& sim, const DirAnswer& answer,
                                const DirAnswer::Entry& entry) {
  if (sim.cookie_kind() == cache::CookieKind::kNative) return {.cookie = entry.cookie, .bytes = {}};
  return {.cookie = 0, .bytes = std::string(answer.token(entry))};
}

struct Listed {
  std::string name;
  uint64_t ino = 0;
  uint8_t type = 0;
  ResumeToken behind;
};

// What follows `after`, in answers of `batch`; the errno of the first that fails, if any does.
struct Listing {
  int error = 0;
  uint64_t requests = 0;
  std::vector<Listed> entries;

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    names.reserve(entries.size());
    for (const Listed& entry : entries) names.push_back(entry.name);
    return names;
  }
};

inline Listing list_after(SimBackend& sim, const ObjectId& directory, uint32_t batch,
                          ResumeToken after = {}) {
  Listing listing;
  uint64_t verifier = 0;
  while (listing.requests < 1'000'000) {
    const DirAnswer answer =
        ask(sim, directory,
            {.after = after, .verifier = verifier, .max_entries = batch, .want_attrs = false});
    ++listing.requests;
    listing.error = answer.error;
    if (answer.error != 0) return listing;
    if (!answer.well_formed() || answer.entries.size() > batch) listing.error = EPROTO;
    for (const DirAnswer::Entry& entry : answer.entries) {
      after = place_behind(sim, answer, entry);
      listing.entries.push_back({std::string(answer.name(entry)), entry.ino, entry.type, after});
    }
    verifier = answer.verifier;
    if (answer.eof || listing.error != 0) return listing;
  }
  listing.error = ELOOP;
  return listing;
}

inline std::vector<std::string> names_of(const std::vector<SimListed>& contents) {
  std::vector<std::string> names;
  names.reserve(contents.size());
  for (const SimListed& listed : contents) names.push_back(listed.name);
  return names;
}

}  // namespace fusefs::sim_test
