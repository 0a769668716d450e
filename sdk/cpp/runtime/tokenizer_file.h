// A file tokenizer.json: read, and checked to be a byte-level BPE tokenizer of a form that is known here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/added_tokens.h"
#include "runtime/byte_pair_encoding.h"
#include "runtime/merge_table.h"
#include "runtime/pre_tokenizer.h"
#include "runtime/vocabulary.h"

namespace rubricrm {

// What a file holds.
struct TokenizerFile {
  Vocabulary vocabulary;  // all tokens of the model; `find` finds them where ignores_merges alone
  MergeTable merges;      // without those through added tokens: plain text cannot reach their ids
  ByteIds byte_ids;
  std::vector<bool> is_added;  // of each id of the vocabulary: whether it is an added token's
  PreTokenizer pre_tokenizer;
  AddedTokens added;
  int32_t num_tokens;   // one more than the largest id
  bool composes;        // text is normalized to form C
  bool ignores_merges;  // a word that is a token is that token, whatever merges make of it
};

// Reads and checks a file. Cost and errors as Tokenizer::from_file.
TokenizerFile read_tokenizer_file(const std::string& path);

// The same for a file's contents; `path` is for messages.
TokenizerFile parse_tokenizer_file(std::string_view contents, const std::string& path);

}  // namespace rubricrm
