// Text to token ids and back. A control token comes from the trusted template only, never from a user's text. The same
// ids as rubricrm/runtime/tokenizer.py, which are those of the library `tokenizers`.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/added_tokens.h"
#include "runtime/token_ids.h"

namespace rubricrm {

// A byte-level BPE tokenizer. It may be shared by threads: each call of `encode` has a cache of words for itself.
class Tokenizer {
 public:
  // Opens a tokenizer.json. Takes 50 ms for Qwen3's (11 MB, 151,669 tokens), 10 MB that stay and 16 MB more meanwhile.
  // BUNDLE_INVALID: the file is missing, no JSON, no byte-level BPE tokenizer of a form that is known here, or has a
  // token that would make an id depend on more than its own text.
  static Tokenizer from_file(const std::string& path);
  // The same from a file's contents; `path` is for messages.
  static Tokenizer from_contents(std::string_view contents, const std::string& path);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // One more than the largest id; rows of the model's vocabulary beyond it are padding.
  int32_t num_tokens() const;
  // Whether an id is marked special and so never part of a completion's text.
  bool is_special(int32_t token_id) const;

  // Encodes plain text: whatever it holds, no id of an added token comes out. Linear in the length of the text, and n
  // log n in that of a word. REQUEST_INVALID: the text is no UTF-8, holds a character that the vocabulary cannot spell,
  // or is larger than 1 GiB.
  TokenIds encode(std::string_view text) const;

  // Splits TRUSTED template text: added tokens become ids, the longest first at a position; the rest stays text. The
  // result, given to `encode_segments`, makes the ids that the library makes of the whole text. REQUEST_INVALID: the
  // text is no UTF-8.
  std::vector<Segment> split_control(std::string_view text) const;

  // Encodes plain text between given ids; the ids are kept as they are. Adjacent texts are joined first, since BPE
  // merges across the joint: the halves of a control token stay text. Errors as `encode`; the position named is the one
  // in the text's own segment.
  TokenIds encode_segments(const std::vector<Segment>& segments) const;

  // The bytes that a token stands for: an added token's text in UTF-8, nothing for an id that does not exist. A token
  // may hold a part of a character.
  std::string token_bytes(int32_t token_id) const;
  // The same, but nothing for a special token: what it adds to a completion's text.
  std::string text_bytes(int32_t token_id) const;

  // The text of the ids, without special tokens; added tokens that are not special are text. Bytes that are no UTF-8
  // become U+FFFD.
  std::string decode(const TokenIds& token_ids) const;

 private:
  struct State;

  explicit Tokenizer(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace rubricrm
