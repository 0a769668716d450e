#include "generation/draft_desk.h"

#include <algorithm>

namespace rubricrm {
namespace {

constexpr int64_t kMostDrafted = 15;  // tokens of one sequence in one step

Draft draft_of(const Drafting& sequence, int64_t limit) {
  if (sequence.drafter == nullptr) return {};
  // The last token that may come is never drafted: no row would follow it.
  limit = std::min(limit, sequence.tokens_left - 1);
  if (sequence.constraint == nullptr) return sequence.drafter->propose(limit);
  return sequence.drafter->propose(limit, &sequence.constraint->grammar(), sequence.constraint->state());
}

}  // namespace

std::unique_ptr<Drafter> DraftDesk::drafter(const TokenIds& prompt_ids, bool is_rubric) const {
  return std::make_unique<Drafter>(prompt_ids, numbers_, is_rubric ? &phrases_ : nullptr);
}

std::vector<PricedDraft> DraftDesk::propose(const std::vector<Drafting>& sequences, int64_t rows_left,
                                            int64_t other_rows) const {
  std::vector<Draft> drafts;
  std::vector<double> credits;
  for (const Drafting& sequence : sequences) {
    drafts.push_back(draft_of(sequence, std::min(rows_left, kMostDrafted)));
    credits.push_back(sequence.drafter == nullptr ? 0.0 : sequence.drafter->credit());
  }
  const auto [lengths, prices] = plan_drafts(drafts, credits, cost_, rows_left, other_rows);
  std::vector<PricedDraft> priced(drafts.size());
  for (size_t n = 0; n < drafts.size(); ++n) {
    const auto begin = drafts[n].token_ids.begin();
    priced[n].token_ids.assign(begin, begin + lengths[n]);
    priced[n].price = prices[n];
    priced[n].draft = std::move(drafts[n]);
  }
  return priced;
}

void DraftDesk::settle(Drafter& drafter, const PricedDraft& draft, int64_t num_accepted) {
  drafter.settle(draft.draft, static_cast<int64_t>(draft.token_ids.size()), num_accepted, draft.price);
}

}  // namespace rubricrm
