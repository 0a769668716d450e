#include "generation/deadlines.h"

#include <algorithm>

namespace rubricrm {

void Deadlines::add(const std::shared_ptr<Sequence>& sequence) {
  if (!sequence->deadline()) return;
  timed_.emplace(*sequence->deadline(), sequence);
  if (timed_.size() > most_) forget_finished();
}

std::vector<std::shared_ptr<Sequence>> Deadlines::take_due(Time now) {
  std::vector<std::shared_ptr<Sequence>> due;
  while (!timed_.empty() && timed_.begin()->first <= now) {
    due.push_back(timed_.begin()->second);
    timed_.erase(timed_.begin());
  }
  return due;
}

// Most sequences end otherwise, long before their deadline.
void Deadlines::forget_finished() {
  for (auto entry = timed_.begin(); entry != timed_.end();) {
    entry = entry->second->is_finished() ? timed_.erase(entry) : std::next(entry);
  }
  most_ = std::max<size_t>(64, 2 * timed_.size());
}

}  // namespace rubricrm
