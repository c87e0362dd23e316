// Builds arrays from arbitrary bytes (appends, runs of equal cookies, dropped runs, seal) and
// compares every view of them with a std::vector. Under ASan a step past a name or a page, or a use
// of a freed one, is an error.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/array_rig.h"

namespace {

using cache::ArrayBuilder;
using cache::ArrayView;
using cache::Attr;
using cache::PageRef;
using test::ModelEntry;

void require(bool condition) {
  if (!condition) std::abort();
}

// Takes the input apart, zeros where it has ended.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint64_t number(size_t bytes) {
    uint64_t value = 0;
    for (; bytes > 0 && size_ > 0; --bytes, --size_) value = value << 8 | *data_++;
    return value;
  }
  [[nodiscard]] bool empty() const { return size_ == 0; }

 private:
  const uint8_t* data_;
  size_t size_;
};

// One array and its model.
class Subject {
 public:
  Subject(test::ArrayRig& rig, Input& input) : rig_(rig), input_(input), page_(rig.new_page()) {
    require(static_cast<bool>(page_));
    change_ = input.number(1);
    with_attrs_ = input.number(1) % 2 != 0;
    builder_.reset(page_->content(), {.change = change_, .position = 9, .with_attrs = with_attrs_});
  }

  void run() {
    while (!input_.empty()) {
      const uint64_t op = input_.number(1);
      if (op < 200) {
        for (uint64_t n = op % 8 == 7 ? 16 : 1; n > 0 && !builder_.full(); --n) append();
      } else if (op < 220) {
        drop_run();
      } else if (op < 230) {
        set_last();
      } else if (op < 250) {
        compare(builder_.view());
      } else {
        break;
      }
      require(builder_.count() == model_.size());
      require(builder_.last_cookie() == (model_.empty() ? 0 : model_.back().cookie));
    }
    seal();
  }

 private:
  void append() {
    // Few different cookies, so that runs and duplicates occur, and every edge of 64 bits.
    const uint64_t shape = input_.number(1);
    uint64_t cookie = shape & 7;
    if ((shape & 8) != 0) cookie = uint64_t{1} << (shape >> 4) * 4 | (shape & 1);
    if ((shape & 16) != 0) cookie = ~cookie;
    const size_t length = 1 + input_.number(1) % cache::kMaxNameBytes;
    const std::string name(length, static_cast<char>(input_.number(1)));
    Attr attr;
    attr.ino = shape;
    attr.size = length;
    const bool has_attr = shape != 255;
    with_attrs_ &= has_attr;
    const auto type = static_cast<uint8_t>(length);
    builder_.append(cookie, shape, type, name, has_attr ? &attr : nullptr);
    // What is no DT_* has no room beside the marks of own changes, and is unknown.
    model_.push_back({cookie, shape, type <= cache::kEntryType ? type : uint8_t{0}, name});
  }
  void drop_run() {
    if (model_.empty()) return;
    std::vector<ModelEntry> shorter = model_;
    while (!shorter.empty() && shorter.back().cookie == model_.back().cookie) shorter.pop_back();
    require(builder_.drop_last_run() == !shorter.empty());
    if (!shorter.empty()) model_ = shorter;
  }
  void set_last() {
    if (model_.empty()) return;
    model_.back().cookie = input_.number(8);
    builder_.set_last_cookie(model_.back().cookie);
  }

  void compare(const ArrayView& view) {
    require(test::entries_of(view) == model_);
    require(model_.empty() || view.has_attrs() == with_attrs_);
    for (uint32_t i = 0; view.has_attrs() && i < view.count(); ++i) {
      require(view.attr(i).size == model_[i].name.size() && view.attr(i).ino == model_[i].ino);
    }
    for (const ModelEntry& entry : model_) search(view, entry.cookie);
    for (uint64_t cookie = 0; cookie < 9; ++cookie) search(view, cookie);
    search(view, input_.number(8));
  }
  void search(const ArrayView& view, uint64_t cookie) {
    require(view.find_cookie(cookie) == test::first_with_cookie(model_, cookie));
  }

  void seal() {
    const std::string token(input_.number(2) % 321, 't');
    const uint64_t key = input_.number(8);
    require(builder_.seal(rig_.pages, key, cache::kArrayFull, token));
    const ArrayView view = ArrayView::of(page_->content());
    compare(view);
    require(view.token() == token);
    require(view.header().last_cookie == key && view.header().change == change_);
    bool ascending = true, descending = true;
    for (size_t i = 1; i < model_.size(); ++i) {
      ascending &= model_[i - 1].cookie < model_[i].cookie;
      descending &= model_[i - 1].cookie > model_[i].cookie;
    }
    require(((view.header().flags & cache::kArrayAscending) != 0) == ascending);
    require(((view.header().flags & cache::kArrayDescending) != 0) == descending);
    require(rig_.pages.stats().entries_resident.get() == static_cast<int64_t>(model_.size()));
    page_.reset();
    require(builder_.count() == model_.size());  // asked after the page has gone
    require(builder_.position() == 9);
  }

  test::ArrayRig& rig_;
  Input& input_;
  PageRef page_;
  ArrayBuilder builder_;
  std::vector<ModelEntry> model_;
  uint64_t change_ = 0;
  bool with_attrs_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static test::ArrayRig rig;  // what one run leaves behind shows in the next
  Input input(data, size);
  Subject(rig, input).run();
  require(rig.all_zero());
  return 0;
}
