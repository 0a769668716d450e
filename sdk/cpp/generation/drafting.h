// Drafts: tokens that may follow, so that one step verifies several. What is written stays exactly the same.
//
// The model decides every token of a step of 1 + k rows, k of which hold drafted tokens: the rows are right as far as
// the draft is what was decided. Drafts come from the grammar's forced tokens, the next item's number, this sequence's
// own text and the phrases of finished rubrics. draft_plan.h says how many of them are worth their rows.
#pragma once

#include <cstdint>
#include <vector>

#include "generation/acceptance.h"
#include "generation/draft_credit.h"
#include "generation/grammar.h"
#include "generation/item_number.h"
#include "generation/next_token.h"
#include "generation/phrase_table.h"

namespace rubricrm {

// Tokens that may follow.
struct Draft {
  TokenIds token_ids;           // in order
  std::vector<int> grades;      // source and sureness of each, as `grade` makes them
  std::vector<double> chances;  // that each token and all before it come true, so they never rise

  int64_t size() const { return static_cast<int64_t>(token_ids.size()); }
};

// Drafts for one sequence. All that it knows ends with the sequence; only the table of phrases outlives it, as
// `numbers` must. Used by one thread at a time.
class Drafter {
 public:
  // phrases: of finished rubrics, or null. It is only read.
  Drafter(const TokenIds& prompt_ids, const ItemNumbers& numbers, const PhraseTable* phrases = nullptr);

  // Takes in a token that was decided.
  void push(int32_t token_id);

  // What may follow, `limit` tokens at most. Changes nothing.
  // rules: the grammar, where the output has one: nothing is drafted that it refuses. state: its state, after the last
  // token that was pushed.
  Draft propose(int64_t limit, const Grammar* rules = nullptr, int32_t state = 0) const;

  // Notes what became of the first `length` tokens of a draft, which cost `price` (DraftPlan::prices).
  void settle(const Draft& draft, int64_t length, int64_t num_accepted, double price);

  double credit() const { return credit_.tokens(); }  // what its drafts may still cost

 private:
  struct Following {
    TokenIds token_ids;
    int of_grade = 0;
  };
  static Following following(const Reading& ahead, const std::vector<Foresight>& sources, const Grammar* rules,
                             int32_t state, int64_t limit);

  Acceptance acceptance_;
  DraftCredit credit_;
  const PhraseTable* phrases_;
  NextToken own_;
  Reading reading_;
};

}  // namespace rubricrm
