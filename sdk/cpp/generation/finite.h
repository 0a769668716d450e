// The check that a model computed numbers.
#pragma once

#include <string>

#include "runtime/session.h"

namespace rubricrm {

// Refuses logits that are no numbers, after a step. A graph may rule out the padding after the real tokens with minus
// infinity: that is an answer. 10 microseconds for a row of 150,000.
//
// num_tokens: real ones. path: of the bundle, for the message. OUTPUT_INVALID: they are not finite. The chunk's slot is
// then empty, so that nothing of them is left in it.
void check_finite(const Chunk& chunk, const Logits& logits, int64_t num_tokens, const std::string& path);

}  // namespace rubricrm
