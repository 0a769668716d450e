// Phrases of finished rubrics, from which the next ones are drafted. Its owner decides who shares one.
//
// A table is in memory alone unless its owner saves it (phrase_file.h). Drafts never change what is written, but they
// change how long it takes: whoever shares a table with others could tell by the time what theirs wrote. One table per
// tenant separates them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "generation/item_number.h"
#include "generation/next_token.h"

namespace rubricrm {

// What followed each context of up to three tokens in finished rubrics. Its functions are safe from any thread.
//
// It never holds more than `most_entries` contexts (a rubric of 200 tokens adds up to 600). When it is full, a quarter
// is freed, the oldest first: what was seen once is dropped, what was seen more often stays with half its count. So
// what is common stays, and what was common long ago leaves.
class PhraseTable {
 public:
  static constexpr int64_t kMostEntries = 1 << 16;

  // numbers: of the tokenizer that the tokens belong to; they outlive it. most_entries: at least 4.
  explicit PhraseTable(const ItemNumbers& numbers, int64_t most_entries = kMostEntries)
      : numbers_(numbers), most_entries_(most_entries) {}

  // Takes in the tokens of a finished rubric.
  void learn(const TokenIds& token_ids);
  // Puts entries, the oldest first, in the place of what it holds, as many as it may.
  void assign(const std::vector<NextToken::Entry>& entries);
  // All entries, the oldest first.
  std::vector<NextToken::Entry> entries() const;

  // For several look-ups: next() stays what it is as long as the lock is held, for a few microseconds.
  std::unique_lock<std::mutex> lock() const { return std::unique_lock(mutex_); }
  const NextToken& next() const { return next_; }

 private:
  void shrink();

  const ItemNumbers& numbers_;
  const int64_t most_entries_;
  mutable std::mutex mutex_;
  NextToken next_;
};

}  // namespace rubricrm
