// CountingHooks: the owner of test pages, which notices every breach of the hook table.
//
// Purpose:        fills a page with its mapping's id and its key, and with an object outside the
//                 page, as the names of a readdir array are; so that a wrong page, a page freed
//                 twice, or one freed while somebody reads it shows.
// Ownership:      outlives the PageCache whose pages it serves.
// Thread-safety:  all members from any thread; `on_*` are set before the first page is made.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "cache/base/check.h"
#include "cache/mm/address_space.h"
#include "cache/mm/page_cache.h"
#include "cache/mm/page_hooks.h"
#include "tests/support/eventually.h"

namespace test {

struct Content {
  static constexpr uint64_t kAlive = 0xa11fea11fea11feULL;
  static constexpr uint64_t kDead = 0xdeaddeaddeaddeadULL;
  struct Outside {
    uint64_t life;
    uint64_t mapping_id;
    uint64_t key;
  };

  uint64_t mapping_id;
  uint64_t key;
  uint64_t version;
  Outside* outside;  // null until filled
  uint64_t freed;    // kDead once free_page has run

  static Content& of(cache::Page& page) { return *reinterpret_cast<Content*>(page.content()); }
  // Whether a pinned, uptodate page is what it says, inside and outside.
  static bool is_own(cache::Page& page, uint64_t mapping_id, uint64_t key) {
    const Content& c = of(page);
    return c.mapping_id == mapping_id && c.key == key && c.outside != nullptr &&
           c.outside->life == kAlive && c.outside->mapping_id == mapping_id &&
           c.outside->key == key;
  }
};

class CountingHooks final : public cache::PageHooks {
 public:
  cache::PageCache* cache = nullptr;  // set before use, null: no objects outside the page
  std::atomic<uint64_t> fills{0}, releases{0}, invalidates{0}, frees{0}, mkwrites{0};
  std::atomic<uint64_t> breaches{0};  // of the hook table: page lock, findability, exactly once

  // What a hook does beside counting.
  std::function<void(cache::AddressSpace&, cache::Page&)> on_fill;
  std::function<bool(cache::Page&)> on_release;
  std::function<void(cache::Page&)> on_invalidate;
  std::function<cache::Status(cache::AddressSpace&, cache::Page&)> on_mkwrite;

  // Writes the content; false when there is no memory for the outside object.
  bool make_content(uint64_t mapping_id, cache::Page& page, uint64_t version = 1) {
    auto* outside = static_cast<Content::Outside*>(cache->allocate(sizeof(Content::Outside)));
    if (outside == nullptr) return false;
    *outside = {.life = Content::kAlive, .mapping_id = mapping_id, .key = page.key()};
    Content::of(page) = {.mapping_id = mapping_id,
                         .key = page.key(),
                         .version = version,
                         .outside = outside,
                         .freed = 0};
    return true;
  }
  // The plain fill: content, then fill_done or fill_failed. True when it was installed.
  bool fill_now(cache::AddressSpace& mapping, cache::Page& page, uint64_t noted_sequence) {
    if (make_content(mapping.id(), page)) return mapping.fill_done(page, noted_sequence);
    mapping.fill_failed(page);
    return false;
  }

  void fill(cache::AddressSpace& mapping, cache::Page& page) override {
    ++fills;
    expect(page.locked() && !page.uptodate());
    if (on_fill) return on_fill(mapping, page);
    fill_now(mapping, page, mapping.sequence());
  }
  bool release_page(cache::Page& page) override {
    ++releases;
    expect(page.locked());
    return !on_release || on_release(page);
  }
  void invalidate_page(cache::Page& page) override {
    ++invalidates;
    expect(page.locked() && page.mapping() == nullptr);
    if (on_invalidate) on_invalidate(page);
  }
  void free_page(std::byte* content) noexcept override {
    ++frees;
    auto& c = *reinterpret_cast<Content*>(content);
    expect(c.freed != Content::kDead);
    c.freed = Content::kDead;
    if (c.outside == nullptr) return;
    expect(c.outside->life == Content::kAlive);
    c.outside->life = Content::kDead;
    cache->free(c.outside, sizeof(Content::Outside));
    c.outside = nullptr;
  }
  cache::Status page_mkwrite(cache::AddressSpace& mapping, cache::Page& page) override {
    ++mkwrites;
    expect(page.locked());
    return on_mkwrite ? on_mkwrite(mapping, page) : cache::Status();
  }

 private:
  void expect(bool kept) {
    if (!kept) ++breaches;
  }
};

// A cache without a background thread, its hooks, and the proof that nothing is left.
struct Fixture {
  explicit Fixture(
      uint64_t limit_bytes = uint64_t{4} << 20, uint64_t min_bytes = 0,
      cache::PageCacheOptions::Background background = cache::PageCacheOptions::Background::kNone)
      : pages({.limit_bytes = limit_bytes, .min_bytes = min_bytes, .background = background}) {
    hooks.cache = &pages;
  }
  // Everything that was taken has been given back, but for the tables and descriptors. Of a mapping
  // that has ended the background may still have a last victim in hand, between leaving the
  // mapping and free_page.
  [[nodiscard]] bool nothing_left() {
    return eventually([this] { return nothing_is_left(); });
  }

  CountingHooks hooks;  // before the cache: outlives it
  cache::PageCache pages;

 private:
  bool nothing_is_left() {
    cache::Stats& stats = pages.stats();
    return stats.pages_resident.get() == 0 && stats.pages_private.get() == 0 &&
           pages.pinned_pages() == 0 && hooks.breaches == 0 &&
           stats.free_page_calls.get() == hooks.frees;
  }
};

}  // namespace test
