// What the scheduler and the engine ask of drafting: tokens that may follow, so that one step verifies several.
#pragma once

#include <memory>
#include <vector>

#include "generation/drafting.h"
#include "generation/sequence.h"

namespace rubricrm {

// The part of a draft that a step verifies.
struct PricedDraft {
  Draft draft;          // all that was drafted
  TokenIds token_ids;   // what gets rows
  double price = 0.0;   // what the rows cost, in tokens of plain decoding
};

// Makes drafts for all sequences of an engine. What is written is the same with any drafts. For the leader alone, but
// for drafter().
class Drafts {
 public:
  virtual ~Drafts() = default;

  // The drafter of a new sequence, or null. For any thread.
  virtual std::unique_ptr<Drafter> drafter(const TokenIds& prompt_ids, bool is_rubric) = 0;

  // What a step verifies of each sequence: together at most rows_left tokens, of each fewer than its tokens_left().
  // other_rows: rows of the step that are of prompts.
  virtual std::vector<PricedDraft> propose(const std::vector<Sequence*>& sequences, int64_t rows_left,
                                           int64_t other_rows) = 0;

  // Notes how many tokens of a draft came true, of an empty one too.
  virtual void settle(Sequence& sequence, const PricedDraft& draft, int64_t num_accepted) = 0;

  // Takes in a sequence that ended.
  virtual void learn(const Sequence& sequence) = 0;
};

}  // namespace rubricrm
