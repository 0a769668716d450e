// Which token followed which: the statistics that drafts are made of.
//
// A context is the last one to three symbols (a token, or kNumber), packed into one integer. For each context the most
// frequent recent successor is kept, and how often it was right, whatever came after.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rubricrm {

using Context = uint64_t;
constexpr int kSymbolBits = 20;
constexpr int32_t kMostSymbols = (1 << kSymbolBits) - 1;  // a packed symbol is its value plus one
constexpr Context kEmptyContext = 0;                      // of the first symbol

// The context after one more symbol; a token id too large for it empties the context.
Context extended(Context context, int32_t symbol);

// What followed each context, and how often that was so.
class NextToken {
 public:
  static constexpr int kMostHits = 15;

  struct Entry {
    Context context;
    int32_t symbol;       // what followed
    int32_t hits;         // how often it did
    int32_t occurrences;  // how often anything did; both are halved when they pass most_hits: recent ones weigh more
  };

  explicit NextToken(int most_hits = kMostHits) : most_hits_(most_hits) {}

  // Notes that a symbol followed a context. A shorter context is told only of what the longer ones did not foresee, so
  // that it says what follows in a new place.
  void count(Context context, int32_t symbol);
  // Adds an entry, or puts it in the place of that with its context.
  void set(const Entry& entry);
  // The entry of a context; null: there is none. Valid until the next change.
  const Entry* find(Context context) const;
  // The oldest context first.
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  Entry packed(Context context, int32_t symbol, int32_t hits, int32_t occurrences) const;
  size_t place_of(Context context) const;
  void grow();

  int most_hits_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> places_;  // a hash table with open addressing: positions in entries_ plus one; 0: none
};

// What is known of next tokens, by one source.
struct Foresight {
  int name;
  const NextToken* next;
};

// The likeliest next symbol, its probability, and which source named it; -1, 0.0, -1: no context was ever seen.
struct Foreseen {
  int32_t symbol = -1;
  double probability = 0.0;
  int source = -1;
};

// From the shortest context to the longest, each source in turn, the most general first, corrects what is known so far:
// the later source and the longer context decide where they were right often.
Foreseen foreseen(Context context, const std::vector<Foresight>& sources);

}  // namespace rubricrm
