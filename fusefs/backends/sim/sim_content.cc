#include "fusefs/backends/sim/sim_content.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cache/base/hash.h"

namespace fusefs {

void sim_computed_bytes(uint64_t key, uint64_t offset, char* out, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const uint64_t place = offset + i;
    out[i] = static_cast<char>(cache::mix64(key + place / 8) >> (place % 8 * 8));
  }
}

// One whole block as it is now.
void SimContent::load(uint64_t number, char* out) const {
  std::memset(out, 0, kSimBlock);
  const auto stored = blocks_.find(number);
  if (stored != blocks_.end()) {
    std::memcpy(out, stored->second.data(), stored->second.size());  // NOLINT: bytes, no text
    return;
  }
  const uint64_t start = number * kSimBlock;
  if (start < base_end_) {
    sim_computed_bytes(key_, start, out, std::min(kSimBlock, base_end_ - start));
  }
}

void SimContent::remember(uint64_t number) {
  if (!undo_ || undo_->blocks.contains(number)) return;
  const auto stored = blocks_.find(number);
  undo_->blocks[number] =
      stored == blocks_.end() ? std::nullopt : std::optional<Block>(stored->second);
}

// Nothing: the block is computed again.
void SimContent::put(uint64_t number, std::optional<Block> block) {
  const auto old = blocks_.find(number);
  if (old != blocks_.end() && !old->second.empty()) --stored_;
  if (block && !block->empty()) ++stored_;
  if (block) {
    blocks_[number] = std::move(*block);
  } else if (old != blocks_.end()) {
    blocks_.erase(old);
  }
}

std::string SimContent::read(uint64_t offset, uint64_t count) const {
  std::string bytes;
  if (offset >= size_) return bytes;
  count = std::min(count, size_ - offset);
  bytes.reserve(count);
  char block[kSimBlock];
  while (count > 0) {
    const uint64_t within = offset % kSimBlock;
    const uint64_t piece = std::min(count, kSimBlock - within);
    load(offset / kSimBlock, block);
    bytes.append(block + within, piece);
    offset += piece;
    count -= piece;
  }
  return bytes;
}

void SimContent::write(uint64_t offset, std::string_view bytes, Stable stable) {
  if (stable == Stable::kYes) commit();
  if (stable == Stable::kNo && !undo_) undo_ = Undo{base_end_, size_, {}};
  while (!bytes.empty()) {
    const uint64_t number = offset / kSimBlock;
    const uint64_t within = offset % kSimBlock;
    const uint64_t piece = std::min<uint64_t>(bytes.size(), kSimBlock - within);
    remember(number);
    Block block(kSimBlock, '\0');
    load(number, block.data());
    std::memcpy(block.data() + within, bytes.data(), piece);
    put(number, std::move(block));
    offset += piece;
    bytes.remove_prefix(piece);
    size_ = std::max(size_, offset);
  }
}

void SimContent::truncate(uint64_t size) {
  commit();
  base_end_ = std::min(base_end_, size);
  const uint64_t first = (size + kSimBlock - 1) / kSimBlock;  // that lies beyond as a whole
  while (!blocks_.empty() && blocks_.rbegin()->first >= first) {
    put(blocks_.rbegin()->first, std::nullopt);
  }
  const auto last = blocks_.find(size / kSimBlock);
  if (last != blocks_.end() && !last->second.empty()) {
    const uint64_t kept = size % kSimBlock;
    std::memset(last->second.data() + kept, 0, kSimBlock - kept);
  }
  size_ = size;
}

void SimContent::zero_in_block(uint64_t number, uint64_t from, uint64_t to) {
  if (from == 0 && to == kSimBlock) {
    put(number, Block());
    return;
  }
  Block block(kSimBlock, '\0');
  load(number, block.data());
  std::memset(block.data() + from, 0, to - from);
  put(number, std::move(block));
}

void SimContent::zero(uint64_t offset, uint64_t length) {
  commit();
  const uint64_t end = offset + length;
  const auto zero_block = [&](uint64_t number) {
    const uint64_t start = number * kSimBlock;
    zero_in_block(number, std::max(offset, start) - start,
                  std::min(end, start + kSimBlock) - start);
  };
  // Where nothing is computed and nothing is stored there are zeroes already.
  for (uint64_t at = offset; at < std::min(end, base_end_); at += kSimBlock - at % kSimBlock) {
    zero_block(at / kSimBlock);
  }
  auto stored = blocks_.lower_bound(offset / kSimBlock);
  for (; stored != blocks_.end() && stored->first * kSimBlock < end; ++stored) {
    if (!stored->second.empty()) zero_block(stored->first);
  }
}

bool SimContent::lose_uncommitted() {
  if (!undo_) return false;
  base_end_ = undo_->base_end;
  size_ = undo_->size;
  for (auto& [number, block] : undo_->blocks) put(number, std::move(block));
  undo_.reset();
  return true;
}

uint64_t SimContent::more_for(uint64_t offset, uint64_t length) const {
  if (length == 0) return 0;
  uint64_t more = (offset + length - 1) / kSimBlock - offset / kSimBlock + 1;
  auto stored = blocks_.lower_bound(offset / kSimBlock);
  for (; stored != blocks_.end() && stored->first * kSimBlock < offset + length; ++stored) {
    if (!stored->second.empty()) --more;
  }
  return more * kSimBlock;
}

}  // namespace fusefs
