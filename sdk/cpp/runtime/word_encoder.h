// What encodes words, and remembers those that it has seen.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/byte_pair_encoding.h"
#include "runtime/token_ids.h"
#include "runtime/tokenizer_file.h"
#include "runtime/word_cache.h"

namespace rubricrm {

// Encodes words for one thread. The file must outlive it.
class WordEncoder {
 public:
  explicit WordEncoder(const TokenizerFile& file) : file_(file) {}

  // Appends the tokens of a word.
  void append(std::string_view word, TokenIds& ids);

 private:
  void append_unknown(std::string_view word, TokenIds& ids);

  const TokenizerFile& file_;
  WordCache cache_;
  BytePairEncoding encoding_;
  std::string spelling_;
};

// Encoders that wait for their next text, for any number of threads.
class WordEncoderPool {
 public:
  explicit WordEncoderPool(const TokenizerFile& file) : file_(file) {}

  // The encoder that waited last, or a new one.
  std::unique_ptr<WordEncoder> take();
  // Takes it back, and drops it if enough wait.
  void give_back(std::unique_ptr<WordEncoder> encoder);

 private:
  const TokenizerFile& file_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<WordEncoder>> waiting_;
};

}  // namespace rubricrm
