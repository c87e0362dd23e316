// A readdir array made by hand: for tests of what reads arrays, without a page cache.
//
// Ownership:  owns the page and what it points to; views end with it.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cache/dir/attr.h"
#include "cache/dir/readdir_array.h"

namespace test {

class HandMadeArray {
 public:
  void add(std::string_view name, uint64_t ino, uint8_t type, uint64_t cookie) {
    const auto i = page_->header.count++;
    page_->cookies[i] = cookie;
    page_->inos[i] = ino;
    page_->meta[i] = {.name_offset = static_cast<uint16_t>(names_.size()),
                      .name_length = static_cast<uint8_t>(name.size()),
                      .type = type};
    names_ += name;
  }
  // For all entries or none. The inode number is the entry's own.
  void add_attr(const cache::Attr& attr) { attrs_.push_back(cache::pack_attr(attr)); }

  [[nodiscard]] bool full() const { return page_->header.count == cache::kEntriesPerArray; }

  // The names lie in an allocation of exact size: reading past it is an error under ASan.
  cache::ArrayView view() {
    exact_.reset(new std::byte[names_.size()]);
    std::memcpy(exact_.get(), names_.data(), names_.size());
    page_->header.names = exact_.get();
    page_->header.attrs = attrs_.empty() ? nullptr : reinterpret_cast<std::byte*>(attrs_.data());
    return cache::ArrayView::of(reinterpret_cast<const std::byte*>(page_.get()));
  }

 private:
  std::unique_ptr<cache::ArrayPage> page_ = std::make_unique<cache::ArrayPage>();
  std::string names_;
  std::unique_ptr<std::byte[]> exact_;
  std::vector<cache::PackedAttr> attrs_;
};

}  // namespace test
