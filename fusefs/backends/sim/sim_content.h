// The bytes of one file that was changed: what is computed, and over it the blocks that are stored.
//
// Purpose:        memory grows with what was written, not with the file's size.
// Thread-safety:  none of its own; the back end's lock protects it.
//
//   bytes     0                 base end              size
//             |-- computed -----|-- zeroes -----------|
//                 [stored block]     [stored block]      win over both
//
// Writes that are not committed can be lost: an undo log keeps what stood there before.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace fusefs {

constexpr uint64_t kSimBlock = 4096;

// The computed bytes of the file with that key.
void sim_computed_bytes(uint64_t key, uint64_t offset, char* out, size_t count);

class SimContent {
 public:
  enum class Stable : uint8_t { kNo, kYes };

  SimContent() = default;  // an empty file
  SimContent(uint64_t key, uint64_t size) : key_(key), base_end_(size), size_(size) {}

  [[nodiscard]] uint64_t size() const { return size_; }
  // Fewer bytes than asked for only at the end.
  [[nodiscard]] std::string read(uint64_t offset, uint64_t count) const;
  // The range lies below 2^63.
  void write(uint64_t offset, std::string_view bytes, Stable stable);
  // What follows is stable at once, and makes stable what was written before.
  void truncate(uint64_t size);
  void zero(uint64_t offset, uint64_t length);  // inside the file
  void commit() { undo_.reset(); }
  // Back to what was committed last; false: nothing was lost.
  bool lose_uncommitted();

  // Bytes in stored blocks, and how many more a write there would need.
  [[nodiscard]] uint64_t stored() const { return stored_ * kSimBlock; }
  [[nodiscard]] uint64_t more_for(uint64_t offset, uint64_t length) const;

 private:
  using Block = std::string;  // kSimBlock bytes; none: zeroes
  struct Undo {
    uint64_t base_end, size;
    std::map<uint64_t, std::optional<Block>> blocks;
  };

  void load(uint64_t number, char* out) const;
  void zero_in_block(uint64_t number, uint64_t from, uint64_t to);
  void put(uint64_t number, std::optional<Block> block);
  void remember(uint64_t number);

  uint64_t key_ = 0;
  uint64_t base_end_ = 0;
  uint64_t size_ = 0;
  uint64_t stored_ = 0;  // blocks that are not zeroes
  std::map<uint64_t, Block> blocks_;
  std::optional<Undo> undo_;
};

}  // namespace fusefs
