// What this folder asks of a tokenizer.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "runtime/session.h"

namespace rubricrm {

// The functions are safe from any thread, as long as the tokenizer lasts.
struct TokenTexts {
  int32_t num_tokens = 0;
  // What a token stands for, perhaps a part of a character; nothing for an id that does not exist.
  std::function<std::string(int32_t)> token_bytes;
  // The same, but nothing for a special token: what it adds to a text.
  std::function<std::string(int32_t)> text_bytes;
  // The tokens of a plain text.
  std::function<TokenIds(std::string_view)> encode;
};

}  // namespace rubricrm
