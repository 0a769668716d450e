// Reads a bundle's grammar.npz.
#pragma once

#include "generation/grammar.h"
#include "runtime/whole_file.h"

namespace rubricrm {

// num_tokens: of the tokenizer that it must have been compiled for. stop_ids: the tokens that must end a text. Throws
// BUNDLE_INVALID: it cannot be read, is not such a file, or contradicts itself, the tokenizer or the stop ids.
Grammar load_grammar(const fs::path& path, int64_t num_tokens, const TokenIds& stop_ids);

}  // namespace rubricrm
