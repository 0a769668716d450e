// The section "model" of tokenizer.json: a vocabulary and its merges, read without a tree of JSON.
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/merge_table.h"
#include "runtime/vocabulary.h"
#include "text/json_reader.h"

namespace rubricrm {

// What was read, before it is judged. Faults are in the words of an error's "is GOT, expected EXPECTED"; empty: none.
struct TokenizerModel {
  struct Fault {
    std::string got, expected;
  };

  Vocabulary vocabulary;
  Fault vocabulary_fault;
  std::vector<std::pair<std::string_view, std::string_view>> merges;  // views as JsonReader's
  Fault merges_fault;
  std::map<std::string, std::string_view> other_keys;  // the text of each value
};

// Reads the object, with room for about so many tokens from the start. Throws JsonError.
TokenizerModel read_tokenizer_model(JsonReader& json, size_t expected_tokens);

// A merge of tokens that the vocabulary lacks; what() is as `tokenizers` says it.
class UnknownToken : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The ids of merges, in their order. `removed` tells for each id whether merges through its token are left out. Throws
// UnknownToken.
MergeTable resolve_merges(const TokenizerModel& model, const std::vector<bool>& removed);

}  // namespace rubricrm
