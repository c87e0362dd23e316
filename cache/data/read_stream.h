// ReadStream: where the reader of an open file is, and how far ahead of it is worth asking.
//
// Purpose:        the policy of readahead alone: it is told of reads and tells ranges; it knows no
//                 pages and no requests.
// Ownership:      belongs to the open file.
// Thread-safety:  none of its own. The kernel reads one open file in several threads at once, so
//                 the mapping uses it under the file's lock only.
// Units:          bytes.
// Policy:         a reader that goes on where it was, give or take what the kernel's own readahead
//                 swaps, or that begins at 0, is sequential. Its window doubles, from kFirstWindow
//                 to the limit, whenever it is used up, and is topped up by a whole request as soon
//                 as one fits, so that requests follow one another without a gap. A reader that
//                 jumps by the same distance again and again (strided) is asked for as many reads
//                 ahead, from 2 to kMostStrides, as double while they are used; one that jumps
//                 about (random) for nothing. What was asked ahead and lost before it was read
//                 halves the window, or those reads.
// Source:         Linux mm/readahead.c (doubling windows); its marker page is `asked_` here.
#pragma once

#include <cstdint>

namespace cache {

class ReadStream {
 public:
  static constexpr uint64_t kFirstWindow = uint64_t{256} << 10;
  static constexpr uint64_t kMostWindow = uint64_t{16} << 20;
  static constexpr uint64_t kSlack = uint64_t{512} << 10;  // swapped requests of the kernel's
  static constexpr uint32_t kStrideProof = 3;              // equal jumps in a row
  static constexpr uint32_t kMostStrides = 64;             // reads ahead of a strided reader

  struct Limits {
    uint64_t file_size = 0;
    uint64_t request = 0;  // the largest that is worth sending
    uint64_t window = 0;   // what the cache has room for
  };
  // `count` ranges, each `stride` bytes behind the one before.
  struct Ahead {
    uint64_t from = 0, to = 0;
    uint32_t count = 1;
    int64_t stride = 0;
    [[nodiscard]] bool empty() const { return from >= to; }
    [[nodiscard]] Ahead at(uint32_t i) const {
      const uint64_t by = static_cast<uint64_t>(stride) * i;  // wraps back where it is negative
      return {from + by, to + by};
    }
  };

  // A read of [offset, offset + size) begins. Tells what to ask for now, beside it or with it: a
  // range that may begin with the read itself.
  Ahead on_read(uint64_t offset, uint64_t size, const Limits& limits);
  // No more than up to here could be asked for: the rest is told again.
  void asked_until(uint64_t offset);
  // The same of a strided reader: only the first so many ranges.
  void asked_ranges(const Ahead& ahead, uint32_t count) { strides_ahead_ -= ahead.count - count; }
  // What had been asked for ahead was gone when the reader came to `offset`.
  void lost(uint64_t offset);
  [[nodiscard]] bool was_asked(uint64_t offset) const {
    return foreseen_ || (offset >= asked_from_ && offset < asked_);
  }
  // A read of pages first to last. Whether it is a use of the first of its own, and not the rest
  // of the read before.
  bool is_new_use(uint64_t first, uint64_t last) {
    const bool is_new = first != last_page_;
    last_page_ = last;
    return is_new;
  }
  [[nodiscard]] uint64_t window() const { return window_; }  // 0: not sequential

 private:
  void restart(uint64_t offset);
  void forget_stride();
  Ahead on_jump(int64_t jump, uint64_t offset, uint64_t size, const Limits& limits);

  uint64_t next_ = 0;  // the furthest end of a read in this run
  uint64_t window_ = 0;
  uint64_t ceiling_ = kMostWindow;  // halved by losses, doubled again by windows read in full
  uint64_t asked_from_ = 0;         // [asked_from_, asked_) was asked for ahead in this run
  uint64_t asked_ = 0;
  uint64_t last_page_ = ~uint64_t{0};

  uint64_t last_ = 0;           // where the last read began
  int64_t stride_ = 0;          // from the one before it
  uint32_t equal_ = 0;          // jumps of that distance, in a row
  uint32_t strides_ = 0;        // reads that are worth asking ahead
  uint32_t strides_ahead_ = 0;  // that have been
  bool foreseen_ = false;       // the last read was one of them
};

}  // namespace cache
