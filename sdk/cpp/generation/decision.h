// Logits to the next token of a sequence: the free choice, and the hold of its form.
#pragma once

#include <cstdint>
#include <optional>

#include "generation/constraint.h"
#include "generation/options.h"
#include "generation/sampling.h"

namespace rubricrm {

// A row of logits, and where its sequence stands.
struct Decision {
  const float* logits;  // [vocab_size], none of a real token's is NaN or infinite
  int64_t vocab_size;
  int64_t num_tokens;   // of the tokenizer: the rest is padding, and never chosen
  int32_t best;         // the first of the largest of the real tokens' (`largest`, or what checked the row found)
  uint64_t seed;        // of the generation
  uint64_t index;       // how many tokens were chosen before
  int64_t tokens_left;  // how many may be chosen, this one and the end included
};

// The token that follows; the constraint, unless it is null, goes on by it. Greedy and not refused, it costs nothing:
// masks and probabilities are computed for a refused token alone.
int32_t next_token(const Decision& decision, const GenerationOptions& options, Constraint* constraint,
                   Sampler& sampler);

// What is reported of the token that follows, unless it ends the text; none where it was not asked for.
std::optional<TokenLogprobs> next_logprobs(const Decision& decision, const GenerationOptions& options,
                                           int32_t token_id);

}  // namespace rubricrm
