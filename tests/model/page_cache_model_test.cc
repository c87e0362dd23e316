// Random operations on the page cache against a plain model, one thread, exact.
//
// The model knows every page that was made: whether it is findable, its state, its pins. What
// reclaim may take is the only freedom the cache has; after every step each page that the model
// holds findable is either found, or was free to be reclaimed. COOKIEFS_TEST_SEED repeats a run.
#include <array>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <vector>

#include "cache/mm/address_space.h"
#include "tests/support/counting_hooks.h"
#include "tests/support/random.h"

using cache::AddressSpace;
using cache::Page;
using cache::PageRef;
using cache::Status;
using test::Content;
namespace page_state = cache::page_state;

namespace {

constexpr size_t kModelMappings = 3;
constexpr uint64_t kLimit = uint64_t{3} << 20;

struct ModelPage {
  size_t mapping = 0;
  uint64_t mapping_id = 0;
  uint64_t key = 0;
  uint64_t noted = 0;  // sequence, while filling
  bool findable = true;
  bool filling = true;
  bool uptodate = false;
  bool dirty = false;
  bool writeback = false;
  bool priv = false;
  bool order_due = false;  // removed while filling: its fill gives the invalidate_page order
  std::vector<PageRef> pins;

  [[nodiscard]] bool reclaimable(bool owner_agrees) const {
    return findable && pins.empty() && !filling && !dirty && !writeback && (!priv || owner_agrees);
  }
};

class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed), fixture_(kLimit) {
    fixture_.hooks.on_release = [this](Page&) { return agree_; };
    for (auto& mapping : mappings_) mapping = make_mapping();
  }

  // Unmount: whatever state the pages are in.
  void finish() {
    for (size_t m = 0; m < kModelMappings; ++m) replace_mapping(m);
    for (auto& mapping : mappings_) mapping.reset();
    for (auto& page : pages_) page->pins.clear();
    settle();
    CHECK(pages_.empty());
    CHECK(fixture_.hooks.frees == made_);
    CHECK(fixture_.hooks.invalidates == orders_);
    CHECK(fixture_.nothing_left());
  }

  void step() {
    const size_t m = random_.below(kModelMappings);
    switch (random_.below(24)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        grab(m);
        break;
      case 5:
      case 6:
      case 7:
      case 8:
        fill();
        break;
      case 9:
        if (ModelPage* page = any([](const ModelPage& p) { return p.filling; })) end_fill(*page);
        break;
      case 10:
      case 11:
        find(m);
        break;
      case 12:
      case 13:
      case 14:
        unpin();
        break;
      case 15:
        remove_one();
        break;
      case 16:
        dirty();
        break;
      case 17:
      case 18:
        writeback();
        break;
      case 19:
        invalidate(m);
        break;
      case 20:
        reclaim();
        break;
      case 21:
        if (ModelPage* page = pinned()) page->pins.front()->mark_accessed();
        if (random_.one_in(4)) agree_ = !agree_;
        break;
      case 22:
        make_private();
        break;
      default:
        if (random_.one_in(10)) replace_mapping(m);
        break;
    }
    settle();
    check();
  }

 private:
  std::unique_ptr<AddressSpace> make_mapping() {
    return std::make_unique<AddressSpace>(fixture_.pages, fixture_.hooks);
  }
  uint64_t any_key() {
    constexpr std::array<uint64_t, 4> kEdges = {0, uint64_t{1} << 32, uint64_t{1} << 63,
                                                ~uint64_t{0}};
    return random_.one_in(10) ? kEdges[random_.below(kEdges.size())] : random_.below(150);
  }
  template <typename Want>
  ModelPage* any(const Want& want) {
    std::vector<ModelPage*> fit;
    for (auto& page : pages_) {
      if (want(*page)) fit.push_back(page.get());
    }
    return fit.empty() ? nullptr : fit[random_.below(fit.size())];
  }
  ModelPage* pinned() {
    return any([](const ModelPage& p) { return !p.pins.empty(); });
  }
  ModelPage* findable(size_t m, uint64_t key) {
    for (auto& page : pages_) {
      if (page->findable && page->mapping == m && page->key == key) return page.get();
    }
    return nullptr;
  }

  void grab(size_t m) {
    const uint64_t key = any_key();
    auto grabbed = mappings_[m]->grab(key);
    settle();  // making room may have taken pages, this one too
    if (!grabbed.ok()) {
      REQUIRE(grabbed.error_number() == ENOMEM);
      // Only when there was nothing left to take.
      REQUIRE(any([&](const ModelPage& p) { return p.reclaimable(agree_); }) == nullptr);
      return;
    }
    ModelPage* known = findable(m, key);
    REQUIRE(grabbed.value().created == (known == nullptr));
    PageRef page = std::move(grabbed.value().page);
    if (known == nullptr) {
      ++made_;
      pages_.push_back(std::make_unique<ModelPage>());
      known = pages_.back().get();
      known->mapping = m;
      known->mapping_id = mappings_[m]->id();
      known->key = key;
      known->noted = mappings_[m]->sequence() - (random_.one_in(10) ? 1 : 0);
      REQUIRE(page->locked());
      REQUIRE_FALSE(page->uptodate());
    }
    known->pins.push_back(std::move(page));
  }

  void fill() {
    ModelPage* page = any([](const ModelPage& p) { return p.filling; });
    if (page == nullptr) return;
    Page& actual = *page->pins.front();
    if (!fixture_.hooks.make_content(page->mapping_id, actual)) return end_fill(*page);
    settle();
    const bool expected = page->findable && page->noted == mappings_[page->mapping]->sequence();
    REQUIRE(mappings_[page->mapping]->fill_done(actual, page->noted) == expected);
    page->uptodate = expected;
    ended(*page, expected);
  }
  void end_fill(ModelPage& page) {
    if (!page.filling) return;
    mappings_[page.mapping]->fill_failed(*page.pins.front());
    ended(page, false);
  }
  // A fill that is over, and the filler's pin with it.
  void ended(ModelPage& page, bool installed) {
    page.filling = false;
    if (!installed) {
      if (page.findable || page.order_due) ++orders_;
      page.findable = page.order_due = false;
    }
    page.pins.erase(page.pins.begin());
  }

  void find(size_t m) {
    const uint64_t key = any_key();
    ModelPage* known = findable(m, key);
    PageRef page = mappings_[m]->find(key);
    REQUIRE(static_cast<bool>(page) == (known != nullptr));
    if (known == nullptr) return;
    REQUIRE(page->uptodate() == known->uptodate);
    REQUIRE(page->dirty() == known->dirty);
    if (known->uptodate) REQUIRE(Content::is_own(*page, known->mapping_id, key));
    if (random_.one_in(2)) known->pins.push_back(std::move(page));
  }
  void unpin() {
    // A fill and a write-back keep theirs until they end.
    ModelPage* page =
        any([](const ModelPage& p) { return p.pins.size() > (p.filling || p.writeback ? 1 : 0); });
    if (page != nullptr) page->pins.pop_back();
  }

  // What any removal but reclaim's does to the model.
  void removed(ModelPage& page) {
    page.findable = false;
    if (page.filling) {
      page.order_due = true;
    } else {
      ++orders_;
    }
  }
  void remove_one() {
    ModelPage* page = pinned();
    if (page == nullptr) return;
    REQUIRE(mappings_[page->mapping]->remove(*page->pins.front()) == page->findable);
    if (page->findable) removed(*page);
  }
  void invalidate(size_t m) {
    const uint64_t how = random_.below(4);
    if (how == 3) return invalidate_pages(m);
    const uint64_t from = how == 0 ? 0 : any_key();
    uint64_t expected = 0;
    for (auto& page : pages_) {
      if (page->mapping != m || !page->findable || page->key < from) continue;
      removed(*page);
      ++expected;
    }
    REQUIRE((how == 0 ? mappings_[m]->invalidate_all() : mappings_[m]->truncate(from)) == expected);
  }
  void invalidate_pages(size_t m) {
    bool busy = false;
    for (auto& page : pages_) {
      // It would wait for the write-back that this thread has to end.
      if (page->mapping == m && page->findable && page->writeback) return;
    }
    for (auto& page : pages_) {
      if (page->mapping != m || !page->findable) continue;
      if (page->dirty || (page->priv && !agree_)) {
        busy = true;
      } else {
        removed(*page);
      }
    }
    REQUIRE(mappings_[m]->invalidate_pages() == (busy ? Status::error(EBUSY) : Status()));
  }

  void dirty() {
    ModelPage* page = any([](const ModelPage& p) { return p.uptodate && !p.pins.empty(); });
    if (page == nullptr) return;
    const Status status = mappings_[page->mapping]->make_writable(*page->pins.front());
    REQUIRE(status == (page->findable ? Status() : Status::error(EAGAIN)));
    page->dirty |= page->findable;
  }
  void writeback() {
    if (ModelPage* page = any([](const ModelPage& p) { return p.writeback; })) {
      AddressSpace& mapping = *mappings_[page->mapping];
      page->writeback = false;
      mapping.end_writeback(*page->pins.back());
      page->pins.pop_back();
      return;
    }
    ModelPage* page = any([](const ModelPage& p) { return p.dirty && p.findable; });
    if (page == nullptr) return;
    AddressSpace& mapping = *mappings_[page->mapping];
    PageRef pin = mapping.find(page->key);
    REQUIRE(pin);
    fixture_.pages.lock_page(*pin);
    REQUIRE(mapping.begin_writeback(*pin));
    fixture_.pages.unlock_page(*pin);
    page->dirty = false;
    page->writeback = true;
    page->pins.push_back(std::move(pin));
  }
  void make_private() {
    ModelPage* page = any([](const ModelPage& p) { return p.uptodate && !p.pins.empty(); });
    if (page == nullptr) return;
    page->pins.front()->set(page_state::kPrivate);
    page->priv = true;
  }

  void reclaim() {
    const uint64_t how = random_.below(3);
    if (how == 0) fixture_.pages.reclaim(1 + static_cast<uint32_t>(random_.below(32)));
    if (how == 1) {
      const uint64_t bound = kLimit / 4 + random_.below(kLimit);
      fixture_.pages.set_pressure_bound(bound);
    }
    if (how != 2) return;
    uint64_t expected = 0;
    for (auto& page : pages_) expected += page->reclaimable(agree_) ? 1 : 0;
    REQUIRE(fixture_.pages.drop_clean() == expected);
  }
  void replace_mapping(size_t m) {
    for (auto& page : pages_) {
      if (page->mapping == m) end_fill(*page);
    }
    for (auto& page : pages_) {
      if (page->mapping != m || !page->findable) continue;
      removed(*page);
    }
    for (auto& page : pages_) {
      if (page->mapping == m) page->writeback = false;  // pins stay, as ordinary ones
    }
    mappings_[m] = make_mapping();
  }

  // Finds out what reclaim took, and forgets pages that nobody has any more.
  void settle() {
    std::map<std::pair<size_t, uint64_t>, bool> resident;
    for (size_t m = 0; m < kModelMappings; ++m) {
      if (mappings_[m] == nullptr) continue;
      mappings_[m]->for_each([&](Page& page) { return resident[{m, page.key()}] = true; });
    }
    std::erase_if(pages_, [&](const std::unique_ptr<ModelPage>& page) {
      if (page->findable && !resident.contains({page->mapping, page->key})) {
        REQUIRE(page->reclaimable(true));
        if (!agreed_ever_) REQUIRE_FALSE(page->priv);
        page->findable = false;
      }
      return !page->findable && page->pins.empty();
    });
    agreed_ever_ |= agree_;
  }

  void check() {
    uint64_t resident = 0;
    for (const auto& page : pages_) {
      resident += page->findable ? 1 : 0;
      if (page->uptodate && !page->pins.empty()) {
        REQUIRE(Content::is_own(*page->pins.front(), page->mapping_id, page->key));
      }
    }
    cache::Stats& stats = fixture_.pages.stats();
    REQUIRE(stats.pages_resident.get() == static_cast<int64_t>(resident));
    REQUIRE(stats.pages_private.get() == static_cast<int64_t>(pages_.size() - resident));
    // Exactly the pages that are neither findable nor pinned have been freed; a grab that lost
    // its race does not occur in one thread.
    REQUIRE(fixture_.hooks.frees == made_ - pages_.size());
    REQUIRE(fixture_.hooks.invalidates == orders_);
    REQUIRE(fixture_.hooks.breaches == 0);
    REQUIRE(fixture_.pages.peak_bytes() <= kLimit);
    fixture_.pages.check_invariants();
    for (const auto& mapping : mappings_) mapping->check_invariants();
  }

  test::Random random_;
  test::Fixture fixture_;
  std::array<std::unique_ptr<AddressSpace>, kModelMappings> mappings_;
  std::vector<std::unique_ptr<ModelPage>> pages_;  // findable or pinned
  uint64_t made_ = 0;
  uint64_t orders_ = 0;  // invalidate_page hooks that must have run
  bool agree_ = true;    // what release_page answers
  bool agreed_ever_ = false;
};

}  // namespace

TEST_CASE("random operations of one thread agree with the model") {
  const uint64_t seed = test::seed();
  CAPTURE(seed);
  for (uint64_t round = 0; round < 4; ++round) {
    Model model(seed + round);
    for (uint64_t i = 0; i < test::scaled(10000); ++i) model.step();
    model.finish();
  }
}
