// What makes tables of a grammar sound.
#pragma once

#include <string>

#include "generation/grammar.h"

namespace rubricrm {

constexpr int32_t kNowhereClass = 0;     // of tokens that never follow
constexpr int32_t kEndsClass = 1;        // of the stop ids
constexpr int32_t kNoStep = -(1 << 15);  // in place of a step: a token of this class cannot follow
constexpr int32_t kNothingForced = -1;   // in place of a token

// The state after a class of tokens; Grammar::kRefused where it cannot follow. In sound tables every other one exists.
inline int32_t following_state(const GrammarTables& tables, int32_t state, int32_t token_class) {
  const int32_t step = tables.steps[tables.row[state] * tables.num_classes + token_class];
  if (step == kNoStep) return Grammar::kRefused;
  return token_class == kEndsClass ? Grammar::kEnd : state + step;
}

// Throws BUNDLE_INVALID: the tables contradict each other, the number of tokens or the tokens that must end a text.
void check_grammar(const GrammarTables& tables, int64_t num_tokens, const TokenIds& stop_ids, const std::string& where);

}  // namespace rubricrm
