#include "generation/draft_plan.h"

#include <algorithm>

namespace rubricrm {
namespace {

// Tokens that the time of one plain token is worth: as many as drafting makes of it, since that is what else would be
// done with the time. Replay gives the same speed within 1 % for 1.3 to 1.8 (docs/BENCHMARKING.md).
constexpr double kPace = 1.4;

struct Candidate {
  double chance;
  size_t sequence;
};

// What rows of a step cost beside its plain ones.
struct Prices {
  const StepCost& cost;
  int64_t plain_rows;
  size_t num_sequences;

  // In tokens that plain decoding of all sequences writes in that time.
  double of(int64_t rows) const {
    const double plain = cost.seconds(plain_rows);
    return (cost.seconds(plain_rows + rows) - plain) / plain * static_cast<double>(num_sequences);
  }

  // How many rows a credit pays for, `length` at most.
  int64_t affordable(int64_t length, double credit) const {
    while (length > 0 && of(length) > credit) --length;
    return length;
  }
};

// The tokens that compete, the likeliest first; of equals those of earlier sequences.
std::vector<Candidate> candidates_of(const std::vector<Draft>& drafts, const std::vector<double>& credits,
                                     const Prices& prices) {
  std::vector<Candidate> candidates;
  for (size_t n = 0; n < drafts.size(); ++n) {
    const int64_t limit = prices.affordable(drafts[n].size(), credits[n]);
    for (int64_t position = 0; position < limit; ++position) candidates.push_back({drafts[n].chances[position], n});
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.chance > b.chance; });
  return candidates;
}

}  // namespace

DraftPlan plan_drafts(const std::vector<Draft>& drafts, const std::vector<double>& credits, const StepCost& cost,
                      int64_t rows_left, int64_t other_rows) {
  const Prices prices{cost, static_cast<int64_t>(drafts.size()) + other_rows, drafts.size()};
  const std::vector<Candidate> candidates = candidates_of(drafts, credits, prices);
  const int64_t most = std::min<int64_t>(static_cast<int64_t>(candidates.size()), std::max<int64_t>(0, rows_left));
  double best = 0.0, expected = 0.0;
  int64_t wins = 0;
  for (int64_t rows = 1; rows <= most; ++rows) {
    expected += candidates[rows - 1].chance;
    const double gain = expected - kPace * prices.of(rows);
    if (gain > best) {
      best = gain;
      wins = rows;
    }
  }
  DraftPlan plan{std::vector<int64_t>(drafts.size(), 0), std::vector<double>(drafts.size(), 0.0)};
  for (int64_t n = 0; n < wins; ++n) ++plan.lengths[candidates[n].sequence];
  const double each = wins > 0 ? prices.of(wins) / static_cast<double>(wins) : 0.0;
  for (size_t n = 0; n < drafts.size(); ++n) plan.prices[n] = each * static_cast<double>(plan.lengths[n]);
  return plan;
}

}  // namespace rubricrm
