// The order in which weights that come from memory are asked for before they are used.
#pragma once

#include <cstdint>

#include "packed_matrix.h"

namespace rubricrm {

// A processor's own prefetchers follow a stream within a page of 4 KB and begin again at the next one. So the next four
// pages are asked for in turns, 256 bytes of each, while the four before them are multiplied.
class Prefetch {
 public:
  // For a block at `here` of weights that begin at `start`, from its vector of outputs `first` on.
  RUBRICRM_INLINE Prefetch(const uint8_t* start, const uint8_t* here, int first) {
    const int64_t offset = here - start;
    base_ = start + (offset / kWindow + 1) * kWindow + offset % kWindow / kPages + kLine * first;
  }

  // Asks for what takes the place of one vector of the block's group. Behind the weights this does nothing wrong.
  RUBRICRM_INLINE void request(int group, int vector) const {
    constexpr int kSecondLevel = 2;  // the first is smaller than eight pages and what else is in use
    __builtin_prefetch(base_ + group % kPages * kPage + group / kPages * kGroup + kLine * vector, 0, kSecondLevel);
  }

 private:
  static constexpr int64_t kPage = 4096;
  static constexpr int64_t kPages = 4;
  static constexpr int64_t kWindow = kPages * kPage;
  static constexpr int64_t kGroup = 4 * kTile;
  static constexpr int64_t kLine = 4 * kLanes;

  const uint8_t* base_;
};

}  // namespace rubricrm
