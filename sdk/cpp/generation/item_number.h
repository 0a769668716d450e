// The numbers of a list's items: the tokens that spell them, and the one symbol that stands for all of them.
//
// What follows an item is its successor's number, which was nowhere in the text before. A source of drafts that takes
// all of them for the same symbol sees the pattern, and the number itself is counted.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "generation/next_token.h"
#include "generation/token_texts.h"

namespace rubricrm {

constexpr int32_t kNumber = kMostSymbols - 1;  // beside token ids, far above those of any vocabulary

// How a tokenizer, which outlives it, writes 1 to 99.
class ItemNumbers {
 public:
  explicit ItemNumbers(const TokenTexts& texts);

  // The text of a token that numbers are made of; null for others.
  const std::string* digits(int32_t token_id) const;
  // The tokens of a number; none for one above 99, which no list of criteria reaches.
  const TokenIds& spelled(int64_t number) const;
  // The tokens that a number still lacks, given the digits of it that were written.
  TokenIds rest(int64_t number, const std::string& begun) const;
  // Whether a token is what ends an item's number: "1." or "1)".
  bool is_mark(int32_t token_id) const;
  int32_t num_tokens() const { return texts_.num_tokens; }

 private:
  const TokenTexts& texts_;
  std::vector<TokenIds> spelled_;
  std::unordered_map<int32_t, std::string> digits_;
};

// Where a text stands: the context of its next symbol, the next item's number as far as it is written, the last's.
// Only the number that is next in the list becomes kNumber. Others are part of the text: a year, a number of words.
// A copy goes on by itself.
class Reading {
 public:
  explicit Reading(const ItemNumbers& numbers) : numbers_(&numbers) {}

  Context context() const { return context_; }
  // Forgets the numbers, not the context: an answer's list counts for itself, whatever the prompt listed.
  void begin_list();
  // Goes on by a token; returns its symbol, -1 where it only goes on with the next item's number.
  int32_t read(int32_t token_id);
  // The tokens that the next item's number still lacks, if it is that one which is being written.
  TokenIds rest() const;
  // The tokens of the next item's number.
  const TokenIds& next_number() const { return numbers_->spelled(item_ + 1); }

 private:
  const ItemNumbers* numbers_;
  Context context_ = kEmptyContext;
  std::string digits_;  // of the next item's number, where the text ends within or after it
  int64_t item_ = 0;    // the number of the last item, 0 before the first
};

}  // namespace rubricrm
