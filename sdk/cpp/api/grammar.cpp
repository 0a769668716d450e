// Section 6 of rubricrm.h: grammars.
#include <algorithm>

#include "api/errors.h"
#include "api/handles.h"

namespace rubricrm {
namespace {

bool has_state(const rubricrm_grammar* grammar, int32_t state) {
  return grammar != nullptr && state >= 0 && state < grammar_of(grammar)->num_states();
}

}  // namespace
}  // namespace rubricrm

using namespace rubricrm;

extern "C" {

int32_t rubricrm_grammar_next(const rubricrm_grammar* grammar, int32_t state, int32_t token_id) {
  if (!has_state(grammar, state) || token_id < 0 || token_id >= grammar_of(grammar)->num_tokens()) return -1;
  return grammar_of(grammar)->next(state, token_id);
}

int32_t rubricrm_grammar_shortest(const rubricrm_grammar* grammar, int32_t state) {
  return has_state(grammar, state) ? grammar_of(grammar)->shortest(state) : -1;
}

rubricrm_code rubricrm_grammar_mask(const rubricrm_grammar* grammar, int32_t state, uint32_t tokens_left,
                                    uint32_t* mask, size_t num_words, rubricrm_error* error) {
  return guarded(error, [&] {
    const Grammar& rules = *grammar_of(&required(grammar, "grammar"));
    required(mask, "mask");
    std::fill(mask, mask + num_words, 0u);
    if (!has_state(grammar, state)) {
      throw Error(Code::OPTION_INVALID, "state is " + std::to_string(state) + ", expected 0 to " +
                                            std::to_string(rules.num_states() - 1) + ".");
    }
    if (num_words < rules.mask_words()) {
      throw Error(Code::OPTION_INVALID, "num_words is " + std::to_string(num_words) + ", expected at least " +
                                            std::to_string(rules.mask_words()) + " for " +
                                            std::to_string(rules.num_tokens()) + " tokens.");
    }
    rules.write_mask(state, tokens_left, reinterpret_cast<int32_t*>(mask));
  });
}

size_t rubricrm_grammar_forced(const rubricrm_grammar* grammar, int32_t state, int32_t* ids, size_t limit) {
  if (!has_state(grammar, state) || ids == nullptr) return 0;
  return guarded_or<size_t>(0, [&] {
    const int64_t most = static_cast<int64_t>(std::min<size_t>(limit, INT32_MAX));
    const TokenIds forced = grammar_of(grammar)->forced(state, most);
    std::copy(forced.begin(), forced.end(), ids);
    return forced.size();
  });
}

}  // extern "C"
