#include "generation/phrase_table.h"

#include <algorithm>

namespace rubricrm {

void PhraseTable::learn(const TokenIds& token_ids) {
  const std::lock_guard held(mutex_);
  Reading reading(numbers_);
  for (int32_t token_id : token_ids) {
    const Context context = reading.context();
    const int32_t symbol = reading.read(token_id);
    if (symbol >= 0) next_.count(context, symbol);
    // Room for the next symbol's contexts.
    if (static_cast<int64_t>(next_.entries().size()) + 3 > most_entries_) shrink();
  }
}

void PhraseTable::assign(const std::vector<NextToken::Entry>& entries) {
  const std::lock_guard held(mutex_);
  next_ = NextToken();
  for (const NextToken::Entry& entry : entries) next_.set(entry);
  while (static_cast<int64_t>(next_.entries().size()) > most_entries_) shrink();
}

std::vector<NextToken::Entry> PhraseTable::entries() const {
  const std::lock_guard held(mutex_);
  return next_.entries();
}

// Frees a quarter, from the oldest entries on: a count of one goes, others are halved and count as new.
void PhraseTable::shrink() {
  std::vector<NextToken::Entry> entries = next_.entries();
  int64_t excess = static_cast<int64_t>(entries.size()) - most_entries_ * 3 / 4;
  while (excess > 0) {
    std::vector<NextToken::Entry> halved;
    auto oldest = entries.begin();
    for (; oldest != entries.end() && excess > 0; ++oldest) {
      if (oldest->hits > 1) {
        halved.push_back({oldest->context, oldest->symbol, oldest->hits / 2, oldest->occurrences / 2});
      } else {
        --excess;
      }
    }
    entries.erase(entries.begin(), oldest);
    entries.insert(entries.end(), halved.begin(), halved.end());
  }
  next_ = NextToken();
  for (const NextToken::Entry& entry : entries) next_.set(entry);
}

}  // namespace rubricrm
