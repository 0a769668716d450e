// Logits to the next tokens of a sequence: sampling, the hold of its form, drafts that come true, and the end.
#pragma once

#include "generation/sampling.h"
#include "generation/sequence.h"
#include "runtime/session.h"

namespace rubricrm {

// Chooses the tokens that follow a sequence: one, and one more for each drafted token that comes true. The sequence
// gets the tokens, or ends with one that ends a text. For the leader.
//
// logits: [1 + drafted, vocab_size], after its last token and after each drafted one. num_tokens: ids from here on are
// padding. Returns how many drafted tokens came true.
int64_t decide(Sequence& sequence, Sampler& sampler, const Logits& logits, const TokenIds& drafted,
               int64_t num_tokens);

}  // namespace rubricrm
