#include "generation/decision.h"

namespace rubricrm {

int32_t next_token(const Decision& decision, const GenerationOptions& options, Constraint* constraint,
                   Sampler& sampler) {
  const auto& [logits, vocab_size, num_tokens, best, seed, index, tokens_left] = decision;
  const int32_t token_id = options.is_greedy() ? best : sampler.choose(logits, num_tokens, options, seed, index);
  if (constraint == nullptr) return token_id;
  return constraint->revise(token_id, logits, options, seed, index, tokens_left, sampler);
}

std::optional<TokenLogprobs> next_logprobs(const Decision& decision, const GenerationOptions& options,
                                           int32_t token_id) {
  if (!options.logprobs) return std::nullopt;
  return logprobs(decision.logits, decision.vocab_size, token_id, *options.logprobs);
}

}  // namespace rubricrm
