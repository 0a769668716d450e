#include "generation/decision.h"

#include <algorithm>
#include <optional>

namespace rubricrm {
namespace {

bool ends(const Sequence& sequence, int32_t token_id) {
  const TokenIds& stop_ids = sequence.stop_ids();
  return std::find(stop_ids.begin(), stop_ids.end(), token_id) != stop_ids.end();
}

int32_t next_token(Sequence& sequence, Sampler& sampler, const Logits& logits, int row, int64_t num_tokens) {
  const GenerationOptions& options = sequence.options();
  const int64_t index = static_cast<int64_t>(sequence.token_ids().size());
  const float* real = logits.row(row);
  const int32_t token_id = sampler.choose(real, num_tokens, options, sequence.seed(), index);
  Constraint* constraint = sequence.constraint();
  if (constraint == nullptr) return token_id;
  return constraint->revise(token_id, real, num_tokens, options, sequence.seed(), index, sequence.tokens_left());
}

}  // namespace

int64_t decide(Sequence& sequence, Sampler& sampler, const Logits& logits, const TokenIds& drafted,
               int64_t num_tokens) {
  const int64_t num_drafted = static_cast<int64_t>(drafted.size());
  sequence.begin_step(num_drafted);
  for (int row = 0; row < logits.rows; ++row) {
    const int32_t token_id = next_token(sequence, sampler, logits, row, num_tokens);
    const bool comes_true = row < num_drafted && token_id == drafted[row];
    if (ends(sequence, token_id)) {
      sequence.stop();
    } else {
      std::optional<TokenLogprobs> scores;
      const std::optional<int64_t> num_top = sequence.options().logprobs;
      if (num_top) scores = logprobs(logits.row(row), logits.vocab_size, token_id, *num_top);
      sequence.push(token_id, std::move(scores), comes_true);
    }
    // The rows after a draft that did not come true follow a text that is not there.
    if (sequence.is_finished() || !comes_true) return row;
  }
  return 0;
}

}  // namespace rubricrm
