// The hook table: what the owner of a kind of page must do for the cache.
//
// Ownership:      a table outlives every page that was made with it. It is read from the page,
//                 never through the mapping, so reclaim may call it when the mapping is gone.
//
// | hook            | page lock                     | may block | may fail                       |
// |-----------------|-------------------------------|-----------|--------------------------------|
// | fill            | held from start to completion | yes       | yes: the page is removed       |
// | release_page    | held                          | no        | yes: reclaim passes on         |
// | invalidate_page | held                          | yes       | no                             |
// | free_page       | not held; not findable        | no        | no                             |
// | page_mkwrite    | held on entry and return      | yes       | yes: ENOSPC..., EAGAIN = retry |
//
// Source: Documentation/filesystems/locking.rst of Linux; the mail threads on ->freepage (2010)
// and on page_mkwrite returning with the page locked. write_pages is each owner's (file_core.h).
#pragma once

#include <cstddef>

#include "cache/base/result.h"

namespace cache {

class AddressSpace;
class Page;

class PageHooks {
 public:
  virtual ~PageHooks() = default;

  // Makes the content: asynchronously, or before it returns. It ends in fill_done() or
  // fill_failed(), from any thread. Owners that fill by other means (readdir arrays: one answer,
  // many pages) grab pages themselves and leave this alone.
  virtual void fill(AddressSpace& mapping, Page& page);

  // A question, before reclaim of a page with private state (page_state::kPrivate). It may refuse.
  // Reclaim asks under its lists' mutex: no lock below LockRank::kPool may be taken.
  virtual bool release_page(Page& page);

  // An order: the page has been removed from the index by other than reclaim; whoever still pins it
  // may read on. Once for each such page, before free_page.
  virtual void invalidate_page(Page& page);

  // The only place where what the content points to is released. Exactly once for a page, in any
  // thread. Gets no mapping: it may be gone.
  virtual void free_page(std::byte* content) noexcept = 0;

  // Memory is short: what this table's owners keep beside pages, and can do without, is given up.
  // Called with any lock below LockRank::kPool held; a shrinker of Linux's.
  virtual void shrink() noexcept {}

  // Before a page becomes dirty. EAGAIN: it was truncated, look it up again.
  virtual Status page_mkwrite(AddressSpace& mapping, Page& page);
};

}  // namespace cache
