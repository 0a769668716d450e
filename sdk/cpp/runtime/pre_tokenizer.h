// Where a text is cut into words: no token spans two of them. The regular expressions of tokenizer.json that are known
// here are written out as scanners.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

namespace rubricrm {

class PreTokenizer {
 public:
  // Each cuts the pieces that the one before it left.
  enum class Rule {
    QWEN,          // Split by the expression of Qwen2 and Qwen3: each digit for itself
    LLAMA,         // Split by the expression of Llama 3: up to three digits together
    GPT2,          // ByteLevel with use_regex
    DIGITS,        // Digits with individual_digits: each digit for itself, and all between them
    DIGIT_GROUPS,  // Digits without: digits side by side together
  };

  // The rule of a Split's regular expression, if it is known to the last character.
  static std::optional<Rule> split_rule(std::string_view expression);

  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<Rule> rules) : rules_(std::move(rules)) {}

  // Calls `take` with each word of `text`, which is valid UTF-8, from left to right. Linear in the length.
  template <typename Take>
  void split(std::string_view text, Take take) const {
    split(text, take, 0);
  }

 private:
  template <typename Take>
  void split(std::string_view text, Take& take, size_t depth) const {
    if (depth == rules_.size()) return take(text);
    while (!text.empty()) {
      const size_t length = piece_length(rules_[depth], text);
      split(text.substr(0, length), take, depth + 1);
      text.remove_prefix(length);
    }
  }

  static size_t piece_length(Rule rule, std::string_view text);

  std::vector<Rule> rules_;
};

}  // namespace rubricrm
