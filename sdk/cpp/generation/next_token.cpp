#include "generation/next_token.h"

#include <algorithm>

namespace rubricrm {
namespace {

constexpr Context kOne = (Context{1} << kSymbolBits) - 1;
constexpr Context kTwo = (Context{1} << 2 * kSymbolBits) - 1;
constexpr Context kThree = (Context{1} << 3 * kSymbolBits) - 1;
constexpr Context kLongestFirst[] = {kThree, kTwo, kOne};

// How much less a context's own count says than it seems to, and how much the shorter context weighs: absolute
// discounting and interpolation, as in Kneser-Ney models.
constexpr double kDiscount = 0.3;
constexpr struct {
  Context mask, shorter;
  double weight;
} kShortestFirst[] = {{kOne, 0, 2.0}, {kTwo, kOne, 1.0}, {kThree, kTwo, 1.0}};

size_t hash_of(Context context) { return static_cast<size_t>((context * 0x9E3779B97F4A7C15) >> 32); }

}  // namespace

Context extended(Context context, int32_t symbol) {
  if (symbol >= kMostSymbols) return kEmptyContext;
  return (context << kSymbolBits | static_cast<Context>(symbol + 1)) & kThree;
}

void NextToken::count(Context context, int32_t symbol) {
  if (symbol >= kMostSymbols) return;
  for (Context mask : kLongestFirst) {
    const Context key = context & mask;
    if (key <= mask >> kSymbolBits) continue;  // there are fewer symbols than that
    const Entry* entry = find(key);
    if (entry == nullptr) {
      set({key, symbol, 1, 1});
    } else if (entry->symbol == symbol) {
      set(packed(key, symbol, entry->hits + 1, entry->occurrences + 1));
      return;
    } else if (entry->hits > 1) {
      set(packed(key, entry->symbol, entry->hits - 1, entry->occurrences + 1));
    } else {
      set(packed(key, symbol, 1, entry->occurrences + 1));
    }
  }
}

NextToken::Entry NextToken::packed(Context context, int32_t symbol, int32_t hits, int32_t occurrences) const {
  if (occurrences <= most_hits_) return {context, symbol, hits, occurrences};
  return {context, symbol, (hits + 1) / 2, occurrences / 2};
}

void NextToken::set(const Entry& entry) {
  if (2 * (entries_.size() + 1) > places_.size()) grow();
  uint32_t& place = places_[place_of(entry.context)];
  if (place != 0) {
    entries_[place - 1] = entry;
    return;
  }
  entries_.push_back(entry);
  place = static_cast<uint32_t>(entries_.size());
}

const NextToken::Entry* NextToken::find(Context context) const {
  if (places_.empty()) return nullptr;
  const uint32_t place = places_[place_of(context)];
  return place == 0 ? nullptr : &entries_[place - 1];
}

// Where a context stands in places_, or would stand.
size_t NextToken::place_of(Context context) const {
  const size_t mask = places_.size() - 1;
  size_t at = hash_of(context) & mask;
  while (places_[at] != 0 && entries_[places_[at] - 1].context != context) at = (at + 1) & mask;
  return at;
}

void NextToken::grow() {
  places_.assign(std::max<size_t>(64, 2 * places_.size()), 0);
  for (size_t n = 0; n < entries_.size(); ++n) places_[place_of(entries_[n].context)] = static_cast<uint32_t>(n + 1);
}

Foreseen foreseen(Context context, const std::vector<Foresight>& sources) {
  Foreseen best;
  for (const auto& [mask, shorter, weight] : kShortestFirst) {
    const Context key = context & mask;
    if (key <= shorter) break;
    for (const auto& [name, next] : sources) {
      const NextToken::Entry* entry = next->find(key);
      if (entry == nullptr) continue;
      const double total = entry->occurrences + weight;
      const double own = (entry->hits - kDiscount) / total;
      const double inherited = (weight + kDiscount) / total * best.probability;
      if (entry->symbol == best.symbol) {
        best.probability = own + inherited;
      } else if (own >= inherited) {
        best = {entry->symbol, own, name};
      } else {
        best.probability = inherited;
      }
    }
  }
  return best;
}

}  // namespace rubricrm
