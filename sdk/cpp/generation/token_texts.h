// What this folder asks of a tokenizer.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "runtime/session.h"

namespace rubricrm {

// Views last as long as the tokenizer; functions are safe from any thread.
struct TokenTexts {
  int32_t num_tokens = 0;
  // What a token stands for, perhaps a part of a character; nothing for an id that does not exist.
  std::function<std::string_view(int32_t)> token_bytes;
  // The same, but nothing for a special token: what it adds to a text.
  std::function<std::string_view(int32_t)> text_bytes;
  // The tokens of a plain text.
  std::function<TokenIds(std::string_view)> encode;
};

}  // namespace rubricrm
