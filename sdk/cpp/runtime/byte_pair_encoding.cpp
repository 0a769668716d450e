#include "runtime/byte_pair_encoding.h"

#include <algorithm>

namespace rubricrm {

void BytePairEncoding::append(std::string_view word, const ByteIds& byte_ids, const MergeTable& merges, TokenIds& ids) {
  symbols_.clear();
  for (const char byte : word) {
    const int32_t id = byte_ids[static_cast<unsigned char>(byte)];
    const auto at = static_cast<int32_t>(symbols_.size());
    if (id >= 0) symbols_.push_back({id, at - 1, at + 1});
  }
  if (symbols_.empty()) return;
  symbols_.back().next = -1;
  for (size_t left = 0; left + 1 < symbols_.size(); ++left) consider(static_cast<int32_t>(left), merges);
  while (!candidates_.empty()) {
    std::pop_heap(candidates_.begin(), candidates_.end());
    const Candidate first = candidates_.back();
    candidates_.pop_back();
    merge(first, merges);
  }
  for (int32_t at = 0; at != -1; at = symbols_[at].next) ids.push_back(symbols_[at].id);
}

// Adds the pair of a symbol and the next one, if they merge.
void BytePairEncoding::consider(int32_t left, const MergeTable& merges) {
  const MergeTable::Merge merge = merges.find(symbols_[left].id, symbols_[symbols_[left].next].id);
  if (merge.id < 0) return;
  candidates_.push_back({merge.rank, left, merge.id});
  std::push_heap(candidates_.begin(), candidates_.end());
}

void BytePairEncoding::merge(const Candidate& candidate, const MergeTable& merges) {
  Symbol& left = symbols_[candidate.left];
  if (left.id == -1 || left.next == -1) return;
  Symbol& right = symbols_[left.next];
  if (merges.find(left.id, right.id).id != candidate.id) return;
  left.id = candidate.id;
  left.next = right.next;
  right.id = -1;
  if (left.next != -1) {
    symbols_[left.next].previous = candidate.left;
    consider(candidate.left, merges);
  }
  if (left.previous != -1) consider(left.previous, merges);
}

}  // namespace rubricrm
