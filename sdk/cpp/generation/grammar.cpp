#include "generation/grammar.h"

#include <utility>

#include "generation/grammar_check.h"

namespace rubricrm {

Grammar::Grammar(GrammarTables tables, int64_t num_tokens, const TokenIds& stop_ids, const std::string& where)
    : tables_(std::move(tables)) {
  check_grammar(tables_, num_tokens, stop_ids, where);
}

int32_t Grammar::after_class(int32_t state, int32_t token_class) const {
  return following_state(tables_, state, token_class);
}

TokenIds Grammar::forced(int32_t state, int64_t limit, bool past_ends) const {
  TokenIds tokens;
  while (static_cast<int64_t>(tokens.size()) < limit) {
    const int32_t token_id = tables_.forced[state];
    if (token_id == kNothingForced || (!past_ends && after_class(state, kEndsClass) != kRefused)) break;
    tokens.push_back(token_id);
    state = next(state, token_id);
  }
  return tokens;
}

std::vector<uint8_t> Grammar::allowed_classes(int32_t state, int64_t tokens_left) const {
  std::vector<uint8_t> allowed(tables_.num_classes);
  for (int32_t n = 0; n < tables_.num_classes; ++n) allowed[n] = is_class_allowed(state, n, tokens_left);
  return allowed;
}

void Grammar::write_mask(int32_t state, int64_t tokens_left, int32_t* words) const {
  const std::vector<uint8_t> allowed = allowed_classes(state, tokens_left);
  const uint16_t* token_class = tables_.token_class.data();
  const size_t num_tokens = tables_.token_class.size();
  for (size_t start = 0; start < num_tokens; start += 32) {
    uint32_t word = 0;
    for (size_t bit = 0; bit < 32 && start + bit < num_tokens; ++bit) {
      word |= uint32_t{allowed[token_class[start + bit]]} << bit;
    }
    *words++ = static_cast<int32_t>(word);
  }
}

void Grammar::list_allowed(int32_t state, int64_t tokens_left, std::vector<int32_t>& ids) const {
  const std::vector<uint8_t> allowed = allowed_classes(state, tokens_left);
  ids.resize(tables_.token_class.size());
  size_t count = 0;
  for (size_t n = 0; n < ids.size(); ++n) {
    ids[count] = static_cast<int32_t>(n);
    count += allowed[tables_.token_class[n]];
  }
  ids.resize(count);
}

}  // namespace rubricrm
