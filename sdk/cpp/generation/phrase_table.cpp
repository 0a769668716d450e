#include "generation/phrase_table.h"

#include <algorithm>
#include <tuple>

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

void PhraseTable::clear() {
  const std::lock_guard held(mutex_);
  next_ = NextToken();
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

std::vector<Phrase> PhraseTable::phrases(size_t most) const {
  std::vector<Phrase> found;
  for (const NextToken::Entry& entry : entries()) {
    if (entry.context >> 2 * kSymbolBits == 0) continue;
    found.push_back({symbols_of(entry.context), entry.hits});
    found.back().symbols.push_back(entry.symbol);
  }
  std::sort(found.begin(), found.end(),
            [](const Phrase& a, const Phrase& b) { return std::tie(b.hits, a.symbols) < std::tie(a.hits, b.symbols); });
  if (found.size() > most) found.resize(most);
  return found;
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
