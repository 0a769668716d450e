// Which tokens may follow: an automaton over tokens, in tables that export compiled (docs/BUNDLE.md, "Grammar").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/session.h"

namespace rubricrm {

// The arrays of a file grammar.npz; state 0 is the end, state 1 the start.
struct GrammarTables {
  std::vector<uint16_t> token_class;  // [num_tokens]: 0 never follows, 1 ends the text
  std::vector<int16_t> steps;         // [num_rows, num_classes]: what a class adds to a state's number
  int64_t num_rows = 0, num_classes = 0;
  std::vector<uint16_t> row;       // [num_states]: the row of `steps` that each state has
  std::vector<uint16_t> shortest;  // [num_states]: the fewest tokens to the end, the stop id included
  std::vector<int32_t> forced;     // [num_states]: the token that follows if the text goes on in one way; else -1
};

// States are numbers: kStart before the first token, next() after each. Immutable, so threads may share it. A state
// must be one that it returned, a token one of the tokenizer's.
class Grammar {
 public:
  static constexpr int32_t kRefused = -1;  // in place of a state: the token cannot follow
  static constexpr int32_t kEnd = 0;       // after a stop id; nothing follows
  static constexpr int32_t kStart = 1;

  // Checks the tables against each other, the tokenizer and the tokens that must end a text. `where` is the file, for
  // messages. Throws BUNDLE_INVALID.
  Grammar(GrammarTables tables, int64_t num_tokens, const TokenIds& stop_ids, const std::string& where);

  int64_t num_tokens() const { return static_cast<int64_t>(tables_.token_class.size()); }
  int32_t num_states() const { return static_cast<int32_t>(tables_.row.size()); }

  // The state after a token; kRefused where it cannot follow.
  int32_t next(int32_t state, int32_t token_id) const { return after_class(state, tables_.token_class[token_id]); }

  // The fewest tokens to a whole end, the stop id included.
  int32_t shortest(int32_t state) const { return tables_.shortest[state]; }

  // Whether a token may follow, and a whole end still fits into the tokens left, this one included.
  bool is_allowed(int32_t state, int32_t token_id, int64_t tokens_left) const {
    return is_class_allowed(state, tables_.token_class[token_id], tokens_left);
  }

  // The tokens that must follow, `limit` at most, as long as what must follow is one text. past_ends: also from where
  // the text could end.
  TokenIds forced(int32_t state, int64_t limit, bool past_ends = false) const;

  // By class: 1 where is_allowed, else 0.
  std::vector<uint8_t> allowed_classes(int32_t state, int64_t tokens_left) const;

  // For hosts that drive another engine: one bit per token, of token n bit n % 32 of word n / 32; 1 where is_allowed.
  // Bits after the last token are 0. `words` holds at least mask_words() words. 0.1 ms for Qwen3's tokens.
  void write_mask(int32_t state, int64_t tokens_left, int32_t* words) const;
  size_t mask_words() const { return (tables_.token_class.size() + 31) / 32; }

  // The ids that are allowed, ascending.
  void list_allowed(int32_t state, int64_t tokens_left, std::vector<int32_t>& ids) const;

  const std::vector<uint16_t>& token_class() const { return tables_.token_class; }

 private:
  int32_t after_class(int32_t state, int32_t token_class) const;
  bool is_class_allowed(int32_t state, int32_t token_class, int64_t tokens_left) const {
    const int32_t following = after_class(state, token_class);
    return following != kRefused && tables_.shortest[following] < tokens_left;
  }

  GrammarTables tables_;
};

}  // namespace rubricrm
