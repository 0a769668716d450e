// How many drafted tokens of each sequence a step verifies: those whose rows cost less than they bring.
#pragma once

#include <cstdint>
#include <vector>

#include "generation/drafting.h"
#include "generation/step_cost.h"

namespace rubricrm {

// What one step verifies, by sequence.
struct DraftPlan {
  std::vector<int64_t> lengths;  // drafted tokens
  std::vector<double> prices;    // what their rows cost, in tokens of plain decoding
};

// Shares a step's rows among the drafts of its sequences, so that the step makes the most of its time.
//
// The tokens of all drafts compete by their chance; as many get a row as make the expected tokens, less the price of
// the rows at what tokens are worth, the greatest. Where nothing pays, nobody gets one. A sequence never gets more rows
// than its credit pays for at the step's price without the others' drafts.
//
// drafts: one per sequence that decodes; an empty one where it does not draft. credits: what each may still spend
// (Drafter::credit). rows_left: rows that may be added. other_rows: rows of the step that are not of these sequences.
DraftPlan plan_drafts(const std::vector<Draft>& drafts, const std::vector<double>& credits, const StepCost& cost,
                      int64_t rows_left, int64_t other_rows = 0);

}  // namespace rubricrm
