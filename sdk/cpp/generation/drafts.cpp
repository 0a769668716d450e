#include "generation/drafts.h"

namespace rubricrm {

std::unique_ptr<Drafter> DeskDrafts::drafter(const TokenIds& prompt_ids, bool is_rubric) {
  return desk_.drafter(prompt_ids, is_rubric);
}

std::vector<PricedDraft> DeskDrafts::propose(const std::vector<Sequence*>& sequences, int64_t rows_left,
                                             int64_t other_rows) {
  std::vector<Drafting> asked;
  for (const Sequence* sequence : sequences) {
    asked.push_back({sequence->drafter(), sequence->constraint(), sequence->tokens_left()});
  }
  return desk_.propose(asked, rows_left, other_rows);
}

void DeskDrafts::settle(Sequence& sequence, const PricedDraft& draft, int64_t num_accepted) {
  if (Drafter* drafter = sequence.drafter()) DraftDesk::settle(*drafter, draft, num_accepted);
}

void DeskDrafts::learn(const Sequence& sequence) {
  if (sequence.is_rubric() && sequence.finish_reason() == FinishReason::STOP) desk_.learn(sequence.token_ids());
}

}  // namespace rubricrm
