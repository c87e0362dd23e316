#include "cache/data/line_window.h"

#include <algorithm>

namespace cache {

void LineWindow::answered(const LineUse& use, TimePoint now) {
  const Duration took = now - use.sent;
  const uint64_t carried = use.before + use.bytes;
  fastest_ = use.before == 0 ? took : std::min(fastest_, took);
  const Duration waited = took - fastest_;
  if (waited < wait_ / 3) {
    // A quarter: the largest request is that much, and answers may come as fast as it is sent.
    if (carried < bytes_ / 4) return;
    const bool first = set_back_ == TimePoint::min();
    const uint64_t more = first ? use.bytes : std::min(use.bytes, use.bytes * use.bytes / bytes_);
    bytes_ = std::min(bytes_ + more, most_);
  } else if (waited > wait_ && use.sent > set_back_) {
    const double share = std::chrono::duration<double>(fastest_ + wait_ / 3) / took;
    const auto fits = static_cast<uint64_t>(static_cast<double>(carried) * share);
    bytes_ = std::min(bytes_, std::max(fits, std::min(kLeast, most_)));
    set_back_ = now;
  }
}

}  // namespace cache
