// Encodes arrays made of arbitrary bytes into buffers of arbitrary size, and walks what came out.
// Under ASan a step past the buffer or a name is an error.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "fusefs/dirent_encoder.h"
#include "tests/fusefs/hand_made_array.h"

namespace {

// Takes the input apart, zeros where it has ended.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  template <typename T>
  T take() {
    T value{};
    const std::string_view bytes = text(sizeof value);
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  std::string_view text(size_t length) {
    length = std::min(length, size_);
    const std::string_view bytes(reinterpret_cast<const char*>(data_), length);
    data_ += length;
    size_ -= length;
    return bytes;
  }
  [[nodiscard]] bool empty() const { return size_ == 0; }

 private:
  const uint8_t* data_;
  size_t size_;
};

void require(bool condition) {
  if (!condition) std::abort();
}

void fill(Input& input, test::HandMadeArray* array) {
  const bool attrs = input.take<uint8_t>() % 2 == 1;
  while (!input.empty() && !array->full()) {
    const auto ino = input.take<uint64_t>();
    const auto cookie = input.take<uint64_t>();
    const auto type = input.take<uint8_t>();
    cache::Attr attr;
    attr.mode = input.take<uint32_t>();
    attr.size = input.take<uint64_t>();
    array->add(input.text(input.take<uint8_t>()), ino, type, cookie);
    if (attrs) array->add_attr(attr);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const size_t capacity = input.take<uint16_t>();
  const auto format =
      input.take<uint8_t>() % 2 == 0 ? fusefs::DirentFormat::kPlain : fusefs::DirentFormat::kPlus;
  const std::chrono::nanoseconds valid(input.take<int64_t>());
  test::HandMadeArray array;
  fill(input, &array);
  const cache::ArrayView view = array.view();

  const std::unique_ptr<std::byte[]> buffer(new std::byte[capacity]);
  fusefs::DirentEncoder encoder(buffer.get(), capacity, format);
  encoder.append_name(".", 1, 4, 1);
  encoder.append_name("..", 1, 4, 2);
  const uint32_t taken = encoder.append(view, 0, view.count(), valid);
  require(encoder.size() <= capacity);
  require(taken <= view.count());
  if (format == fusefs::DirentFormat::kPlain) return 0;
  uint32_t walked = 0;
  for (fusefs::PlusEntries walk(encoder.data(), encoder.size()); !walk.done(); walk.next()) {
    fusefs::PlusEntry entry = walk.entry();
    require(entry.nodeid() == 0);
    entry.set_node(walked + 1);
    if (!entry.has_attributes()) entry.clear_node();
    ++walked;
  }
  require(walked >= taken && walked <= taken + 2);
  return 0;
}
