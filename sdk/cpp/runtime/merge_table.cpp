#include "runtime/merge_table.h"

namespace rubricrm {

void MergeTable::reserve(size_t count) {
  size_t size = 1;
  while (size <= count + count / 2) size *= 2;
  slots_.assign(size, Slot{});
  mask_ = static_cast<uint32_t>(size - 1);
}

void MergeTable::add(int32_t left, int32_t right, Merge merge) {
  const uint64_t pair = key(left, right);
  uint32_t at = place(pair);
  while (slots_[at].pair != kEmpty && slots_[at].pair != pair) at = (at + 1) & mask_;
  slots_[at] = {pair, merge};
}

}  // namespace rubricrm
