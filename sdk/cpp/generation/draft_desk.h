// What the drafts of all sequences of an engine share: the price of rows, the phrases, and the plan of a step.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "generation/constraint.h"
#include "generation/draft_plan.h"
#include "generation/drafting.h"
#include "generation/phrase_table.h"
#include "generation/step_cost.h"

namespace rubricrm {

// The part of a draft that a step verifies.
struct PricedDraft {
  Draft draft;         // all that was drafted
  TokenIds token_ids;  // what gets rows
  double price = 0.0;  // what the rows cost, in tokens of plain decoding
};

// What drafting asks of a sequence that decodes.
struct Drafting {
  const Drafter* drafter;        // null: it does not draft
  const Constraint* constraint;  // null: nothing holds it to a form
  int64_t tokens_left;           // how many tokens may still come, the end included
};

// Makes drafters, shares a step's rows among their drafts, and learns from what was finished. For the thread that leads
// the steps, but for drafter() and phrases(). `numbers` and `phrases` outlive it.
class DraftDesk {
 public:
  DraftDesk(StepCost cost, const ItemNumbers& numbers, PhraseTable& phrases)
      : cost_(std::move(cost)), numbers_(numbers), phrases_(phrases) {}

  // The drafter of a sequence.
  std::unique_ptr<Drafter> drafter(const TokenIds& prompt_ids, bool is_rubric) const;

  // What a step verifies of each sequence: together at most rows_left tokens. other_rows: as plan_drafts.
  std::vector<PricedDraft> propose(const std::vector<Drafting>& sequences, int64_t rows_left, int64_t other_rows) const;

  // Notes what became of a draft, an empty one too.
  static void settle(Drafter& drafter, const PricedDraft& draft, int64_t num_accepted);

  // Takes in the tokens of a whole rubric.
  void learn(const TokenIds& token_ids) { phrases_.learn(token_ids); }

  PhraseTable& phrases() const { return phrases_; }

 private:
  StepCost cost_;
  const ItemNumbers& numbers_;
  PhraseTable& phrases_;
};

}  // namespace rubricrm
