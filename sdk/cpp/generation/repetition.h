// Tells when a generation goes in circles, as a model does that lost its way.
//
// A text goes in circles when its end is one cycle of at most 128 tokens, at least 4 times in a row, and
//
// - at least 96 tokens long, if the cycle holds a letter; or
// - at least 256 tokens long, if it holds none (a rule of dashes, a matrix of zeros).
//
// Lists that count are seen too: a number, all its digits together, is then one token, and a cycle may differ from the
// one before it in its numbers. Those that differ must count up by 1 from each to the next ("1. ... 2. ... 3. ..."),
// and the cycle's letters must have at least 12 bytes in UTF-8, so that neither rows of numbers nor "Step 1, Step 2"
// are a circle.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "generation/token_texts.h"

namespace rubricrm {

// A sequence of symbols, and with which periods its end repeats itself.
class Symbols {
 public:
  static constexpr int kMaxPeriod = 128;

  // The shortest period with which the end repeats itself long enough, and that end's length; or 0, 0.
  struct Cycle {
    int64_t period, length;
  };

  void push(int32_t symbol);
  Cycle cycle() const;
  const std::vector<int32_t>& all() const { return all_; }

 private:
  std::vector<int32_t> all_;
  std::array<int32_t, kMaxPeriod> runs_{};  // [period - 1]: symbols in a row that equal the one `period` before
};

// Takes the tokens of one generation, and keeps them. The tokenizer outlives it.
class RepetitionDetector {
 public:
  explicit RepetitionDetector(const TokenTexts& texts) : texts_(texts) {}

  // Takes the next token; returns whether the text goes in circles with it.
  bool push(int32_t token_id);

 private:
  void push_counted(int32_t token_id);
  bool is_circle() const;
  bool is_counting_list() const;
  int64_t letter_bytes(const std::vector<int32_t>& symbols, int64_t period) const;

  const TokenTexts& texts_;
  Symbols tokens_, counted_;                      // in the second, numbers are one symbol each
  std::unordered_map<int64_t, int64_t> numbers_;  // by their position in `counted_`
  std::string digits_;                            // of a number that may go on
};

}  // namespace rubricrm
