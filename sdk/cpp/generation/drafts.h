// What the scheduler and the engine ask of drafting: tokens that may follow, so that one step verifies several.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "generation/draft_desk.h"
#include "generation/sequence.h"

namespace rubricrm {

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

// Drafts of a desk. The phrases that it learns are those of whole rubrics.
class DeskDrafts : public Drafts {
 public:
  explicit DeskDrafts(DraftDesk desk) : desk_(std::move(desk)) {}

  std::unique_ptr<Drafter> drafter(const TokenIds& prompt_ids, bool is_rubric) override;
  std::vector<PricedDraft> propose(const std::vector<Sequence*>& sequences, int64_t rows_left,
                                   int64_t other_rows) override;
  void settle(Sequence& sequence, const PricedDraft& draft, int64_t num_accepted) override;
  void learn(const Sequence& sequence) override;

 private:
  DraftDesk desk_;
};

}  // namespace rubricrm
