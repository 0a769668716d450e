// A step's rows of logits to the next tokens of a sequence: numbers, drafts that come true, and the end.
#pragma once

#include <string>

#include "generation/sampling.h"
#include "generation/sequence.h"
#include "runtime/session.h"

namespace rubricrm {

// The most probable token after each row of a step. num_tokens: of the tokenizer; the rest of a row is padding. path:
// of the bundle, for the message. OUTPUT_INVALID: a row holds what is no number. The chunk's slot is then empty, so
// that nothing of it is left there.
TokenIds best_tokens(const Chunk& chunk, const Logits& logits, int64_t num_tokens, const std::string& path);

// Chooses the tokens that follow a sequence: one, and one more for each drafted token that comes true. The sequence
// gets the tokens, or ends with one that ends a text. For the leader.
//
// logits: [1 + drafted, vocab_size], after its last token and after each drafted one. best: of each row. Returns how
// many drafted tokens came true.
int64_t decide(Sequence& sequence, Sampler& sampler, const Logits& logits, const TokenIds& best,
               const TokenIds& drafted, int64_t num_tokens);

}  // namespace rubricrm
