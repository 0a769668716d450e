// Which two tokens merge, and in which order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rubricrm {

// A table from two ids to the token that they make. Qwen3's 151,387 merges take 4 MB.
class MergeTable {
 public:
  struct Merge {
    int32_t rank = 0;  // of two merges the one of lower rank comes first
    int32_t id = -1;
  };

  // Makes room for that many merges; `add` needs it.
  void reserve(size_t count);
  // Adds a merge; of two of the same pair the last one counts.
  void add(int32_t left, int32_t right, Merge merge);

  // What two tokens make; the id is -1 if they do not merge.
  Merge find(int32_t left, int32_t right) const {
    const uint64_t pair = key(left, right);
    for (uint32_t at = place(pair);; at = (at + 1) & mask_) {
      if (slots_[at].pair == pair) return slots_[at].merge;
      if (slots_[at].pair == kEmpty) return {};
    }
  }

 private:
  struct Slot {
    uint64_t pair = kEmpty;
    Merge merge;
  };
  static constexpr uint64_t kEmpty = UINT64_MAX;  // no pair, since no id is negative

  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  uint32_t place(uint64_t pair) const {
    return static_cast<uint32_t>((pair ^ pair >> 29) * 0x9E3779B97F4A7C15u >> 32) & mask_;
  }

  std::vector<Slot> slots_{1};  // open addressing, a power of two, never full
  uint32_t mask_ = 0;
};

}  // namespace rubricrm
